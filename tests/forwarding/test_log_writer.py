from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from txlb.forwarding import log_writer
from txlb.forwarding.log_writer import LogWriter

TIMEOUT = 10.0


def numbered(count: int, first: int = 0) -> list[str]:
    return [f"line {first + index}\n" for index in range(count)]


def test_what_is_put_is_written_in_order(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = LogWriter(str(path))
    for first in range(0, 3000, 300):
        assert writer.put(numbered(300, first))
    assert writer.close(TIMEOUT)
    assert path.read_text() == "".join(numbered(3000))
    assert writer.lost == 0


def test_it_appends(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("before\n")
    writer = LogWriter(str(path))
    writer.put(["after\n"])
    writer.close(TIMEOUT)
    assert path.read_text() == "before\nafter\n"


def test_several_writers_share_a_file_without_mixing_lines(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writers = [LogWriter(str(path)) for _ in range(4)]
    for batch in range(10):
        for index, writer in enumerate(writers):
            assert writer.put([f"{index} {batch} {'x' * 300} {n}\n" for n in range(200)])
    for writer in writers:
        assert writer.close(TIMEOUT)
    lines = path.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 4 * 10 * 200
    assert {len(line.split()) for line in lines} == {4}


def test_the_file_is_not_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    LogWriter(str(path)).close(TIMEOUT)
    assert path.stat().st_mode & 0o007 == 0


def test_reopen_goes_on_in_a_new_file(tmp_path: Path) -> None:
    path, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    writer = LogWriter(str(path))
    writer.put(["old\n"])
    path.rename(rotated)
    writer.put(["still old\n"])
    writer.reopen()
    writer.put(["new\n"])
    assert writer.close(TIMEOUT)
    assert rotated.read_text() == "old\nstill old\n"
    assert path.read_text() == "new\n"


def test_a_reopen_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = LogWriter(str(folder / "access.log"))
    folder.rename(tmp_path / "moved")
    writer.reopen()
    writer.put(["line\n"])
    assert writer.close(TIMEOUT)
    assert (tmp_path / "moved" / "access.log").read_text() == "line\n"
    assert "No such file" in writer.take_problem()
    assert writer.take_problem() == ""


def test_a_file_that_cannot_be_opened_loses_lines_until_a_reopen_works(tmp_path: Path) -> None:
    folder = tmp_path / "missing"
    writer = LogWriter(str(folder / "access.log"))
    assert "No such file" in writer.take_problem()
    writer.put(numbered(3))
    writer.reopen()  # still not there
    writer.put(numbered(2))
    deadline = time.monotonic() + TIMEOUT
    while writer.lost < 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    folder.mkdir()
    writer.reopen()
    writer.put(["found\n"])
    assert writer.close(TIMEOUT)
    assert writer.lost == 5
    assert (folder / "access.log").read_text() == "found\n"


def test_a_full_disk_loses_lines_and_says_why() -> None:
    writer = LogWriter("/dev/full")
    writer.put(numbered(7))
    assert writer.close(TIMEOUT)
    assert writer.lost == 7
    assert "No space left" in writer.take_problem()


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_stops_never_blocks_and_costs_only_what_is_beyond_the_bound(
    pipe: str, blocking: bool
) -> None:
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = LogWriter(pipe, queued_lines=1000)
    os.set_blocking(writer._fd, blocking)
    line = "x" * 999 + "\n"
    accepted = 0
    for _ in range(500):  # 5 MB into a pipe that holds 64 KiB
        accepted += 10 * writer.put([line] * 10)
    assert 1000 <= accepted < 5000
    os.set_blocking(reader, True)
    received = 0

    def read() -> None:
        nonlocal received
        while data := os.read(reader, 65536):
            received += len(data)

    thread = threading.Thread(target=read)
    thread.start()
    assert writer.close(TIMEOUT)
    thread.join(TIMEOUT)
    os.close(reader)
    assert received == 1000 * accepted
    assert writer.lost == 0


def test_close_gives_up_in_time(pipe: str) -> None:
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = LogWriter(pipe)
    writer.put(["x" * 1000 + "\n"] * 1000)
    assert not writer.close(0.1)
    os.close(reader)  # the thread's write fails now, and it ends
    writer._thread.join(TIMEOUT)
    assert not writer._thread.is_alive()


def test_a_write_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's lock is held while lines are joined."""
    sizes: list[int] = []
    write = os.write

    def counted(fd: int, data: memoryview) -> int:
        sizes.append(bytes(data).count(b"\n"))
        return write(fd, data)

    monkeypatch.setattr("txlb.forwarding.log_writer.os.write", counted)
    writer = LogWriter(str(tmp_path / "access.log"))
    writer.put(numbered(1000))
    assert writer.close(TIMEOUT)
    assert sum(sizes) == 1000
    assert max(sizes) == log_writer.LINES_PER_WRITE


def test_dash_is_standard_output_and_stays_open(capfd: pytest.CaptureFixture[str]) -> None:
    writer = LogWriter("-")
    writer.put(["to stdout\n"])
    writer.reopen()
    writer.put(["still\n"])
    assert writer.close(TIMEOUT)
    assert capfd.readouterr().out == "to stdout\nstill\n"
    os.fstat(1)
