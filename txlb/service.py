"""``twistd txlb``: options, and the composition root of the control process.

`makeService` only reads the configuration, so that its errors appear on the console and before
any fork; what happens then is in `txlb.control.balancer`.
"""

from __future__ import annotations

import json
import os
import site
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import twisted
from twisted.python import usage

import txlb
from txlb.build_info import build_kind
from txlb.control.admin import AdminListener
from txlb.control.balancer import LoadBalancer
from txlb.control.fleet import Fleet
from txlb.control.listening import ListeningSockets
from txlb.control.local import LocalWorker
from txlb.control.node import Loaded, Node
from txlb.control.scoreboard import Scoreboard
from txlb.control.supervisor import Supervisor
from txlb.control.worker_process import default_command, worker_environment
from txlb.core.model import Snapshot
from txlb.errors import ConfigError

PlaneFactory = Callable[[Any, memoryview, str], Any]


class Options(usage.Options):
    """What ``twistd txlb`` understands."""

    synopsis = "[options] txlb (--config=FILE | --demo) [--check]"
    longdesc = (
        "Forward HTTP to backends as FILE says. SIGHUP loads FILE again and reopens the access log;"
        " SIGTERM finishes requests in flight and ends, a second one ends at once."
    )
    optParameters = [["config", "c", None, "The configuration, YAML or JSON."]]
    optFlags = [
        ["demo", None, "Quick start: three small backends inside, on http://127.0.0.1:8080; no FILE needed."],
        [
            "check",
            None,
            "Only check FILE: print every error, one a line, and exit 1; or print ok and exit 0.",
        ],
        ["print-schema", None, "Print the JSON Schema of the configuration and exit."],
    ]

    def opt_version(self) -> None:
        """Print the version, and whether txlb is compiled, and exit."""
        python = sys.version.split()[0]
        versions = f"Twisted {twisted.__version__}, Python {python}"
        print(f"txlb {txlb.__version__} ({build_kind()}), {versions}")  # noqa: T201
        raise SystemExit(0)

    def postOptions(self) -> None:
        if self["print-schema"]:
            from txlb.config.schema import schema

            print(json.dumps(schema(), indent=2))  # noqa: T201
            raise SystemExit(0)
        if bool(self["config"]) == bool(self["demo"]):
            raise usage.UsageError("say either --config=FILE or --demo (and --help for the rest)")
        if self["config"]:
            self["config"] = os.path.abspath(self["config"])  # twistd may change the directory
        if self["check"]:
            try:
                loaded = _load(self)
            except SystemExit as errors:
                print(errors)  # noqa: T201
                raise SystemExit(1) from errors
            for warning in loaded.warnings:
                print(f"warning: {warning}", file=sys.stderr)  # noqa: T201
            print("ok")  # noqa: T201
            raise SystemExit(0)


class LoadBalancer(Service):
    """The control process as a Twisted service.

    ``owns_process`` is False where txlb is a guest: signals and the garbage collector are then not ours to set.
    """

    name = "txlb"
    log = Logger()

    def __init__(
        self,
        reactor: Any,
        node: Node,
        admin: AdminListener | None,
        owns_process: bool = True,
        companions: Sequence[Service] = (),
        started: Callable[[], None] = lambda: None,
    ) -> None:
        self._reactor = reactor
        self.node = node
        self.admin = admin
        self._owns_process = owns_process
        self._companions = companions
        self._started = started
        self._bound = False
        self._asked_at: float | None = None

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self._bind()

    def startService(self) -> None:
        self._bind()  # `twist` never calls privilegedStartService
        super().startService()
        try:
            running = self.node.start()
            if self.admin is not None:
                self.admin.start(self.node, self._reactor)
            for companion in self._companions:
                companion.startService()
        except (OSError, TxlbError) as error:
            raise self._refused(f"cannot start: {error}") from error
        running.addCallbacks(self._serving, self._cannot_serve)
        if self._owns_process:
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
            if self.admin is not None:
                self.admin.bind()
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
            if self.admin is not None:
                await self.admin.stop()
            self.node.close()

    def _serving(self, _: None) -> None:
        snapshot = self.node.snapshot
        for listener in snapshot.listeners:
            addresses = ", ".join(self.node.sockets.addresses(bind) for bind in listener.bind)
            self.log.info("listener {id} on {addresses}", id=listener.id, addresses=addresses)
        if self.admin is not None:
            self.log.info("admin API on {address}", address=self.admin.address)
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
            signal.signal(number, lambda *_: self._reactor.callFromThread(self._asked_to_end))
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.hang_up))

    def _asked_to_end(self) -> None:
        now = self._reactor.seconds()
        if self._asked_at is None:
            self._asked_at = now
            if not self.node.draining:
                self._reactor.stop()
        elif now - self._asked_at > SAME_SIGNAL:
            self.end_now()


def makeService(options: Options) -> LoadBalancer:
    """For twistd."""
    from twisted.internet import reactor

    if options["demo"]:
        from txlb.demo import demo

        return demo(reactor)
    loaded = _load(options)
    return build(
        loaded.snapshot, reactor, load=partial(_load_file, options["config"]), warnings=loaded.warnings
    )


def build(
    snapshot: Snapshot,
    reactor: Any,
    load: Callable[[], Loaded] | None = None,
    plane: PlaneFactory | None = None,
    command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
    **more: Any,
) -> LoadBalancer:
    """Everything of one txlb, wired, nothing started.

    ``plane`` is what ``workers: 0`` runs, ``command`` how a worker process is started; both
    default to the real thing. ``more`` goes to `LoadBalancer`.
    """
    for warning in warnings:
        LoadBalancer.log.warn("{warning}", warning=warning)
    workers = len(os.sched_getaffinity(0)) if snapshot.workers is None else snapshot.workers

    def fleet(scoreboard: Scoreboard, sockets: ListeningSockets) -> Fleet:
        if workers == 0:
            return LocalWorker(lambda: _plane(plane)(reactor, scoreboard.row(0), "worker-1"), sockets)
        environ = worker_environment(os.environ if environment is None else environment, *_home())
        return Supervisor(reactor, scoreboard, sockets, command or default_command(), environ)

    node = Node(reactor, snapshot, workers, fleet, load)
    admin = None if snapshot.admin_bind is None else AdminListener(snapshot.admin_bind)
    return LoadBalancer(reactor, node, admin, **more)


def _plane(plane: PlaneFactory | None) -> PlaneFactory:
    if plane is not None:
        return plane
    from txlb.forwarding.plane import ForwardingPlane

    return ForwardingPlane


def _home() -> tuple[str, bool]:
    """Where our txlb lies, and whether every interpreter finds it there by itself."""
    home = str(Path(txlb.__file__).resolve().parents[1])
    packages = [*site.getsitepackages(), site.getusersitepackages()]
    return home, home in {str(Path(path).resolve()) for path in packages}


def _load_file(path: str) -> Loaded:
    from txlb.config.load import load

    return load(path, os.environ)


def _load(options: Options) -> Loaded:
    """The configuration, or the end with every error on its own line."""
    if options["demo"]:
        from txlb.demo import DemoConfiguration

        return DemoConfiguration()
    try:
        return _load_file(options["config"])
    except ConfigError as error:
        raise SystemExit(str(error)) from error
