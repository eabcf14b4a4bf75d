from __future__ import annotations

from support.choosing import Asking, backend, built

from txlb.core.algorithms import factory_for
from txlb.core.algorithms.consistent_hash import ConsistentHash
from txlb.core.algorithms.ip_hash import IpHash
from txlb.core.algorithms.round_robin import RoundRobin
from txlb.core.model import AlgorithmSpec

MEMBERS = [backend(f"b{index}") for index in range(7)]


def test_it_is_consistent_hash_by_client_address() -> None:
    one, other = built(IpHash(), MEMBERS), built(ConsistentHash("client_ip"), MEMBERS)
    for number in range(200):
        asking = Asking(f"10.0.0.{number}", path=f"/{number}")
        assert one.pick(asking, []) is other.pick(asking, [])


def test_ports_and_paths_do_not_matter() -> None:
    algorithm = built(IpHash(), MEMBERS)
    asking = [Asking("192.0.2.7", path=f"/{number}") for number in range(20)]
    for number, one in enumerate(asking):
        one.client_port = number
    assert len({algorithm.pick(one, []) for one in asking}) == 1


def test_prefixes_are_options() -> None:
    algorithm = factory_for(AlgorithmSpec("ip_hash", (("ipv4_prefix", 24),)))()
    built(algorithm, MEMBERS)
    assert len({algorithm.pick(Asking(f"192.0.2.{number}"), []) for number in range(100)}) == 1


def test_clients_without_an_address_go_round() -> None:
    algorithm = built(IpHash(fallback=RoundRobin(0.0)), MEMBERS)
    assert [algorithm.pick(Asking(""), []) for _ in range(7)] == MEMBERS
