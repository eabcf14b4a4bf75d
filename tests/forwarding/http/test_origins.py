from __future__ import annotations

from support.dataplane import get, ok, post, stage


def test_an_idle_connection_is_taken_before_a_new_one_is_made() -> None:
    with stage() as here:
        client = here.client()
        first = here.asked(client, get("/1"))
        first.send(ok(b"x"))
        here.net.settle()
        assert here.asked(client, get("/2")) is first
        first.send(ok(b"x"))
        here.net.settle()
        assert len(here.origin.peers) == 1
        assert [record["reused"] for record in here.records()] == [False, True]


def test_a_connection_carries_one_exchange_at_a_time() -> None:
    with stage() as here:
        clients = [here.client() for _ in range(3)]
        backends = [here.asked(client, get(f"/{index}")) for index, client in enumerate(clients)]
        assert len({id(backend) for backend in backends}) == 3
        for index, backend in enumerate(backends):
            backend.send(ok(b"%d" % index))
        here.net.settle()
        assert [client.data[-1:] for client in clients] == [b"0", b"1", b"2"]
        assert here.backend.idle == 3


def test_a_connection_being_made_belongs_to_who_asked_for_it() -> None:
    """One that becomes idle meanwhile is for the next; the attempt goes on."""
    with stage() as here:
        first, second, third = here.client(), here.client(), here.client()
        backend = here.asked(first, get("/1"))
        second.sock.send(get("/2"))
        here.net.loop.dispatch(here.net.epoll.poll(1.0))  # the connect has begun
        backend.send(ok(b"x"))
        here.net.settle()
        assert len(here.origin.peers) == 2
        assert here.origin.last.data.startswith(b"GET /2 ")
        assert here.asked(third, get("/3")) is backend
        here.origin.last.send(ok(b"x"))
        backend.send(ok(b"x"))
        here.net.settle()


def test_an_exchange_that_ends_while_it_waits_cancels_its_attempt() -> None:
    with stage() as here:
        client = here.client()
        client.sock.send(get())
        here.net.loop.dispatch(here.net.epoll.poll(1.0))
        assert here.backend.active_connections == 1
        watched = len(here.net.loop.handlers)
        client.reset()
        here.net.loop.dispatch([event for event in here.net.epoll.poll(1.0) if event[1] & 8])
        assert here.backend.active_connections == 0
        assert len(here.net.loop.handlers) == watched - 2
        here.net.settle()
        assert here.origin.peers == [] or here.origin.last.ending
        assert here.backend.connections == 0
        assert here.backend.errors == 0


def test_connections_are_counted_while_they_are_open() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, post(b"body"))
        assert (here.backend.connections, here.backend.active_connections, here.backend.idle) == (1, 1, 0)
        backend.send(ok(b"x"))
        here.net.settle()
        assert (here.backend.connections, here.backend.active_connections, here.backend.idle) == (1, 0, 1)
        backend.finish()
        here.net.settle()
        assert (here.backend.connections, here.backend.active_connections, here.backend.idle) == (0, 0, 0)
