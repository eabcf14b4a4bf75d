"""``twistd txlb``: options, and the composition root of the control process.

`makeService` only reads the configuration, so that its errors appear on the console and before
any fork; what happens then is in `txlb.control.balancer`. twistd's reactor is ours: it is told to go by
`time.monotonic`. The reactor that `build` is given is not touched.
"""

from __future__ import annotations

import json
import os
import secrets
import site
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import twisted
from twisted.python import usage

import txlb
from txlb.build_info import build_kind
from txlb.config.problems import Finding
from txlb.control.admin import AdminListener, MetricsListener, unusable_files
from txlb.control.balancer import LoadBalancer
from txlb.control.fleet import Fleet, OnReports
from txlb.control.listening import ListeningSockets
from txlb.control.local import LocalWorker
from txlb.control.node import Loaded, Node
from txlb.control.scoreboard import Scoreboard
from txlb.control.store import MemoryStore, SqliteStore
from txlb.control.supervisor import Supervisor
from txlb.control.worker_process import MODULE_PATH, default_command, worker_environment
from txlb.core.model import Snapshot
from txlb.errors import ConfigError
from txlb.net.reactor_time import use_monotonic_time

Further = Callable[[Snapshot], Iterator[Finding]]
PlaneFactory = Callable[[Any, memoryview, str, OnReports], Any]


class Options(usage.Options):
    """What ``twistd txlb`` understands."""

    synopsis = "(--config=FILE | --demo) [--check]"
    longdesc = (
        "Forward HTTP, TCP and UDP to backends as FILE says. SIGHUP loads FILE again and reopens the access"
        " log; SIGTERM finishes requests in flight and ends, a second one ends at once."
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
                loaded = _load(self, further=_every_file)
            except SystemExit as errors:
                print(errors)  # noqa: T201
                raise SystemExit(1) from errors
            for warning in loaded.warnings:
                print(f"warning: {warning}", file=sys.stderr)  # noqa: T201
            print("ok")  # noqa: T201
            raise SystemExit(0)


def makeService(options: Options) -> LoadBalancer:
    """For twistd."""
    from twisted.internet import reactor

    use_monotonic_time(reactor)
    if options["demo"]:
        from txlb.demo import demo

        return demo(reactor)
    made_up = secrets.token_hex(32)
    loaded = _load(options, made_up)
    return build(
        loaded.snapshot,
        reactor,
        load=partial(_load_file, options["config"], made_up),
        folder=Path(options["config"]).parent,
        warnings=loaded.warnings,
    )


def build(
    snapshot: Snapshot,
    reactor: Any,
    load: Callable[[], Loaded] | None = None,
    plane: PlaneFactory | None = None,
    command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    folder: Path = Path(),
    warnings: Sequence[str] = (),
    **more: Any,
) -> LoadBalancer:
    """Everything of one txlb, wired, nothing started.

    ``plane`` is what ``workers: 0`` runs, ``command`` how a worker process is started; both
    default to the real thing; ``folder`` is that of the configuration file. ``more`` goes to `LoadBalancer`.
    """
    for warning in warnings:
        LoadBalancer.log.warn("{warning}", warning=warning)
    workers = len(os.sched_getaffinity(0)) if snapshot.workers is None else snapshot.workers

    def fleet(scoreboard: Scoreboard, sockets: ListeningSockets, on_reports: OnReports) -> Fleet:
        if workers == 0:
            row = scoreboard.row(0)
            return LocalWorker(lambda: _plane(plane)(reactor, row, "worker-1", on_reports), sockets)
        environ = worker_environment(os.environ if environment is None else environment, *_home())
        environ[MODULE_PATH] = str(folder.absolute())  # where algorithms of the operator's own may lie
        return Supervisor(reactor, scoreboard, sockets, command or default_command(), environ, on_reports)

    store = None if snapshot.store is None else SqliteStore(snapshot.store, reactor)
    node = Node(reactor, snapshot, workers, fleet, load, store or MemoryStore(int(time.time())), folder)
    admin = None if snapshot.admin.bind is None else AdminListener(snapshot.admin)
    if admin is not None:
        node.reloadables.append(admin)
    metrics = None if snapshot.metrics_bind is None else MetricsListener(snapshot.metrics_bind)
    return LoadBalancer(reactor, node, admin, metrics, **more)


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


def _admin_files(snapshot: Snapshot) -> Iterator[Finding]:
    for key, why in unusable_files(snapshot.admin):
        yield Finding(("admin", key), why)


def _every_file(snapshot: Snapshot) -> Iterator[Finding]:
    """Those that a start would only come to later, too."""
    from txlb.control.written import unusable

    yield from _admin_files(snapshot)
    yield from unusable(snapshot)


def _load_file(path: str, made_up: str, further: Further = _admin_files) -> Loaded:
    """``made_up``: the key of affinity cookies if no file has one."""
    from txlb.config.load import load

    loaded = load(path, os.environ, further)
    if loaded.snapshot.secret:
        return loaded
    return replace(loaded, snapshot=replace(loaded.snapshot, secret=made_up))


def _load(options: Options, made_up: str = "", further: Further = _admin_files) -> Loaded:
    """The configuration, or the end with every error on its own line."""
    if options["demo"]:
        from txlb.demo import DemoConfiguration

        return DemoConfiguration()
    folder = os.path.dirname(options["config"])
    if folder not in sys.path:
        sys.path.append(folder)  # last: what lies beside the file shadows nothing
    try:
        return _load_file(options["config"], made_up, further)
    except ConfigError as error:
        raise SystemExit(str(error)) from error
