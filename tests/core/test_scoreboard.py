"""`txlb.core.scoreboard`: columns never overlap, never move, and come back only when nobody writes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.core import scoreboard
from txlb.core.latency import BUCKETS
from txlb.core.model import BackendSpec, ListenerSpec, RuleSpec, Snapshot
from txlb.core.scoreboard import (
    BACKEND,
    CELL,
    GAUGES,
    LISTENER,
    RULE,
    WORKER,
    Columns,
    ColumnsExhausted,
    cells_of,
)

SIZES = {"listeners": len(LISTENER), "rules": len(RULE), "backends": len(BACKEND), "cells": len(CELL)}


def snapshot_of(backends: str, generation: int = 1, listeners: str = "w") -> Snapshot:
    """A letter per backend and per listener, one rule over all of them."""
    return Snapshot(
        generation=generation,
        listeners=tuple(ListenerSpec(letter, (f"127.0.0.1:{ord(letter)}",)) for letter in listeners),
        backends=tuple(BackendSpec(letter, "127.0.0.1", 80) for letter in backends),
        rules=(RuleSpec("r", tuple(backends)),),
    )


def owners(columns: Columns) -> dict[int, tuple[str, object]]:
    """Who owns each column; fails where two do."""
    owned: dict[int, tuple[str, object]] = dict.fromkeys(range(len(WORKER)), ("worker", ""))
    for kind, size in SIZES.items():
        for key, base in getattr(columns, kind).items():
            for column in range(base, base + size):
                assert column not in owned, f"{owned[column]} and {key} share column {column}"
                assert column < columns.used <= columns.width
                owned[column] = (kind, key)
    return owned


def test_everything_of_a_snapshot_has_columns_of_its_own():
    columns = Columns.for_snapshot(snapshot_of("abc", listeners="wx"))
    kinds = owners(columns)
    assert set(columns.listeners) == {"w", "x"}
    assert set(columns.backends) == {"a", "b", "c"}
    assert set(columns.rules) == {"r"}
    assert len(kinds) == columns.used


def test_what_stays_keeps_its_columns_and_what_is_new_gets_free_ones():
    before = Columns.for_snapshot(snapshot_of("abc"))
    after = Columns.for_snapshot(snapshot_of("cxa", 2), before)
    assert after.backends["a"] == before.backends["a"]
    assert after.backends["c"] == before.backends["c"]
    assert after.cell("w", "r", "a") == before.cell("w", "r", "a")
    assert before.backends["b"] not in after.backends.values()
    owners(after)


def test_columns_of_what_is_gone_are_reused_only_once_every_worker_runs_a_generation_without_it():
    first = Columns.for_snapshot(snapshot_of("ab"))
    second = Columns.for_snapshot(snapshot_of("a", 2), first)
    waiting, freed = second.reclaim(1)
    assert freed == []
    assert Columns.for_snapshot(snapshot_of("ax", 3), waiting).backends["x"] != first.backends["b"]
    ready, freed = second.reclaim(2)
    assert (first.backends["b"], len(BACKEND)) in freed
    third = Columns.for_snapshot(snapshot_of("ax", 3), ready)
    assert third.backends["x"] == first.backends["b"]
    owners(third)


def test_an_id_that_returns_before_that_has_its_old_columns_back():
    first = Columns.for_snapshot(snapshot_of("ab"))
    gone = Columns.for_snapshot(snapshot_of("a", 2), first)
    back = Columns.for_snapshot(snapshot_of("ab", 3), gone)
    assert back.backends == first.backends
    assert back.cells == first.cells
    assert back.retired == []


@given(st.lists(st.tuples(st.text("abcdefgh", max_size=8), st.booleans()), max_size=12))
def test_no_sequence_of_reloads_makes_two_owners_of_a_column(steps: list[tuple[str, bool]]):
    columns = Columns.for_snapshot(snapshot_of(""))
    for generation, (letters, acknowledged) in enumerate(steps, 2):
        names = "".join(dict.fromkeys(letters))
        columns, _ = columns.reclaim(generation - 1 if acknowledged else 0)
        columns = Columns.for_snapshot(snapshot_of(names, generation), columns)
        owned = owners(columns)
        for block in columns.retired:
            assert block.base not in owned
        for size, bases in columns.free.items():
            assert len(bases) == len(set(bases))
            assert not any(column in owned for base in bases for column in range(base, base + size))


def test_a_segment_that_is_full_says_that_a_restart_helps():
    narrow = replace(Columns.for_snapshot(snapshot_of("")), width=200)
    with pytest.raises(ColumnsExhausted, match="restart"):
        Columns.for_snapshot(snapshot_of("abcdefgh", 2), narrow)


def test_a_new_segment_has_room_for_four_times_the_need():
    assert scoreboard.width_for(1) == scoreboard.MIN_WIDTH
    assert scoreboard.width_for(scoreboard.MIN_WIDTH) == 4 * scoreboard.MIN_WIDTH


def test_cells_follow_the_listeners_of_a_rule_and_leave_out_other_protocols():
    snapshot = Snapshot(
        listeners=(ListenerSpec("h", ()), ListenerSpec("i", ()), ListenerSpec("t", (), protocol="tcp")),
        rules=(RuleSpec("all", ("a",)), RuleSpec("one", ("b",), listeners=("i",))),
    )
    assert set(cells_of(snapshot)) == {
        ("h", "", ""), ("i", "", ""), ("h", "all", ""), ("i", "all", ""), ("i", "one", ""),
        ("h", "all", "a"), ("i", "all", "a"), ("i", "one", "b"),
    }  # fmt: skip


def test_cells_with_a_backend_are_left_out_when_there_would_be_too_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scoreboard, "MAX_CELLS", 5)
    columns = Columns.for_snapshot(snapshot_of("abc", listeners="wx"))
    assert columns.cell("w", "r", "a") == -1
    assert columns.cell("w", "r", "") > 0
    assert columns.cell("x", "", "") > 0


def test_gauges_are_those_of_everything_in_use_and_of_what_may_still_be_written():
    first = Columns.for_snapshot(snapshot_of("ab"))
    second = Columns.for_snapshot(snapshot_of("a", 2), first)
    gauges = list(second.gauges())
    assert WORKER.index("heartbeat_ms") in gauges
    assert WORKER.index("ticks") not in gauges
    assert second.listeners["w"] + LISTENER.index("connections") in gauges
    assert second.listeners["w"] + LISTENER.index("connections_total") not in gauges
    for base in first.backends.values():
        for name in GAUGES["backend"]:
            assert base + BACKEND.index(name) in gauges
        assert base + BACKEND.index("requests") not in gauges


def test_columns_survive_json():
    columns = Columns.for_snapshot(snapshot_of("abc"))
    row = json.loads(json.dumps(columns.to_json()))
    assert Columns.from_json(row) == columns


def test_every_block_that_times_has_all_buckets_in_a_row():
    for block in (RULE, BACKEND):
        first = block.index("latency_0")
        assert block[first : first + BUCKETS] == tuple(f"latency_{index}" for index in range(BUCKETS))
        assert block[first + BUCKETS] == "latency_sum_us"


def test_every_gauge_is_a_field():
    for kind, block in (("worker", WORKER), ("listener", LISTENER), ("rule", RULE), ("backend", BACKEND)):
        assert GAUGES[kind] <= set(block)
        assert len(set(block)) == len(block)
