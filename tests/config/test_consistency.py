from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from txlb.config.consistency import backend_data, errors_of, rule_data
from txlb.config.load import load, parse
from txlb.core.model import RuleSpec, Snapshot

EXAMPLE = load(Path(__file__).parents[2] / "examples" / "http.yaml", {}).snapshot


def messages(snapshot: Snapshot) -> list[str]:
    return [finding.message for finding in errors_of(snapshot, {one.id for one in snapshot.backends})]


def test_a_valid_configuration_has_no_errors() -> None:
    assert messages(EXAMPLE) == []


def test_the_checks_are_those_of_the_file() -> None:
    listener, rule = EXAMPLE.listeners[0].id, EXAMPLE.rules[0]
    bad = replace(
        EXAMPLE,
        rules=(
            *EXAMPLE.rules,
            RuleSpec("x", ("nobody",), (listener,), host="x.test"),
            replace(rule, id="twin"),
        ),
    )
    found = messages(bad)
    assert "unknown backend nobody" in found[0]
    assert any("matches the same as" in message for message in found)


def test_a_rule_may_have_lost_every_backend() -> None:
    rules = tuple(replace(rule, backends=()) for rule in EXAMPLE.rules)
    assert messages(replace(EXAMPLE, rules=rules)) == []


def test_objects_as_data_give_themselves_again() -> None:
    data = {
        "listeners": [{"id": one.id, "bind": list(one.bind)} for one in EXAMPLE.listeners],
        "backends": [backend_data(one, EXAMPLE) for one in EXAMPLE.backends],
        "routing_rules": [rule_data(one, EXAMPLE) for one in EXAMPLE.rules],
    }
    again = parse(data).snapshot
    assert [one.id for one in again.backends] == [one.id for one in EXAMPLE.backends]
    assert again.rules == EXAMPLE.rules
