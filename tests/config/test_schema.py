from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.configuration import VALID

from txlb.config.load import WORDS
from txlb.config.reader import read
from txlb.config.schema import schema

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


class AsWritten(dict[str, str]):
    """An environment in which every reference stays as editors see it."""

    def get(self, name: str, default: Any = None) -> str:
        return f"${{{name}}}"


def accepted(text: str) -> bool:
    document = read("f", text.encode(), AsWritten(), WORDS)
    assert not document.problems
    return Draft202012Validator(schema()).is_valid(document.data)


def properties(part: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        yield from part.get("properties", {}).items()
        for below in part.values():
            yield from properties(below)


def test_it_is_a_schema_of_2020_12() -> None:
    Draft202012Validator.check_schema(schema())
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_key_has_a_description() -> None:
    entries = list(properties(schema()))
    assert len(entries) > 70
    assert [name for name, entry in entries if not entry.get("description")] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_fit(path: Path) -> None:
    assert accepted(path.read_text(encoding="utf-8"))


def test_defaults_and_examples_fit_their_own_schema() -> None:
    whole = schema()
    for name, entry in properties(whole):
        rules = {"$defs": whole["$defs"], **entry}
        for value in [*entry.get("examples", []), *([entry["default"]] if "default" in entry else [])]:
            if value is not None:
                assert Draft202012Validator(rules).is_valid(value), (name, value)


@pytest.mark.parametrize(
    "addition",
    [
        "",
        "limits: {head: 9KiB, fields: 5}\n",
        "timeouts: {connect: '${T}'}\n",
        "workers: auto\n",
        "workers: ${N}\n",
    ],
)
def test_what_is_right_fits(addition: str) -> None:
    assert accepted(addition + VALID)


@pytest.mark.parametrize(
    "addition",
    [
        "bogus: 1\n",
        "timeouts: {connect: 5}\n",
        "timeouts: {connect: ''}\n",
        "limits: {head: 9KB}\n",
        "limits: {head: 1MiB, fields: 0}\n",
        "secret_file: []\n",
        "workers: some\n",
        "error_responses: {200: {body: x}}\n",
        "error_responses: {503: {}}\n",
        "access_log: {format: xml}\n",
        "metrics: {bind: []}\n",
    ],
)
def test_what_is_wrong_does_not_fit(addition: str) -> None:
    assert not accepted(addition + VALID)


def test_a_reference_fits_wherever_a_word_does() -> None:
    words = VALID.replace(
        'bind: "127.0.0.1:8080"', 'bind: "${B}", protocol: "${P}", via: "${V}", sni: "${S}"'
    )
    words = words.replace("port: 80", "port: 80, proxy_protocol: '${V}', health_check: '${H}'")
    words = words.replace("- backends: [web-1]", "- {backends: [web-1], session_sticky: '${S}'}")
    assert accepted(words + "access_log: {format: '${F}'}\n")
    assert not accepted(words.replace("${P}", "ftp"))
    assert not accepted(words.replace("${S}", "true"))  # the word in quotes


def test_a_listener_has_a_bind() -> None:
    assert accepted(VALID.replace('"127.0.0.1:8080"', '["127.0.0.1:8080"]'))
    assert not accepted(VALID.replace('"127.0.0.1:8080"', "[]"))


def test_keys_to_come_say_so() -> None:
    rule = schema()["$defs"]["RoutingRule"]
    assert rule["properties"]["fallback"]["description"].endswith("Not supported yet.")
