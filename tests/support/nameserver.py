"""A real name server, and questions to it by real tools."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from support.ports import free_port
from support.processes import Program, find_tool

ZONE = "zone.example"


class Nsd:
    """NSD with a zone of ``names`` addresses, ``a0`` …, and ``who`` (TXT), which tells it from others."""

    def __init__(self, folder: Path, who: str = "nsd", names: int = 100) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.who = who
        self.port = 0
        records = "".join(f"a{number} IN A 192.0.2.{number % 250 + 1}\n" for number in range(names))
        (folder / "zone").write_text(
            f"$ORIGIN {ZONE}.\n$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\n"
            f'ns IN A 127.0.0.1\nwho IN TXT "{who}"\n'
            + "".join(f'big IN TXT "{number:04} {"x" * 200}"\n' for number in range(5))
            + records
        )
        self.program = self._start()

    def _start(self) -> Program:
        tool = find_tool("nsd")
        assert tool is not None
        for _ in range(5):
            if self.port == 0:
                self.port = free_port(socket.SOCK_DGRAM)
            (self.folder / "nsd.conf").write_text(self._configuration())
            program = Program([tool, "-d", "-c", str(self.folder / "nsd.conf")], cwd=self.folder)
            for _ in range(10):
                if dig(self.port, "who", "TXT", "+tries=1", "+time=1") == f'"{self.who}"':
                    return program
                if program.returncode is not None:
                    break
                time.sleep(0.2)
            program.stop()
            self.port = 0  # somebody took it meanwhile
        raise AssertionError(f"the name server does not answer:\n{program.output}")

    def _configuration(self) -> str:
        folder = self.folder
        return (
            f'server:\n  ip-address: 127.0.0.1@{self.port}\n  username: ""\n  chroot: ""\n'
            f'  zonesdir: "{folder}"\n  database: ""\n  pidfile: "{folder}/nsd.pid"\n'
            f'  xfrdfile: "{folder}/xfrd.state"\n  zonelistfile: "{folder}/zone.list"\n'
            f'  xfrdir: "{folder}"\n  logfile: ""\n  rrl-ratelimit: 0\n'
            "remote-control:\n  control-enable: no\n"
            f"zone:\n  name: {ZONE}\n  zonefile: zone\n"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.program.stop()

    def start_again(self) -> None:
        self.program = self._start()


def dig(port: int, name: str, kind: str = "A", *options: str, host: str = "127.0.0.1") -> str:
    """What ``dig +short`` says; "" if there was no answer."""
    tool = find_tool("dig")
    assert tool is not None
    command = [tool, f"@{host}", "-p", str(port), f"{name}.{ZONE}", kind, "+short", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def dnsperf(folder: Path, port: int, seconds: int, *options: str, names: int = 100) -> dict[str, int]:
    """Ask for ``seconds``; how many questions were ``sent``, ``completed``, ``lost``."""
    tool = find_tool("dnsperf")
    assert tool is not None
    questions = folder / "questions"
    questions.write_text("".join(f"a{number}.{ZONE} A\n" for number in range(names)))
    command = [tool, "-s", "127.0.0.1", "-p", str(port), "-d", str(questions), "-l", str(seconds), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for line in done.stdout.splitlines():
        name, colon, value = line.strip().partition(":")
        if colon and name in ("Queries sent", "Queries completed", "Queries lost"):
            found[name.split()[1]] = int(value.split()[0])
    return found
