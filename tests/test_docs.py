"""The documentation stays true: the map is complete, links lead somewhere, examples are accepted."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from txlb.config.load import load

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return script("module_map")


def test_the_diagram_of_health_is_that_of_the_table() -> None:
    maker = script("health_diagram")
    page = maker.PAGE.read_text()
    assert page == maker.updated(page), "out of date; run: python docs/health_diagram.py"


def test_the_architecture_page_has_every_module(maker: ModuleType) -> None:
    page = maker.PAGE.read_text()
    missing = [str(path) for path in maker.sources() if path.name != "__init__.py" and path.name not in page]
    assert not missing, "run: python docs/module_map.py"
    assert page == maker.updated(page), "out of date; run: python docs/module_map.py"


def test_every_module_says_what_it_is(maker: ModuleType) -> None:
    assert [str(path) for path in maker.sources() if not maker.summary(path)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    local = [link for link in links if not link.startswith(("http://", "https://"))]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "docs/quick-start.md"])
def test_example_configurations_are_accepted(name: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    wholes = [block for block in blocks if "listeners" in yaml.safe_load(block)]
    assert wholes
    for block in wholes:
        path = tmp_path / "lb.yaml"
        path.write_text(block)
        load(path, {})


def test_the_readme_shows_both_command_lines() -> None:
    first_screen = (ROOT / "README.md").read_text().splitlines()[:24]
    for name in ("demo", "tests"):
        at = first_screen.index(f"<!-- ci: {name} -->")
        assert first_screen[at + 1] == "```sh"
        assert first_screen[at + 2].startswith("python3 -m venv .venv && .venv/bin/pip install ")
        assert first_screen[at + 3] == "```"


def test_the_readme_configuration_is_eight_lines() -> None:
    block = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    assert len(block.splitlines()) == 8
