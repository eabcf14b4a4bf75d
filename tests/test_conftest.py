"""The checks of conftest.py, shown to fail what they should: a suite of bad tests in a process of its own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from support.processes import child_environment, python

HERE = Path(__file__).parent

SUITE = """
import os, socket, subprocess, threading, time
import pytest, pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
kept = []

def test_clean(): pass
def test_delayed_call(): reactor.callLater(0.2, lambda: None)
def test_selectable(): kept.append(reactor.listenTCP(0, Factory(), interface="127.0.0.1"))
def test_descriptor(): kept.append(os.open("/dev/null", os.O_RDONLY))
def test_child(): kept.append(subprocess.Popen(["sleep", "30"]))
def test_thread(): threading.Thread(target=time.sleep, args=(3,), daemon=True).start()
def test_logged_failure():
    try: 1 / 0
    except ZeroDivisionError: Logger().failure("oops")
def test_expected_failure(logged_failures):
    test_logged_failure()
    assert logged_failures.pop().check(ZeroDivisionError)
@pytest.mark.timeout(2)
@pytest_twisted.ensureDeferred
async def test_never_ends(): await Deferred()
@pytest_twisted.ensureDeferred
async def test_closes_late():
    port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    await deferLater(reactor, 0.01, lambda: None)
    port.stopListening()
@pytest.mark.integration(needs="sh,no-such-program")
def test_needs(): pass
@pytest.mark.integration(needs="sh")
def test_has(): pass
def test_still_clean(): pass
"""


def outcomes(folder: Path, *options: str, **environment: str) -> dict[str, str]:
    (folder / "test_bad.py").write_text(SUITE)
    (folder / "conftest.py").write_text((HERE / "conftest.py").read_text())
    (folder / "pytest.ini").write_text(
        f"[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\npythonpath = {HERE}\n"
        "timeout = 20\nmarkers =\n    integration(needs): x\n"
    )
    run = subprocess.run(
        python("-m", "pytest", "-v", "-rN", *options),
        cwd=folder,
        env=child_environment(**environment),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    found = re.findall(r"::test_(\w+) (PASSED|FAILED|ERROR|SKIPPED)", run.stdout)
    assert found, run.stdout + run.stderr
    return {name: outcome.lower() for name, outcome in found}  # an error at teardown comes after its "passed"


EXPECTED = {
    "clean": "passed",
    "delayed_call": "error",
    "selectable": "error",
    "descriptor": "error",
    "child": "error",
    "thread": "error",
    "logged_failure": "error",
    "expected_failure": "passed",
    "never_ends": "failed",
    "closes_late": "passed",
    "needs": "skipped",
    "has": "passed",
    "still_clean": "passed",
}


def test_every_kind_of_bad_test_is_caught(tmp_path: Path) -> None:
    assert outcomes(tmp_path, TXLB_REQUIRE_PEERS="") == EXPECTED


def test_a_missing_program_fails_where_peers_are_required(tmp_path: Path) -> None:
    found = outcomes(tmp_path, "-k", "needs or has", TXLB_REQUIRE_PEERS="1")
    assert found == {"needs": "error", "has": "passed"}
