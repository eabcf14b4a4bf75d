"""Every key of the contract: defaults as printed there, and what works only later."""

from __future__ import annotations

import pytest
from support.configuration import VALID, loaded, problems

from txlb.core.model import (
    AdminSpec,
    AdminTlsSpec,
    AlgorithmSpec,
    ErrorResponseSpec,
    HealthCheckSpec,
    Snapshot,
)

EVERY_DEFAULT = """\
node: {id: null}
workers: auto
admin: {bind: "127.0.0.1:9900", token_file: null, tls: null, allowed_hosts: []}
metrics: {bind: null}
store: null
secret_file: null
limits: {max_connections: auto, request_line: 8KiB, head: 16KiB, fields: 100, body: null,
         tls_handshakes: 1024}
timeouts: {connect: 1s, client_header: 10s, client_body: 30s, client_idle: 60s, send: 60s,
           backend_response: 60s, tunnel_idle: 1h, tls_handshake: 5s, udp_idle: 60s, drain: 300s,
           shutdown: 30s}
idle_connections: {min_per_backend: 0, max_per_backend: 1000, idle_timeout: 60s}
access_log: {path: "-", format: json}
health_check: {interval: 5s, timeout: 2s, rise: 2, fall: 3, suspect_after: 300ms}
error_responses: {}
listeners:
  - id: web
    bind: "127.0.0.1:8080"
    protocol: http
    trusted: []
    forwarded: replace
    via: chain
    tls: null
    proxy_protocol: false
    sni: false
    udp: {max_responses: null, max_flows: 65536, max_flows_per_source: 1024}
    steer: connection
    forwarding: proxy
backends:
  - id: web-1
    host: 10.0.0.1
    port: 80
    weight: 1
    max_connections: null
    health_check_path: null
    health_check: null
    tls: null
    proxy_protocol: null
routing_rules:
  - host: null
    path_prefix: null
    algorithm: round_robin
    backends: [web-1]
    session_sticky: false
    retries: {max: 2, budget: 20%, window: 10s, min_per_second: 10}
    panic_threshold: 0%
    fallback: null
"""


def test_every_default_of_the_contract_is_accepted_and_the_default() -> None:
    assert loaded(EVERY_DEFAULT).snapshot == loaded(VALID).snapshot


def test_the_defaults_are_those_of_the_specs() -> None:
    snapshot, specs = loaded(VALID).snapshot, Snapshot()
    for name in (
        "workers",
        "admin",
        "limits",
        "timeouts",
        "idle_connections",
        "access_log",
        "health_check",
        "health_check_concurrency",
        "error_responses",
    ):
        assert getattr(snapshot, name) == getattr(specs, name), name


ADMIN = AdminSpec("unix:/run/lb", "/t", AdminTlsSpec("/c", "/k", "1.3"), ("lb.example",))


def test_every_key_reaches_its_spec() -> None:
    snapshot = loaded("""\
        node: {id: lb-1}
        workers: 3
        admin: {bind: "unix:/run/lb", token_file: /t, allowed_hosts: [LB.example],
                tls: {certificates: [{chain: /c, key: /k}], min_version: "1.3"}}
        metrics: {bind: "0.0.0.0:9901"}
        limits: {max_connections: 7, request_line: 1KiB, head: 2KiB, fields: 9, body: 1MiB,
                 tls_handshakes: 11}
        timeouts: {connect: 2s, client_header: 3s, client_body: 4s, client_idle: 5s, send: 6s,
                   backend_response: 7s, tunnel_idle: 8s, tls_handshake: 11s, drain: 9s, shutdown: 10s}
        idle_connections: {min_per_backend: 1, max_per_backend: 2, idle_timeout: 3s}
        access_log: {path: /var/log/lb.log, format: off}
        health_check: {interval: 1s, timeout: 2s, rise: 3, fall: 4, suspect_after: 5s, concurrency: 6}
        error_responses: {503: {body: Back soon.}}
        listeners:
          - {id: web, bind: ["127.0.0.1:80", "[::1]:80"], trusted: [10.0.0.0/8, "::1"],
             forwarded: append, via: off}
        backends:
          - {id: web-1, host: Web.Example, port: 81, weight: 2, max_connections: 3}
        routing_rules:
          - {id: r, listeners: [web], host: "*.Example.com", path_prefix: /a/, algorithm: WEIGHTED,
             backends: [web-1]}
    """).snapshot
    assert (snapshot.node_id, snapshot.workers, snapshot.admin) == ("lb-1", 3, ADMIN)
    limits, timeouts, idle = snapshot.limits, snapshot.timeouts, snapshot.idle_connections
    assert (limits.max_connections, limits.request_line, limits.head) == (7, 1024, 2048)
    assert (limits.fields, limits.body) == (9, 2**20)
    assert (timeouts.connect, timeouts.client_header, timeouts.client_body, timeouts.client_idle) == (
        2,
        3,
        4,
        5,
    )
    assert (timeouts.send, timeouts.backend_response, timeouts.tunnel_idle) == (6, 7, 8)
    assert (timeouts.tls_handshake, limits.tls_handshakes) == (11, 11)
    assert (timeouts.drain, timeouts.shutdown) == (9, 10)
    assert (idle.min_per_backend, idle.max_per_backend, idle.idle_timeout) == (1, 2, 3)
    assert (snapshot.access_log.path, snapshot.access_log.format) == ("/var/log/lb.log", "off")
    assert snapshot.health_check == HealthCheckSpec("tcp", 1.0, 2.0, 3, 4, 5.0)
    assert snapshot.health_check_concurrency == 6
    assert snapshot.error_responses == (ErrorResponseSpec(503, "text/plain; charset=utf-8", "Back soon."),)
    (listener,), (backend,), (rule,) = snapshot.listeners, snapshot.backends, snapshot.rules
    assert (listener.id, listener.bind) == ("web", ("127.0.0.1:80", "[::1]:80"))
    assert snapshot.metrics_bind == "0.0.0.0:9901"
    assert (listener.trusted, listener.forwarded, listener.via) == (
        ("10.0.0.0/8", "::1/128"),
        "append",
        "off",
    )
    assert (backend.id, backend.host, backend.port) == ("web-1", "web.example", 81)
    assert (backend.weight, backend.max_connections, backend.address) == (2, 3, "")
    assert (rule.id, rule.listeners, rule.host, rule.path_prefix) == ("r", ("web",), "*.example.com", "/a")
    assert (rule.algorithm, rule.backends) == (AlgorithmSpec("weighted"), ("web-1",))


@pytest.mark.parametrize(
    ("default", "other", "path"),
    [
        ("forwarding: proxy", "forwarding: kernel", "listeners[0].forwarding"),
        ("fallback: null", "fallback: other", "routing_rules[0].fallback"),
    ],
)
def test_what_works_only_later_says_so(default: str, other: str, path: str) -> None:
    assert default in EVERY_DEFAULT
    (line,) = problems(EVERY_DEFAULT.replace(default, other, 1))
    assert f": {path}: " in line
    assert "not supported yet" in line
