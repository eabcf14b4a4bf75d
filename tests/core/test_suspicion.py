from __future__ import annotations

import itertools

import pytest

from txlb.core.suspicion import IN_A_ROW, MOST_PATIENCE, Doubt, is_overdue


def test_three_failures_in_a_row_of_two_clients_are_too_many() -> None:
    doubt = Doubt()
    assert [doubt.failed("10.0.0.1"), doubt.failed("10.0.0.2"), doubt.failed("10.0.0.1")] == [
        False,
        False,
        True,
    ]


def test_one_client_alone_never_is() -> None:
    doubt = Doubt()
    assert not any(doubt.failed("10.0.0.1") for _ in range(100 * IN_A_ROW))
    assert doubt.failed("10.0.0.2")


def test_a_good_answer_in_between_starts_anew() -> None:
    doubt = Doubt()
    doubt.failed("10.0.0.1")
    doubt.failed("10.0.0.2")
    doubt.answered()
    assert not any(doubt.failed("10.0.0.1") for _ in range(IN_A_ROW))


@pytest.mark.parametrize(
    ("asked_at", "siblings", "overdue"),
    [
        (0.0, 99.9, False),  # nothing is asked
        (99.6, 99.7, True),
        (99.6, 99.5, False),  # nobody answered anything since
        (99.8, 99.9, False),  # too early
    ],
)
def test_overdue_means_that_others_answer(asked_at: float, siblings: float, overdue: bool) -> None:
    assert is_overdue(asked_at, siblings, 0.3, 100.0) is overdue


def test_it_is_told_at_once_and_then_less_and_less_often() -> None:
    doubt = Doubt()
    told = [step for step in range(1, 400) if doubt.overdue(0.3, step / 10)]
    gaps = [after - before for before, after in itertools.pairwise(told)]
    assert told[0] == 1
    assert gaps[:3] == pytest.approx([3, 6, 12], abs=1)
    assert max(gaps) == pytest.approx(MOST_PATIENCE * 10, abs=1)


def test_once_it_answered_the_next_time_is_told_at_once() -> None:
    doubt = Doubt()
    assert doubt.overdue(0.3, 1.0) and not doubt.overdue(0.3, 1.1)
    doubt.timely()
    assert doubt.overdue(0.3, 1.2)
