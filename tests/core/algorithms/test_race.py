from __future__ import annotations

from collections import Counter

import pytest
from support.choosing import backend

from txlb.core.algorithms import race as module
from txlb.core.algorithms.race import RaceTable, fill, next_number, size_bits
from txlb.core.backend import Backend


def table_of(members: list[Backend]) -> RaceTable:
    table = RaceTable()
    for _ in table.build(members):
        pass
    return table


def members_of(weights: list[int]) -> list[Backend]:
    return [backend(f"b{index}", weight) for index, weight in enumerate(weights)]


def slots(table: RaceTable) -> list[str]:
    owners = [table.owner(number) for number in range(len(table._slots))]
    return [owner.id for owner in owners if owner is not None]


def test_an_empty_table_has_no_owners() -> None:
    assert RaceTable().owner(5) is None
    assert table_of([]).owner(5) is None


@pytest.mark.parametrize("weights", [[1, 1], [7, 3], [1] * 10, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]])
def test_shares_of_the_slots_follow_the_weights(weights: list[int]) -> None:
    counts = Counter(slots(table_of(members_of(weights))))
    for index, weight in enumerate(weights):
        off = counts[f"b{index}"] / module.LEAST_SLOTS - weight / sum(weights)
        assert abs(off) < 0.005


def test_a_weight_that_changed_moves_the_difference_only() -> None:
    members = members_of([4] * 8)
    before = slots(table_of(members))
    members[0].weight = 3
    after = slots(table_of(members))
    moved = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    assert 0.02 < len(moved) / len(before) < 0.05  # 1/8 - 3/31 = 2.8 %
    assert sum(one != "b0" for one, _ in moved) < 0.01 * len(before)


@pytest.mark.parametrize("count", [2047, 2048, 2049, 4095, 4096, 4097])
def test_the_table_grows_slot_by_slot(count: int) -> None:
    table = table_of(members_of([1] * count))
    assert len(table._slots) == max(module.LEAST_SLOTS, count * module.SLOTS_EACH)
    numbers = range(0, 1 << 32, 99_999_989)
    bigger = table_of(members_of([1] * (count + 1)))
    owners = [(table.owner(number), bigger.owner(number)) for number in numbers]
    assert all(one is not None and other is not None for one, other in owners)
    moved = sum(one.id != other.id for one, other in owners if one is not None and other is not None)
    assert moved <= 3


def test_slots_that_nobody_reached_follow_the_next() -> None:
    a, b = members_of([1, 1])
    owners = [None, a, None, None, b, None]
    assert fill(owners, 3, 6, a) is b
    assert owners == [None, a, None, b, b, a]
    assert fill(owners, 0, 3, b) is a
    assert owners == [a, a, b, b, b, a]


def test_every_slot_has_an_owner() -> None:
    assert len(slots(table_of(members_of([1, 2, 3])))) == module.LEAST_SLOTS


def test_it_is_built_in_slices() -> None:
    for count in (2, 2000):
        steps = sum(1 for _ in RaceTable().build(members_of([1] * count)))
        assert steps >= module.VISITS * module.LEAST_SLOTS / module.SLICE - 1


def test_until_it_is_built_it_is_empty() -> None:
    table = RaceTable()
    building = table.build(members_of([1, 1]))
    next(building)
    assert table.owner(1) is None


def test_bits() -> None:
    for size in (1, 2, 3, 65535, 65536, 65537):
        bits = size_bits(size)
        assert 1 << (bits - 1) <= size < 1 << bits


def test_keys_that_must_go_elsewhere_go_far() -> None:
    assert len({next_number(number) & 1023 for number in range(100_000)}) == 1024
    assert all(0 <= next_number(number) < 1 << 32 for number in (0, 1, (1 << 32) - 1))
