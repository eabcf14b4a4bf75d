from __future__ import annotations

from txlb.forwarding.draining import Drains


def test_a_deadline_is_told_once() -> None:
    drains = Drains()
    drains.begin("a", 5.0)
    drains.begin("b", 7.0)
    assert drains.overdue(4.9) == set()
    assert drains.overdue(5.0) == {"a"}
    assert drains.ids == {"a", "b"}, "it goes on draining"
    assert drains.overdue(6.0) == set()
    assert drains.overdue(9.0) == {"b"}


def test_the_deadline_may_move() -> None:
    drains = Drains()
    drains.begin("a", 5.0)
    drains.begin("a", 9.0)
    assert drains.overdue(6.0) == set()
    assert drains.overdue(9.0) == {"a"}


def test_what_is_enabled_or_has_no_deadline_is_not_cut_off() -> None:
    drains = Drains()
    drains.begin("a", 5.0)
    drains.begin("b", None)
    assert drains.ids == {"a", "b"}
    drains.end("a")
    assert drains.ids == {"b"}
    drains.end("never began")
    assert drains.overdue(99.0) == set()
