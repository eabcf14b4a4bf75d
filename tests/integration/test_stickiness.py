"""Clients that stay with their backend: by cookie, in every worker and node; moved when it is gone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from contextlib import ExitStack

from support.balancer import Balancer
from support.origins import Origin, answering, eventually
from support.wire import Message, ok

Start = Callable[..., Balancer]
SECRET = {"secret": "0123456789abcdef of the nodes"}


def rules(sticky: object = True) -> list[dict[str, object]]:
    return [{"id": "app", "backends": ["b0", "b1", "b2"], "session_sticky": sticky}]


def told(message: Message) -> bytes:
    """What the backend saw of cookies."""
    return ok(json.dumps([value for name, value in message.fields if name.lower() == "cookie"]).encode())


class Browser:
    """Keeps the last cookie it was given; a connection of its own for every request."""

    def __init__(self, balancer: Balancer, **more: str) -> None:
        self.balancer = balancer
        self.cookie = ""
        self.more = [f"{name}={value}" for name, value in more.items()]
        self.given = 0

    def get(self) -> list[str]:
        """The Cookie fields that the backend saw."""
        connection = http.client.HTTPConnection("127.0.0.1", self.balancer.port, timeout=20)
        cookies = [*self.more, *([self.cookie] if self.cookie else [])]
        connection.request("GET", "/", headers={"Cookie": "; ".join(cookies)} if cookies else {})
        answer = connection.getresponse()
        assert answer.status == 200
        field = answer.getheader("Set-Cookie")
        if field:
            assert field.endswith("; Path=/; HttpOnly; SameSite=Lax")
            assert answer.getheader("Cache-Control") == "private"
            self.cookie = field.partition(";")[0]
            self.given += 1
        seen: list[str] = json.loads(answer.read())
        connection.close()
        return seen


def serving(balancer: Balancer, count: int) -> list[str]:
    """The backends of the last ``count`` lines of the log."""
    return [line["backend"] for line in balancer.logged(count)]


def test_a_client_stays_in_every_worker_and_backends_do_not_see_why(start_balancer: Start) -> None:
    with ExitStack() as stack:
        origins = [stack.enter_context(Origin()) for _ in range(3)]
        balancer = start_balancer(
            [origin.port for origin in origins],
            workers=2,
            beside=SECRET,
            secret_file="secret",
            routing_rules=rules(),
        )
        for origin in origins:
            stack.enter_context(origin.serving(answering(told)))
        browser = Browser(balancer, theme="dark")
        for _ in range(24):
            assert browser.get() == ["theme=dark"]
        assert browser.given == 1
        lines = balancer.logged(24)
        assert len({line["backend"] for line in lines}) == 1
        assert len({line["worker"] for line in lines}) == 2
        others = [Browser(balancer) for _ in range(6)]
        for other in others:
            assert other.get() == []
        assert {line["backend"] for line in balancer.logged(30)[24:]} == {"b0", "b1", "b2"}
        balancer.stop()


def test_a_cookie_holds_on_another_node_with_the_same_secret(start_balancer: Start) -> None:
    with ExitStack() as stack:
        origins = [stack.enter_context(Origin()) for _ in range(3)]
        ports = [origin.port for origin in origins]
        settings = {"beside": SECRET, "secret_file": "secret", "routing_rules": rules({"cookie": "lb"})}
        nodes = [start_balancer(ports, **settings) for _ in range(2)]
        for origin in origins:
            stack.enter_context(origin.serving(answering(told)))
        browser = Browser(nodes[0])
        browser.get()
        assert browser.cookie.startswith("lb=")
        browser.balancer = nodes[1]
        for _ in range(6):
            browser.get()
        assert browser.given == 1
        assert {*serving(nodes[1], 6)} == {*serving(nodes[0], 1)}
        for node in nodes:
            node.stop()


def test_a_dead_backend_moves_the_client_and_the_cookie(start_balancer: Start) -> None:
    with ExitStack() as stack:
        origins = [stack.enter_context(Origin()) for _ in range(3)]
        balancer = start_balancer([origin.port for origin in origins], routing_rules=rules())
        ends = [ExitStack() for _ in origins]
        for origin, end in zip(origins, ends, strict=True):
            stack.enter_context(end).enter_context(origin.serving(answering(told)))
        browser = Browser(balancer)
        browser.get()
        first = browser.cookie
        (name,) = serving(balancer, 1)
        ends[int(name[1])].close()
        origins[int(name[1])].close()
        browser.get()
        assert browser.given == 2
        assert browser.cookie != first
        browser.get()
        assert browser.given == 2
        _, second, third = serving(balancer, 3)
        assert second == third != name
        balancer.stop()


def test_a_nonsense_cookie_is_replaced_and_not_passed_on(start_balancer: Start) -> None:
    with ExitStack() as stack:
        origins = [stack.enter_context(Origin()) for _ in range(3)]
        balancer = start_balancer([origin.port for origin in origins], routing_rules=rules())
        for origin in origins:
            stack.enter_context(origin.serving(answering(told)))
        browser = Browser(balancer)
        browser.cookie = "txlb-app=" + "f" * 32
        assert browser.get() == []
        assert browser.given == 1
        eventually(lambda: bool(balancer.log()), "a line in the log")
        balancer.stop()
