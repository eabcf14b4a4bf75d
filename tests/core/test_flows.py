"""`txlb.core.flows`: bounds, order and expiry, against a model that is obviously right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from txlb.core.flows import Flow, FlowTable, source_of


def flow_of(home: dict[object, Flow], key: object, now: float, source: str = "s") -> Flow:
    return Flow(home, key, source, now)


def fill(table: FlowTable, home: dict[object, Flow], keys: range, now: float = 0.0) -> None:
    for key in keys:
        table.add(flow_of(home, key, now, str(key)))


def test_the_least_recently_used_one_is_the_victim_and_only_when_the_table_is_full():
    table, home = FlowTable(3, 9, 60.0), dict[object, Flow]()
    fill(table, home, range(2))
    assert table.victim() is None
    fill(table, home, range(2, 3))
    table.touch(home[0], 1.0)
    assert table.victim() is home[1]


def test_a_flood_of_new_flows_displaces_itself_not_those_that_have_settled():
    table, home = FlowTable(100, 9, 60.0), dict[object, Flow]()
    fill(table, home, range(60))
    for key in range(60):
        table.settle(home[key])
    for key in range(1000, 3000):
        victim = table.victim()
        if victim is not None:
            table.remove(victim)
        table.add(flow_of(home, key, 1.0, str(key)))
    assert [key for key in range(60) if key not in home] == []
    assert len(table) == 100


def test_new_clients_have_a_quarter_of_a_table_that_settled_ones_fill():
    table, home = FlowTable(100, 9, 60.0), dict[object, Flow]()
    fill(table, home, range(100))
    for key in range(100):
        table.settle(home[key])
    for key in range(1000, 1050):
        victim = table.victim()
        assert victim is not None
        table.remove(victim)
        table.add(flow_of(home, key, 1.0, str(key)))
    assert table.fresh.count == 26  # one above: then the next fresh one goes
    assert table.victim() is table.fresh.oldest


def test_a_source_at_its_limit_is_refused_until_one_of_its_flows_ends():
    table, home = FlowTable(100, 2, 60.0), dict[object, Flow]()
    for key in (1, 2):
        assert table.admits("a")
        table.add(flow_of(home, key, 0.0, "a"))
    assert not table.admits("a")
    assert table.admits("b")
    assert table.remove(home[1])
    assert table.admits("a")


def test_a_flow_leaves_once():
    table, home = FlowTable(100, 2, 60.0), dict[object, Flow]()
    one = flow_of(home, 1, 0.0)
    table.add(one)
    assert table.remove(one)
    assert not table.remove(one)
    assert (home, table.sources, len(table)) == ({}, {}, 0)


def test_what_has_left_is_not_brought_back_by_a_late_touch():
    table, home = FlowTable(100, 2, 60.0), dict[object, Flow]()
    one = flow_of(home, 1, 0.0)
    table.add(one)
    table.remove(one)
    table.touch(one, 1.0)
    table.settle(one)
    assert len(table) == 0


def test_use_in_either_order_keeps_a_flow_and_idleness_ends_it():
    table, home = FlowTable(100, 9, 10.0), dict[object, Flow]()
    fill(table, home, range(3))
    table.settle(home[2])
    table.touch(home[1], 5.0)
    assert table.next_expiry() == 10.0
    assert table.expired(9.9, 9) == []
    assert table.expired(10.0, 9) == [home[0], home[2]]
    assert table.expired(10.0, 1) == [home[0]]
    for flow in table.expired(10.0, 9):
        table.remove(flow)
    assert table.next_expiry() == 15.0
    table.remove(home[1])
    assert table.next_expiry() == 0.0


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002"),
        ("2001:db8:1:2::", "2001:0db8:0001:0002"),
        ("fe80::1%eth0", "fe80:0000:0000:0000"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ],
)
def test_a_source_is_an_ipv4_address_or_an_ipv6_network(address: str, source: str):
    assert source_of(address) == source


class Machine(RuleBasedStateMachine):
    """The table beside two plain lists."""

    @initialize(most=st.integers(1, 8), per_source=st.integers(1, 4))
    def begin(self, most: int, per_source: int) -> None:
        self.table = FlowTable(most, per_source, 10.0)
        self.home: dict[object, Flow] = {}
        self.fresh: list[Flow] = []
        self.settled: list[Flow] = []
        self.now = 0.0
        self.keys = 0

    def forget(self, flow: Flow) -> None:
        for order in (self.fresh, self.settled):
            if flow in order:
                order.remove(flow)

    @rule(source=st.sampled_from("abc"))
    def add(self, source: str) -> None:
        mine = sum(flow.source == source for flow in self.fresh + self.settled)
        assert self.table.admits(source) == (mine < self.table.max_per_source)
        if not self.table.admits(source):
            return
        victim = self.table.victim()
        if len(self.fresh) + len(self.settled) < self.table.max_flows:
            assert victim is None
        else:
            crowded = len(self.fresh) * 4 > self.table.max_flows or not self.settled
            assert victim is (self.fresh if crowded else self.settled)[0]
            self.table.remove(victim)
            self.forget(victim)
        flow = Flow(self.home, self.keys, source, self.now)
        self.keys += 1
        self.table.add(flow)
        self.fresh.append(flow)

    @precondition(lambda self: self.home)
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        flow = self.home[data.draw(st.sampled_from(sorted(self.home)))]
        self.table.touch(flow, self.now)
        order = self.fresh if flow in self.fresh else self.settled
        order.remove(flow)
        order.append(flow)

    @precondition(lambda self: self.home)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        flow = self.home[data.draw(st.sampled_from(sorted(self.home)))]
        self.table.touch(flow, self.now)
        self.table.settle(flow)
        self.forget(flow)
        self.settled.append(flow)

    @precondition(lambda self: self.home)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        flow = self.home[data.draw(st.sampled_from(sorted(self.home)))]
        assert self.table.remove(flow)
        self.forget(flow)

    @rule(seconds=st.floats(0.0, 12.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        due = [flow for flow in self.fresh + self.settled if flow.used + 10.0 <= self.now]
        assert self.table.expired(self.now, 99) == due
        for flow in due:
            self.table.remove(flow)
            self.forget(flow)

    @invariant()
    def agrees(self) -> None:
        for order, model in ((self.table.fresh, self.fresh), (self.table.settled, self.settled)):
            found, flow = [], order.oldest
            while flow is not None:
                found.append(flow)
                flow = flow.newer
            assert found == model
            assert order.count == len(model)
        assert len(self.table) == len(self.home) <= self.table.max_flows
        assert sum(self.table.sources.values()) == len(self.table)
        left = [flow.used + 10.0 for flow in self.fresh + self.settled]
        assert self.table.next_expiry() == (min(left) if left else 0.0)


TestAgainstModel = Machine.TestCase
TestAgainstModel.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


@given(st.ip_addresses(v=6))
def test_any_ipv6_address_has_a_source(address: object):
    assert len(source_of(str(address))) <= 19
