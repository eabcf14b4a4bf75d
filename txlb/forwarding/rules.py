"""The live pools of all routing rules, made and changed as snapshots say.

Rules:

* A rule whose algorithm, backends, stickiness or panic threshold changed gets a fresh algorithm (`rebuilds`);
  the others keep theirs. Budgets and numbers of tries change in place.
* A rule that is gone lets its backends go; leases that are out may still be released.
* Until something is served nobody waits, and pools are rebuilt at one go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from txlb.core.algorithms import WEIGH_LOAD, factory_for
from txlb.core.backend import Backend
from txlb.core.model import AlgorithmSpec, BackendSpec, RuleSpec, Snapshot
from txlb.core.pool import Pool
from txlb.core.stickiness import Affinity
from txlb.extensions import find_algorithm
from txlb.forwarding.rebuilds import Rebuilds

Built = tuple[AlgorithmSpec, tuple[BackendSpec, ...], float, tuple[str | None, str | None, str]]


class Rules:
    """``pools`` by rule id; ``weighed``: backends that are limited, or whose rule's algorithm weighs load."""

    def __init__(self, rebuilds: Rebuilds) -> None:
        self._rebuilds = rebuilds
        self.pools: dict[str, Pool] = {}
        self.weighed: list[Backend] = []
        self._built: dict[str, Built] = {}  # what each pool was made of

    def apply(self, snapshot: Snapshot, backends: Mapping[str, Backend], serving: bool) -> None:
        """Another generation; ``backends`` are its live ones."""
        specs = {spec.id: spec for spec in snapshot.backends}
        pools: dict[str, Pool] = {}
        built: dict[str, Built] = {}
        changed: list[Pool] = []
        weighed: dict[Backend, None] = {}
        for rule in snapshot.rules:
            names = [name for name in rule.backends if name in specs]
            algorithm = algorithm_of(rule, snapshot)
            sticky = (rule.sticky, rule.path_prefix, snapshot.secret)
            built[rule.id] = (algorithm, tuple(specs[name] for name in names), rule.panic_threshold, sticky)
            members = [backends[name] for name in names]
            loaded = algorithm.name in WEIGH_LOAD
            weighed.update(dict.fromkeys(one for one in members if loaded or one.max_connections is not None))
            pool = self.pools.get(rule.id)
            if pool is None:
                pool = Pool(rule.id, factory_for(algorithm, find_algorithm), [])
            pools[rule.id] = pool
            pool.max_retries = rule.retries.max
            pool.budget.configure(
                rule.retries.budget, rule.retries.window, float(rule.retries.min_per_second)
            )
            if built[rule.id] != self._built.get(rule.id):
                pool.set_algorithm(factory_for(algorithm, find_algorithm))
                pool.panic_threshold = rule.panic_threshold
                pool.affinity = affinity_of(rule, snapshot.secret)
                pool.set_members(members)
                changed.append(pool)
        for gone in self.pools.keys() - pools.keys():
            self._rebuilds.forget(self.pools[gone])
            self.pools[gone].close()
        self.pools = pools
        self._built = built
        self.weighed = list(weighed)
        self._rebuild(changed, serving)

    def standings_changed(self, backends: set[Backend], serving: bool) -> None:
        """Health, drain or weight of these is another."""
        pools = [pool for pool in self.pools.values() if pool.has_any(backends)]
        for pool in pools:
            pool.standing_changed()
        self._rebuild(pools, serving)

    def _rebuild(self, pools: Sequence[Pool], serving: bool) -> None:
        if serving:
            self._rebuilds.want(list(pools))
        else:
            for pool in pools:
                pool.rebuild()


def algorithm_of(rule: RuleSpec, snapshot: Snapshot) -> AlgorithmSpec:
    """Clients of streams and flows have no cookie: they stay with their backend by their address."""
    if rule.sticky is None or rule.listeners is None:
        return rule.algorithm
    protocols = {listener.protocol for listener in snapshot.listeners if listener.id in rule.listeners}
    return rule.algorithm if "http" in protocols else AlgorithmSpec("ip_hash")


def affinity_of(rule: RuleSpec, secret: str) -> Affinity | None:
    """Its affinity cookie; ``secret`` in hex."""
    if rule.sticky is None:
        return None
    return Affinity(rule.sticky, rule.path_prefix or "/", bytes.fromhex(secret))
