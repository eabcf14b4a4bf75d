from __future__ import annotations

from txlb.core import outcome


def test_names_are_in_the_order_of_the_numbers() -> None:
    numbers = {name: value for name, value in vars(outcome).items() if isinstance(value, int)}
    assert {name.lower(): value for name, value in numbers.items()} == {
        name: number for number, name in enumerate(outcome.NAMES)
    }


def test_what_counts_as_a_failure() -> None:
    failures = {outcome.NAMES[number] for number in range(9) if outcome.is_failure(number)}
    assert failures == {
        "connect_refused",
        "connect_timeout",
        "connect_failed",
        "reset",
        "timeout",
        "bad_response",
    }
    connect = {outcome.NAMES[number] for number in range(9) if outcome.is_connect_failure(number)}
    assert connect == {"connect_refused", "connect_timeout", "connect_failed"}
