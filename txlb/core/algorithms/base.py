"""What the pool calls: the native base of every algorithm, and the adapter for those that are not ours.

Rules:

* Ours inherit from `Algorithm`, so that a pick is a native call without a type check at the seam.
* Anything else that provides `txlb.interfaces.IAlgorithm` is wrapped in `ForeignAlgorithm`; only what comes
  out of that is checked, by the pool (``trusted`` is False).
* Ours may watch backends; `retire` ends that. They may also hear how long a lease lasted (`observe_lease`).
* `rebuild` answers None when it is done, or an iterator whose exhaustion means that it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

from mypy_extensions import mypyc_attr

from txlb.core.backend import Backend


@mypyc_attr(allow_interpreted_subclasses=True)
class Algorithm:
    """Base class; see `txlb.interfaces.IAlgorithm` for the contract."""

    #: the pool need not check what ``pick`` returns
    trusted: bool
    #: ``observe`` wants to be called
    observes: bool

    def __init__(self) -> None:
        self.trusted = False
        self.observes = False

    def rebuild(self, backends: list[Backend]) -> Iterator[None] | None:
        raise NotImplementedError

    def pick(self, context: Any, tried: list[Backend]) -> Backend | None:
        raise NotImplementedError

    def observe(self, backend: Backend, outcome: int, now: float) -> None:
        raise NotImplementedError

    def observe_lease(self, backend: Backend, outcome: int, now: float, seconds: float) -> None:
        """What the pool calls if ``observes``; ``seconds`` is from choice to release."""
        self.observe(backend, outcome, now)

    def retire(self) -> None:
        """Another one took over: nothing is asked of this one any more."""


def any_but(backends: list[Backend], tried: list[Backend], start: int) -> Backend | None:
    """The first from place ``start`` on that is not tried: at most one look more than ``tried`` is long."""
    count = len(backends)
    for step in range(min(count, len(tried) + 1)):
        backend = backends[(start + step) % count]
        if backend not in tried:
            return backend
    return None


@final
class ForeignAlgorithm(Algorithm):
    """An algorithm from elsewhere, behind our native calls."""

    def __init__(self, algorithm: Any, observes: bool) -> None:
        Algorithm.__init__(self)
        self.observes = observes
        self._algorithm = algorithm

    def rebuild(self, backends: list[Backend]) -> Iterator[None] | None:
        steps = self._algorithm.rebuild(list(backends))
        return steps if isinstance(steps, Iterator) else None

    def pick(self, context: Any, tried: list[Backend]) -> Backend | None:
        picked: Any = self._algorithm.pick(context, tuple(tried))
        if picked is not None and not isinstance(picked, Backend):
            raise TypeError(f"pick() returned {picked!r:.100}, which is not a backend")
        return picked

    def observe(self, backend: Backend, outcome: int, now: float) -> None:
        self._algorithm.observe(backend, outcome, now)
