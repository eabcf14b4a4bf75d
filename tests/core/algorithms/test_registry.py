from __future__ import annotations

import pytest
from support.choosing import Script
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txlb.core.algorithms import builtin_factories, factory_for, native
from txlb.core.algorithms.base import ForeignAlgorithm
from txlb.core.algorithms.round_robin import RoundRobin
from txlb.core.backend import Backend
from txlb.core.model import AlgorithmSpec
from txlb.errors import AlgorithmError
from txlb.interfaces import IAlgorithm, IAlgorithmFactory, IOutcomeObserver


@pytest.mark.parametrize("name", sorted(builtin_factories()))
def test_every_algorithm_honours_the_interface(name: str) -> None:
    factory = builtin_factories()[name]
    assert verifyObject(IAlgorithmFactory, factory)
    assert verifyObject(IAlgorithm, factory())


@pytest.mark.parametrize("name", ["round_robin", "weighted"])
def test_round_robin_has_two_names(name: str) -> None:
    assert isinstance(factory_for(AlgorithmSpec(name))(), RoundRobin)


def test_every_call_makes_a_fresh_one() -> None:
    make = factory_for(AlgorithmSpec())
    assert make() is not make()


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AlgorithmError, match=r"'robin'; there are: .*round_robin.*weighted"):
        factory_for(AlgorithmSpec("robin"))


def test_options_arrive_as_keywords() -> None:
    class Optional(Script):
        def __init__(self, depth: int) -> None:
            super().__init__()
            assert depth == 3

    assert factory_for(AlgorithmSpec("mine", (("depth", 3),)), {"mine": Optional}.__getitem__)()


def test_the_registry_is_the_callers_own() -> None:
    builtin_factories().clear()
    assert builtin_factories()


def test_what_is_no_algorithm_is_refused() -> None:
    class Half:
        def pick(self, context: object, tried: object) -> None: ...

    with pytest.raises(AlgorithmError, match="rebuild"):
        native(Half())


def test_duck_typed_algorithms_are_wrapped_and_ours_are_not() -> None:
    ours = RoundRobin()
    assert native(ours) is ours
    assert isinstance(native(Script()), ForeignAlgorithm)


def test_only_a_declared_observer_observes() -> None:
    @implementer(IOutcomeObserver)
    class Observer(Script):
        def observe(self, backend: Backend, outcome: int, now: float) -> None: ...

    assert native(Observer()).observes
    assert not native(Script()).observes
