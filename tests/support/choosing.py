"""Backends and pools for tests of the choosing core."""

from __future__ import annotations

from collections.abc import Iterator

from txlb.core.algorithms import native
from txlb.core.algorithms.base import Algorithm
from txlb.core.algorithms.round_robin import RoundRobin
from txlb.core.backend import Backend
from txlb.core.pool import Pool


def backend(id: str, weight: int = 1, max_connections: int | None = None) -> Backend:
    return Backend(id, f"{id}.example", "127.0.0.1", 8080, weight, max_connections)


def backends(text: str) -> list[Backend]:
    """``"A3 B1 C2"``: ids of one letter, with weights."""
    return [backend(word[0], int(word[1:] or "1")) for word in text.split()]


def round_robin() -> Algorithm:
    """Round robin that starts at the first backend."""
    return RoundRobin(0.0)


def pool_of(text: str) -> Pool:
    return Pool("rule", round_robin, backends(text))


class Script:
    """A foreign algorithm (`IAlgorithm` by duck typing): picks come from a list; exceptions are raised."""

    def __init__(self, *picks: object) -> None:
        self.picks = list(picks)
        self.backends: list[Backend] = []
        self.seen: list[tuple[object, ...]] = []

    def rebuild(self, backends: list[Backend]) -> Iterator[None] | None:
        self.backends = backends
        return None

    def pick(self, context: object, tried: tuple[Backend, ...]) -> object:
        self.seen.append(tried)
        picked = self.picks.pop(0) if self.picks else None
        if isinstance(picked, Exception):
            raise picked
        return picked


def scripted_pool(script: Script, members: list[Backend]) -> Pool:
    return Pool("rule", lambda: native(script), members)


class Asking:
    """A context (`txlb.interfaces.IContext`) with what a test says and nothing else."""

    listener = "web"
    client_port = 40000
    host: str | None = None
    method: str | None = "GET"

    def __init__(
        self, client_ip: str = "192.0.2.1", path: str | None = "/", now: float = 0.0, **headers: str
    ) -> None:
        self.client_ip = client_ip
        self.path = path
        self.now = now
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


def built(algorithm: Algorithm, members: list[Backend]) -> Algorithm:
    """``algorithm`` after its whole rebuild."""
    for _ in algorithm.rebuild(members) or ():
        pass
    return algorithm
