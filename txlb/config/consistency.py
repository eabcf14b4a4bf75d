"""The checks across items, for a configuration that is no file: specs in, errors out.

Rules:

* The checks are those of `txlb.config.crosschecks`; models are made again from the specs.
* Of backends only those named by ``touched`` take part with their values, the others by id alone: there
  may be 10,000 of them, and what was checked before needs no second look.
* A rule may have no backend left (they were removed): that is no error here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from txlb.config.crosschecks import Draft, Examination, Item, draft_of
from txlb.config.effective import data_of
from txlb.config.entries import Backend, Listener, RoutingRule
from txlb.config.models import Configuration
from txlb.config.problems import Finding, Suggestions
from txlb.core.model import BackendSpec, RuleSpec, Snapshot

_Model = TypeVar("_Model", bound=BaseModel)
_SOME_LISTENER = {"listeners": [{"id": "x", "bind": "127.0.0.1:1"}], "admin": {"bind": None}}


def backend_data(spec: BackendSpec, file: Snapshot) -> dict[str, Any]:
    """A backend as ``file`` would say it."""
    data: dict[str, Any] = data_of(replace(file, listeners=(), backends=(spec,), rules=()))["backends"][0]
    return data


def rule_data(spec: RuleSpec, file: Snapshot) -> dict[str, Any]:
    """A rule as ``file`` would say it."""
    alone = replace(file, listeners=(), backends=(), rules=(spec,))
    data: dict[str, Any] = data_of(alone)["routing_rules"][0]
    return data


def errors_of(snapshot: Snapshot, touched: Collection[str] = ()) -> list[Finding]:
    """What is wrong with ``snapshot`` as a whole; paths are into its own lists."""
    examination = Examination(_draft(snapshot, touched), Suggestions())
    examination.run()
    return examination.errors


def _draft(snapshot: Snapshot, touched: Collection[str]) -> Draft:
    listeners = data_of(replace(snapshot, backends=(), rules=()))["listeners"]
    return replace(
        draft_of(Configuration.model_validate(_SOME_LISTENER)),
        listeners=[Item(index, data["id"], _model(Listener, data)) for index, data in enumerate(listeners)],
        backends=[
            Item(index, spec.id, _backend(spec, snapshot) if spec.id in touched else None)
            for index, spec in enumerate(snapshot.backends)
        ],
        rules=[Item(index, spec.id, _rule(spec, snapshot)) for index, spec in enumerate(snapshot.rules)],
        whole=False,
    )


def _backend(spec: BackendSpec, snapshot: Snapshot) -> Backend | None:
    return _model(Backend, backend_data(spec, snapshot))


def _rule(spec: RuleSpec, snapshot: Snapshot) -> RoutingRule | None:
    if spec.backends:
        return _model(RoutingRule, rule_data(spec, snapshot))
    stand_in = _model(RoutingRule, rule_data(replace(spec, backends=("none",)), snapshot))
    return None if stand_in is None else stand_in.model_copy(update={"backends": ()})


def _model(model: type[_Model], data: dict[str, Any]) -> _Model | None:
    try:
        return model.model_validate(data)
    except ValidationError:
        return None  # as in `txlb.config.crosschecks`: what is not known is not held against others
