"""What a file said, and where: plain data beside the place of every key and value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from txlb.config.problems import Finding, Problem, in_order, show_path

# A place is (mark, None) for a scalar, (mark, {key: (mark of the key, place)}) for a mapping and
# (mark, [place]) for a sequence: plain tuples, because there is one for every value of a large file.
Mark = Any
Place = tuple[Mark, Any]


@dataclass(slots=True)
class Document:
    """What a file said. ``problems`` are those of the text itself."""

    source: str
    data: Any
    problems: list[Problem] = field(default_factory=list)
    place: Place | None = None

    def problem(self, finding: Finding) -> Problem:
        """``finding`` at its line and column; of a missing value, at what should hold it."""
        if self.place is None:
            return Problem(self.source, 0, 0, show_path(finding.path), finding.message)
        mark, children = self.place
        shown: list[str | int] = []
        for index, step in enumerate(finding.path):
            if isinstance(children, dict) and step in children:
                key_mark, (value_mark, below) = children[step]
                last = index == len(finding.path) - 1
                mark, children = (key_mark if last and finding.at_key else value_mark), below
            elif isinstance(children, list) and isinstance(step, int) and step < len(children):
                mark, children = children[step]
            else:
                if children is not None:  # a missing key; below a scalar the path is only ours
                    shown.extend(finding.path[index:])
                break
            shown.append(step)
        return Problem(self.source, mark.line + 1, mark.column + 1, show_path(tuple(shown)), finding.message)

    def located(self, findings: list[Finding]) -> list[Problem]:
        """The text's own problems and ``findings``, in order, one cause once."""
        taken = {(problem.line, problem.column) for problem in self.problems}
        mine = [
            problem for problem in map(self.problem, findings) if (problem.line, problem.column) not in taken
        ]
        return in_order([*self.problems, *mine])
