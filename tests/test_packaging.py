"""What setup.py and setup.cfg promise about the txlb that these tests run on."""

from __future__ import annotations

import ast
import importlib.util
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

import txlb

ROOT = Path(__file__).resolve().parents[1]


def constant(name: str) -> tuple[str, ...]:
    """A constant of setup.py, which cannot be imported: it runs the build."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return tuple(ast.literal_eval(node.value))
    raise AssertionError(f"setup.py has no {name}")


def matching(patterns: tuple[str, ...]) -> set[Path]:
    return {path.relative_to(ROOT) for pattern in patterns for path in ROOT.glob(pattern)}


def data_path() -> list[str]:
    paths = matching(constant("COMPILED")) - matching(constant("NOT_COMPILED"))
    return sorted(".".join(path.with_suffix("").parts) for path in paths)


def test_every_pattern_of_the_compile_list_matches_something() -> None:
    patterns = constant("COMPILED") + constant("NOT_COMPILED")
    assert [pattern for pattern in patterns if not matching((pattern,))] == []


def test_the_data_path_is_compiled_as_a_whole_or_not_at_all() -> None:
    origins = {name: getattr(importlib.util.find_spec(name), "origin", None) for name in data_path()}
    compiled = {name for name, origin in origins.items() if str(origin).endswith(tuple(EXTENSION_SUFFIXES))}
    assert compiled in (set(), set(origins))
    assert "txlb.core.pool" in origins


def test_twistd_finds_the_plugin() -> None:
    assert [maker.tapname for maker in getPlugins(IServiceMaker) if maker.tapname == "txlb"] == ["txlb"]


def test_the_package_is_typed() -> None:
    assert (Path(txlb.__file__).parent / "py.typed").exists()
