"""Host names of backends become addresses here, in control, before a snapshot goes out.

Rules:

* The configuration fills in the address of every backend that has an IP address for a host;
  what is left are names. They are looked up by the system's resolver in a thread; the
  first address counts, in the order the system prefers.
* A name that does not resolve in time keeps the address it had, or has "" and is never
  chosen; either way it is reported.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from twisted.internet.defer import DeferredList, succeed
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from txlb.control.targets import Targets
from txlb.core.model import Snapshot

LOOKUP_TIMEOUT = 10.0


class IReactorForLookups(IReactorThreads, IReactorTime):
    """What looking names up needs of the reactor."""


def names_of(snapshot: Snapshot) -> list[str]:
    """Every host name of a snapshot as the configuration gave it, once."""
    return list(dict.fromkeys(backend.host for backend in snapshot.backends if not backend.address))


def addresses_of(configured: Snapshot, resolved: Snapshot) -> dict[str, str]:
    """What the names of ``configured`` became in ``resolved``."""
    names = set(names_of(configured))
    return {one.host: one.address for one in resolved.backends if one.address and one.host in names}


async def look_up(reactor: IReactorForLookups, names: Iterable[str]) -> dict[str, str]:
    """Addresses by name; names that did not resolve are missing."""
    found: dict[str, str] = {}

    def keep(address: str | Failure, name: str) -> None:
        if isinstance(address, str):
            found[name] = address

    pool = reactor.getThreadPool()
    waits = []
    for name in names:
        done = deferToThreadPool(reactor, pool, first_address, name)
        waits.append(done.addTimeout(LOOKUP_TIMEOUT, reactor).addBoth(keep, name))
    await (DeferredList(waits) if waits else succeed([]))
    return found


def first_address(name: str) -> str:
    """Blocking look-up."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return str(found[0][4][0])


def permitted(snapshot: Snapshot, guarded: Collection[str], targets: Targets) -> tuple[Snapshot, list[str]]:
    """The snapshot without the addresses that ``guarded`` backends must not have, and a warning for each."""
    warnings: list[str] = []
    backends = list(snapshot.backends)
    for index, backend in enumerate(backends):
        if backend.id in guarded and (why := targets.refusal(backend.address, backend.port)):
            warnings.append(f"backend {backend.id}: {backend.host}: {why}; it gets no traffic")
            backends[index] = replace(backend, address="")
    return (replace(snapshot, backends=tuple(backends)), warnings) if warnings else (snapshot, [])


def with_addresses(
    snapshot: Snapshot, found: Mapping[str, str], known: Mapping[str, str]
) -> tuple[Snapshot, list[str]]:
    """The snapshot with addresses for names, and a warning for each name not ``found``.

    ``known`` has the addresses found before.
    """
    warnings = [
        f"{name!r} does not resolve; "
        + (f"keeping {known[name]}" if name in known else "its backends get no traffic")
        for name in names_of(snapshot)
        if name not in found
    ]
    addresses = {**known, **found}
    backends = tuple(
        backend if backend.address else replace(backend, address=addresses.get(backend.host, ""))
        for backend in snapshot.backends
    )
    return replace(snapshot, backends=backends), warnings
