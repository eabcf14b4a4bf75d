"""One thing wrong with a configuration, and where.

Rules:

* A `Finding` is what checks produce: a path into the data, and whether the key or
  its value is meant. A `Problem` is what the operator sees, one line:
  ``file:line:column: path: what is wrong (did you mean …?)``. What foreign code says in
  several lines becomes one.
* Problems come out in the order of the file, each once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]

_LINE_BREAK = re.compile(r"\s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]\s*")  # where str.splitlines splits


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at ``path``; ``at_key`` means the key itself, not its value."""

    path: Path
    message: str
    at_key: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding with its place; ``line`` is 0 where there is no text (API, unreadable file)."""

    source: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = [self.source] if self.source else []
        if self.line:
            place = [f"{self.source}:{self.line}:{self.column}"]
        if self.path:
            place.append(self.path)
        return ": ".join([*place, _LINE_BREAK.sub(" ", self.message)])


def show_path(path: Path) -> str:
    """``("backends", 1, "weight")`` as ``backends[1].weight``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.isprintable():
            text += f".{step}" if text else step
        else:
            text += f".{step!r}"
    return text


class Suggestions:
    """Did-you-mean over names; bounded, as near matches among thousands of names are slow."""

    def __init__(self, budget: int = 50) -> None:
        self._budget = budget

    def near(self, word: str, known: Iterable[str]) -> str:
        """`` (did you mean X?)`` for the nearest of ``known``, or nothing."""
        if self._budget <= 0 or len(word) > 100:
            return ""
        self._budget -= 1
        spelled = {name.lower(): name for name in known}
        matches = difflib.get_close_matches(word.lower(), spelled, n=1, cutoff=0.6)
        return f" (did you mean {spelled[matches[0]]}?)" if matches else ""


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sorted by place; what an alias repeats is said once."""
    seen: set[tuple[int, int, str, str]] = set()
    result: list[Problem] = []
    for problem in sorted(problems, key=lambda p: (p.line, p.column)):
        key = (problem.line, problem.column, problem.message, "" if problem.line else problem.path)
        if key not in seen:
            seen.add(key)
            result.append(problem)
    return result
