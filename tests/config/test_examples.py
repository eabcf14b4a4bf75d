from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from support.tls import Authority

from txlb.config.load import load

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads_without_a_warning(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the same on every node")
    monkeypatch.syspath_prepend(str(path.parent))  # as twistd does
    text = path.read_text(encoding="utf-8")
    if ".pem" in text:
        with_certificates(text, tmp_path)
        path = Path(shutil.copy(path, tmp_path))
    assert load(path, {"TXLB_SECRET_FILE": str(secret)}).warnings == ()


def with_certificates(text: str, folder: Path) -> None:
    """The PEM files that an example names, beside it: keys are never part of this repository."""
    authority = Authority(folder)
    for chain in re.findall(r"chain: ([\w.-]+)\.pem", text):
        authority.certificate(chain, label=chain)
    for ca in re.findall(r"ca: ([\w.-]+\.pem)", text):
        shutil.copy(authority.path, folder / ca)


def test_the_smallest_is_small() -> None:
    text = (EXAMPLES[0].parent / "minimal.yaml").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 8
