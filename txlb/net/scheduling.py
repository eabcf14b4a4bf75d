"""How long this process wants to run in one go, where several want the same processor.

Rules:

* Who asks for long slices says that it can wait: whoever wakes up with shorter ones goes first. The shares of
  the processor stay the same (Linux 6.12 and newer, sched(7) and sched_setattr(2): the slice of SCHED_OTHER).
* It holds for the calling thread and for what it starts from then on, threads and processes.
* Slices decide when somebody wakes up. Who then has just run a little waits for the end of what runs all the
  same; so who has much to do does it in groups of `GROUP`, and gives way between them (`give_way`).
* It is a wish. Other kernels, machines and policies go on as they did, and say so (False).
"""

from __future__ import annotations

import ctypes
import platform
import struct
import time
from typing import Final

LONG: Final = 0.01  # of a loop that lets those of others go first
LONGEST: Final = 0.1  # of work that lets such a loop go first: more than Linux does not grant
GROUP: Final = 8  # pieces of work of 10 to 30 µs each
MOMENT: Final = 1e-6  # seconds
SET: Final = 0  # sched_setattr
GET: Final = 1  # sched_getattr
CALLS: Final = {"x86_64": (314, 315), "aarch64": (274, 275)}
# struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period
ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")
OTHER: Final = 0
BATCH: Final = 3


def give_way() -> None:
    """Let those who wait for this processor have it: sleep for as short as the kernel can, some 50 µs."""
    time.sleep(MOMENT)


def set_slice(seconds: float) -> bool:
    """Run for that long in one go if nothing more urgent comes; 0 = as long as the kernel finds right.

    Returns whether the kernel took it (older ones take it and do nothing).
    """
    attributes = read()
    if attributes is None or attributes[1] not in (OTHER, BATCH):
        return False
    size, policy, flags, nice, priority, _, deadline, period = attributes
    wanted = ATTRIBUTES.pack(size, policy, flags, nice, priority, round(seconds * 1e9), deadline, period)
    return _call(SET, 0, wanted) == 0


def slice_of(thread: int = 0) -> float | None:
    """Of a thread, by the kernel's number (0 = the calling one), in seconds; None where nobody tells."""
    attributes = read(thread)
    return None if attributes is None else attributes[5] / 1e9


def read(thread: int = 0) -> tuple[int, ...] | None:
    room = ctypes.create_string_buffer(ATTRIBUTES.size)
    if _call(GET, thread, room, ATTRIBUTES.size) != 0:
        return None
    return ATTRIBUTES.unpack(room.raw)


def _call(which: int, thread: int, attributes: object, *size: int) -> int:
    numbers = CALLS.get(platform.machine()) if platform.system() == "Linux" else None
    if numbers is None:
        return -1
    library = ctypes.CDLL(None)
    result: int = library.syscall(numbers[which], thread, attributes, *size, 0)
    return result
