"""Programs that a test runs: found, started, waited for, ended by their pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from twisted.internet.task import deferLater

import txlb

#: Daemons' directories, which an ordinary user's PATH may lack.
_DAEMONS = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))


def find_tool(name: str) -> str | None:
    """The path of an installed program."""
    return shutil.which(name) or shutil.which(name, path=_DAEMONS)


def child_environment(**more: str) -> dict[str, str]:
    """This process's environment, with the txlb under test first on the path of every Python child."""
    home = str(Path(txlb.__file__).parents[1])
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **more}


def python(*arguments: str) -> list[str]:
    """A command line for this interpreter; ``-P`` keeps the working directory off its path."""
    return [sys.executable, "-P", *arguments]


def twistd(*arguments: str) -> list[str]:
    """A ``twistd`` command line: foreground, no pid file."""
    script = "from twisted.scripts.twistd import run; run()"
    return [*python("-c", script), "-n", "--pidfile=", *arguments]


class Program:
    """A running program in a process group of its own; its output goes to a file.

    `listening` and `ended` let the reactor run while they wait; `stop` blocks it.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: str | Path | None = None
    ) -> None:
        self.command = list(command)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else child_environment(),
            cwd=cwd,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    @property
    def output(self) -> str:
        """What it printed so far; after `stop`, all of it."""
        if self._output.closed:
            return self._text
        return os.pread(self._output.fileno(), 1 << 24, 0).decode(errors="replace")

    def send_signal(self, number: int) -> None:
        """Send it a signal (to it alone, not to its group)."""
        self._process.send_signal(number)

    async def listening(self, port: int, host: str = "127.0.0.1", within: float = 10.0) -> None:
        """Wait until something accepts connections on ``port``; fail with the output if it ends before."""
        deadline = time.monotonic() + within
        while not accepts(port, host):
            assert self.returncode is None, f"{self.command[0]} ended with {self.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"nothing on {host}:{port} after {within} s:\n{self.output}"
            await pause(0.02)

    async def ended(self, within: float = 10.0) -> int:
        """Wait until it ends by itself; its exit code."""
        deadline = time.monotonic() + within
        while (code := self.returncode) is None:
            assert time.monotonic() < deadline, f"still running after {within} s:\n{self.output}"
            await pause(0.01)
        return code

    def stop(self, number: int = signal.SIGTERM, within: float = 5.0) -> int:
        """End it and whatever it started (its group): politely, then by force. Blocks. May be repeated."""
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(within)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        code = self._process.wait(5)
        if not self._output.closed:
            self._text = self.output
            self._output.close()
        return code


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a connection to ``port`` is accepted right now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
        one.settimeout(1.0)
        return one.connect_ex((host, port)) == 0


async def pause(seconds: float) -> None:
    """Let the reactor run for a while."""
    from twisted.internet import reactor  # here, so that importing this module installs none

    await deferLater(reactor, seconds, lambda: None)  # type: ignore[arg-type]
