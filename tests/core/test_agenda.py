"""`txlb.core.agenda`: in order, each once, moved without a search."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from txlb.core.agenda import SLOT, Agenda
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
