"""`txlb.control.background`: results come back, and nobody collects garbage meanwhile."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThreadPool

from txlb.control.background import Background
from txlb.net.scheduling import LONGEST, slice_of


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    assert gc.isenabled()
    yield
    gc.enable()


@pytest_twisted.ensureDeferred
async def test_it_runs_in_a_thread_without_the_collector() -> None:
    work = Background(reactor)
    seen: Any = await work.run(lambda x: (x, threading.current_thread(), gc.isenabled()), 7)
    assert (seen[0], seen[2]) == (7, False)
    assert seen[1] is not threading.main_thread()
    assert gc.isenabled()


@pytest_twisted.ensureDeferred
async def test_the_collector_is_back_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError):
        await Background(reactor).run(lambda: 1 // 0)
    assert gc.isenabled()


@pytest_twisted.ensureDeferred
async def test_of_several_the_last_one_turns_it_on() -> None:
    work = Background(reactor)
    go_on = threading.Event()
    slow = work.run(go_on.wait)
    await work.run(int)
    assert not gc.isenabled()
    go_on.set()
    await slow
    assert gc.isenabled()


@pytest_twisted.ensureDeferred
async def test_what_somebody_else_turned_off_stays_off() -> None:
    gc.disable()
    await Background(reactor).run(int)
    assert not gc.isenabled()


@pytest_twisted.ensureDeferred
async def test_the_loop_goes_first_while_it_runs() -> None:
    usual = slice_of()
    pool = reactor.getThreadPool()  # type: ignore[attr-defined]
    before = await deferToThreadPool(reactor, pool, slice_of)
    during = await Background(reactor).run(slice_of)
    after = await deferToThreadPool(reactor, pool, slice_of)
    assert before == after == slice_of() == usual
    if usual:  # Linux 6.12 and newer say how long a slice is; older ones say 0
        assert during == pytest.approx(LONGEST)
