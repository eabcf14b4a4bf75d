from __future__ import annotations

from txlb.core.answers import Answers
from txlb.core.latency import BUCKETS, bucket_of


def codes(answers: Answers) -> tuple[int, ...]:
    return (answers.code_1xx, answers.code_2xx, answers.code_3xx, answers.code_4xx, answers.code_5xx)


def test_answers_are_counted_by_class() -> None:
    answers = Answers()
    for status in (101, 200, 204, 299, 301, 404, 499, 500, 599):
        answers.count_answer(status, 1, 0)
    assert codes(answers) == (1, 3, 1, 2, 2)


def test_durations_go_into_their_bucket_and_the_sum() -> None:
    answers = Answers()
    for us in (400, 3000, 3000, 99_000_000):
        answers.count_answer(200, us, bucket_of(us))
    assert answers.latency == [1, 0, 0, 2] + [0] * 12 + [1]
    assert answers.latency_sum_us == 99_006_400


def test_a_change_is_flagged_for_the_flush() -> None:
    answers = Answers()
    answers.touched = False
    answers.count_answer(200, 1, 0)
    assert answers.touched


def test_restored_counts_go_on() -> None:
    answers = Answers()
    answers.restore(7, (1, 2, 3, 4, 5), [1] * BUCKETS, 1000)
    answers.count_answer(503, 10, 0)
    assert answers.requests == 7
    assert codes(answers) == (1, 2, 3, 4, 6)
    assert answers.latency == [2] + [1] * (BUCKETS - 1)
    assert answers.latency_sum_us == 1010
