"""`txlb.config.protocols`: what each protocol asks of listeners and rules."""

from __future__ import annotations

import pytest
from support.configuration import loaded, problems

from txlb.core.model import UdpSpec

DNS = """\
listeners:
  - {id: web, bind: "127.0.0.1:80"}
  - {id: dns, bind: "127.0.0.1:53", protocol: udp, udp: {max_responses: 1, max_flows: 9}, steer: client}
backends:
  - {id: ns, host: 10.0.0.1, port: 53}
timeouts: {udp_idle: 5s}
routing_rules:
  - {backends: [ns]}
  - {id: names, listeners: [dns], backends: [ns]}
"""


def test_a_udp_listener_as_configured() -> None:
    snapshot = loaded(DNS).snapshot
    dns = snapshot.listeners[1]
    assert (dns.protocol, dns.udp, dns.steer) == ("udp", UdpSpec(1, 9, 1024), "client")
    assert snapshot.timeouts.udp_idle == 5.0
    assert loaded(DNS).warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (
            "  - {id: names, listeners: [dns], backends: [ns]}\n",
            "",
            "3:5: listeners[1]: no rule serves dns: a udp listener needs exactly one, with listeners: [dns]",
        ),
        (
            "  - {backends: [ns]}",
            "  - {listeners: [web, dns], backends: [ns]}",
            "9:27: routing_rules[1].listeners[0]: dns has a rule already, routing_rules[0]:"
            " a udp listener has exactly one",
        ),
        (
            "{id: names, ",
            "{host: a.example, ",
            "9:12: routing_rules[1].host: dns is a udp listener: it knows of no hosts",
        ),
        (
            "{id: names, ",
            "{path_prefix: /a, ",
            "9:19: routing_rules[1].path_prefix: dns is a udp listener: it knows of no paths",
        ),
        (
            "steer: client",
            "via: always",
            "3:102: listeners[1].via: means nothing for a udp listener; leave it out",
        ),
        (
            '{id: web, bind: "127.0.0.1:80"}',
            '{id: web, bind: "127.0.0.1:80", udp: {max_flows: 5}}',
            "2:42: listeners[0].udp: means nothing for a http listener; leave it out",
        ),
        (
            '"127.0.0.1:53"',
            '"unix:/run/dns"',
            "3:21: listeners[1].bind: unix:/run/dns: a udp listener needs an address, host:port",
        ),
        (
            "max_responses: 1",
            "max_responses: -1",
            "3:75: listeners[1].udp.max_responses: -1 is out of range: from 0 to 65535",
        ),
    ],
)
def test_what_contradicts_a_protocol_is_an_error(old: str, new: str, found: str) -> None:
    assert old in DNS
    (line,) = problems(DNS.replace(old, new))
    assert line.partition(": ")[2] == found.partition(": ")[2]


def test_a_host_is_an_error_though_an_http_listener_has_the_rule_too() -> None:
    text = DNS.replace("{id: names, listeners: [dns]", "{host: x, listeners: [dns, web]")
    (line,) = problems(text)
    assert "routing_rules[1].host: dns is a udp listener" in line


def test_rules_of_http_and_udp_listeners_do_not_clash() -> None:
    assert problems(DNS) == []
    both = DNS.replace("  - {backends: [ns]}\n", "").replace("listeners: [dns]", "listeners: [web, dns]")
    assert problems(both) == []


def test_tcp_and_udp_may_have_the_same_port_but_udp_only_once() -> None:
    assert problems(DNS.replace("127.0.0.1:80", "127.0.0.1:53")) == []
    twice = DNS.replace('"127.0.0.1:53"', '["127.0.0.1:53", "0.0.0.0:53"]')
    (line,) = problems(twice)
    assert "0.0.0.0:53 clashes with listeners[1].bind (127.0.0.1:53)" in line


def test_the_admin_port_does_not_stand_in_the_way_of_udp() -> None:
    assert problems(DNS.replace("127.0.0.1:53", "127.0.0.1:9900")) == []


def test_a_protocol_that_is_not_understood_causes_no_other_errors() -> None:
    (line,) = problems(DNS.replace("protocol: udp", "protocol: utp"))
    assert "listeners[1].protocol: must be http, tcp or udp, not 'utp' (did you mean udp?)" in line


TLS = """\
listeners:
  - {id: tls, bind: "127.0.0.1:443", protocol: tcp, sni: true}
backends:
  - {id: one, host: 10.0.0.1, port: 443}
routing_rules:
  - {id: a, listeners: [tls], host: a.example, backends: [one]}
  - {id: b, listeners: [tls], host: "*.example", backends: [one]}
  - {id: rest, listeners: [tls], backends: [one]}
"""


def test_a_listener_that_routes_by_server_name_has_several_rules() -> None:
    assert loaded(TLS).warnings == ()
    assert loaded(TLS).snapshot.listeners[0].sni


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (
            ", sni: true",
            "",
            "routing_rules[0].host: tls is a tcp listener: it knows of no hosts",
        ),
        (
            "host: a.example",
            "path_prefix: /a",
            "routing_rules[0].path_prefix: tls is a tcp listener: it knows of no paths",
        ),
        (
            '"*.example"',
            "a.example",
            "routing_rules[1]: matches the same as routing_rules[0] (a.example, any path)",
        ),
        (
            "protocol: tcp, ",
            "",
            "listeners[0].sni: means nothing for a http listener; leave it out",
        ),
    ],
)
def test_what_does_not_go_with_server_names(old: str, new: str, found: str) -> None:
    assert old in TLS
    assert found in problems(TLS.replace(old, new, 1))[0]


def test_a_listener_ends_tls_or_passes_it_on() -> None:
    tls = "tls: {certificates: [{chain: c.pem, key: k.pem}]}"
    found = problems(TLS.replace("sni: true", f"sni: true, {tls}"))
    assert any("listeners[0].sni: tls has tls: a listener either ends TLS or" in line for line in found)
    found = problems(DNS.replace("steer: client", tls))
    assert any("listeners[1].tls: means nothing for a udp listener" in line for line in found)
