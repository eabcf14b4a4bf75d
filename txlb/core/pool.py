"""A rule's backends and its algorithm: choose, count, hand out a lease.

Rules:

* The algorithm chooses, the pool excludes and counts. A pick is refused if the backend is tried already, not
  eligible, full, avoided after a failed connect, or no member (any more).
* Each refused pick joins the ``tried`` that the next pick sees (the caller's list stays as it is). After
  `REFUSALS` of them, or when the algorithm has no opinion, the pool looks for itself: at most `LOOKS`
  backends, from a place that moves on. An avoided backend is the last resort; None means that nothing can
  take it.
* A lease is counted when it is made and released exactly once; the second release does nothing and says
  False.
* Who is *usable* depends on who is left (`takes`): the eligible ones; if there are none, those that drain;
  in a panic (``panic_threshold``) the unhealthy ones too, which is counted in ``panic_picks``. Looked at by
  every rebuild, and at once when nothing was found after a change (`standing_changed`).
* An algorithm that raises or answers nonsense costs nobody a request: round robin picks instead,
  ``algorithm_errors`` counts it and ``take_problem`` tells it once.
* A client that belongs to a backend (`acquire_this`) may have it while it drains, and whatever its weight.
* Membership changes at once (`set_members`); the fresh algorithm takes over when its ``rebuild`` is through
  (`rebuild_steps`, in slices that the caller drives). Until then the old one picks and its picks are checked.
* Who was replaced is told (``retire``); `close` ends a pool whose rule is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, final

from mypy_extensions import mypyc_attr

from txlb.core.algorithms.base import Algorithm
from txlb.core.algorithms.round_robin import RoundRobin
from txlb.core.answers import Answers
from txlb.core.backend import Backend
from txlb.core.retry_budget import RetryBudget
from txlb.core.stickiness import Affinity

#: Who is usable.
ELIGIBLE: Final = 0  # those that are (`Backend.is_eligible`)
DRAINING: Final = 1  # nobody is: those that drain and are healthy
PANIC: Final = 2  # too few are: all but those that drain, and these too if they are all that is healthy
REFUSALS: Final = 8
LOOKS: Final = 4096


@final
@mypyc_attr(free_list_len=1, acyclic=True)
class Lease:
    """A receipt for one backend."""

    __slots__ = ("_pool", "backend", "released", "since")
    backend: Backend
    released: bool
    since: float
    _pool: Pool

    def __init__(self, backend: Backend, pool: Pool, since: float) -> None:
        self.backend = backend
        self.released = False
        self.since = since
        self._pool = pool

    def release(self, outcome: int, now: float, client: str = "") -> bool:
        """Give it back with its outcome (`txlb.core.outcome`); False if that was done before.

        ``client``: the address of whoever it was for, so that one client's failures weigh less than two's.
        """
        if self.released:
            return False
        self.released = True
        backend = self.backend
        backend.active_connections -= 1
        if backend.watchers:
            backend.tell_watchers()
        backend.touch()
        backend.count_outcome(outcome, now, client)
        pool = self._pool
        if pool.observed:
            pool.observe(backend, outcome, now, now - self.since)
        return True


@final
class Pool(Answers):
    """The live object of one routing rule. ``factory`` makes a fresh algorithm for every rebuild."""

    def __init__(self, rule_id: str, factory: Callable[[], Algorithm], backends: list[Backend]) -> None:
        Answers.__init__(self)
        self.rule_id = rule_id
        self.max_retries = 2
        self.budget = RetryBudget(0.2, 10.0, 10.0)
        self.panic_threshold = 0.0
        self.affinity: Affinity | None = None
        self.retries = 0
        self.panic_picks = 0
        self.answered_at = 0.0  # when one of its backends last began an answer
        self.algorithm_errors = 0
        self._factory = factory
        self._members: dict[str, Backend] = {}
        self._usable: list[Backend] = []
        self._takes = ELIGIBLE
        self._counted = True  # ``_takes`` is up to date
        self._algorithm: Algorithm = RoundRobin()
        self.observed = False  # the algorithm in charge wants to know outcomes
        self._fallback: RoundRobin | None = None
        self._check_members = True  # picks may be of backends that are not ours
        self._stale = False  # membership changed and the algorithm in charge does not know
        self._rotation = 0
        self._no_tried: list[Backend] = []
        self._problem = ""
        self._problem_told = False
        self.replace(backends)

    def __repr__(self) -> str:
        return f"<Pool {self.rule_id} {len(self._members)} backends>"

    # Data speed

    def acquire(self, context: Any, tried: list[Backend] | None, now: float) -> Lease | None:
        """Choose a backend that is not in ``tried`` and count it; None if there is none."""
        algorithm = self._algorithm
        refused: list[Backend] | None = None
        seen = self._no_tried if tried is None else tried
        for _ in range(REFUSALS):
            try:
                backend = algorithm.pick(context, seen)
            except Exception as why:
                backend = self._rescue(f"pick() raised {why!r:.200}", context, seen)
            if backend is None:
                break
            if (
                backend.active_connections < backend.limit
                and backend.avoid_until <= now
                and (backend.is_eligible() or (self._takes and self.takes(backend)))
                and (not seen or backend not in seen)
            ):
                if not self._check_members or self._is_member(backend):
                    backend.active_connections += 1
                    backend.requests += 1
                    backend.touch()
                    if self._takes == PANIC:
                        self.panic_picks += 1
                    return Lease(backend, self, now)
                if not algorithm.trusted and not self._stale:
                    self._failed(f"pick() returned {backend.id!r}, which is no backend of this rule")
            if refused is None:
                refused = list(seen)
                seen = refused
            refused.append(backend)
        lease = self._last_resort(tried, now)
        if lease is None and not self._counted:
            self._count()
            lease = self._last_resort(tried, now)
        return lease

    def acquire_this(self, backend: Backend, now: float) -> Lease | None:
        """``backend``, to which a client belongs, whatever the algorithm says; None if it cannot serve."""
        if (
            backend.active_connections >= backend.limit
            or backend.avoid_until > now
            or not backend.healthy
            or not backend.address
            or (backend.drained and backend.drain_until <= now)
            or not self._is_member(backend)
        ):
            return None
        backend.active_connections += 1
        backend.requests += 1
        backend.touch()
        return Lease(backend, self, now)

    def takes(self, backend: Backend) -> bool:
        """It may get traffic now, room aside."""
        if backend.weight <= 0 or not backend.address:
            return False
        if self._takes == PANIC:
            return backend.healthy or not backend.drained
        return backend.healthy and (not backend.drained or self._takes == DRAINING)

    def _is_member(self, backend: Backend) -> bool:
        return self._members.get(backend.id) is backend

    def _last_resort(self, tried: list[Backend] | None, now: float) -> Lease | None:
        usable = self._usable
        count = len(usable)
        avoided: Backend | None = None
        at = self._rotation
        for _ in range(min(count, LOOKS)):
            at = at + 1 if at + 1 < count else 0
            backend = usable[at]
            if backend.active_connections >= backend.limit or not self.takes(backend):
                continue
            if (tried and backend in tried) or (self._check_members and not self._is_member(backend)):
                continue
            if backend.avoid_until <= now:
                self._rotation = at
                return self._lease(backend, now)
            if avoided is None:
                avoided = backend
        self._rotation = at
        return None if avoided is None else self._lease(avoided, now)

    def _lease(self, backend: Backend, now: float) -> Lease:
        backend.active_connections += 1
        backend.requests += 1
        backend.touch()
        if self._takes == PANIC:
            self.panic_picks += 1
        return Lease(backend, self, now)

    def _rescue(self, problem: str, context: Any, tried: list[Backend]) -> Backend | None:
        self._failed(problem)
        if self._fallback is None:
            self._fallback = RoundRobin()
            self._fallback.rebuild(self._usable)
        return self._fallback.pick(context, tried)

    def observe(self, backend: Backend, outcome: int, now: float, seconds: float) -> None:
        """Tell the algorithm in charge how a lease of ``seconds`` ended (`Lease.release` does)."""
        try:
            self._algorithm.observe_lease(backend, outcome, now, seconds)
        except Exception as why:
            self._failed(f"observe() raised {why!r:.200}")

    def _failed(self, problem: str) -> None:
        self.algorithm_errors += 1
        self.touch()
        self.touch()
        if not self._problem:
            self._problem = problem

    # Control speed

    @property
    def backends(self) -> list[Backend]:
        return list(self._members.values())

    def has_any(self, backends: set[Backend]) -> bool:
        """Some of ``backends`` are members."""
        return any(self._is_member(backend) for backend in backends)

    def take_problem(self) -> str:
        """Why the algorithm failed: once after each rebuild, for the log; then "" until the next."""
        if self._problem_told:
            return ""
        self._problem_told = self._problem != ""
        return self._problem

    def set_algorithm(self, factory: Callable[[], Algorithm]) -> None:
        """Another algorithm or other options; takes effect with the next rebuild."""
        self._factory = factory

    def replace(self, backends: list[Backend]) -> None:
        """`set_members` and a whole rebuild at once."""
        self.set_members(backends)
        self.rebuild()

    def set_members(self, backends: list[Backend]) -> None:
        """New membership. Who left gets nothing more from now on; who came, after the rebuild."""
        self._members = {backend.id: backend for backend in backends}
        if self.affinity is not None:
            self.affinity.set_members(backends)
        self._check_members = True
        self._stale = True
        self._counted = False
        if not self._usable:
            self._count()

    def standing_changed(self) -> None:
        """A member's health, drain or weight is another; a rebuild should follow."""
        self._counted = False

    def _count(self) -> None:
        """Who is usable now? The algorithm learns it with the next rebuild."""
        self._counted = True
        candidates = 0
        draining = False
        eligible: list[Backend] = []
        for backend in self._members.values():
            if backend.weight > 0 and backend.address:
                if backend.drained:
                    draining = draining or backend.healthy
                else:
                    candidates += 1
                    if backend.healthy:
                        eligible.append(backend)
        threshold = self.panic_threshold
        if threshold > 0.0 and len(eligible) < candidates and len(eligible) <= threshold * candidates:
            self._takes = PANIC
        elif draining and not eligible:
            self._takes = DRAINING
        else:
            self._takes = ELIGIBLE
            self._usable = eligible
            return
        self._usable = [
            backend
            for backend in self._members.values()
            if self.takes(backend) and (not backend.drained or not eligible)
        ]

    def close(self) -> None:
        """The rule is gone. Leases that are out may still be released."""
        self.replace([])
        self._algorithm.retire()

    def rebuild(self) -> None:
        """A weight, a status or the membership changed: `rebuild_steps` without a pause."""
        for _ in self.rebuild_steps():
            pass

    def rebuild_steps(self) -> Iterator[None]:
        """Build a fresh algorithm; exhausted when it has taken over. An abandoned one changes nothing."""
        members = self._members
        self._count()
        usable = self._usable
        problem = ""
        try:
            algorithm = self._factory()
            steps = algorithm.rebuild(list(usable))
            if steps is not None:
                for _ in steps:
                    yield
        except Exception as why:
            problem = f"rebuild() raised {why!r:.200}"
            algorithm = RoundRobin()
            algorithm.rebuild(list(usable))
        self._algorithm.retire()
        self._algorithm = algorithm
        self.observed = algorithm.observes
        self._fallback = None
        self._stale = members is not self._members
        self._check_members = self._stale or not algorithm.trusted
        self._problem = ""
        self._problem_told = False
        if problem:
            self._failed(problem)
