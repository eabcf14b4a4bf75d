from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from support.choosing import backends
from twisted.internet.task import Clock

from txlb.core.algorithms.base import Algorithm
from txlb.core.backend import Backend
from txlb.core.pool import Pool
from txlb.forwarding.rebuilds import PAUSE, Rebuilds
from txlb.net.slices import Slices


class Scene:
    """A pool whose algorithm takes ``steps`` milliseconds to build."""

    def __init__(self, steps: int = 0) -> None:
        self.clock = Clock()
        self.clock.advance(100.0)
        self.steps = steps
        self.built: list[str] = []
        self.slices = Slices(self.clock)
        self.rebuilds = Rebuilds(self.clock, self.slices)
        scene = self

        class Slow(Algorithm):
            def rebuild(self, members: list[Backend]) -> Iterator[None]:
                self.members = members
                for _ in range(scene.steps):
                    scene.clock.rightNow += 0.001
                    yield
                scene.built.append("".join(member.id for member in members))

            def pick(self, context: Any, tried: list[Backend]) -> Backend | None:
                return self.members[0] if self.members else None

        self.pool = Pool("rule", Slow, [])
        self.built.clear()

    def members(self, text: str) -> None:
        self.pool.set_members(backends(text))
        self.rebuilds.want([self.pool])


def test_the_first_change_takes_effect_at_once() -> None:
    scene = Scene()
    scene.members("A1 B1")
    assert scene.built == ["AB"]
    assert scene.clock.getDelayedCalls() == []


def test_many_changes_are_few_rebuilds() -> None:
    scene = Scene()
    for number in range(100):
        scene.members("A1 B1" if number % 2 else "A1")
        scene.clock.advance(0.001)
    assert len(scene.built) <= 100 * 0.001 / PAUSE + 1
    scene.clock.advance(PAUSE)
    assert scene.built[-1] == "AB", "the last change is not lost"
    assert scene.clock.getDelayedCalls() == []


def test_a_long_rebuild_runs_in_slices_and_a_change_meanwhile_is_one_more() -> None:
    scene = Scene(steps=80)
    scene.members("A1 B1")
    assert scene.built == []
    scene.members("A1")
    scene.members("A1 C1")
    while scene.clock.getDelayedCalls():
        scene.clock.advance(0.001)
    assert scene.built == ["AB", "AC"]
    assert scene.pool.acquire(None, None, 0.0) is not None


def test_a_forgotten_pool_is_not_built_to_the_end() -> None:
    scene = Scene(steps=80)
    scene.members("A1 B1")
    scene.rebuilds.forget(scene.pool)
    scene.clock.pump([0.001] * 200)
    assert scene.built == []


def test_stopping_leaves_nothing_behind() -> None:
    scene = Scene(steps=80)
    scene.members("A1 B1")
    scene.members("A1")
    other = Pool("other", scene.pool._factory, [])
    scene.built.clear()
    scene.rebuilds.want([other])
    scene.rebuilds.want([other])
    scene.rebuilds.stop()
    scene.slices.stop()
    assert scene.clock.getDelayedCalls() == []
    assert scene.built == []
