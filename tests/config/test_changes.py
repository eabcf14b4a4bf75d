"""`txlb.config.changes`: which entries a change makes. What they do together is in ``test_overlay.py``."""

from __future__ import annotations

from typing import Any

import pytest

from txlb.config.changes import (
    add_backend,
    add_rule,
    drain_backend,
    enable_backend,
    patch_backend,
    put_rule,
    remove_backend,
    remove_rule,
)
from txlb.config.load import parse
from txlb.config.objects import digest
from txlb.config.overlay import BACKEND, DRAIN, RULE, Composed, Entry, changed, compose
from txlb.errors import IdTaken, UnknownId

FILE = parse(
    {
        "listeners": [{"id": "web", "bind": "127.0.0.1:8080"}],
        "backends": [{"id": "a", "host": "10.0.0.1", "port": 80}],
        "routing_rules": [{"id": "all", "backends": ["a"]}],
    }
).snapshot
NOTHING = compose(FILE, {})
NEW: dict[str, Any] = {"id": "n", "host": "10.0.0.2", "port": 80}
BASE = digest(BACKEND, FILE.backends[0], FILE)


def added() -> Composed:
    return changed(NOTHING, add_backend(NOTHING, NEW))


def test_an_addition_is_kept_as_it_was_said() -> None:
    assert add_backend(NOTHING, NEW) == {
        (BACKEND, "n"): Entry("put", {"host": "10.0.0.2", "port": 80}),
        (DRAIN, "n"): None,
    }


def test_a_patch_of_the_files_object_remembers_it() -> None:
    assert patch_backend(NOTHING, "a", {"weight": 2}) == {(BACKEND, "a"): Entry("patch", {"weight": 2}, BASE)}


def test_a_patch_of_what_the_api_added_goes_into_it() -> None:
    [entry] = patch_backend(added(), "n", {"weight": 2}).values()
    assert entry == Entry("put", {"host": "10.0.0.2", "port": 80, "weight": 2})


def test_a_removal_is_an_entry_only_where_the_file_has_the_object() -> None:
    assert remove_backend(NOTHING, "a") == {
        (BACKEND, "a"): Entry("remove", {}, BASE),
        (DRAIN, "a"): None,
    }
    assert remove_backend(added(), "n") == {(BACKEND, "n"): None, (DRAIN, "n"): None}
    rules = remove_rule(NOTHING, "all")
    assert rules == {(RULE, "all"): Entry("remove", {}, digest(RULE, FILE.rules[0], FILE))}


def test_a_drain_is_an_entry_and_its_end_none() -> None:
    assert drain_backend(NOTHING, "a", 7.5) == {(DRAIN, "a"): Entry("put", {"until": 7.5}, BASE)}
    assert enable_backend(NOTHING, "a") == {(DRAIN, "a"): None}


def test_a_rule_is_put_whole_under_its_own_id_or_a_new_one() -> None:
    rule = {"host": "x.test", "backends": ["a"]}
    assert add_rule(NOTHING, rule, "new") == {(RULE, "new"): Entry("put", rule)}
    assert list(add_rule(NOTHING, {**rule, "id": "mine"}, "new")) == [(RULE, "mine")]
    [entry] = put_rule(NOTHING, "all", rule).values()
    assert entry == Entry("put", rule, digest(RULE, FILE.rules[0], FILE))


def test_leaving_ids_are_taken() -> None:
    with pytest.raises(IdTaken, match="being removed"):
        add_backend(NOTHING, NEW, {"n"})


def test_an_unknown_id_gets_the_nearest() -> None:
    with pytest.raises(UnknownId, match=r"no routing rule al \(did you mean all\?\)"):
        remove_rule(NOTHING, "al")
