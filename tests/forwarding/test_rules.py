from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from twisted.internet.task import Clock

from txlb.core.backend import Backend
from txlb.core.model import AlgorithmSpec, BackendSpec, ListenerSpec, RuleSpec, Snapshot
from txlb.forwarding.rebuilds import Rebuilds
from txlb.forwarding.rules import Rules, affinity_of, algorithm_of
from txlb.net.slices import Slices

LISTENERS = (ListenerSpec("web", ("127.0.0.1:80",)), ListenerSpec("db", ("127.0.0.1:81",), protocol="tcp"))
SNAPSHOT = Snapshot(
    listeners=LISTENERS,
    backends=(BackendSpec("a", "h", 80, address="10.0.0.1"), BackendSpec("b", "h", 81, address="10.0.0.2")),
    rules=(RuleSpec("one", ("a", "b")), RuleSpec("two", ("b",))),
    secret="ab" * 32,
)


class Scene:
    def __init__(self) -> None:
        clock = Clock()
        self.slices = Slices(clock)
        self.rebuilds = Rebuilds(clock, self.slices)
        self.rules = Rules(self.rebuilds)
        self.backends = {
            spec.id: Backend(spec.id, spec.host, spec.address, spec.port) for spec in SNAPSHOT.backends
        }

    def apply(self, snapshot: Snapshot) -> None:
        self.rules.apply(snapshot, self.backends, serving=False)


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    scene.apply(SNAPSHOT)
    yield scene
    scene.rebuilds.stop()
    scene.slices.stop()


def picks(scene: Scene, rule: str, count: int = 4) -> set[str]:
    leases = [scene.rules.pools[rule].acquire(None, None, 0.0) for _ in range(count)]
    return {lease.backend.id for lease in leases if lease is not None}


def test_a_rule_that_stays_keeps_its_pool_and_its_algorithm(scene: Scene) -> None:
    pools = dict(scene.rules.pools)
    algorithm = pools["one"]._algorithm
    scene.apply(replace(SNAPSHOT, rules=(SNAPSHOT.rules[0], replace(SNAPSHOT.rules[1], panic_threshold=0.5))))
    assert scene.rules.pools == pools
    assert pools["one"]._algorithm is algorithm
    assert pools["two"].panic_threshold == 0.5


def test_members_change_and_who_left_gets_nothing(scene: Scene) -> None:
    assert picks(scene, "one") == {"a", "b"}
    scene.apply(replace(SNAPSHOT, rules=(RuleSpec("one", ("a",)),)))
    assert picks(scene, "one") == {"a"}
    assert set(scene.rules.pools) == {"one"}


def test_only_rules_that_weigh_load_have_their_backends_weighed(scene: Scene) -> None:
    assert scene.rules.weighed == []
    spec = RuleSpec("two", ("b",), algorithm=AlgorithmSpec("least_connections"))
    scene.apply(replace(SNAPSHOT, rules=(SNAPSHOT.rules[0], spec)))
    assert scene.rules.weighed == [scene.backends["b"]]


def test_standings_reach_the_pools_that_have_the_backend(scene: Scene) -> None:
    scene.backends["a"].healthy = False
    scene.rules.standings_changed({scene.backends["a"]}, serving=False)
    assert picks(scene, "one") == {"b"}


@pytest.mark.parametrize(
    ("listeners", "sticky", "name"),
    [
        (None, None, "random"),
        (None, "lb", "random"),
        (("web",), "lb", "random"),
        (("db",), None, "random"),
        (("db",), "lb", "ip_hash"),
    ],
)
def test_streams_stay_with_their_backend_by_address(
    listeners: tuple[str, ...] | None, sticky: str | None, name: str
) -> None:
    rule = RuleSpec("r", ("a",), listeners, algorithm=AlgorithmSpec("random"), sticky=sticky)
    assert algorithm_of(rule, SNAPSHOT).name == name


def test_the_cookie_is_valid_where_the_rule_is() -> None:
    affinity = affinity_of(RuleSpec("r", ("a",), path_prefix="/shop", sticky="lb"), SNAPSHOT.secret)
    backend = Backend("a", "h", "10.0.0.1", 80)
    assert affinity is not None
    affinity.set_members([backend])
    assert b"; Path=/shop; " in affinity.fields_for(backend, False)
    assert affinity_of(RuleSpec("r", ("a",)), SNAPSHOT.secret) is None


def test_whoever_is_limited_or_weighed_is_looked_at(scene: Scene) -> None:
    assert scene.rules.weighed == []
    scene.backends["a"].update("h", "10.0.0.1", 80, 1, 5)
    scene.apply(SNAPSHOT)
    assert scene.rules.weighed == [scene.backends["a"]]
    least = replace(SNAPSHOT.rules[1], algorithm=AlgorithmSpec("least_connections"))
    scene.apply(replace(SNAPSHOT, rules=(SNAPSHOT.rules[0], least)))
    assert scene.rules.weighed == [scene.backends["a"], scene.backends["b"]]
