from __future__ import annotations

import re
from pathlib import Path

from support.configuration import loaded

from txlb.config.load import load
from txlb.config.models import Configuration
from txlb.config.reference import MINIMAL, reference

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date() -> None:
    """If not: python -m txlb.config.reference > docs/configuration.md"""
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == reference()


def test_every_key_is_on_it() -> None:
    page = reference()
    for name in Configuration.model_fields:
        assert f"`{name}" in page, name


def test_the_first_example_is_the_minimal_one() -> None:
    loaded(MINIMAL)
    assert (ROOT / "examples" / "minimal.yaml").read_text(encoding="utf-8").endswith("\n" + MINIMAL)


def test_the_examples_of_all_sections_make_a_configuration(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", reference(), re.DOTALL)[2:]
    text = "".join(blocks).replace(
        "routing_rules:", "  - {id: web-2, host: 10.0.1.2, port: 8080}\nrouting_rules:"
    )
    (tmp_path / "503.html").write_text("Back soon.")
    path = tmp_path / "lb.yaml"
    path.write_text(text)
    assert load(path, {}).warnings == ()
