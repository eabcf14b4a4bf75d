"""The small languages inside values: durations, sizes, shares, ids.

Rules:

* A ``parse_*`` takes what the file holds and gives the plain value, or raises
  ValueError with a message that reads on from "path: " and says what to write.
* A ``show_*`` gives back the canonical spelling: ``parse(show(value)) == value``.
* Durations are whole milliseconds, from 1 ms to 30 days: a deadline of nothing or
  of forever is a mistake. Sizes are powers of 1024 only: KB means two things.
"""

from __future__ import annotations

import re

ID_PATTERN = r"[A-Za-z0-9._-]{1,64}"
DURATION_PATTERN = r"(?=[0-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?|[0-9]+\.[0-9]+(ms|s|m|h|d)"
SIZE_PATTERN = r"[0-9]+(B|KiB|MiB|GiB|TiB)"
PERCENT_PATTERN = r"[0-9]+(\.[0-9]+)?%"

_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_BYTES = {"TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}
_DURATION = re.compile(DURATION_PATTERN)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[dhms])")
_SIZE = re.compile(rf"(?:{SIZE_PATTERN})")
_LOOSE_SIZE = re.compile(r"([0-9]+)\s*([KMGTkmgt])(?:i?[bB])?")
_ID = re.compile(ID_PATTERN)
_LONGEST = 30 * 86_400_000
LARGEST_SIZE = 2**50


def shown(value: object) -> str:
    """A value for a message: as it would be written, and not too long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…" + text[-1]


def as_text(value: object, what: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) or value is None:
        text = shown(value)
        raise ValueError(f'must be {what}, not {text} (as text, in quotes: "{text}")')
    raise ValueError(f"must be {what}, not {shown(value)}")


def parse_duration(value: object) -> float:
    """``250ms``, ``5s``, ``1m30s``, ``1.5h`` in seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f"{value} has no unit: write {value}s or {value}ms")
    if not isinstance(value, str):
        raise ValueError(f"must be a duration such as 250ms, 5s or 1h, not {shown(value)}")
    if len(value) > 40 or not _DURATION.fullmatch(value):
        if value.isdecimal():
            raise ValueError(f"{value} has no unit: write {value}s or {value}ms")
        raise ValueError(f"must be a duration such as 250ms, 5s, 1m30s or 1h, not {shown(value)}")
    total = 0.0
    for amount, unit in _PART.findall(value):
        total += float(amount) * _MS[unit] if "." in amount else int(amount) * _MS[unit]
    if not 1 <= total <= _LONGEST:
        raise ValueError(f"{value} is out of range: from 1ms to 30d")
    if abs(total - round(total)) > 1e-6:
        raise ValueError(f"{value} is finer than 1ms")
    return round(total) / 1000


def show_duration(seconds: float) -> str:
    left = round(seconds * 1000)
    text = ""
    for unit, size in _MS.items():
        amount, left = divmod(left, size)
        if amount:
            text += f"{amount}{unit}"
    return text or "0s"


def parse_size(value: object) -> int:
    """``64KiB`` or a plain number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and len(value) <= 24 and _SIZE.fullmatch(value):
        number = value.rstrip("BKMGTi")
        size = int(number) * _BYTES[value[len(number) :]]
    else:
        hint = ""
        if isinstance(value, str) and len(value) <= 24 and (loose := _LOOSE_SIZE.fullmatch(value)):
            number, letter = loose[1], loose[2].upper()
            hint = f" (write {number}{letter}iB, steps of 1024)"
        raise ValueError(f"must be a size such as 512B, 64KiB or 10MiB, not {shown(value)}{hint}")
    if not 0 <= size <= LARGEST_SIZE:
        raise ValueError(f"{value} is out of range: from 0 to 1024TiB")
    return size


def show_size(size: int) -> str:
    for unit, factor in _BYTES.items():
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def parse_percent(value: object) -> float:
    """``20%`` as 0.2."""
    if not isinstance(value, str) or not re.fullmatch(PERCENT_PATTERN, value) or len(value) > 20:
        raise ValueError(f"must be a share such as 20%, not {shown(value)}")
    share = float(value[:-1])
    if share > 100:
        raise ValueError(f"{value} is out of range: from 0% to 100%")
    return share / 100


def show_percent(share: float) -> str:
    return f"{round(share * 100, 9):g}%"


def parse_id(value: object) -> str:
    text = as_text(value, "an id")
    if not _ID.fullmatch(text):
        raise ValueError(
            f"{shown(text)} is not an id: 1 to 64 letters, digits, dots, underscores and hyphens"
        )
    return text
