"""Algorithms by name. This module is not compiled: it is where zope meets the native classes.

Rules:

* The registry is a plain dict, made by a call; importing has no side effect but declaring what our classes
  provide.
* `make_algorithm` checks what it built against `txlb.interfaces.IAlgorithm` and answers something native.
* A built-in ``fallback`` is named in the options and built by its factory, with its defaults.
* Options reach a built-in as `txlb.config.algorithms` validated them (its models are there: pydantic has no
  business in a worker); on nonsense a built-in raises ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from zope.interface import Invalid, classImplements, implementer
from zope.interface.verify import verifyObject

from txlb.core.algorithms.base import Algorithm, ForeignAlgorithm
from txlb.core.algorithms.consistent_hash import ConsistentHash
from txlb.core.algorithms.ip_hash import IpHash
from txlb.core.algorithms.least_connections import LeastConnections
from txlb.core.algorithms.peak_ewma import PeakEwma
from txlb.core.algorithms.power_of_two import PowerOfTwo
from txlb.core.algorithms.round_robin import RoundRobin
from txlb.core.algorithms.weighted_random import WeightedRandom
from txlb.core.model import AlgorithmSpec
from txlb.errors import AlgorithmError
from txlb.interfaces import IAlgorithm, IAlgorithmFactory, IOutcomeObserver

__all__ = [
    "WEIGH_LOAD",
    "Algorithm",
    "AlgorithmFactory",
    "builtin_factories",
    "factory_for",
    "make_algorithm",
    "native",
]

#: Names of those that look at ``Backend.elsewhere``, so that somebody should keep it up to date.
WEIGH_LOAD = frozenset({"least_connections", "peak_ewma", "power_of_two"})

classImplements(ConsistentHash, IAlgorithm)
classImplements(LeastConnections, IAlgorithm)
classImplements(PeakEwma, IAlgorithm)
classImplements(PowerOfTwo, IAlgorithm)
classImplements(RoundRobin, IAlgorithm)
classImplements(WeightedRandom, IAlgorithm)


@implementer(IAlgorithmFactory)
class AlgorithmFactory:
    """A built-in algorithm under one of its names."""

    def __init__(self, name: str, make: Callable[..., Any], Options: Any = None) -> None:
        self.name = name
        self.Options = Options
        self._make = make

    def __call__(self, **options: Any) -> Any:
        fallback = options.get("fallback")
        if isinstance(fallback, str):
            options["fallback"] = factory_for(AlgorithmSpec(fallback))()
        return self._make(**options)


def builtin_factories() -> dict[str, Callable[..., Any]]:
    """Name → `IAlgorithmFactory`, for the names that work."""
    factories = (
        AlgorithmFactory("consistent_hash", ConsistentHash),
        AlgorithmFactory("ip_hash", IpHash),
        AlgorithmFactory("least_connections", LeastConnections),
        AlgorithmFactory("peak_ewma", PeakEwma),
        AlgorithmFactory("power_of_two", PowerOfTwo),
        AlgorithmFactory("random", WeightedRandom),
        AlgorithmFactory("round_robin", RoundRobin),
        AlgorithmFactory("weighted", RoundRobin),
    )
    return {factory.name: factory for factory in factories}


def native(algorithm: Any) -> Algorithm:
    """What the pool can call natively; `AlgorithmError` if it does not honour `IAlgorithm`."""
    if isinstance(algorithm, Algorithm):
        return algorithm
    try:
        verifyObject(IAlgorithm, algorithm, tentative=True)
    except Invalid as why:
        raise AlgorithmError(f"algorithm {algorithm!r:.100}: {why}") from why
    return ForeignAlgorithm(algorithm, IOutcomeObserver.providedBy(algorithm))


def make_algorithm(factory: Callable[..., Any], options: Mapping[str, object]) -> Algorithm:
    """A fresh algorithm, before its ``rebuild``."""
    return native(factory(**options))


def factory_for(spec: AlgorithmSpec, find: Callable[[str], Any] | None = None) -> Callable[[], Algorithm]:
    """What a `txlb.core.pool.Pool` makes its algorithms with.

    A name that is not ours is looked up by ``find`` each time one is made, so that code that cannot be had
    costs the pool a rebuild and nobody a request. Without ``find`` it is an `AlgorithmError`.
    """
    known = builtin_factories()
    options = dict(spec.options)
    if spec.name in known:
        return partial(make_algorithm, known[spec.name], options)
    if find is None:
        raise AlgorithmError(f"no algorithm is called {spec.name!r}; there are: {', '.join(sorted(known))}")
    return partial(_make_found, find, spec.name, options)


def _make_found(find: Callable[[str], Any], name: str, options: Mapping[str, object]) -> Algorithm:
    return make_algorithm(find(name), options)
