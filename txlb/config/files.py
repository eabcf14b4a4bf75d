"""Reading the small files that a configuration names.

Rules:

* Only regular files are read: a pipe or a terminal would hold up whoever waits for its end.
* Never more than the caller allows; what is longer is an error.
* Every error names the file and says why.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

KIB = 1024


def read_file(path: Path, most: int) -> bytes:
    """The bytes of a file of at most ``most``, a multiple of 1024. Raises ValueError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError(f"{path} is not a file")
            with open(descriptor, "rb", closefd=False) as file:
                raw = file.read(most + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > most:
        size = f"{most // KIB**2}MiB" if most % KIB**2 == 0 else f"{most // KIB}KiB"
        raise ValueError(f"{path} is longer than {size}")
    return raw
