"""Whether the files could be used that a running txlb writes, for ``--check``: the store and the access log.

Rules:

* Nothing is made, changed or waited for. The store is looked at in a copy, with its write-ahead log, opened
  as a start would open it.
* A store that another process has in use is not read: a running txlb vouches for it.
* Rights are those of the user that asks.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from txlb.config.problems import Finding
from txlb.control.store import open_database
from txlb.core.model import Snapshot

SHARED_FIRST = (
    0x40000002  # where SQLite locks a database: a reader shares these bytes, a writer has them alone
)
SHARED_SIZE = 510


def unusable(snapshot: Snapshot) -> Iterator[Finding]:
    """What a start with ``snapshot`` could not write."""
    log = snapshot.access_log
    if log.path != "-" and log.format != "off":
        try:
            _check_log(Path(log.path))
        except ValueError as error:
            yield Finding(("access_log", "path"), str(error))
    if snapshot.store is not None:
        try:
            _check_store(Path(snapshot.store))
        except ValueError as error:
            yield Finding(("store",), str(error))


def _check_log(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file in it")
    if not path.exists():
        _check_folder(path.parent)
    elif not _may(path, os.W_OK):
        raise ValueError(f"{path} cannot be written: give it to the user that runs txlb")


def _check_store(path: Path) -> None:
    _check_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return  # a start makes it
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is not a file: name another")
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, SHARED_SIZE, SHARED_FIRST)
        except OSError:
            return  # in use
        _check_copy(path)
    finally:
        os.close(descriptor)


def _check_copy(path: Path) -> None:
    with TemporaryDirectory(prefix="txlb-check-") as folder:
        copy = Path(folder, "store")
        try:
            shutil.copyfile(path, copy)
            log = Path(f"{path}-wal")
            if log.exists():
                shutil.copyfile(log, f"{copy}-wal")
        except OSError as error:
            raise ValueError(f"{path} cannot be copied to look at it: {error.strerror}") from None
        try:
            open_database(str(copy)).close()
        except ValueError as error:
            raise ValueError(f"{path} {error}") from None


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: make it")
    if not _may(folder, os.W_OK | os.X_OK):
        raise ValueError(f"the folder {folder} cannot be written: give it to the user that runs txlb")


def _may(path: Path, how: int) -> bool:
    return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)
