from __future__ import annotations

import pytest

from benchmarks.compare import (
    Sample,
    best_peer,
    beyond,
    column,
    in_turn,
    paired_difference,
    paired_ratio,
    spread,
    whole,
)


def sample(cpu_us: float, machine_us: float = 0.0) -> Sample:
    return Sample(
        units=1000, seconds=2.0, cpu_us=cpu_us, machine_us=machine_us, p50_us=1, p99_us=2, peak_rss=1 << 20
    )


def test_ratio_is_taken_within_each_round():
    # the third round was slow for both: the ratio of the medians would be 1.5, that of the rounds is 1
    assert paired_ratio([10, 30, 40], [10, 20, 40]) == 1.0
    assert paired_ratio([10, 20], [20, 20]) == 0.75


def test_rounds_must_match():
    with pytest.raises(ValueError):
        paired_ratio([1, 2], [1])


def test_difference_is_taken_within_each_round():
    assert paired_difference([5, 50, 7], [4, 47, 5]) == 2


def test_spread_is_relative_to_the_median():
    assert spread([9, 10, 12]) == pytest.approx(0.3)
    assert spread([0, 0]) == 0.0


def test_best_peer_is_the_one_with_the_lowest_median():
    costs = {"txlb": [1.0], "haproxy": [30.0, 20.0, 25.0], "nginx": [10.0, 26.0, 27.0]}
    assert best_peer(costs, ["haproxy", "nginx", "envoy"]) == "haproxy"
    assert best_peer({"txlb": [1.0]}, ["haproxy", "nginx"]) is None


def test_contenders_run_in_turn():
    order: list[str] = []

    def run(label: str) -> Sample:
        order.append(label)
        return sample(float(len(order)))

    series = in_turn(["a", "b"], 3, run)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert column(series["b"], "cpu_us") == [2.0, 4.0, 6.0]


def test_machine_cost_is_what_the_direct_path_does_not_need():
    ours, direct = [sample(1, 50), sample(1, 70)], [sample(0, 20), sample(0, 30)]
    assert beyond(ours, direct) == [30, 40]
    assert whole(ours, direct) == [50, 70]


def test_rate_is_units_per_second():
    assert sample(1).rate == 500
