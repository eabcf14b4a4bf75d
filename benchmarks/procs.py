"""Processes of a benchmark: started with a place and a processor set, ready when they answer, ended by pid,
always.

Rules: nothing started here outlives the ``Workshop`` that started it, whether that ends well, by an
exception, by Ctrl-C or by SIGTERM; children also get SIGTERM from the kernel should the harness itself be
killed. Every wait is bounded.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

READY_WITHIN = 60.0
STOP_WITHIN = 5.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class BenchmarkError(Exception):
    """The benchmark cannot go on; the text says why, for the person at the terminal."""


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def free_datagram_port() -> int:
    """Free for connections too: name servers take both."""
    for _ in range(100):
        port = free_port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise BenchmarkError("no port is free for both TCP and UDP")


class Process:
    """One started program in a process group of its own; its output goes to ``NAME.out`` in the workshop."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        cpus: frozenset[int],
        group_grace: float = STOP_WITHIN,
    ) -> None:
        def prepare() -> None:
            os.sched_setaffinity(0, cpus)
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        self.name = name
        self.grace = group_grace
        self.output = directory / f"{name}.out"
        with self.output.open("ab") as output:
            self.popen = subprocess.Popen(
                list(command),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=prepare,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])

    def wait_ready(
        self, port: int, host: str = "127.0.0.1", within: float = READY_WITHIN, scheme: str = "http"
    ) -> None:
        """Until ``GET /`` on the port answers 200."""
        deadline = time.monotonic() + within
        answer = "no answer"
        while time.monotonic() < deadline:
            if self.popen.poll() is not None:
                raise BenchmarkError(
                    f"{self.name} ended with code {self.popen.returncode} instead of serving:\n{self.tail()}"
                )
            try:
                connection = http.client.HTTPConnection(host, port, timeout=2)
                if scheme == "https":
                    trusting = ssl._create_unverified_context()
                    connection = http.client.HTTPSConnection(host, port, timeout=2, context=trusting)
                connection.request("GET", "/")
                status = connection.getresponse().status
                connection.close()
                if status == 200:
                    return
                answer = f"status {status}"
            except (OSError, http.client.HTTPException) as error:
                answer = repr(error)
            time.sleep(0.05)
        raise BenchmarkError(f"{self.name} was not ready within {within:.0f} s ({answer}):\n{self.tail()}")

    def stop(self) -> None:
        """SIGTERM to the first process; what is left of its group after the grace gets SIGKILL. Safe to call
        twice.
        """
        if self.popen.poll() is None:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(self.grace)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(self.grace)


class Workshop:
    """A directory for files and the processes running in it; leaving it ends them all and removes it (unless
    kept).
    """

    def __init__(self, proxy_cpus: frozenset[int], load_cpus: frozenset[int], keep: bool = False) -> None:
        self.proxy_cpus = proxy_cpus
        self.load_cpus = load_cpus
        self._keep = keep
        shared_memory = Path("/dev/shm")  # a log on a disk would add the disk's noise
        parent = shared_memory if os.access(shared_memory, os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(prefix="txlb-benchmark-", dir=parent))
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            process.stop()
        if self._keep:
            print(f"files kept in {self.directory}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def start(self, name: str, command: Sequence[str], *, proxy: bool = False) -> Process:
        process = Process(name, command, self.directory, self.proxy_cpus if proxy else self.load_cpus)
        self._processes.append(process)
        return process

    def stop(self, process: Process) -> None:
        process.stop()
        self._processes.remove(process)

    def wait_answer(self, name: str, port: int, datagram: bytes, within: float = READY_WITHIN) -> None:
        """Until a datagram to this port is answered."""
        deadline = time.monotonic() + within
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("127.0.0.1", port))
            probe.settimeout(0.1)
            while time.monotonic() < deadline:
                try:
                    probe.send(datagram)
                    probe.recv(65536)
                    return
                except OSError:
                    time.sleep(0.05)
        said = "\n".join(f"{process.name}: {process.tail(5)}" for process in self._processes)
        raise BenchmarkError(f"{name} answered no datagram within {within:.0f} s:\n{said}")

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path


def processor_sets(pin: bool) -> tuple[frozenset[int], frozenset[int]]:
    """(for the proxy, for everything else): the last processor alone and the others, or all for both."""
    available = sorted(os.sched_getaffinity(0))
    if not pin or len(available) < 2:
        return frozenset(available), frozenset(available)
    return frozenset(available[-1:]), frozenset(available[:-1])


def run(command: Sequence[str], cpus: frozenset[int], timeout: float, cwd: Path | None = None) -> str:
    """A program that ends by itself: its standard output; an error with its last words if it fails or takes
    too long.
    """
    try:
        done = subprocess.run(
            list(command),
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{command[0]} took longer than {timeout:.0f} s") from error
    if done.returncode != 0:
        raise BenchmarkError(
            f"{command[0]} ended with code {done.returncode}:\n{(done.stdout + done.stderr)[-1500:]}"
        )
    return done.stdout
