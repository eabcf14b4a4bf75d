"""`txlb.forwarding.udp.flow`: a flow's datagrams, its backend, its end."""

from __future__ import annotations

import pytest
from support.datagrams import received, udp_network

from txlb.core import outcome as outcomes
from txlb.core.backend import Backend
from txlb.forwarding.udp.flow import HELD


def outcomes_of(backend: Backend) -> tuple[int, int]:
    """Failed connects and time-outs."""
    return backend.connect_failures, backend.timeouts


def test_what_a_client_sends_goes_to_one_backend_and_answers_come_back() -> None:
    with udp_network(2) as udp:
        one, other = udp.client(), udp.client()
        assert udp.ask(one, b"a") == [b"re:a"]
        assert udp.ask(one, b"b") == [b"re:b"]
        assert udp.ask(other, b"c") == [b"re:c"]
        assert [backend.requests for backend in udp.backends] == [1, 1]  # flows, not datagrams
        assert udp.listener.connections == 2
        assert (udp.listener.datagrams_in, udp.listener.datagrams_out) == (3, 3)
        assert (udp.listener.bytes_in, udp.listener.bytes_out) == (3, 12)


@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 65507])
def test_datagrams_of_any_size_pass_whole_in_both_directions(size: int) -> None:
    with udp_network() as udp:
        client = udp.client()
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        udp.send(client, data)
        ((got, flow),) = received(udp.sockets[0])
        assert got == data
        udp.sockets[0].sendto(data, flow)
        udp.net.settle()
        assert received(client) == [(data, udp.address)]


def test_many_answers_and_many_questions_keep_their_order() -> None:
    with udp_network() as udp:
        client = udp.client()
        sent = [b"%d" % number for number in range(200)]
        for data in sent:
            client.sendto(data, udp.address)
        udp.net.settle()
        got = received(udp.sockets[0])
        assert [data for data, _ in got] == sent
        for data, flow in got:
            udp.sockets[0].sendto(data, flow)
        udp.net.settle()
        assert [data for data, _ in received(client)] == sent


def test_a_flow_ends_at_once_when_every_question_is_answered() -> None:
    with udp_network(max_responses=1) as udp:
        client = udp.client()
        udp.send(client, b"A?", b"AAAA?")  # what resolvers do: two at a time from one port
        first, second = received(udp.sockets[0])
        udp.sockets[0].sendto(b"A", first[1])
        udp.net.settle()
        assert udp.listener.connections == 1
        udp.sockets[0].sendto(b"AAAA", second[1])
        udp.net.settle()
        assert udp.listener.connections == 0
        assert [data for data, _ in received(client)] == [b"A", b"AAAA"]
        (line,) = udp.logged()
        assert (line["datagrams_in"], line["datagrams_out"], line["termination"]) == (2, 2, "--")
        assert (line["backend"], line["tries"], line["reason"]) == ("b0", 1, None)


def test_without_answers_expected_each_datagram_is_balanced_by_itself() -> None:
    with udp_network(2, max_responses=0) as udp:
        client = udp.client()
        udp.send(client, *[b"line %d" % number for number in range(10)])
        assert [len(received(sock)) for sock in udp.sockets] == [5, 5]
        assert udp.listener.connections == 0
        assert len(udp.logged()) == 10


def test_a_flow_ends_when_nothing_came_either_way_for_udp_idle() -> None:
    with udp_network(idle=3.0) as udp:
        client = udp.client()
        assert udp.ask(client, b"a") == [b"re:a"]
        udp.elapse(2.0)
        assert udp.ask(client, b"b") == [b"re:b"]
        udp.elapse(2.0)
        assert udp.listener.connections == 1
        udp.elapse(2.0)
        assert udp.listener.connections == 0
        (line,) = udp.logged()
        assert (line["termination"], line["reason"]) == ("--", "flow_idle")
        assert outcomes_of(udp.backends[0]) == (0, 0)


def test_answers_alone_keep_a_flow() -> None:
    with udp_network(idle=3.0) as udp:
        client = udp.client()
        udp.send(client, b"subscribe")
        ((_, flow),) = received(udp.sockets[0])
        for _ in range(4):
            udp.elapse(2.0)
            udp.sockets[0].sendto(b"news", flow)
            udp.net.settle()
        assert len(received(client)) == 4


def test_silence_is_a_backends_failure_only_where_an_answer_is_expected() -> None:
    for most, timeouts in ((None, 0), (1, 1), (0, 0)):
        with udp_network(idle=2.0, max_responses=most) as udp:
            udp.send(udp.client(), b"?")
            udp.elapse(3.0)
            assert udp.listener.connections == 0
            assert outcomes_of(udp.backends[0]) == (0, timeouts)


def test_a_first_datagram_that_is_refused_goes_to_another_backend() -> None:
    with udp_network(2) as udp:
        udp.sockets[0].close()
        clients = [udp.client() for _ in range(4)]
        for client in clients:
            assert udp.ask(client, b"?") == [b"re:?"]
        assert udp.backends[0].connect_failures == 1  # then it was avoided
        assert udp.backends[0].avoid_until > udp.net.loop.now
        assert [backend.active_connections for backend in udp.backends] == [0, 4]


def test_a_datagram_beyond_what_is_held_is_lost_with_its_backend_but_the_next_one_is_not() -> None:
    with udp_network(2) as udp:
        udp.sockets[0].close()
        clients = [udp.client() for _ in udp.backends]
        heard = [udp.ask(client, b"x" * (HELD + 1)) for client in clients]
        assert sorted(map(len, heard)) == [0, 1]
        assert [udp.ask(client, b"y") for client in clients] == [[b"re:y"]] * 2


def test_a_backend_that_dies_later_loses_its_flows_to_another_with_their_next_datagram() -> None:
    with udp_network(2) as udp:
        (one,), (other,) = udp.clients_by_backend(2)
        udp.sockets[0].close()
        udp.send(one, b"lost")  # nobody can know yet
        assert udp.ask(one, b"c") == [b"re:c"]
        assert udp.ask(other, b"d") == [b"re:d"]
        assert [backend.active_connections for backend in udp.backends] == [0, 2]
        assert outcomes_of(udp.backends[0]) == (1, 0)


def test_what_one_flow_learned_of_a_dead_backend_spares_the_others_a_loss() -> None:
    with udp_network(2) as udp:
        mine, others = udp.clients_by_backend(6)
        udp.elapse(1.5)
        udp.sockets[0].close()
        udp.send(mine[0], b"lost")
        for client in [*mine, *others]:
            assert udp.ask(client, b"b") == [b"re:b"]
        assert outcomes_of(udp.backends[0]) == (1, 0)


def test_when_no_backend_is_left_datagrams_are_dropped_and_nothing_spins() -> None:
    with udp_network(2) as udp:
        for sock in udp.sockets:
            sock.close()
        client = udp.client()
        udp.send(client, b"?")
        assert [outcomes_of(backend) for backend in udp.backends] == [(1, 0), (1, 0)]
        assert udp.listener.dropped_backend == 1
        udp.send(client, b"?")
        assert udp.listener.dropped_backend == 2
        assert udp.ask(client, b"?") == []  # and txlb itself says nothing
        udp.configure(udp.listener_udp(), 1.0)
        udp.elapse(3.0)
        (line,) = udp.logged()
        assert (line["termination"], line["reason"], line["tries"]) == ("SC", "connect_refused", 6)


def test_a_dead_backend_that_is_the_only_one_gets_every_next_datagram_and_serves_when_it_is_back() -> None:
    with udp_network() as udp:
        port = udp.backends[0].port
        udp.sockets[0].close()
        client = udp.client()
        udp.send(client, b"?")
        udp.sockets[0] = udp.backend_socket(port)
        assert udp.ask(client, b"?") == [b"re:?"]
        assert udp.ask(client, b"!") == [b"re:!"]
        assert udp.backends[0].requests == 2


def test_an_unhealthy_backends_flows_move_and_those_of_a_draining_one_stay() -> None:
    with udp_network(2) as udp:
        (one,), (other,) = udp.clients_by_backend(2)
        udp.backends[0].healthy = False
        udp.backends[1].drained = True
        udp.pool.rebuild()
        assert udp.ask(other, b"c") == [b"re:c"]
        assert udp.ask(one, b"d") == [b"re:d"]  # one that drains is better than one that is ill
        assert [backend.active_connections for backend in udp.backends] == [0, 2]
        assert outcomes_of(udp.backends[0]) == (0, 0)


def test_a_flow_stays_where_it_is_while_nobody_is_better_and_looks_again_later() -> None:
    with udp_network(2) as udp:
        (one,), (other,) = udp.clients_by_backend(2)
        for backend in udp.backends:
            backend.healthy = False
        udp.pool.rebuild()
        assert udp.ask(one, b"a") == [b"re:a"]
        assert udp.ask(other, b"b") == [b"re:b"]
        assert [backend.active_connections for backend in udp.backends] == [1, 1]
        udp.backends[1].healthy = True
        udp.pool.rebuild()
        udp.elapse(1.5)
        assert udp.ask(one, b"c") == [b"re:c"]
        assert [backend.active_connections for backend in udp.backends] == [0, 2]


def test_a_backend_that_moved_is_followed() -> None:
    with udp_network() as udp:
        client = udp.client()
        udp.ask(client, b"a")
        udp.sockets.append(udp.backend_socket(0))
        new = udp.sockets[1].getsockname()[1]
        udp.backends[0].update("127.0.0.1", "127.0.0.1", new, 1, None)
        udp.send(client, b"b")
        assert [data for data, _ in received(udp.sockets[1])] == [b"b"]


def test_leases_tell_algorithms_how_it_went() -> None:
    with udp_network(max_responses=1) as udp:
        heard: list[int] = []
        udp.observe(heard)
        client = udp.client()
        udp.ask(client, b"?")
        udp.sockets[0].close()
        udp.send(client, b"?")
        assert heard == [outcomes.OK, outcomes.CONNECT_REFUSED]


def test_an_ipv6_client_and_an_ipv6_backend() -> None:
    with udp_network(bind="[::1]:0") as udp:
        assert udp.ask(udp.client("::1"), b"?") == [b"re:?"]
        udp.port.stop()
        udp.port.end()
        (line,) = udp.logged()
        assert line["client_ip"] == "::1"


def test_when_a_drain_is_over_the_next_datagram_goes_elsewhere() -> None:
    with udp_network(2) as udp:
        (one,), _ = udp.clients_by_backend(2)
        udp.backends[0].drained = True
        udp.pool.rebuild()
        assert udp.ask(one, b"a") == [b"re:a"]
        assert udp.backends[0].active_connections == 1  # it keeps its clients until then
        for link in udp.links():
            if link.flow.backend_id() == "b0":
                link.flow.leave_backend()
        assert udp.backends[0].active_connections == 0
        assert udp.ask(one, b"b") == [b"re:b"]
        assert udp.backends[1].active_connections == 2
        assert udp.listener.connections == 2


def test_silence_is_not_laid_to_the_account_of_clients_that_may_be_forged() -> None:
    with udp_network(idle=2.0, max_responses=1) as udp:
        for number in range(6):
            udp.send(udp.client(f"127.0.0.{number + 1}"), b"?")
        udp.elapse(3.0)
        assert outcomes_of(udp.backends[0]) == (0, 6)
        assert udp.backends[0].avoid_until <= udp.net.loop.now  # it still gets its traffic
