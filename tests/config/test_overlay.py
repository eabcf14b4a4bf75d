"""`txlb.config.overlay`: what holds when file and API both have a say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from txlb.config.overlay import (
    BACKEND,
    DRAIN,
    RULE,
    Changes,
    Composed,
    Entry,
    changed,
    compose,
)
from txlb.core.model import AlgorithmSpec, Snapshot
from txlb.errors import ConfigError, IdTaken, TxlbError, UnknownId


def file(backends: dict[str, dict[str, Any]], rules: list[dict[str, Any]] | None = None) -> Snapshot:
    """The snapshot of a file with one listener and these backends."""
    return parse(
        {
            "listeners": [{"id": "web", "bind": "127.0.0.1:8080"}, {"id": "two", "bind": "127.0.0.1:8081"}],
            "backends": [{"id": id, "host": "10.0.0.1", "port": 80, **more} for id, more in backends.items()],
            "routing_rules": [{"id": "all", "backends": list(backends)}] if rules is None else rules,
        }
    ).snapshot


AB = file({"a": {}, "b": {}})
NEW = {"id": "c", "host": "10.0.0.3", "port": 81}


def at(composed: Composed, id: str) -> Any:
    """The backend, or None."""
    return next((one for one in composed.snapshot.backends if one.id == id), None)


def rule(composed: Composed, id: str) -> Any:
    return next((one for one in composed.snapshot.rules if one.id == id), None)


def after(start: Snapshot, *edits: Any) -> Composed:
    """The overlay that these edits leave."""
    composed = compose(start, {})
    for edit in edits:
        composed = changed(composed, edit(composed))
    return composed


def loaded_again(composed: Composed, changed_file: Snapshot) -> Composed:
    """What a start with another file makes of the overlay, which went through JSON."""
    overlay = {
        key: Entry(entry.action, json.loads(json.dumps(entry.data)), entry.base, entry.aside)
        for key, entry in composed.overlay.items()
    }
    return compose(changed_file, overlay)


def test_without_an_overlay_the_file_is_in_force():
    composed = compose(AB, {})
    assert composed.snapshot == AB
    assert composed.provenance(BACKEND, "a") == "file"
    assert composed.warnings == ()


def test_added_patched_and_removed():
    composed = after(
        AB,
        lambda it: add_backend(it, NEW),
        lambda it: patch_backend(it, "a", {"weight": 5}),
        lambda it: remove_backend(it, "b"),
    )
    assert [(one.id, one.weight) for one in composed.snapshot.backends] == [("a", 5), ("c", 1)]
    assert composed.provenance(BACKEND, "c") == "api"
    assert composed.provenance(BACKEND, "a") == "file"
    assert composed.patched(BACKEND, "a") == ["weight"]
    assert loaded_again(composed, AB).snapshot == composed.snapshot


def test_tls_to_a_backend_is_read_and_checked_too(tmp_path: Path):
    (tmp_path / "bad.pem").write_text("nothing")
    composed = compose(AB, {}, tmp_path)
    plain = changed(composed, add_backend(composed, {**NEW, "tls": {"verify": False}}))
    assert at(plain, "c").tls.verify is False
    assert loaded_again(plain, AB).snapshot == plain.snapshot
    for name in ("none.pem", "bad.pem"):
        with pytest.raises(ConfigError, match=rf"^tls\.ca: .*{name}"):
            add_backend(composed, {**NEW, "tls": {"ca": name}})
        with pytest.raises(ConfigError, match=rf"tls\.ca: .*{name}"):
            changed(composed, patch_backend(composed, "a", {"tls": {"ca": name}}))


def test_patches_of_one_object_add_up():
    for id in ("a", "c"):
        composed = after(
            AB,
            lambda it: add_backend(it, NEW),
            lambda it, id=id: patch_backend(it, id, {"weight": 5}),
            lambda it, id=id: patch_backend(it, id, {"max_connections": 7}),
            lambda it, id=id: patch_backend(it, id, {"weight": 6}),
        )
        assert (at(composed, id).weight, at(composed, id).max_connections) == (6, 7)


def test_an_empty_patch_changes_nothing():
    assert after(AB, lambda it: patch_backend(it, "a", {})).overlay == {}


def test_what_the_api_added_and_removed_leaves_no_trace():
    composed = after(AB, lambda it: add_backend(it, NEW), lambda it: remove_backend(it, "c"))
    assert composed.overlay == {}


def test_a_removed_object_of_the_file_may_be_added_again():
    composed = after(
        AB, lambda it: remove_backend(it, "a"), lambda it: add_backend(it, {**NEW, "id": "a", "port": 99})
    )
    assert at(composed, "a").port == 99
    assert composed.provenance(BACKEND, "a") == "api"
    assert rule(composed, "all").backends == ("a", "b")
    assert at(loaded_again(composed, AB), "a").port == 99


def test_removing_a_backend_ends_its_drain():
    composed = after(AB, lambda it: drain_backend(it, "a", 9.0), lambda it: remove_backend(it, "a"))
    assert composed.drains() == {}


def test_drained_and_enabled():
    composed = after(AB, lambda it: drain_backend(it, "a", 1234.5))
    assert composed.drains() == {"a": 1234.5}
    assert composed.snapshot == AB
    assert loaded_again(composed, AB).drains() == {"a": 1234.5}
    assert changed(composed, enable_backend(composed, "a")).overlay == {}


# -- the file wins ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edit",
    [
        lambda it: patch_backend(it, "a", {"weight": 5}),
        lambda it: remove_backend(it, "a"),
        lambda it: drain_backend(it, "a", 9.0),
    ],
    ids=["patch", "remove", "drain"],
)
def test_a_changed_object_of_the_file_wins(edit: Any):
    composed = loaded_again(after(AB, edit), changed_file := file({"a": {"weight": 2}, "b": {}}))
    assert composed.snapshot == changed_file
    assert composed.drains() == {}
    assert len(composed.set_aside()) == 1
    [warning] = composed.warnings
    assert "backend a: the change made over the API is set aside: the file's object has changed" in warning
    back = loaded_again(composed, AB)  # for good
    assert back.snapshot == AB
    assert back.warnings == ()  # said once
    assert len(back.set_aside()) == 1


def test_an_object_that_appears_in_the_file_wins():
    composed = after(AB, lambda it: add_backend(it, NEW), lambda it: drain_backend(it, "c", 9.0))
    composed = loaded_again(composed, with_c := file({"a": {}, "b": {}, "c": {"port": 1}}))
    assert composed.snapshot == with_c
    assert composed.provenance(BACKEND, "c") == "file"
    assert composed.drains() == {}
    assert set(composed.set_aside()) == {(BACKEND, "c"), (DRAIN, "c")}
    assert at(loaded_again(composed, AB), "c") is None


def test_a_change_over_the_api_takes_the_place_of_what_was_set_aside():
    composed = loaded_again(
        after(AB, lambda it: patch_backend(it, "a", {"weight": 5})), file({"a": {"weight": 2}, "b": {}})
    )
    composed = changed(composed, patch_backend(composed, "a", {"max_connections": 3}))
    assert (at(composed, "a").weight, at(composed, "a").max_connections) == (2, 3)
    assert composed.set_aside() == []


def test_what_the_file_no_longer_has_is_no_longer_patched():
    composed = loaded_again(after(AB, lambda it: patch_backend(it, "a", {"weight": 5})), file({"b": {}}))
    assert at(composed, "a") is None
    assert "no such object any more" in composed.warnings[0]


def test_removals_and_drains_of_what_the_file_no_longer_has_are_forgotten():
    composed = after(AB, lambda it: remove_backend(it, "a"), lambda it: drain_backend(it, "b", 9.0))
    composed = loaded_again(composed, file({"x": {}}))
    assert composed.overlay == {}
    assert composed.warnings == ()


def test_other_objects_of_the_file_may_change():
    composed = loaded_again(
        after(AB, lambda it: patch_backend(it, "a", {"weight": 5}), lambda it: add_backend(it, NEW)),
        file({"a": {}, "b": {"weight": 9}, "d": {}}),
    )
    assert [(one.id, one.weight) for one in composed.snapshot.backends] == [
        ("a", 5), ("b", 9), ("d", 1), ("c", 1),
    ]  # fmt: skip
    assert composed.warnings == ()


def test_an_entry_that_is_no_longer_valid_is_set_aside():
    composed = compose(AB, {(BACKEND, "x"): Entry("put", {"host": "10.0.0.9", "port": 80, "teleport": 1})})
    assert at(composed, "x") is None
    assert "teleport: unknown key" in composed.warnings[0]


def test_defaults_written_out_are_no_change():
    plain, spelled = AB.backends[0], file({"a": {"weight": 1, "max_connections": None}}).backends[0]
    assert digest(BACKEND, plain, AB) == digest(BACKEND, spelled, AB) != digest(BACKEND, AB.backends[1], AB)


# -- rules -----------------------------------------------------------------------------------------


def test_rules_are_added_replaced_and_removed():
    composed = after(
        AB,
        lambda it: add_rule(it, {"host": "x.test", "backends": ["a"]}, "r1"),
        lambda it: put_rule(it, "all", {"backends": ["b"], "path_prefix": "/b"}),
        lambda it: add_rule(it, {"id": "mine", "backends": ["a"]}, "r2"),
        lambda it: remove_rule(it, "r1"),
    )
    assert {(one.id, one.path_prefix, one.backends) for one in composed.snapshot.rules} == {
        ("all", "/b", ("b",)), ("mine", None, ("a",)),
    }  # fmt: skip
    assert composed.provenance(RULE, "all") == "api"
    again = loaded_again(composed, AB)
    assert again.snapshot == composed.snapshot


def test_a_rule_loses_a_backend_that_is_gone_and_gets_it_back():
    composed = after(AB, lambda it: remove_backend(it, "a"))
    assert rule(composed, "all").backends == ("b",)
    assert composed.warnings == (
        "routing rule all: backends that are not there any more: a; it goes on without",
    )
    composed = changed(composed, remove_backend(composed, "b"))
    assert rule(composed, "all").backends == ()


def test_a_rule_of_the_api_outlives_a_backend_of_the_file():
    composed = after(AB, lambda it: add_rule(it, {"host": "x.test", "backends": ["a", "b"]}, "r"))
    composed = loaded_again(composed, file({"b": {}}))
    assert rule(composed, "r").backends == ("b",)
    assert "routing rule r: backends" in composed.warnings[0]


def test_a_rule_of_the_api_that_clashes_with_the_file_is_set_aside():
    composed = after(AB, lambda it: add_rule(it, {"host": "x.test", "backends": ["a"]}, "r"))
    with_rule = file(
        {"a": {}, "b": {}},
        [{"id": "all", "backends": ["a"]}, {"id": "x", "host": "x.test", "backends": ["b"]}],
    )
    composed = loaded_again(composed, with_rule)
    assert composed.snapshot == with_rule
    assert (
        "routing rule r: the change made over the API is set aside: matches the same" in composed.warnings[0]
    )


def test_a_rule_whose_listeners_are_gone_is_set_aside():
    composed = after(
        AB,
        lambda it: add_rule(it, {"host": "x.test", "listeners": ["two"], "backends": ["a"]}, "r"),
        lambda it: add_rule(it, {"host": "y.test", "listeners": ["web", "two"], "backends": ["a"]}, "s"),
    )
    one = parse(
        {
            "listeners": [{"id": "web", "bind": "127.0.0.1:8080"}],
            "backends": [{"id": id, "host": "10.0.0.1", "port": 80} for id in "ab"],
            "routing_rules": [{"id": "all", "backends": ["a", "b"]}],
        }
    ).snapshot
    composed = loaded_again(composed, one)
    assert rule(composed, "r") is None
    assert rule(composed, "s").listeners == ("web",)
    assert composed.set_aside() == [(RULE, "r")]


# -- what is refused -------------------------------------------------------------------------------


def refused(edit: Any, start: Snapshot = AB) -> list[str]:
    composed = compose(start, {})
    with pytest.raises(ConfigError) as raised:
        changed(composed, edit(composed))
    return raised.value.problems


def test_a_backend_is_validated_like_the_files_with_every_error():
    problems = refused(lambda it: add_backend(it, {"id": "c d", "host": "http://x", "prot": 1, "weight": -1}))
    assert sorted(problem.split(":")[0] for problem in problems) == ["host", "id", "port", "prot", "weight"]
    assert any("did you mean port?" in problem for problem in problems)


@pytest.mark.parametrize(
    "edit",
    [
        lambda it: add_rule(it, {"host": "x", "backends": ["a"], "algorithm": "os:abort"}, "r"),
        lambda it: add_rule(it, {"host": "x", "backends": ["a"], "algorithm": {"name": "os:abort"}}, "r"),
        lambda it: add_backend(it, {**NEW, "health_check": {"type": "os:abort"}}),
        lambda it: patch_backend(it, "a", {"health_check": {"type": "os:abort"}}),
    ],
)
def test_the_api_chooses_no_classes(edit: Any):
    [problem] = refused(edit)
    assert "classes are for the file to name, and it does not name 'os:abort'" in problem


def test_a_class_that_the_file_names_may_be_used():
    mine = {"name": "txlb.core.algorithms.round_robin:RoundRobin"}
    start = replace(AB, rules=(replace(AB.rules[0], algorithm=AlgorithmSpec(mine["name"])),))
    composed = compose(start, {})
    try:
        changes = add_rule(composed, {"host": "x.test", "backends": ["a"], "algorithm": mine}, "r")
    except ConfigError as error:
        assert "classes are for the file" not in str(error)  # it may be no good for other reasons
    else:
        assert list(changes) == [(RULE, "r")]


def test_a_rule_is_validated_with_the_rest():
    problems = refused(
        lambda it: add_rule(it, {"listeners": ["wep"], "backends": ["a", "x"], "host": "x.test"}, "r")
    )
    assert problems == [
        "listeners[0]: unknown listener wep (did you mean web?)",
        "backends[1]: unknown backend x",
    ]


def test_a_rule_that_matches_the_same_is_refused():
    [problem] = refused(lambda it: add_rule(it, {"backends": ["a"]}, "r"))
    assert problem.startswith("matches the same as routing rule all")


@pytest.mark.parametrize("body", [None, [], "text", 7])
def test_a_body_that_is_no_object_is_refused(body: object):
    for edit in (
        lambda it: add_backend(it, body),
        lambda it: patch_backend(it, "a", body),
        lambda it: add_rule(it, body, "r"),
        lambda it: put_rule(it, "all", body),
    ):
        assert refused(edit)[0].startswith("the body must be a JSON object")


def test_an_id_is_not_changed():
    assert refused(lambda it: patch_backend(it, "a", {"id": "z"})) == ["id: cannot be changed"]
    assert refused(lambda it: put_rule(it, "all", {"id": "z", "backends": ["a"]}))[0].startswith(
        "id: must be all"
    )


def test_known_ids_are_taken():
    composed = compose(AB, {})
    with pytest.raises(IdTaken):
        add_backend(composed, {**NEW, "id": "a"})
    with pytest.raises(IdTaken, match="being removed"):
        add_backend(composed, NEW, {"c"})
    with pytest.raises(IdTaken):
        add_rule(composed, {"id": "all", "backends": ["a"]}, "r")


def test_unknown_ids_are_unknown():
    composed = compose(AB, {})
    for edit in (
        lambda: patch_backend(composed, "x", {}),
        lambda: remove_backend(composed, "x"),
        lambda: drain_backend(composed, "x", 1.0),
        lambda: enable_backend(composed, "x"),
        lambda: put_rule(composed, "x", {"backends": ["a"]}),
        lambda: remove_rule(composed, "x"),
    ):
        with pytest.raises(UnknownId):
            edit()


# -- any sequence of changes -----------------------------------------------------------------------

ids = st.sampled_from(["a", "b", "c", "d"])
members = st.lists(ids, min_size=1, max_size=3, unique=True)
edits = st.one_of(
    st.builds(lambda id, port: lambda it: add_backend(it, {**NEW, "id": id, "port": port}), ids,
              st.integers(1, 3)),
    st.builds(lambda id, many: lambda it: patch_backend(it, id, {"weight": many}), ids, st.integers(0, 3)),
    st.builds(lambda id: lambda it: remove_backend(it, id), ids),
    st.builds(lambda id: lambda it: drain_backend(it, id, 5.0), ids),
    st.builds(lambda id: lambda it: enable_backend(it, id), ids),
    st.builds(lambda id, some: lambda it: add_rule(it, {"host": f"{id}.test", "backends": some}, f"r-{id}"),
              ids, members),
    st.builds(lambda id, some: lambda it: put_rule(it, f"r-{id}", {"backends": some, "host": f"{id}.x"}),
              ids, members),
    st.builds(lambda id: lambda it: remove_rule(it, f"r-{id}"), ids),
)  # fmt: skip
files = st.dictionaries(ids, st.fixed_dictionaries({"weight": st.integers(0, 2)}), max_size=4).map(
    lambda backends: file(
        backends, [{"id": "r-a", "host": "a.test", "backends": [*backends]}] if backends else []
    )
)


def edited(composed: Composed, some: list[Any]) -> Composed:
    for edit in some:
        try:
            changes: Changes = edit(composed)
            composed = changed(composed, changes)
        except TxlbError:
            continue
    return composed


@settings(max_examples=60)
@given(files, st.lists(edits, max_size=8))
def test_the_same_file_and_overlay_are_the_same_configuration(start: Snapshot, some: list[Any]):
    composed = edited(compose(start, {}), some)
    again = loaded_again(composed, start)
    assert {one.id: one for one in again.snapshot.backends} == {
        one.id: one for one in composed.snapshot.backends
    }
    assert {one.id: one for one in again.snapshot.rules} == {one.id: one for one in composed.snapshot.rules}
    assert again.drains() == composed.drains()
    assert again.overlay == composed.overlay


@settings(max_examples=60)
@given(files, st.lists(edits, max_size=8), files)
def test_with_another_file_what_it_changed_is_as_it_says(start: Snapshot, some: list[Any], other: Snapshot):
    composed = loaded_again(edited(compose(start, {}), some), other)
    before = {one.id: one for one in start.backends}
    now = {one.id: one for one in composed.snapshot.backends}
    for spec in other.backends:
        if spec != before.get(spec.id):
            assert now[spec.id] == spec
            assert spec.id not in composed.drains()
            assert composed.provenance(BACKEND, spec.id) == "file"
    assert set(composed.drains()) <= set(now)
    for one in composed.snapshot.rules:
        assert set(one.backends) <= set(now)
    again = loaded_again(composed, other)
    assert again.snapshot == composed.snapshot
    assert again.overlay == composed.overlay
