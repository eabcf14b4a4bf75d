"""examples/monitoring: rules that fire when they should, about metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from support.processes import find_tool

ROOT = Path(__file__).resolve().parents[1]
MONITORING = ROOT / "examples" / "monitoring"
RULES = yaml.safe_load((MONITORING / "txlb.rules.yml").read_text())
TESTS = yaml.safe_load((MONITORING / "txlb.rules.test.yml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
CONTRACT = {
    "UnhealthyBackends",
    "BackendImbalance",
    "HighErrorRate",
    "ConnectionPoolExhausted",
    "LoadBalancerFailover",
    "HealthCheckLatency",
}


def promtool(*arguments: str) -> None:
    tool = find_tool("promtool")
    assert tool is not None
    done = subprocess.run([tool, *arguments], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.integration(needs="promtool")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "txlb.rules.yml"),
        ("test", "rules", "txlb.rules.test.yml"),
        ("check", "config", "prometheus.yml"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    promtool(*arguments)


def test_every_alert_is_tested_and_explained() -> None:
    names = [alert["alert"] for alert in ALERTS]
    assert set(names) >= CONTRACT
    assert [one["name"] for one in TESTS["tests"]] == names
    page = (ROOT / "docs" / "metrics.md").read_text()
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert set(alert["annotations"]) == {"summary", "description"}
        assert f"`{alert['alert']}`" in page


@pytest.mark.parametrize("name", ["txlb.rules.yml", "txlb.rules.test.yml", "dashboard.json"])
def test_only_metrics_that_there_are(name: str) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"`(txlb_[a-z_]+)[`{]", page))
    text = (MONITORING / name).read_text()
    used = set(re.findall(r"(?<![:\w])txlb_[a-z_]+", text))
    found = {re.sub(r"_(bucket|count|sum)$", "", one) for one in used}
    assert found - documented == set()


def test_the_dashboard_has_no_two_panels_in_one_place() -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    ids = [panel["id"] for panel in panels]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(ids) == len(set(ids))
    assert len(places) == len(set(places))
