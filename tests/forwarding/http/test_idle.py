from __future__ import annotations

from support.dataplane import Peer, Stage, get, ok, stage


def kept(here: Stage, count: int, origin: int = 0) -> list[Peer]:
    """So many connections idle, in the order in which they became so; the test's ends of them."""
    clients = [here.client() for _ in range(count)]
    backends = [here.asked(client, get(f"/{index}"), origin) for index, client in enumerate(clients)]
    for backend in backends:
        backend.take()
        backend.send(ok(b"x"))
        here.net.settle()
    for client in clients:
        client.reset()
    here.net.settle()
    return backends


def open_ones(backends: list[Peer]) -> list[bool]:
    return [not backend.ending for backend in backends]


def test_the_one_used_last_is_reused_first() -> None:
    with stage() as here:
        backends = kept(here, 3)
        client = here.client()
        for index in (2, 2, 2):
            backend = here.asked(client, get())
            assert backend is backends[index]
            backend.take()
            backend.send(ok(b"x"))
            here.net.settle()
        others = [here.client() for _ in range(2)]
        assert [here.asked(other, get()) for other in others] == [backends[2], backends[1]]
        for backend in backends[1:]:
            backend.send(ok(b"x"))
        here.net.settle()


def test_no_more_wait_than_the_limit_per_backend() -> None:
    with stage() as here:
        here.sources.idle.max_per_backend = 2
        backends = kept(here, 4)
        assert here.backend.idle == here.sources.idle.total == 2
        assert open_ones(backends) == [True, True, False, False]


def test_nothing_is_kept_if_nothing_may() -> None:
    with stage() as here:
        here.sources.idle.max_per_backend = 0
        assert open_ones(kept(here, 2)) == [False, False]


def test_no_more_wait_than_the_limit_in_all() -> None:
    with stage(backends=2, idle_limit=3) as here:
        clients = [here.client() for _ in range(6)]
        for client in clients:
            client.send(get())
            here.net.settle()
        for origin in here.origins:
            for peer in origin.peers:
                peer.send(ok(b"x"))
        here.net.settle()
        assert here.sources.idle.total == 3
        assert sum(backend.idle for backend in here.backends) == 3
        # One that is taken makes room for another.
        client = here.client(get())
        assert here.sources.idle.total == 2
        client.reset()
        here.net.settle()
        assert here.sources.idle.total == 2


def test_each_backend_in_turn_gives_up_the_one_that_was_used_longest_ago() -> None:
    with stage(backends=2) as here:
        for client in [here.client() for _ in range(4)]:
            client.send(get())
            here.net.settle()
        there = [origin.peers for origin in here.origins]
        for peer in [peer for peers in there for peer in peers]:
            peer.send(ok(b"x"))
            here.net.settle()
        idle = here.sources.idle
        assert [backend.idle for backend in here.backends] == [2, 2]

        def give_up(count: int) -> list[list[bool]]:
            idle.give_up(count, here.backends)
            here.net.settle()
            return [open_ones(peers) for peers in there]

        first = give_up(1)
        assert sorted(first) == [[False, True], [True, True]]
        assert give_up(1) == [[False, True], [False, True]]
        assert give_up(9) == [[False, False], [False, False]], "one of each at a time"
        assert idle.total == 0
        assert give_up(1) == [[False, False], [False, False]]


def test_who_waited_too_long_is_closed() -> None:
    with stage() as here:
        here.sources.idle.idle_timeout = 10.0
        backends = kept(here, 2)
        here.net.elapse(8.0)
        assert open_ones(backends) == [True, True]
        here.net.elapse(3.0)
        assert open_ones(backends) == [False, False]
        assert here.backend.idle == here.backend.connections == here.sources.idle.total == 0


def test_use_starts_the_wait_anew() -> None:
    with stage() as here:
        here.sources.idle.idle_timeout = 10.0
        (backend,) = kept(here, 1)
        client = here.client()
        for _ in range(3):
            here.net.elapse(8.0)
            assert here.asked(client, get()) is backend
            backend.send(ok(b"x"))
            here.net.settle()
        here.settings.client_idle = 1000.0
        here.net.elapse(11.0)
        assert backend.ending


def test_a_connection_in_use_is_not_closed_for_having_waited() -> None:
    with stage() as here:
        here.sources.idle.idle_timeout = 10.0
        (backend,) = kept(here, 1)
        client = here.client()
        here.asked(client, get())
        here.net.elapse(30.0)
        assert not backend.ending
        backend.send(ok(b"late"))
        here.net.settle()
        assert client.data.endswith(b"late")


def test_the_minimum_is_kept_while_the_backend_has_traffic() -> None:
    with stage() as here:
        idle = here.sources.idle
        idle.idle_timeout = 10.0
        idle.min_per_backend = 2
        backends = kept(here, 4)
        client = here.client()
        here.settings.client_idle = 1000.0
        for _ in range(6):  # all traffic goes over the one used last
            here.net.elapse(4.0)
            hasten(here, 4.0)
            assert here.asked(client, get()) is backends[3]
            backends[3].take()
            backends[3].send(ok(b"x"))
            here.net.settle()
        assert open_ones(backends).count(True) == here.backend.idle == 2


def test_the_minimum_is_not_kept_without_traffic() -> None:
    with stage() as here:
        idle = here.sources.idle
        idle.idle_timeout = 10.0
        idle.min_per_backend = 2
        backends = kept(here, 3)
        for _ in range(4):
            hasten(here, 6.0)
            here.net.elapse(6.0)
        assert open_ones(backends) == [False] * 3
        assert here.backend.idle == 0


def hasten(here: Stage, seconds: float) -> None:
    """What is kept was used that much earlier (`Net.elapse` moves deadlines only)."""
    for backend in here.backends:
        for connection in here.sources.idle.waiting(backend):
            connection.idle_since -= seconds


def test_a_byte_or_an_end_makes_it_leave_at_once() -> None:
    with stage() as here:
        backends = kept(here, 4)
        backends[1].send(b"x")
        backends[2].finish()
        backends[3].reset()
        here.net.settle()
        assert here.backend.idle == here.backend.connections == here.sources.idle.total == 1
        client = here.client()
        assert here.asked(client, get()) is backends[0]


def test_a_backend_that_left_or_moved_loses_its_connections() -> None:
    with stage(backends=2) as here:
        clients = [here.client() for _ in range(2)]
        for client in clients:
            client.send(get())
            here.net.settle()
        for origin in here.origins:
            origin.last.send(ok(b"x"))
        here.net.settle()
        assert here.sources.idle.total == 2
        here.sources.idle.close(here.backends[0])
        here.net.settle()
        assert [backend.idle for backend in here.backends] == [0, 1]
        assert here.sources.idle.total == 1
        assert here.origins[0].last.ending and not here.origins[1].last.ending


def test_taking_from_an_empty_store() -> None:
    with stage() as here:
        assert here.sources.idle.take(here.backend) is None
        assert (here.backend.idle, here.sources.idle.total) == (0, 0)
