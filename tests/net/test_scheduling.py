"""`txlb.net.scheduling`, on the kernel that is here."""

from __future__ import annotations

import os
import platform
import resource
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

from txlb.net import scheduling
from txlb.net.scheduling import LONG, give_way, set_slice, slice_of

T = TypeVar("T")


def in_a_thread(work: Callable[[], T]) -> T:
    """What it gives, in a thread of its own: the slice of the tests' stays."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join(10)
    return results[0]


def tells() -> bool:
    """Linux 6.12 and newer say how long a slice is; older ones say 0."""
    return bool(slice_of())


def test_a_slice_is_set_for_the_calling_thread_and_given_back() -> None:
    before = slice_of()

    def work() -> tuple[bool, float | None, bool, float | None]:
        return set_slice(LONG), slice_of(), set_slice(0.0), slice_of()

    taken, long, given_back, after = in_a_thread(work)
    assert slice_of() == before
    if tells():
        assert taken and given_back
        assert long == pytest.approx(LONG)
        assert after == before


def test_what_is_started_from_there_has_it_too() -> None:
    def work() -> float | None:
        set_slice(LONG)
        return in_a_thread(slice_of)

    assert in_a_thread(work) == (pytest.approx(LONG) if tells() else slice_of())


def test_the_nice_value_stays() -> None:
    def work() -> tuple[int, int]:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, 3)
        set_slice(LONG)
        return 3, os.getpriority(os.PRIO_PROCESS, thread)

    wanted, found = in_a_thread(work)
    assert found == wanted


def test_other_policies_are_left_alone() -> None:
    def work() -> tuple[bool, int]:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        return set_slice(LONG), os.sched_getscheduler(0)

    assert in_a_thread(work) == (False, os.SCHED_IDLE)


@pytest.mark.parametrize("elsewhere", ["system", "machine"])
def test_elsewhere_nothing_happens_and_that_is_said(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, elsewhere, lambda: "something else")
    assert not set_slice(LONG)
    assert slice_of() is None
    assert scheduling.read() is None


def test_who_gives_way_really_sleeps() -> None:
    def work() -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        give_way()
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before

    assert in_a_thread(work) >= 1
