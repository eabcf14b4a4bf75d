"""`txlb.core.delta`: patched is as good as sent whole, and only on the generation it was made for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.core.delta import Delta, State, WrongBase, decode_delta, encode_delta, patch
from txlb.core.model import BackendSpec, ListenerSpec, RuleSpec, Snapshot
from txlb.core.scoreboard import Columns


def decoded(data: bytes) -> Delta:
    steps = decode_delta(data)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            delta: Delta = done.value
            return delta


def canonical(state: State) -> Any:
    """What means something: no order, nothing of control's own bookkeeping."""
    snapshot, columns = state
    by_id = (sorted(part, key=lambda one: one.id) for part in (snapshot.backends, snapshot.rules))
    rest = replace(snapshot, backends=(), rules=())
    return rest, *by_id, columns.used, columns.listeners, columns.rules, columns.backends, columns.cells


def snapshot_of(weights: dict[str, int], listeners: str, generation: int) -> Snapshot:
    single = [RuleSpec(f"r{name}", (name,)) for name in weights]
    return Snapshot(
        generation=generation,
        listeners=tuple(ListenerSpec(letter, ()) for letter in listeners),
        backends=tuple(BackendSpec(name, "h", 1, weight) for name, weight in weights.items()),
        rules=(*single, RuleSpec("all", tuple(weights))),
    )


steps = st.lists(
    st.tuples(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2)), st.sampled_from(["", "w", "wx"]))
)


@given(steps)
def test_patching_gives_what_sending_it_whole_would(changes: list[tuple[dict[str, int], str]]):
    first = snapshot_of({"a": 1}, "w", 1)
    control: State = (first, Columns.for_snapshot(first))
    worker = control
    for generation, (weights, listeners) in enumerate(changes, 2):
        snapshot = snapshot_of(weights, listeners, generation)
        columns, _ = control[1].reclaim(generation - 1)
        after: State = (snapshot, Columns.for_snapshot(snapshot, columns))
        worker = patch(worker, decoded(b"".join(encode_delta(control, after))))
        control = after
        assert canonical(worker) == canonical(control)


def test_a_small_change_is_a_small_delta():
    weights = {f"b{number}": 1 for number in range(5000)}
    names = tuple(weights)

    def state(weight: int, generation: int, before: Columns | None) -> State:
        backends = tuple(BackendSpec(name, "h", 1, 1 if name != "b9" else weight) for name in names)
        rules = (RuleSpec("r", names),)
        snapshot = Snapshot(generation, listeners=(ListenerSpec("w", ()),), backends=backends, rules=rules)
        return snapshot, Columns.for_snapshot(snapshot, before)

    old = state(1, 1, None)
    assert sum(map(len, encode_delta(old, state(2, 2, old[1])))) < 4000


def test_another_generation_is_refused_and_the_state_untouched():
    first = snapshot_of({"a": 1}, "w", 1)
    old: State = (first, Columns.for_snapshot(first))
    second = snapshot_of({"b": 1}, "w", 2)
    delta = decoded(b"".join(encode_delta(old, (second, Columns.for_snapshot(second, old[1])))))
    before = canonical(old)
    patch(old, delta)
    assert canonical(old) == before
    with pytest.raises(WrongBase, match="generation 1 is needed, not 5"):
        patch((replace(first, generation=5), old[1]), delta)
