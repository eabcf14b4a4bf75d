from __future__ import annotations

import re

import pytest

from txlb.config import kinds
from txlb.config.kinds import Kind, choice, nullable, reserved, size, whole


def refused(kind: Kind, value: object) -> str:
    with pytest.raises(ValueError) as raised:
        kind.parse(value)
    return str(raised.value)


def test_whole_numbers() -> None:
    port = whole(1, 65535)
    assert port.parse(80) == 80
    assert port.parse("80") == 80  # JSON with a reference
    assert refused(port, 0) == "0 is out of range: from 1 to 65535"
    assert refused(port, "65536") == "65536 is out of range: from 1 to 65535"
    for wrong in ("", "x", "-1", "1.0", "\u0663", 1.0, True, None, [1]):
        assert refused(port, wrong).startswith("must be a whole number from 1 to 65535, not ")


def test_sizes_have_bounds() -> None:
    assert size(64, 4096).parse("1KiB") == 1024
    assert refused(size(64, 4096), "8KiB") == "8KiB is out of range: from 64B to 4KiB"


def test_choices_suggest_and_name_what_comes_later() -> None:
    kind = choice("http", "https", later=("tcp",))
    assert kind.parse("http") == "http"
    assert refused(kind, "tcp") == "tcp is not supported yet"
    assert refused(kind, "HTTP") == "must be http or https, not 'HTTP' (did you mean http?)"
    assert refused(kind, 5) == "must be http or https, not 5"
    assert refused(choice("1.2", "1.3"), 1.2) == 'must be text, in quotes: "1.2"'


def test_nullable_kinds_have_a_word_for_nothing() -> None:
    assert nullable(kinds.ID).parse(None) is None
    automatic = nullable(whole(0, 9), "auto")
    assert automatic.parse("auto") is None
    assert automatic.parse(3) == 3
    assert automatic.show(None) == "auto"
    refused(automatic, "never")


def test_reserved_kinds_accept_their_default_in_any_spelling() -> None:
    kind = reserved(kinds.DURATION, "60s")
    assert kind.parse("60s") == kind.parse("1m") == 60
    assert refused(kind, "61s") == "is not supported yet (only 60s is)"
    assert "has no unit" in refused(kind, 60)
    assert not kind.works


def test_reserved_defaults_are_compared_by_type_too() -> None:
    kind = reserved(kinds.ANYTHING, False)
    assert kind.parse(False) is False
    for wrong in (0, None, True, "false", {"cookie": "x"}):
        assert "is not supported yet" in refused(kind, wrong)
    assert kinds.NOTHING.parse(None) is None
    for wrong in ({}, [], "", 0, {"ca": "x"}):
        assert "is not supported yet" in refused(kinds.NOTHING, wrong)


def test_texts() -> None:
    assert kinds.FILE.parse("a/b") == "a/b"
    assert refused(kinds.FILE, "").endswith("is not a path")
    assert refused(kinds.FILE, "a\0b").endswith("is not a path")
    assert kinds.BODY.parse("x" * 65536)
    assert refused(kinds.BODY, "ä" * 32769) == "is longer than 64KiB"
    assert kinds.CONTENT_TYPE.parse("text/html; charset=utf-8")
    for wrong in ("text", "text/html\r\nX: y", "text/ä", " text/html"):
        assert "is not a content type" in refused(kinds.CONTENT_TYPE, wrong)


def test_schemas_accept_references_in_place_of_values() -> None:
    for kind in (kinds.DURATION, whole(1, 5), size(0, 9), kinds.PERCENT, kinds.ID):
        assert re.search(kind.schema["pattern"], "${NAME:-5}")
