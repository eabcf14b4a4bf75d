"""Health checks of one backend as people write them, and probes of one's own.

Rules:

* What a backend leaves out is as the ``health_check`` of all says. Its type follows from the rest:
  ``http`` (``https`` if the backend speaks TLS) if there is a path, else ``tcp``.
* A class (``package.module:Class``) is imported and its object verified when the configuration is loaded;
  what is wrong with it reads like any other error.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from txlb.config import kinds
from txlb.config.kinds import DURATION, Kind, nullable, whole
from txlb.config.problems import Finding, Path
from txlb.config.section import Section, key
from txlb.config.settings import HealthCheck
from txlb.config.values import as_text, shown
from txlb.core.model import HealthCheckSpec, OwnCheckSpec
from txlb.interfaces import IProbe

TYPES = ("http", "https", "tcp", "off")
HTTP = ("http", "https")
Options = tuple[tuple[str, Any], ...]
_DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)


def parse_type(value: object) -> str:
    text = as_text(value, "http, https, tcp, off or package.module:Class")
    if text in TYPES or _DOTTED.fullmatch(text):
        return text
    near = difflib.get_close_matches(text.lower()[:40], TYPES, n=1, cutoff=0.6)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise ValueError(f"must be http, https, tcp, off or package.module:Class, not {shown(text)}{hint}")


TYPE = Kind(
    "`http`, `https`, `tcp`, `off` or `package.module:Class`",
    parse_type,
    {"type": "string", "examples": list(TYPES)},
)


class BackendHealthCheck(Section):
    """How one backend is checked; what is left out is as the top-level `health_check` says."""

    type: Annotated[str | None, nullable(TYPE)] = key(
        None,
        "What a check does. Left out: with a `health_check_path` `http`, or `https` where there is"
        " `tls`; else `tcp`: connect.",
        "http",
    )
    interval: Annotated[float | None, nullable(kinds.DURATION)] = key(None, "Left out: as for all.", "1s")
    timeout: Annotated[float | None, nullable(kinds.DURATION)] = key(None, "Left out: as for all.", "500ms")
    rise: Annotated[int | None, nullable(whole(1, 1000, "checks"))] = key(None, "Left out: as for all.", 1)
    fall: Annotated[int | None, nullable(whole(1, 1000, "checks"))] = key(None, "Left out: as for all.", 1)
    suspect_after: Annotated[float | None, nullable(kinds.DURATION)] = key(
        None, "Left out: as for all.", "2s"
    )
    host: Annotated[str | None, nullable(kinds.HOST_FIELD)] = key(
        None, "`Host` of a check over HTTP. Left out: the backend's `host:port`.", "www.example.com"
    )
    status: Annotated[tuple[tuple[int, int], ...] | None, nullable(kinds.STATUSES)] = key(
        None, "Statuses that are good. Left out: `200-399`.", "200-299"
    )
    options: Annotated[Options | None, nullable(kinds.OPTIONS)] = key(
        None, "Arguments of the class. Left out: none."
    )


def off(value: object) -> object:
    """The bare word ``off`` is a mapping with that type."""
    return {"type": "off"} if value == "off" else value


def all_checks(check: HealthCheck) -> HealthCheckSpec:
    return HealthCheckSpec("tcp", check.interval, check.timeout, check.rise, check.fall, check.suspect_after)


def own_check(check: BackendHealthCheck | None, path: str | None) -> OwnCheckSpec:
    """What a backend says of its checks."""
    if check is None:
        return OwnCheckSpec(path=path)
    return OwnCheckSpec(
        check.type,
        path,
        check.interval,
        check.timeout,
        check.rise,
        check.fall,
        check.suspect_after,
        check.host,
        check.status,
        check.options,
    )


def shown_check(own: OwnCheckSpec) -> dict[str, Any]:
    """The keys of a backend that give ``own`` again."""
    show: dict[str, Kind] = {"interval": DURATION, "timeout": DURATION, "suspect_after": DURATION}
    said: dict[str, Any] = {}
    for name in ("type", "interval", "timeout", "rise", "fall", "suspect_after", "host"):
        value = getattr(own, name)
        if value is not None:
            said[name] = show[name].show(value) if name in show else value
    if own.statuses is not None:
        said["status"] = kinds.STATUSES.show(own.statuses)
    if own.options is not None:
        said["options"] = dict(own.options)
    return {"health_check_path": own.path, "health_check": "off" if said == {"type": "off"} else said or None}


def misplaced(check: BackendHealthCheck | None, path: str | None) -> Iterator[tuple[tuple[str, ...], str]]:
    """Keys that make no sense together: where below the backend, and why."""
    kind = (check.type if check is not None else None) or ("tcp" if path is None else "http")
    if path is not None and kind not in (*HTTP, "off"):
        yield ("health_check_path",), f"is for checks over HTTP, not of type {kind}"
    if check is None:
        return
    for name in ("host", "status"):
        if getattr(check, name) is not None and kind not in HTTP:
            yield ("health_check", name), f"is for checks over HTTP, not of type {kind}"
    if check.options is not None and ":" not in kind:
        yield ("health_check", "options"), f"are those of a class, not of type {kind}"


def problems(backends: Iterable[Any]) -> Iterator[Finding]:
    """What is wrong with the checks of ``backends``, `txlb.config.crosschecks.Item`s."""
    tried: dict[tuple[object, ...], str] = {}  # by class and options: what is wrong with them
    for item in backends:
        backend = item.model
        if backend is None or item.bad & {"health_check", "health_check_path"}:
            continue
        path: Path = ("backends", item.index)
        check = backend.health_check
        for where, why in misplaced(check, backend.health_check_path):
            yield Finding((*path, *where), why)
        if check is None or check.type is None or ":" not in check.type:
            continue
        known = (check.type, *(check.options or ()))
        if known not in tried:
            try:
                own_probe(check.type, check.options or ())
                tried[known] = ""
            except ValueError as error:
                tried[known] = str(error)
        if tried[known]:
            yield Finding((*path, "health_check", "type"), tried[known])


def own_probe(name: str, options: Options) -> Any:
    """An object of the class ``name``, verified; ValueError says what is wrong."""
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ValueError(f"cannot import {module_name}: {_brief(error)}") from None
    factory = getattr(module, class_name, None)
    if factory is None:
        near = difflib.get_close_matches(class_name, dir(module), n=1, cutoff=0.6)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"{module_name} has no {class_name}{hint}")
    try:
        probe = factory(**dict(options))
    except Exception as error:
        raise ValueError(f"{class_name} cannot be made: {_brief(error)}") from None
    try:
        verifyObject(IProbe, probe)
    except Invalid as error:
        raise ValueError(f"{class_name} is no IProbe: {' '.join(str(error).split())[:300]}") from None
    return probe


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
