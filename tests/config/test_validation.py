from __future__ import annotations

import pytest
from support.configuration import VALID, problem, problems

from txlb.config.entries import Backend
from txlb.config.validation import salvaged


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("timeouts: {conect: 1s}\n", "timeouts.conect: unknown key (did you mean connect?)"),
        ("timeouts:\n", "timeouts: must be a mapping (key: value), not empty"),
        ("timeouts: [1s]\n", "timeouts: must be a mapping (key: value), not a list"),
        ("limits: {head: big}\n", "limits.head: must be a size such as 512B, 64KiB or 10MiB, not 'big'"),
        ("frontends: []\n", "frontends: unknown key (did you mean listeners?)"),
        ("xyz: 1\n", "xyz: unknown key"),
        ("workers: 300\n", "workers: 300 is out of range: from 0 to 256"),
        (
            "access_log: {format: jsno}\n",
            "access_log.format: must be json, common or off, not 'jsno' (did you mean json?)",
        ),
        ("error_responses: []\n", "error_responses: must be a mapping (key: value), not a list"),
        (
            "error_responses: {503: {boddy: x, body: x}}\n",
            "error_responses.503.boddy: unknown key (did you mean body?)",
        ),
    ],
)
def test_messages(text: str, line: str) -> None:
    assert problem(text) == line


def test_unknown_keys_point_at_the_key_and_values_at_the_value() -> None:
    text = """\
        listeners:
          - {id: web, bind: "127.0.0.1:80"}
        backends:
          - id: web-1
            host: 10.0.0.1
            port: 80
            wieght: 3
          - id: web-2
            host: 10.0.0.2
            port: 99999
          - host: 10.0.0.3
            port: 80
          - just text
        routing_rules:
          - backends: web-1
    """
    assert problems(text) == [
        "7:5: backends[0].wieght: unknown key (did you mean weight?)",
        "10:11: backends[1].port: 99999 is out of range: from 1 to 65535",
        "11:5: backends[2].id: is missing",
        "13:5: backends[3]: must be a mapping (key: value), not 'just text'",
        "15:15: routing_rules[0].backends: must be a list, not 'web-1': write [web-1]",
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("maxconn", "max_connections"), ("address", "host"), ("name", "id"), ("Weight", "weight")],
)
def test_words_of_other_load_balancers_are_understood(written: str, meant: str) -> None:
    (line,) = problems(VALID.replace("port: 80}", f"port: 80, {written}: 5}}"))
    assert line.endswith(f"backends[0].{written}: unknown key (did you mean {meant}?)")


def test_a_short_list_is_not_reported_when_its_entries_are() -> None:
    (line,) = problems("listeners: [{id: web, bind: [nope]}]\n")
    assert "bind[0]" in line


@pytest.mark.parametrize("text", ["[]", "5", "text", "null", "- listeners"])
def test_the_whole_file_is_a_mapping(text: str) -> None:
    (line,) = problems(text)
    assert line.startswith("1:1: must be a mapping (key: value), not ")


def test_listeners_are_required() -> None:
    assert problems("workers: 1\n") == ["1:1: listeners: is missing"]
    assert problems("listeners: []\n") == ["1:12: listeners: must have at least one entry"]


def test_salvaging_keeps_what_is_valid() -> None:
    model, bad = salvaged(Backend, {"id": "a", "host": "10.0.0.1", "port": 80, "weight": -1, "x": 1})
    assert model is not None
    assert (model.id, model.weight) == ("a", 1)
    assert bad == {"weight", "x"}
    assert salvaged(Backend, {"id": "a"})[0] is None
    assert salvaged(Backend, None)[0] is None
