"""X-Forwarded-* and Via, for every way a listener can be configured to write them."""

from __future__ import annotations

from typing import Any

import pytest
from support.balancer import Balancer
from support.origins import Origin, answering, echo
from support.wire import Message, Wire

PROXIES = ["127.0.0.0/8", "10.0.0.0/8"]
LISTENERS: dict[str, dict[str, Any]] = {
    "replace": {},
    "replace-trusted": {"trusted": PROXIES},
    "append": {"forwarded": "append"},
    "append-trusted": {"forwarded": "append", "trusted": PROXIES},
    "via-always": {"via": "always"},
    "via-off": {"via": "off"},
}
SETTINGS = {
    "listeners": [
        {"id": name, "bind": f"127.0.1.{number}:0", **more}
        for number, (name, more) in enumerate(LISTENERS.items(), 1)
    ]
}
CAME_IN = """
X-Forwarded-For: 203.0.113.9
X-Forwarded-For: 10.1.1.1
X-Forwarded-Proto: https
X-Forwarded-Host: outer.example
"""


def sent_on(balancer: Balancer, origin: Origin, listener: str, head: str) -> Message:
    address = f"127.0.1.{list(LISTENERS).index(listener) + 1}"
    with origin.serving(answering(echo)), Wire.to(balancer.ports[listener], address) as client:
        assert client.ask(head.replace("\n\n", "\n")).status == 200
        return origin.requests[0]


def forwarded(message: Message) -> tuple[str, str, str]:
    def one(name: str) -> str:
        return ", ".join(message.all(f"x-forwarded-{name}"))

    return one("for"), one("proto"), one("host")


@pytest.mark.parametrize("listener", ["replace", "append", "replace-trusted", "append-trusted"])
def test_a_direct_client(balancer: Balancer, origin: Origin, listener: str) -> None:
    request = sent_on(balancer, origin, listener, "GET / HTTP/1.1\nHost: a.example:8080")
    assert forwarded(request) == ("127.0.0.1", "http", "a.example:8080")
    assert request.get("host") == "a.example:8080"
    assert "via" not in request.names


@pytest.mark.parametrize(
    ("listener", "expected"),
    [
        ("replace", ("127.0.0.1", "http", "a")),
        ("replace-trusted", ("203.0.113.9, 10.1.1.1, 127.0.0.1", "https", "outer.example")),
        ("append", ("203.0.113.9, 10.1.1.1, 127.0.0.1", "https, http", "outer.example, a")),
        ("append-trusted", ("203.0.113.9, 10.1.1.1, 127.0.0.1", "https, http", "outer.example, a")),
    ],
)
def test_behind_another_proxy(
    balancer: Balancer, origin: Origin, listener: str, expected: tuple[str, str, str]
) -> None:
    request = sent_on(balancer, origin, listener, f"GET / HTTP/1.1\nHost: a{CAME_IN}")
    assert forwarded(request) == expected


def test_the_client_behind_trusted_proxies_is_the_one_in_the_log(balancer: Balancer, origin: Origin) -> None:
    sent_on(balancer, origin, "replace-trusted", f"GET /trusted HTTP/1.1\nHost: a{CAME_IN}")
    sent_on(balancer, origin, "replace", f"GET /untrusted HTTP/1.1\nHost: a{CAME_IN}")
    assert balancer.line("/trusted")["client_ip"] == "203.0.113.9"
    assert balancer.line("/untrusted")["client_ip"] == "127.0.0.1"


@pytest.mark.parametrize("listener", ["replace", "append"])
def test_connection_cannot_nominate_ours_away(balancer: Balancer, origin: Origin, listener: str) -> None:
    nominated = "X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Via"
    head = f"GET / HTTP/1.1\nHost: a\nConnection: {nominated}{CAME_IN}"
    assert forwarded(sent_on(balancer, origin, listener, head)) == ("127.0.0.1", "http", "a")


@pytest.mark.parametrize(
    ("listener", "came", "expected"),
    [
        ("replace", "", []),
        ("replace", "Via: 1.0 outer", ["1.0 outer", "1.1 txlb"]),
        ("via-always", "", ["1.1 txlb"]),
        ("via-always", "Via: 1.0 outer", ["1.0 outer", "1.1 txlb"]),
        ("via-off", "Via: 1.0 outer", ["1.0 outer"]),
    ],
)
def test_via(balancer: Balancer, origin: Origin, listener: str, came: str, expected: list[str]) -> None:
    request = sent_on(balancer, origin, listener, f"GET / HTTP/1.1\nHost: a\n{came}".strip())
    assert ", ".join(request.all("via")).split(", ") == (expected or [""])


def test_absolute_form_names_the_host_that_is_told(balancer: Balancer, origin: Origin) -> None:
    request = sent_on(balancer, origin, "replace", "GET http://b.example/ HTTP/1.1\nHost: a")
    assert forwarded(request) == ("127.0.0.1", "http", "b.example")


def test_http_1_0_without_host(balancer: Balancer, origin: Origin) -> None:
    request = sent_on(balancer, origin, "via-always", "GET / HTTP/1.0")
    assert forwarded(request) == ("127.0.0.1", "http", "")
    # An HTTP/1.1 request needs one: the backend's own address, as curl or a browser would send it.
    assert (request.get("host"), request.get("via")) == (f"127.0.0.1:{origin.port}", "1.0 txlb")
