"""`txlb.core.agenda`: in order, each once, moved without a search."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.core.agenda import AHEAD, NEVER, SLOT, Agenda
from txlb.core.health import Health


def record(due: float) -> Health:
    it = Health(f"b{due}", 5.0, 2.0, 2, 3, 0.0, 0.0)
    it.due = due
    return it


def test_what_is_due_comes_out_in_order_and_once() -> None:
    agenda = Agenda()
    later, sooner, much_later = record(2.0), record(1.0), record(9.0)
    for it in (later, sooner, much_later):
        agenda.put(it)
    assert agenda.take(0.5, 10) == []
    assert agenda.take(2.0, 10) == [sooner, later]
    assert agenda.take(2.0, 10) == []


def test_nothing_comes_before_it_is_due() -> None:
    agenda = Agenda()
    first, second = record(SLOT * 1.2), record(SLOT * 1.4)
    agenda.put(second)
    agenda.put(first)
    assert agenda.take(SLOT * 1.1, 9) == []
    assert agenda.take(SLOT * 1.3, 9) == [first]
    assert agenda.take(SLOT * 1.5, 9) == [second]
    assert agenda.count == 0


def test_no_more_than_the_limit() -> None:
    agenda = Agenda()
    for due in range(5):
        agenda.put(record(float(due)))
    assert [it.due for it in agenda.take(9.0, 2)] == [0.0, 1.0]
    assert agenda.take(9.0, 0) == agenda.take(9.0, -3) == []
    assert [it.due for it in agenda.take(9.0, 9)] == [2.0, 3.0, 4.0]


def test_only_the_last_put_counts_and_dropped_ones_never_come() -> None:
    agenda = Agenda()
    moved, gone = record(5.0), record(1.0)
    agenda.put(moved)
    agenda.put(gone)
    moved.due = 1.0
    agenda.put(moved)
    agenda.drop(gone)
    assert agenda.take(9.0, 9) == [moved]
    assert agenda.take(9.0, 9) == []


def test_entries_that_do_not_count_do_not_pile_up() -> None:
    agenda = Agenda()
    it = record(1e9)
    for _ in range(100_000):
        agenda.put(it)
    assert agenda.count <= 1001
    assert agenda.take(1e9, 9) == [it]


def test_when_the_next_one_is_due() -> None:
    agenda = Agenda()
    assert agenda.next_due(0.0) == NEVER
    later, sooner, moved = record(3.0 + SLOT / 2), record(3.0 + SLOT / 4), record(1.0)
    for it in (later, sooner, moved):
        agenda.put(it)
    assert agenda.next_due(0.0) == 1.0
    agenda.drop(moved)
    assert agenda.next_due(0.0) == sooner.due
    assert agenda.count == 2  # what does not count is gone
    assert agenda.next_due(3.0 + SLOT / 8) <= 3.0 + SLOT / 8  # not worth the search
    agenda.put(moved)
    assert agenda.next_due(0.5) == 1.0
    assert agenda.take(9.0, 1) == [moved]
    assert agenda.next_due(9.0) <= 9.0
    assert agenda.take(9.0, 2) == [later, sooner]
    assert agenda.next_due(9.0) == NEVER


def test_a_long_gap_is_crossed_in_stages() -> None:
    agenda = Agenda()
    agenda.put(record(0.0))
    it = record(SLOT * AHEAD * 2.5)
    agenda.put(it)
    agenda.take(0.0, 1)
    stages = [agenda.next_due(0.0) for _ in range(4)]
    assert stages == pytest.approx([SLOT * AHEAD, SLOT * AHEAD * 2, it.due, it.due], abs=2 * SLOT)
    assert agenda.take(it.due, 1) == [it]


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 9))), st.floats(0, 9))
def test_the_next_one_is_never_earlier_than_said(moves: list[tuple[int, float]], soon: float) -> None:
    agenda = Agenda()
    records = [record(0.0) for _ in range(10)]
    for index, due in moves:
        records[index].due = due
        agenda.put(records[index])
    earliest = min((records[index].due for index, _ in moves), default=NEVER)
    said = agenda.next_due(soon)
    assert said == earliest or said <= min(soon, earliest + 1e-9)


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 100))))
def test_every_record_comes_once_at_its_last_due(moves: list[tuple[int, float]]) -> None:
    agenda = Agenda()
    records = [record(0.0) for _ in range(10)]
    for index, due in moves:
        records[index].due = due
        agenda.put(records[index])
    put = {index for index, _ in moves}
    taken = agenda.take(100.0, 100)
    assert sorted(map(id, taken)) == sorted(id(records[index]) for index in put)
    slots = [int(it.due / SLOT) for it in taken]
    assert slots == sorted(slots)
