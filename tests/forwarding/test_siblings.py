from __future__ import annotations

from support.choosing import Asking, backend
from twisted.internet.task import Clock

from txlb.core.algorithms import factory_for
from txlb.core.backend import Backend
from txlb.core.model import AlgorithmSpec
from txlb.core.pool import Pool
from txlb.core.scoreboard import BACKEND
from txlb.forwarding.siblings import ACTIVE, Siblings
from txlb.net.slices import Slices


def rows(count: int, backends: int) -> list[memoryview]:
    return [memoryview(bytearray(8 * len(BACKEND) * backends)).cast("q") for _ in range(count)]


def members(count: int) -> list[Backend]:
    found = [backend(f"b{number}") for number in range(count)]
    for number, one in enumerate(found):
        one.column = number * len(BACKEND)
    return found


def test_what_siblings_hold_is_their_sum() -> None:
    board = rows(3, 2)
    two = members(2)
    siblings = Siblings(board, Slices(Clock()))
    siblings.watch(two)
    for row, (first, second) in zip(board, [(1, 0), (2, 5), (3, 0)], strict=True):
        row[two[0].column + ACTIVE] = first
        row[two[1].column + ACTIVE] = second
    siblings.sweep()
    assert [one.elsewhere for one in two] == [6, 5]


def test_least_connections_balances_over_all_workers() -> None:
    board = rows(1, 2)
    two = members(2)
    pool = Pool("rule", factory_for(AlgorithmSpec("least_connections")), two)
    siblings = Siblings(board, Slices(Clock()))
    siblings.watch(two)
    board[0][two[0].column + ACTIVE] = 10
    siblings.sweep()
    leases = [pool.acquire(Asking(), None, 0.0) for _ in range(10)]
    assert all(lease is not None and lease.backend is two[1] for lease in leases)
    board[0][two[0].column + ACTIVE] = 0
    siblings.sweep()
    lease = pool.acquire(Asking(), None, 0.0)
    assert lease is not None and lease.backend is two[0]


def test_a_large_sweep_runs_in_slices_and_only_once_at_a_time() -> None:
    clock = Clock()
    slow = iter(range(10**6))
    clock.seconds = lambda: next(slow) * 0.01  # type: ignore[method-assign]  # every look at it takes 10 ms
    board = rows(1, 2000)
    many = members(2000)
    siblings = Siblings(board, Slices(clock))
    siblings.watch(many)
    for one in many:
        board[0][one.column + ACTIVE] = 1
    siblings.sweep()
    siblings.sweep()
    assert [one.elsewhere for one in many].count(1) < 2000
    for _ in range(20):
        clock.advance(1000.0)
    assert [one.elsewhere for one in many].count(1) == 2000


def test_who_is_no_longer_weighed_is_forgotten() -> None:
    board = rows(1, 2)
    two = members(2)
    siblings = Siblings(board, Slices(Clock()))
    siblings.watch(two)
    for one in two:
        board[0][one.column + ACTIVE] = 3
    siblings.sweep()
    siblings.watch(two[:1])
    siblings.sweep()
    assert [one.elsewhere for one in two] == [3, 0]


def test_they_weigh_what_is_watched_and_nothing_else() -> None:
    siblings = Siblings(rows(1, 2), Slices(Clock()))
    assert not siblings.weigh()
    siblings.watch(members(2))
    assert siblings.weigh()
    siblings.watch([])
    assert not siblings.weigh()


def test_without_siblings_there_is_nothing_to_do() -> None:
    clock = Clock()
    siblings = Siblings([], Slices(clock))
    siblings.watch(members(2))
    siblings.sweep()
    assert not siblings.weigh()
    assert clock.getDelayedCalls() == []
