"""One txlb as a Twisted service: when it binds, starts, reloads and stops, and what signals mean.

Rules:

* ``privilegedStartService`` binds (still root, still able to refuse); ``startService`` makes
  shared memory and children, in the process that stays and with the user that stays.
* Whatever fails there is a `StartFailure`: one line, exit status 1, in the foreground and daemonised.
* SIGTERM or SIGINT: stop gracefully, exit status 0; once more: end at once. SIGHUP: reload, reopen logs.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

import txlb
from txlb.build_info import build_kind
from txlb.control.admin import AdminListener, MetricsListener
from txlb.control.node import Node
from txlb.errors import TxlbError
from txlb.net.scheduling import LONG, set_slice

# timeout(1) and some managers signal a process and then its group: that is one request to end, not two.
SAME_SIGNAL = 0.2
# Every system call of the reactor's thread may have to wait so long for a thread that loads or renders: with
# the usual 5 ms, or a tenth of it, the probes of many backends would be late during a reload.
SWITCH_INTERVAL = 0.00005


class StartFailure(SystemExit, Exception):
    """Ends the start with one plain line, in the log and on standard error, and exit status 1.

    As an `Exception` twistd handles it (pid file removed, the waiting parent of a daemon
    told); as `SystemExit` it ends the interpreter without a traceback.
    """

    __module__ = "builtins"  # twistd passes only 100 bytes, module first, to a daemon's parent

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = 1
        self.message = message

    def __str__(self) -> str:
        return self.message

    def report(self) -> None:
        """Log it; and print it where the start was typed, which a log going elsewhere would hide."""
        LoadBalancer.log.critical("{message}", message=self.message)
        if sys.__stderr__ is not None:
            print(f"txlb: {self.message}", file=sys.__stderr__, flush=True)


class LoadBalancer(Service):
    """The control process as a Twisted service.

    ``owns_process`` is False where txlb is a guest: then signals and the garbage collector
    are not ours to set.
    """

    name = "txlb"
    log = Logger()

    def __init__(
        self,
        reactor: Any,
        node: Node,
        admin: AdminListener | None,
        metrics: MetricsListener | None = None,
        owns_process: bool = True,
        companions: Sequence[Service] = (),
        started: Callable[[], None] = lambda: None,
    ) -> None:
        self._reactor = reactor
        self.node = node
        self.admin = admin
        self.metrics = metrics
        self._ports = [port for port in (admin, metrics) if port is not None]
        self._owns_process = owns_process
        self._companions = companions
        self._started = started
        self._bound = False
        self._asked_at: float | None = None
        self._stopped = False

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self._bind()

    def startService(self) -> None:
        self._bind()  # `twist` never calls privilegedStartService
        super().startService()
        try:
            running = self.node.start()
            for port in self._ports:
                port.start(self.node, self._reactor)
            for companion in self._companions:
                companion.startService()
        except (OSError, TxlbError) as error:
            raise self._refused(f"cannot start: {error}") from error
        running.addCallbacks(self._serving, self._cannot_serve)
        if self._owns_process:
            sys.setswitchinterval(SWITCH_INTERVAL)
            if self.node.workers:
                set_slice(LONG)  # on a shared processor, whoever serves clients goes first
            self._reactor.callWhenRunning(self._install_signals)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.log.info(
            "stopping: finishing what is in flight, {n} s at most", n=self.node.snapshot.timeouts.shutdown
        )
        return Deferred.fromCoroutine(self._stop())

    def end_now(self) -> None:
        """What a second signal means."""
        self.log.warn("ending at once")
        if self.node.fleet is not None:
            self.node.fleet.kill()

    def hang_up(self) -> None:
        """What SIGHUP means: load the configuration again, reopen logs."""
        if self.node.fleet is not None and not self.node.draining:
            self.node.fleet.reopen_logs()
            self.node.reload().addCallbacks(self._reloaded, self._not_reloaded)

    def _refused(self, message: str) -> StartFailure:
        failure = StartFailure(message)
        failure.report()
        return failure

    def _bind(self) -> None:
        if self._bound:
            return
        _raise_descriptor_limit()
        try:
            self.node.bind()
            for companion in self._companions:
                companion.privilegedStartService()
            for port in self._ports:
                port.bind()
                self.node.own_addresses.append(port.address)
        except TxlbError as error:
            self.node.close()
            raise self._refused(str(error)) from error
        self._bound = True

    async def _stop(self) -> None:
        try:
            await self.node.stop()
            for companion in self._companions:
                await companion.stopService()
        finally:
            for port in self._ports:
                await port.stop()
            self.node.close()
            self._stopped = True

    def _serving(self, _: None) -> None:
        snapshot = self.node.snapshot
        for listener in snapshot.listeners:
            addresses = self.node.sockets.addresses_of(listener)
            self.log.info("listener {id} on {addresses}", id=listener.id, addresses=addresses)
        if self.admin is not None:
            self.log.info("admin API on {address}", address=self.admin.address)
        if self.metrics is not None:
            self.log.info("metrics on {address}", address=self.metrics.address)
        self.log.info(
            "txlb {version} ({kind}) serves: {workers}, {backends} backends, generation {generation}",
            version=txlb.__version__,
            kind=build_kind(),
            workers="inside control" if self.node.workers == 0 else f"{self.node.workers} workers",
            backends=len(snapshot.backends),
            generation=snapshot.generation,
        )
        if self._owns_process:
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 100)
        self._started()

    def _cannot_serve(self, failure: Failure) -> None:
        if not self.node.draining:
            self.log.failure("cannot serve", failure)
            self._reactor.stop()

    def _reloaded(self, difference: object) -> None:
        if difference:
            self.log.info(
                "reloaded, generation {n}: {what}", n=self.node.snapshot.generation, what=difference
            )
        else:
            self.log.info("reloaded: nothing changed")

    def _not_reloaded(self, failure: Failure) -> None:
        if not failure.check(TxlbError):
            self.log.failure("reload failed; nothing changed", failure)
            return
        for line in str(failure.value).splitlines():
            self.log.error("{line}", line=line)
        self.log.error("reload refused; generation {n} stays in force", n=self.node.snapshot.generation)

    def _install_signals(self) -> None:
        """Ours instead of the reactor's, which has twistd die by the signal and not exit with 0."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.hang_up))

    def _signalled(self, *_: object) -> None:
        late = self._stopped and self._asked_at is not None
        if late and self._reactor.seconds() - self._asked_at > SAME_SIGNAL:
            os._exit(1)  # the loop is over, but a thread (a name looked up, a hung disk) is not
        self._reactor.callFromThread(self._asked_to_end)

    def _asked_to_end(self) -> None:
        now = self._reactor.seconds()
        if self._asked_at is None:
            self._asked_at = now
            if not self.node.draining:
                self._reactor.stop()
        elif now - self._asked_at > SAME_SIGNAL:
            self.end_now()


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError) as error:
            LoadBalancer.log.warn(
                "cannot raise the limit of open files above {n}: {error}", n=soft, error=error
            )
