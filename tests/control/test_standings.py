from __future__ import annotations

from twisted.internet.task import Clock

from txlb.control.standings import Standings
from txlb.core.standing import Standing


class Scene:
    def __init__(self) -> None:
        self.clock = Clock()
        self.sent: list[list[Standing]] = []
        self.standings = Standings(self.clock, lambda changes: self.sent.append(list(changes)))

    def turn(self) -> list[list[Standing]]:
        self.clock.advance(0)
        sent, self.sent = self.sent, []
        return sent


def test_changes_of_one_turn_are_one_message() -> None:
    here = Scene()
    here.standings.set_healthy("a", False)
    here.standings.set_drained("b", True, 5.0)
    assert here.turn() == [[Standing("a", healthy=False), Standing("b", drained=True, drain_until=5.0)]]


def test_health_and_will_do_not_overwrite_each_other() -> None:
    here = Scene()
    here.standings.set_healthy("a", False)
    here.standings.set_drained("a", True, 5.0)
    here.standings.set_healthy("a", True)
    assert here.standings.of("a") == Standing("a", True, True, 5.0)
    here.standings.set_drained("a", False, 5.0)
    assert here.standings.of("a") == Standing("a")


def test_what_changes_nothing_is_not_sent() -> None:
    here = Scene()
    here.standings.set_healthy("a", True)
    assert here.turn() == []
    here.standings.set_healthy("a", False)
    here.turn()
    here.standings.set_healthy("a", False)
    assert here.turn() == []


def test_who_left_is_forgotten() -> None:
    here = Scene()
    here.standings.set_healthy("a", False)
    here.standings.set_healthy("b", False)
    here.turn()
    here.standings.retain({"b"})
    assert here.turn() == [[Standing("a")]]
    assert here.standings.of("b") == Standing("b", healthy=False)


def test_stopped_it_sends_nothing() -> None:
    here = Scene()
    here.standings.set_healthy("a", False)
    here.standings.stop()
    assert here.turn() == []
