from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import txlb.plugins
from txlb.errors import ExtensionError
from txlb.extensions import algorithm_names, find_algorithm, load_object

PLUGIN = """
from twisted.plugin import IPlugin
from zope.interface import implementer
from txlb.interfaces import IAlgorithmFactory

@implementer(IPlugin, IAlgorithmFactory)
class Factory:
    name = "{name}"
    Options = None

    def __call__(self, **options):
        return ("built", options)

factory = Factory()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path; what was imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_dotted_path_names_a_class(folder: Path) -> None:
    (folder / "policies.py").write_text(
        "class First:\n    Options = 7\n    def __init__(self, n): self.n = n\n"
    )
    factory = find_algorithm("policies:First")
    assert (factory.name, factory.Options, factory(n=3).n) == ("policies:First", 7, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("absent:First", "there is no module absent: install it, or put it beside the configuration file"),
        ("absent.below:First", "there is no module absent: "),
        ("broken:First", "module broken cannot be imported: ZeroDivisionError"),
        ("needy:First", "module needy cannot be imported: No module named 'absent'"),
        ("sound:First", "module sound has no First"),
        ("sound:NUMBER", "sound:NUMBER is not a class"),
        ("nobody", "no plug-in is called nobody"),
    ],
)
def test_what_is_wrong_with_foreign_code_is_said(folder: Path, text: str, message: str) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "needy.py").write_text("import absent\n")
    (folder / "sound.py").write_text("NUMBER = 5\n")
    with pytest.raises(ExtensionError) as error:
        find_algorithm(text)
    assert str(error.value).startswith(message)


def test_a_twisted_plugin_is_found_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = folder / "txlb" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "mine.py").write_text(PLUGIN.format(name="mine"))
    monkeypatch.setattr(txlb.plugins, "__path__", [*txlb.plugins.__path__, str(plugins)])
    assert "mine" in algorithm_names()
    assert find_algorithm("mine")(depth=1) == ("built", {"depth": 1})


def test_an_entry_point_is_found_by_its_name(folder: Path) -> None:
    (folder / "dist.py").write_text("class Last: pass\n" + PLUGIN.format(name="within"))
    info = folder / "dist-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dist\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[txlb.algorithms]\nlast = dist:Last\nwhole = dist:factory\n")
    assert {"last", "whole"} <= set(algorithm_names())
    assert isinstance(find_algorithm("last")(), load_object("dist:Last"))
    assert find_algorithm("whole")() == ("built", {})


def test_a_plugin_that_is_half_a_factory_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = folder / "txlb" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "half.py").write_text(PLUGIN.format(name="half").replace("    Options = None\n", ""))
    monkeypatch.setattr(txlb.plugins, "__path__", [*txlb.plugins.__path__, str(plugins)])
    with pytest.raises(ExtensionError, match="Options"):
        find_algorithm("half")
