from __future__ import annotations

import pytest

from txlb.config.document import Document
from txlb.config.problems import Finding, Path
from txlb.config.reader import read

TEXT = b"""\
a:
  b: 1
list:
  - x
  - {c: 2}
"""


@pytest.mark.parametrize(
    ("path", "at_key", "shown"),
    [
        (("a", "b"), False, "f:2:6: a.b: !"),
        (("a", "b"), True, "f:2:3: a.b: !"),
        (("list", 1, "c"), False, "f:5:9: list[1].c: !"),
        (("list", 1, "c"), True, "f:5:6: list[1].c: !"),
        (("list", 1, "missing"), False, "f:5:5: list[1].missing: !"),
        (("a", "missing", "below"), False, "f:2:3: a.missing.below: !"),
        (("a", "b", 0), False, "f:2:6: a.b: !"),
        (("list", 7), False, "f:4:3: list[7]: !"),
        ((), False, "f:1:1: !"),
    ],
)
def test_a_finding_is_where_its_path_leads(path: Path, at_key: bool, shown: str) -> None:
    assert str(read("f", TEXT, {}, {}).problem(Finding(path, "!", at_key))) == shown


def test_data_without_text_has_paths_only() -> None:
    assert str(Document("", {"a": 1}).problem(Finding(("a",), "!"))) == "a: !"


def test_what_the_text_says_about_a_place_is_not_said_again() -> None:
    document = read("f", b"a: on\nb: x\n", {}, {})
    lines = [str(problem) for problem in document.located([Finding(("b",), "!"), Finding(("a",), "!")])]
    assert [line[:6] for line in lines] == ["f:1:4:", "f:2:4:"]
    assert "ambiguous" in lines[0]
