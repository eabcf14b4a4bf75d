from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.config import reader
from txlb.config.reader import MAX_DEPTH, read

WORDS = {"off": ("format",)}


def messages(text: str | bytes, **environ: str) -> list[str]:
    raw = text if isinstance(text, bytes) else text.encode()
    return [str(problem) for problem in read("f", raw, environ, WORDS).problems]


def data(text: str, **environ: str) -> object:
    document = read("f", text.encode(), environ, WORDS)
    assert not document.problems
    return document.data


def test_mappings_lists_and_scalars() -> None:
    text = "a: 1\nb: [x, {c: true}]\nd:\n  - null\n  - |\n    two\n    lines\n"
    assert data(text) == {"a": 1, "b": ["x", {"c": True}], "d": [None, "two\nlines\n"]}


def test_quoted_scalars_are_text() -> None:
    assert data('["1", \'on\', "012"]') == ["1", "on", "012"]


def test_keys_are_text() -> None:
    assert data("503: a\non: b\n") == {"503": "a", "on": "b"}


def test_a_byte_order_mark_is_skipped() -> None:
    assert data("\ufeffa: 1") == {"a": 1}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.text(
        st.characters(min_codepoint=32, exclude_characters="$\x7f", exclude_categories=["Cs", "Cc", "Cn"])
    ),
    lambda below: (
        st.lists(below, max_size=4) | st.dictionaries(st.text("abc", min_size=1), below, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values)
def test_json_reads_the_same(value: object) -> None:
    assert data(json.dumps(value, ensure_ascii=False)) == value


def test_a_duplicate_key_names_the_first() -> None:
    assert messages("a: 1\nb:\n  c: 1\n  c: 2\n") == ["f:4:3: b.c: duplicate key (first on line 3)"]


def test_ambiguous_scalars_say_where_and_what_instead() -> None:
    assert messages("a:\n- x\n- on\nb: 012\n") == [
        'f:3:3: a[1]: on is ambiguous in YAML: write true, or "on" for the text',
        "f:4:4: b: 012 is ambiguous in YAML: write a plain decimal number, or quote it as text",
    ]


def test_a_word_is_text_below_its_keys_only() -> None:
    assert data("format: off") == {"format": "off"}
    assert len(messages("id: off")) == 1
    assert len(messages("format: [off]")) == 1


def test_references_resolve_like_what_they_stand_for() -> None:
    assert data("a: ${P}\nb: '${P}'\nc: ${E:-}\n", P="80") == {"a": 80, "b": "80", "c": None}
    assert messages("a: ${P}", P="on")[0].startswith("f:1:4: a: on is ambiguous")
    assert messages("a: ${P}")[0].startswith("f:1:4: a: environment variable P is not set")


def test_anchors_and_aliases() -> None:
    assert data("a: &x {p: 1}\nb: *x\nc: &y z\nd: [*y]\n") == {
        "a": {"p": 1},
        "b": {"p": 1},
        "c": "z",
        "d": ["z"],
    }


def test_an_alias_points_to_where_its_value_is_written() -> None:
    document = read("f", b"a: &x\n  p: 1\nb: *x\n", {}, {})
    place = document.place
    assert place is not None
    assert place[1]["b"][1][1]["p"][0].line == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: *x", "f:1:4: a: no anchor &x"),
        ("a: &x [*x]", "f:1:8: a[0]: *x contains itself"),
        ("a: !!str 5", "f:1:4: a: tags are not supported (tag:yaml.org,2002:str)"),
        ("a: !python/object:os.system {}", "f:1:4: a: tags are not supported (!python/object:os.system)"),
        ("a: &x {p: 1}\nb: {<<: *x}", "f:2:5: b.<<: merge keys (<<) are not supported: write the keys out"),
        ("? [a]\n: b", "f:1:3: a key must be plain text"),
        ("a: 1\n---\nb: 2", "f:2:1: a second document: the configuration is one"),
    ],
)
def test_what_is_not_plain_data_is_refused(text: str, message: str) -> None:
    assert messages(text) == [message]


def test_billion_laughs_are_cut_short() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    (message,) = messages("\n".join(lines))
    assert "more than 1000000 values" in message


def test_depth_is_bounded() -> None:
    assert not messages("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert "nested deeper" in messages("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))[0]
    assert len(messages("[" * 100_000)) == 1
    assert len(messages("- " * 100_000)) == 1


def test_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_BYTES", 2**20)
    assert messages(b"#" * (2**20 + 1)) == ["f:1:1: the file is larger than 1 MiB"]


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        (b"a: x\nb: [1, 2\n", "f:3:1", "expected ',' or ']'"),
        (b"a:\n\tb: 1\n", "f:2:1", "a tab"),
        (b"a: {b: ${X}}\n", "f:1:9", "needs quotes"),
        (b"a: @x\n", "f:1:4", "needs quotes"),
        (b"a: *.example.com: x\n", "f:1", ""),
        ("b: ä\na: ü".encode() + b"\xff", "f:2:5", "not UTF-8 text (byte 0xff)"),
        (b"a: 1\nb: \x07", "f:2:4", "U+0007"),
        ("a: 1".encode("utf-16"), "f:1:1", "not UTF-8"),
    ],
)
def test_text_that_is_not_yaml_says_where(text: bytes, place: str, word: str) -> None:
    (message,) = messages(text)
    assert message.startswith(place)
    assert word in message


def test_every_problem_of_the_text_at_once() -> None:
    assert len(messages("a: on\na: 012\nb: ${X}\nc: !x y\n")) == 5


@given(
    st.binary(max_size=200) | st.text("ab:-[]{}&*!|>'\"#%@`,? \n\t$<=0123.~\\u", max_size=60).map(str.encode)
)
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    document = read("f", raw, {}, {})
    for problem in document.problems:
        assert problem.line >= 1
        assert problem.column >= 1
