"""What a test must not leave behind: delayed calls, selectables, descriptors, children, threads.

Rules:

* A `Footprint` is everything of this process that could be left open. Taken before and after, the difference
  is what leaked; what was there before (the reactor's own waker, module fixtures) never counts.
* A delayed call counts at once. The others get a moment, since closing is finished by the reactor: a socket
  by ``connectionLost``, a child by being reaped.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.task import deferLater

#: How long closing may take after the test's own code has ended, in seconds.
GRACE = 0.5


@dataclass(frozen=True)
class Footprint:
    """Everything of this process that could be left open, each by an identity."""

    calls: dict[int, Any]
    selectables: dict[int, Any]
    descriptors: dict[tuple[int, str], str]
    children: dict[int, str]
    threads: dict[int, threading.Thread]

    def beyond(self, before: Footprint) -> list[str]:
        """One line for each thing here that was not there before."""
        return [
            f"{kind}: {value}"
            for kind, now, then in (
                ("delayed call", self.calls, before.calls),
                ("selectable in the reactor", self.selectables, before.selectables),
                ("open descriptor", self.descriptors, before.descriptors),
                ("child process", self.children, before.children),
                ("thread", self.threads, before.threads),
            )
            for key, value in now.items()  # type: ignore[attr-defined]
            if key not in then  # type: ignore[operator]
        ]


def footprint(reactor: Any) -> Footprint:
    return Footprint(
        calls={id(call): call for call in reactor.getDelayedCalls()},
        selectables={id(one): one for one in [*reactor.getReaders(), *reactor.getWriters()]},
        descriptors=dict(_descriptors()),
        children=dict(_children()),
        threads={
            thread.ident: thread
            for thread in threading.enumerate()
            if thread.ident is not None and not thread.name.startswith("PoolThread-twisted.internet.reactor")
        },
    )


def left_behind(reactor: Any, before: Footprint) -> list[str]:
    """What is there beyond ``before``, after the reactor had a moment to finish what is being closed."""
    if not footprint(reactor).beyond(before):
        return []
    for _ in range(2):  # calls made with delay 0 by the last lines of the test
        pytest_twisted.blockon(deferLater(reactor, 0, lambda: None))
    calls = footprint(reactor).calls
    stale = [f"delayed call: {call}" for key, call in calls.items() if key not in before.calls]
    gc.collect()
    deadline = time.monotonic() + GRACE
    while True:
        others = [line for line in footprint(reactor).beyond(before) if not line.startswith("delayed call")]
        if not others or time.monotonic() > deadline:
            return stale + others
        pytest_twisted.blockon(deferLater(reactor, 0.01, lambda: None))


def clean_up(reactor: Any, before: Footprint) -> None:
    """End what leaked, so that one test's leak is not the next one's failure."""
    after = footprint(reactor)
    for key, call in after.calls.items():
        if key not in before.calls and call.active():
            call.cancel()
    for key, selectable in after.selectables.items():
        if key not in before.selectables:
            reactor.removeReader(selectable)
            reactor.removeWriter(selectable)
    for pid in after.children.keys() - before.children.keys():
        try:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        except (ChildProcessError, ProcessLookupError):
            pass


def _descriptors() -> Iterator[tuple[tuple[int, str], str]]:
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the listing's own descriptor
            continue
        yield (int(name), target), f"{name} -> {target}"


def _children() -> Iterator[tuple[int, str]]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # none at all: the usual case
        return
    me = os.getpid()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
            command = (
                Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == me:
            yield int(entry), f"{entry} ({'zombie' if state == 'Z' else command.strip()})"
