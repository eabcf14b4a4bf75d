"""Code of the operator's own, found by name: Twisted plug-ins, entry points, ``package.module:Class``.

Rules:

* Whatever is wrong with foreign code (absent, raising at import, not what was asked for) is an
  `ExtensionError` whose text says what to do.
* Names are looked up in this order: Twisted plug-ins (`txlb.plugins`), then entry points of the group
  `GROUP`. A dotted path names a class directly.
* A class becomes a factory: its ``Options`` attribute, if it has one, is the model of its options.
* Code once imported stays: a change of it takes effect at the next start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from twisted.plugin import getPlugins
from zope.interface import Invalid, implementer
from zope.interface.verify import verifyObject

import txlb.plugins
from txlb.errors import ExtensionError
from txlb.interfaces import IAlgorithmFactory

GROUP = "txlb.algorithms"
DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)


@implementer(IAlgorithmFactory)
class ClassFactory:
    """A class (or any callable) as the algorithm called ``name``."""

    def __init__(self, name: str, make: Any) -> None:
        self.name = name
        self.Options = getattr(make, "Options", None)
        self._make = make

    def __call__(self, **options: Any) -> Any:
        return self._make(**options)


def load_object(path: str) -> Any:
    """What ``package.module:Name`` names."""
    module_name, _, name = path.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as why:
        if why.name is not None and f"{module_name}.".startswith(f"{why.name}."):
            raise ExtensionError(
                f"there is no module {why.name}: install it, or put it beside the configuration file"
            ) from None
        raise ExtensionError(f"module {module_name} cannot be imported: {why}") from why
    except Exception as why:
        raise ExtensionError(f"module {module_name} cannot be imported: {why!r:.200}") from why
    try:
        return getattr(module, name)
    except AttributeError:
        raise ExtensionError(f"module {module_name} has no {name}") from None


def find_algorithm(name: str) -> Any:
    """The `IAlgorithmFactory` of this name or dotted path."""
    if DOTTED.fullmatch(name):
        found = load_object(name)
        if not callable(found):
            raise ExtensionError(f"{name} is not a class")
        return ClassFactory(name, found)
    for offered, make in _offers():
        if offered == name:
            return make()
    raise ExtensionError(f"no plug-in is called {name}")


def algorithm_names() -> list[str]:
    """Every name that `find_algorithm` finds, dotted paths aside."""
    return sorted({name for name, _ in _offers()})


def _offers() -> Iterator[tuple[str, Any]]:
    """Name, and what gives its factory."""
    for plugin in getPlugins(IAlgorithmFactory, txlb.plugins):
        yield plugin.name, lambda plugin=plugin: _verified(plugin)
    for entry in entry_points(group=GROUP):
        yield entry.name, lambda entry=entry: _from_entry(entry)


def _from_entry(entry: Any) -> Any:
    found = load_object(entry.value.replace(" ", ""))
    if IAlgorithmFactory.providedBy(found):
        return _verified(found)
    if not callable(found):
        raise ExtensionError(f"entry point {entry.name}: {entry.value} is not a class")
    return ClassFactory(entry.name, found)


def _verified(factory: Any) -> Any:
    try:
        verifyObject(IAlgorithmFactory, factory)
    except Invalid as why:
        raise ExtensionError(f"plug-in {factory!r:.100}: {why}") from why
    return factory
