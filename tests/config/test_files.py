from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from txlb.config.files import read_file


def test_a_file_of_the_greatest_size_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 65536)
    assert read_file(path, 65536) == b"x" * 65536


@pytest.mark.parametrize(("most", "size"), [(65536, "64KiB"), (1 << 20, "1MiB"), (1536 * 1024, "1536KiB")])
def test_a_longer_one_is_refused(tmp_path: Path, most: int, size: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (most + 1))
    with pytest.raises(ValueError, match=re.escape(f"{path} is longer than {size}")):
        read_file(path, most)


def test_only_regular_files_are_read_and_nobody_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(ValueError, match=re.escape(f"{path} is not a file")):
            read_file(path, 1024)


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    path = tmp_path / "missing"
    with pytest.raises(ValueError, match=re.escape(f"{path} cannot be read: No such file or directory")):
        read_file(path, 1024)


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ValueError, match="is not a file"):
        read_file(tmp_path, 1024)
    (tmp_path / "file").write_bytes(b"x")
    read_file(tmp_path / "file", 1024)
    assert os.listdir("/proc/self/fd") == before
