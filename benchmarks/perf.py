"""``--perf DIR``: one more run of txlb under ``perf record``, after the measured ones, and its report as
text.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from . import measure
from .contenders import Contender
from .load import LoadResult
from .procs import BenchmarkError


def profile(directory: Path, contender: Contender, title: str, load: Callable[[], LoadResult]) -> None:
    """Writes ``SCENARIO-LABEL.txt`` (functions above 0.3 %); the raw data stays beside it."""
    if shutil.which("perf") is None or contender.process is None:
        raise BenchmarkError("--perf needs the perf program")
    directory.mkdir(parents=True, exist_ok=True)
    stem = directory / (re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + f"-{contender.label}")
    data = stem.with_suffix(".data")
    pids = ",".join(str(pid) for pid in sorted(measure.process_tree(contender.process.pid)))
    recorder = subprocess.Popen(
        ["perf", "record", "-q", "-g", "-F", "999", "-p", pids, "-o", str(data)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        contender.sent += load().requests
    finally:
        recorder.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            recorder.wait(20)
        if recorder.poll() is None:
            recorder.kill()
            recorder.wait()
    report = [
        "perf",
        "report",
        "--stdio",
        "-i",
        str(data),
        "--no-children",
        "-g",
        "none",
        "--percent-limit",
        "0.3",
    ]
    done = subprocess.run(report, capture_output=True, text=True, timeout=120, check=False)
    stem.with_suffix(".txt").write_text(done.stdout or done.stderr)
