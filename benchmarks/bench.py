"""What every scenario is given: the options of this call, and one measured run of one contender."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import measure
from .compare import Sample
from .contenders import Contender, Programs
from .load import LoadResult
from .procs import BenchmarkError, Workshop, processor_sets


@dataclass(frozen=True)
class Bench:
    """``proxies`` take part in this order; ``direct`` always runs beside them."""

    proxies: list[str]
    programs: Programs
    pairs: int = 5
    repeats: int = 20
    seconds: float = 5.0
    warm_up: float = 2.0
    connections: int = 64
    rate: int | None = None
    quick: bool = False
    pin: bool = True
    keep: bool = False
    perf: Path | None = None
    problems: list[str] = field(default_factory=list)

    def workshop(self) -> Workshop:
        proxy_cpus, load_cpus = processor_sets(self.pin)
        return Workshop(proxy_cpus, load_cpus, self.keep)

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def warm_up(
    bench: Bench,
    there: Mapping[str, Contender],
    load: Callable[[str, float], LoadResult],
    at_least: float = 0.0,
) -> None:
    """Load before the first round; ``--quick`` goes without where it can."""
    seconds = bench.warm_up if bench.quick else max(bench.warm_up, at_least)
    for label in there:
        if seconds > 0:
            load(label, seconds)


def measured(contender: Contender, load: Callable[[], LoadResult]) -> Sample:
    """One run between two readings. The log reader's time is taken off the machine's: peers write to a file
    instead.
    """
    root = contender.process.pid if contender.process else None
    readers = [process.pid for process in contender.discounted]
    contender.drain_log()
    before = measure.read(root, readers)
    result = load()
    after = measure.read(root, readers)
    if before.processes != after.processes:
        raise BenchmarkError(
            f"invalid run: {contender.label} had the processes {sorted(before.processes)}, "
            f"then {sorted(after.processes)}"
        )
    contender.sent += result.requests
    machine = (after.machine.busy - before.machine.busy) - (after.discounted - before.discounted)
    return Sample(
        units=result.requests,
        seconds=result.seconds,
        cpu_us=(after.cpu - before.cpu) / result.requests * 1e6,
        machine_us=machine / result.requests * 1e6,
        p50_us=result.p50_us,
        p99_us=result.p99_us,
        peak_rss=measure.memory_bytes(after.processes, "VmHWM"),
        stolen=after.machine.stolen - before.machine.stolen,
    )


def check_log(bench: Bench, contender: Contender) -> None:
    """After the contender was stopped: as many lines as requests (more: those of the warm-up and those cut
    off at the end).
    """
    if contender.log is None:
        return
    contender.drain_log()
    if contender.line_per_unit and contender.logged < contender.sent:
        bench.problems.append(
            f"{contender.label}: {contender.logged} access log lines for {contender.sent} requests"
        )


def finish(bench: Bench, workshop: Workshop, there: Iterable[Contender]) -> None:
    """Stop the proxies, so that their logs are complete, and count the lines."""
    for contender in there:
        if contender.process is not None:
            workshop.stop(contender.process)
        check_log(bench, contender)
