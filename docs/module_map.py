"""Writes the module map of architecture.md from the first lines of the modules' docstrings.

``python docs/module_map.py`` rewrites what is between the two markers; a test fails when it is out of date.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- module map: begin -->", "<!-- module map: end -->"
#: From the bottom up, as imports point; packages that are not listed come last.
ORDER = ("txlb", "txlb/core", "txlb/net", "txlb/config", "txlb/forwarding", "txlb/control")


def sources() -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / "txlb").rglob("*.py"))


def summary(path: Path) -> str:
    """The first paragraph of a module's docstring on one line, in Markdown."""
    text = ast.get_docstring(ast.parse((ROOT / path).read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


def rank(package: str) -> tuple[int, str]:
    tops = [at for at, top in enumerate(ORDER) if package == top or (at and package.startswith(f"{top}/"))]
    return (tops[0] if tops else len(ORDER), package)


def module_map() -> str:
    packages: dict[str, list[Path]] = {}
    for path in sources():
        packages.setdefault(str(path.parent), []).append(path)
    lines = []
    for package in sorted(packages, key=rank):
        about = ""
        rows = []
        for path in packages[package]:
            if path.name == "__init__.py":
                about = summary(path)
            else:
                rows.append(f"| `{path.name}` | {summary(path)} |")
        lines += [f"### `{package}/`", "", *([about, ""] if about else [])]
        if rows:
            lines += ["| module | what it is |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def updated(page: str) -> str:
    """``page`` with a fresh map."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{module_map()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
