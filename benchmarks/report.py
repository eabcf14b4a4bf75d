"""Tables: what a scenario found, as plain text, as Markdown, as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Table:
    """One table of a scenario. ``raw`` holds every sample behind it, for the JSON file."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    raw: dict[str, object] = field(default_factory=dict)


def number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def share(value: float) -> str:
    return f"{value:.0%}"


def mebibytes(value: int) -> str:
    return f"{value / (1 << 20):.1f} MiB"


def as_text(table: Table) -> str:
    """The first column to the left, figures to the right."""
    widths = [
        max(len(row[place]) for row in [table.columns, *table.rows]) for place in range(len(table.columns))
    ]
    lines = [table.title]
    for row in [table.columns, *table.rows]:
        cells = [row[0].ljust(widths[0])] + [
            cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines + [f"  {note}" for note in table.notes])


def as_markdown(table: Table) -> str:
    rule = ["---"] + ["---:"] * (len(table.columns) - 1)
    lines = [f"### {table.title}", ""] + [
        f"| {' | '.join(row)} |" for row in [table.columns, rule, *table.rows]
    ]
    return "\n".join(lines + [f"\n{note}" for note in table.notes])


def as_json(table: Table) -> dict[str, object]:
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return {"title": table.title, "rows": rows, "notes": table.notes, "samples": table.raw}
