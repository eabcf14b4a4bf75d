from __future__ import annotations

from pathlib import Path

import pytest

from txlb.config.load import load

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads_without_a_warning(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the same on every node")
    monkeypatch.syspath_prepend(str(path.parent))  # as twistd does
    assert load(path, {"TXLB_SECRET_FILE": str(secret)}).warnings == ()


def test_the_smallest_is_small() -> None:
    text = (EXAMPLES[0].parent / "minimal.yaml").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 8
