"""Data against the models, with every error in words of ours.

Rules:

* `findings_of` says what pydantic found: unknown keys with the nearest known one
  (or what HAProxy and nginx users mean by it), missing keys, wrong shapes.
* `salvaged` gives a model of what is valid in an item, so that the checks across
  items still run when something else in the file is wrong.
"""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from txlb.config.problems import Finding, Path, Suggestions
from txlb.config.values import shown

ModelT = TypeVar("ModelT", bound=BaseModel)

# What other load balancers, or common sense, call our keys: tried before the nearest spelling.
_MEANT = {
    "address": ("host", "bind"),
    "addr": ("host", "bind"),
    "ip": ("host",),
    "server": ("backends", "host"),
    "servers": ("backends",),
    "upstream": ("backends",),
    "upstreams": ("backends",),
    "members": ("backends",),
    "clusters": ("backends",),
    "pools": ("backends", "routing_rules"),
    "frontend": ("listeners",),
    "frontends": ("listeners",),
    "listen": ("bind", "listeners"),
    "entrypoints": ("listeners",),
    "port": ("bind",),
    "rules": ("routing_rules",),
    "routes": ("routing_rules",),
    "routers": ("routing_rules",),
    "balance": ("algorithm",),
    "lb_policy": ("algorithm",),
    "strategy": ("algorithm",),
    "maxconn": ("max_connections",),
    "max_conns": ("max_connections",),
    "prefix": ("path_prefix",),
    "path": ("path_prefix",),
    "hosts": ("host",),
    "domain": ("host",),
    "server_name": ("host",),
    "server_names": ("host",),
    "name": ("id",),
    "mode": ("protocol",),
    "timeout": ("timeouts",),
    "log": ("access_log",),
    "logging": ("access_log",),
    "errorfile": ("error_responses",),
    "error_pages": ("error_responses",),
    "keepalive": ("max_per_backend", "idle_connections"),
    "api": ("admin",),
    "nbthread": ("workers",),
    "worker_processes": ("workers",),
    "client_max_body_size": ("body",),
}


def findings_of(error: ValidationError, model: type[BaseModel], suggestions: Suggestions) -> list[Finding]:
    """Everything ``error`` says about data that should have been a ``model``."""
    result: list[Finding] = []
    for detail in error.errors(include_url=False):
        path: Path = tuple(detail["loc"])
        kind, value = detail["type"], detail["input"]
        if kind == "extra_forbidden":
            word = str(path[-1])
            known = _keys_at(model, path[:-1])
            meant = next((key for key in _MEANT.get(word.lower(), ()) if key in known), None)
            hint = f" (did you mean {meant}?)" if meant else suggestions.near(word, known)
            result.append(Finding(path, f"unknown key{hint}", at_key=True))
        elif kind == "missing":
            result.append(Finding(path, "is missing"))
        elif kind == "value_error":
            result.append(Finding(path, str(detail["ctx"]["error"])))
        elif kind == "too_short":
            if not value:  # not empty: its items have errors of their own
                result.append(Finding(path, "must have at least one entry"))
        elif kind in ("model_type", "model_attributes_type", "dict_type"):
            result.append(Finding(path, f"must be a mapping (key: value), not {_empty_or(value)}"))
        elif kind in ("tuple_type", "list_type"):
            hint = f": write [{value}]" if isinstance(value, str) and len(value) <= 64 else ""
            result.append(Finding(path, f"must be a list, not {_empty_or(value)}{hint}"))
        else:
            result.append(Finding(path, detail["msg"]))
    return result


def _empty_or(value: object) -> str:
    return "empty" if value is None else shown(value)


def _keys_at(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the model at ``path`` below ``model`` knows."""
    for step in path:
        if isinstance(step, str) and step in model.model_fields:
            below = model_in(model.model_fields[step].annotation)
            if below is None:
                return []
            model = below
    return list(model.model_fields)


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, be it in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := model_in(part))), None)


def salvaged(model: type[ModelT], data: object) -> tuple[ModelT | None, frozenset[str]]:
    """A model of ``data`` without its bad keys, and which those are; None if that is not enough."""
    bad: set[str] = set()
    for _ in range(2):
        try:
            return model.model_validate(data), frozenset(bad)
        except ValidationError as error:
            if not isinstance(data, dict):
                break
            bad.update(str(detail["loc"][0]) for detail in error.errors(include_url=False) if detail["loc"])
            data = {key: value for key, value in data.items() if key not in bad}
    return None, frozenset(bad)
