"""One backend or routing rule by itself: from data to its spec and back, as the API and the overlay need it.

Rules:

* Data is validated by the models of the file; every error is reported, with its path in the object.
* A class (``package.module:Class``) may be named only if the file names it somewhere, too: the API does not
  choose what code runs.
* The digest of an object leaves defaults out: it is the same after an upgrade that adds keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from txlb.config.certificates import TlsFiles
from txlb.config.consistency import backend_data, rule_data
from txlb.config.entries import Backend, RoutingRule
from txlb.config.load import backend_spec, rule_spec
from txlb.config.problems import Path as Place
from txlb.config.problems import Suggestions, show_path
from txlb.config.validation import findings_of
from txlb.config.values import shown
from txlb.core.model import BackendSpec, Snapshot
from txlb.errors import ConfigError

BACKEND, RULE = "backend", "rule"
Spec = Any  # BackendSpec or RuleSpec, as the kind says


def digest(kind: str, spec: Spec, file: Snapshot) -> str:
    """What an entry remembers of the file's object that it was made over; "" for none."""
    if spec is None:
        return ""
    data, model = data_of_object(kind, spec, file), _MODELS[kind]
    said = {
        name: value
        for name, value in data.items()
        if value is not None and value != model.model_fields[name].default
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def spec_of(kind: str, data: Mapping[str, Any], file: Snapshot, folder: Path) -> Spec:
    """The spec of an object beside those of ``file``; raises `ConfigError` with everything wrong with it."""
    model = _MODELS[kind]
    strangers = list(_strange_classes(data, file))
    if strangers:  # before validation, which would import them
        raise ConfigError(strangers)
    try:
        valid: Any = model.model_validate(dict(data))
    except ValidationError as error:
        findings = findings_of(error, model, Suggestions())
        raise ConfigError(said(finding.path, finding.message) for finding in findings) from None
    return _backend(valid, file, folder) if kind == BACKEND else rule_spec(valid, "")


def data_of_object(kind: str, spec: Spec, file: Snapshot) -> dict[str, Any]:
    """As ``file`` would say it."""
    return _DATA[kind](spec, file)


def said(path: Place, message: str) -> str:
    shown = show_path(path)
    return f"{shown}: {message}" if shown else message


def _strange_classes(data: Mapping[str, Any], file: Snapshot) -> Iterator[str]:
    """Classes (``package.module:Class``) that the file does not name as well: whoever names one runs code."""
    places = [("algorithm",), ("algorithm", "name"), ("algorithm", "fallback"), ("health_check", "type")]
    for place in places:
        value: Any = data
        for key in place:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, str) and ":" in value and value not in _classes(file):
            yield f"{'.'.join(place)}: classes are for the file to name, and it does not name {shown(value)}"


def _classes(file: Snapshot) -> set[str | None]:
    return {rule.algorithm.name for rule in file.rules} | {one.health_check.type for one in file.backends}


def _backend(valid: Backend, file: Snapshot, folder: Path) -> BackendSpec:
    spec = backend_spec(valid)
    if valid.tls is None:
        return spec
    files = TlsFiles(folder)
    tls = files.backend(valid.tls, ("tls",))
    if files.errors:
        raise ConfigError(said(finding.path, finding.message) for finding in files.errors)
    return replace(spec, tls=tls)


_MODELS: dict[str, type[BaseModel]] = {BACKEND: Backend, RULE: RoutingRule}
_DATA: dict[str, Callable[[Any, Snapshot], dict[str, Any]]] = {BACKEND: backend_data, RULE: rule_data}
