"""Writes the diagram of health.md from the table of `txlb.core.health`.

``python docs/health_diagram.py`` rewrites what is between the markers; a test fails when it is out of date.
"""

from __future__ import annotations

from pathlib import Path

from txlb.core.health import EVENTS, FALLEN, HEALTHY, RISEN, STATES, TABLE, UNHEALTHY

PAGE = Path(__file__).resolve().parent / "health.md"
BEGIN, END = "<!-- diagram: begin -->", "<!-- diagram: end -->"


def transitions() -> list[tuple[str, str, str]]:
    """From, to, and what happened; without those that change nothing."""
    found = []
    for state, row in enumerate(TABLE):
        up = state < UNHEALTHY
        for event, then in enumerate(row):
            if then != state and event != (RISEN if up else FALLEN):
                found.append((STATES[state], STATES[then], EVENTS[event]))
    return found


def diagram() -> str:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {STATES[HEALTHY]}"]
    lines += [f"    {before} --> {after}: {event}" for before, after, event in transitions()]
    return "\n".join([*lines, "```"])


def updated(page: str) -> str:
    """``page`` with a fresh diagram."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{diagram()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
