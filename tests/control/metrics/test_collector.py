"""`txlb.control.metrics.collector`: in the format that the client prefers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from support.metrics import Rows

from txlb.control.metrics import durations
from txlb.control.metrics.collector import families, render
from txlb.core.scoreboard import RULE


@pytest.fixture
def rows() -> Rows:
    return Rows()


def test_openmetrics_is_spoken_to_those_who_ask(rows: Rows):
    rows.rows[0][rows.columns.rules["r"] + RULE.index("latency_3")] = 1
    text, content_type = render(rows.picture(), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert {family.name for family in parse_openmetrics(text.decode())} >= {
        "txlb_http_requests",
        "txlb_worker_up",
    }


OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PROMETHEUS, "application/openmetrics-text; version=1.0.0"),
        (f"text/plain;version=0.0.4;q=0.5, {OPENMETRICS}", "application/openmetrics-text"),
        (f"{OPENMETRICS};q=0.001,*/*;q=0", "application/openmetrics-text"),
        (f"{OPENMETRICS};q=0", "text/plain; version=0.0.4"),
        (f"{OPENMETRICS} ; Q=0.000 ,text/plain", "text/plain; version=0.0.4"),
        (f"{OPENMETRICS};q=0.4,text/plain;version=0.0.4;q=0.5", "text/plain; version=0.0.4"),
        (f"{OPENMETRICS};q=0.4,text/plain;version=1.0.0", "text/plain; version=1.0.0"),
        (f"{OPENMETRICS};q=0.4,*/*", "text/plain; version=0.0.4"),
        ("text/plain;q=0", "text/plain; version=0.0.4"),
        ("", "text/plain; version=0.0.4"),
    ],
)
def test_the_format_is_the_one_of_the_highest_quality(rows: Rows, accept: str, expected: str):
    assert render(rows.picture(), accept)[1].startswith(expected)


def test_the_page_lists_every_metric_with_its_type_and_labels(rows: Rows):
    for row in rows.rows:
        for column in range(len(row)):
            row[column] = 1
    picture = rows.picture()
    picture.add_up()
    found = set()
    for family in families(picture):
        assert family.documentation
        labels = sorted(family._labelnames)  # type: ignore[attr-defined]
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found.add((name, family.type, tuple(labels)))
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    documented = {
        (name, kind, tuple(sorted(filter(None, (labels or "").split(",")))))
        for name, labels, kind in re.findall(r"^\| `(\w+)(?:\{([\w,]*)\})?` \| (\w+) \|", page, re.MULTILINE)
    }
    assert found - documented == set(), "docs/metrics.md lacks these"
    assert documented - found == set(), "docs/metrics.md has these, the collector has not"


@pytest.mark.parametrize("accept", [None, "application/openmetrics-text; version=1.0.0"])
def test_a_family_in_pieces_is_one_to_the_reader(
    rows: Rows, accept: str | None, monkeypatch: pytest.MonkeyPatch
):
    for row in rows.rows:
        for column in range(len(row)):
            row[column] = 1
    whole, _ = render(rows.picture(), accept)
    monkeypatch.setattr(durations, "PIECE", 1)
    pieces, _ = render(rows.picture(), accept)
    assert pieces == whole
    assert pieces.count(b"# TYPE txlb_http_backend_request_duration_seconds ") == 1
    assert pieces.count(b"# EOF") == (accept is not None)
