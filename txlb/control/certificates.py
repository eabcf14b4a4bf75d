"""The files behind TLS while txlb runs: read again when they change, watched as they near their end.

Rules:

* Every `EVERY` seconds all files that the configuration in force names are read again, by content: a renewal
  that swaps symbolic links counts, a ``touch`` does not.
* What changed and is valid becomes the next generation, by itself. What is broken, or does not fit together
  (a chain and its key are seldom replaced at one stroke), leaves the old in force; it is said once
  per cause, and tried again.
* A certificate that ends within two weeks is told daily, and so is an OCSP response that is not, or soon will
  not be, stapled.
* Texts name files, never what is in them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from txlb.config.certificates import expiry_warning, read_text
from txlb.config.ocsp import stapling_warning
from txlb.config.renewal import reread_backend, reread_listener
from txlb.core.model import BackendTlsSpec, CertificateSpec, Snapshot

EVERY = 5.0
DAY = 86400.0

Reread = tuple[Snapshot, list[str]]


def reread(snapshot: Snapshot) -> Reread:
    """``snapshot`` as its files say now (itself if nothing changed), and what is wrong with them."""
    texts: dict[str, str | ValueError] = {}
    backends: dict[int, BackendTlsSpec] = {}  # by identity: thousands of backends may share a spec
    problems: dict[str, None] = {}

    def read(name: str) -> str:
        if name not in texts:
            try:
                texts[name] = read_text(Path(name))
            except ValueError as error:
                texts[name] = error
        text = texts[name]
        if isinstance(text, ValueError):
            raise text
        return text

    def tell(problem: str) -> None:
        problems[problem] = None

    def fresh(spec: Any, again: Callable[[Any, Callable[[str], str]], Any]) -> Any:
        try:
            return again(spec, read)
        except ValueError as error:
            tell(f"{error}; what was read before stays in force")
            return spec

    listeners = []
    for listener in snapshot.listeners:
        tls = None if listener.tls is None else fresh(listener.tls, partial(reread_listener, tell=tell))
        listeners.append(listener if tls is listener.tls else replace(listener, tls=tls))
    changed = []
    for backend in snapshot.backends:
        if backend.tls is not None:
            if id(backend.tls) not in backends:
                backends[id(backend.tls)] = fresh(backend.tls, reread_backend)
            now = backends[id(backend.tls)]
            backend = backend if now is backend.tls else replace(backend, tls=now)
        changed.append(backend)
    if all(one is other for one, other in zip(listeners, snapshot.listeners, strict=True)) and all(
        one is other for one, other in zip(changed, snapshot.backends, strict=True)
    ):
        return snapshot, list(problems)
    return replace(snapshot, listeners=tuple(listeners), backends=tuple(changed)), list(problems)


def certificates_in(snapshot: Snapshot) -> Iterator[CertificateSpec]:
    """Every certificate of ours, each file once."""
    seen: set[str] = set()
    for listener in snapshot.listeners:
        for one in () if listener.tls is None else listener.tls.certificates:
            if one.chain not in seen:
                seen.add(one.chain)
                yield one
    for backend in snapshot.backends:
        mine = None if backend.tls is None else backend.tls.client_certificate
        if mine is not None and mine.chain not in seen:
            seen.add(mine.chain)
            yield mine


def stapled_in(snapshot: Snapshot) -> Iterator[CertificateSpec]:
    """Every certificate of a listener with every response that is stapled with it, once."""
    seen: set[tuple[str, str | None]] = set()
    for listener in snapshot.listeners:
        for one in () if listener.tls is None else listener.tls.certificates:
            both = one.chain, None if one.ocsp is None else one.ocsp.path
            if both not in seen:
                seen.add(both)
                yield one


def names_files(snapshot: Snapshot) -> bool:
    """Some of it comes from files of TLS."""
    return any(one.tls is not None for one in snapshot.listeners) or any(
        one.tls is not None for one in snapshot.backends
    )


class CertificateWatch:
    """Looks at the files; ``amend`` puts a changed snapshot in force."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        snapshot: Callable[[], Snapshot],
        amend: Callable[[Callable[[Snapshot], Snapshot]], Deferred[bool]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._snapshot = snapshot
        self._amend = amend
        self._clock = clock
        self._problems: list[str] = []
        self._told: dict[str, float] = {}
        self._looking = LoopingCall(self.look)
        self._looking.clock = reactor

    def start(self) -> None:
        self._looking.start(EVERY, now=False)

    def stop(self) -> None:
        if self._looking.running:
            self._looking.stop()

    def look(self) -> Deferred[None]:
        """Once; fires when what changed is in force."""
        done = Deferred.fromCoroutine(self._look())
        return done.addErrback(lambda failure: self.log.failure("reading certificates again", failure))

    async def _look(self) -> None:
        snapshot = self._snapshot()
        if not names_files(snapshot):
            self._problems = []
            return
        pool = self._reactor.getThreadPool()
        changed, problems = await deferToThreadPool(self._reactor, pool, reread, snapshot)
        if problems != self._problems:
            self._problems = problems
            for problem in problems:
                self.log.error("{problem}", problem=problem)
        if changed is not snapshot and await self._amend(lambda now: reread(now)[0]):
            self.log.info("certificates changed; generation {n}", n=self._snapshot().generation)
        self._warn_of_ends()

    def _warn_of_ends(self) -> None:
        now = self._clock()
        snapshot = self._snapshot()
        for one in certificates_in(snapshot):
            self._warn(one.chain, expiry_warning(one, now), now)
        for one in stapled_in(snapshot):
            self._warn(f"{one.chain} {one.ocsp and one.ocsp.path}", stapling_warning(one, now), now)

    def _warn(self, about: str, warning: str, now: float) -> None:
        if warning and now - self._told.get(about, 0.0) >= DAY:
            self._told[about] = now
            self.log.warn("{warning}", warning=warning)
