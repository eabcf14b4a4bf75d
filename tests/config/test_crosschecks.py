from __future__ import annotations

import pytest
from support.configuration import loaded, problems

HEAD = """\
listeners:
  - {id: web, bind: "127.0.0.1:80"}
  - {id: other, bind: "127.0.0.1:81"}
backends:
  - {id: web-1, host: 10.0.0.1, port: 80}
  - {id: web-2, host: 10.0.0.2, port: 80, weight: 0}
"""


def test_ids_are_unique() -> None:
    text = """\
        listeners: [{id: a, bind: "127.0.0.1:80"}, {id: a, bind: "127.0.0.1:81"}]
        backends: [{id: a, host: h, port: 1}, {id: b, host: h, port: 1}, {id: b, host: h, port: 2}]
        routing_rules: [{id: r, backends: [a]}, {id: r, host: x, backends: [b]}]
    """
    assert problems(text) == [
        "1:49: listeners[1].id: a is taken by listeners[0]",
        "2:71: backends[2].id: b is taken by backends[1]",
        "3:46: routing_rules[1].id: r is taken by routing_rules[0]",
    ]


def test_references_name_what_is_there() -> None:
    text = HEAD + "routing_rules:\n  - {listeners: [wbe], backends: [web-1, wbe-2, nothing, web-1]}\n"
    assert problems(text) == [
        "8:18: routing_rules[0].listeners[0]: unknown listener wbe (did you mean web?)",
        "8:42: routing_rules[0].backends[1]: unknown backend wbe-2 (did you mean web-2?)",
        "8:49: routing_rules[0].backends[2]: unknown backend nothing",
        "8:58: routing_rules[0].backends[3]: web-1 is listed twice",
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("", ""),
        ("host: A.example,", "host: a.example,"),
        ("path_prefix: /a,", "path_prefix: /a/,"),
        ("path_prefix: /,", ""),
        ("host: x, path_prefix: /a,", "host: x, path_prefix: /a,"),
        ("listeners: [web],", "listeners: [other, web],"),
        ("listeners: [web],", ""),
        ("", "listeners: [other],"),
    ],
)
def test_two_rules_that_match_the_same_are_an_error(first: str, second: str) -> None:
    rules = f"routing_rules:\n  - {{{first} backends: [web-1]}}\n  - {{{second} backends: [web-2]}}\n"
    (line,) = problems(HEAD + rules)
    assert line.startswith("9:5: routing_rules[1]: matches the same as routing_rules[0] (")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("host: a,", "host: b,"),
        ("host: a.x,", "host: '*.x',"),
        ("path_prefix: /a,", "path_prefix: /b,"),
        ("path_prefix: /a,", ""),
        ("listeners: [web],", "listeners: [other],"),
    ],
)
def test_rules_that_differ_are_fine(first: str, second: str) -> None:
    rules = f"routing_rules:\n  - {{{first} backends: [web-1]}}\n  - {{{second} backends: [web-2]}}\n"
    assert problems(HEAD + rules) == []


@pytest.mark.parametrize(
    ("binds", "clash"),
    [
        ('["127.0.0.1:80", "127.0.0.1:80"]', "127.0.0.1:80 clashes with listeners[0].bind (127.0.0.1:80)"),
        ('["0.0.0.0:80", "127.0.0.1:80"]', "127.0.0.1:80 clashes with listeners[0].bind (0.0.0.0:80)"),
        ('["127.0.0.1:80", "0.0.0.0:80"]', "0.0.0.0:80 clashes with listeners[0].bind (127.0.0.1:80)"),
        ('["[::1]:80", "[::]:80"]', "[::]:80 clashes with listeners[0].bind (::1:80)"),
        ('["localhost:80", "127.0.0.1:80"]', "127.0.0.1:80 clashes with listeners[0].bind (127.0.0.1:80)"),
        ('["127.0.0.1:0", "127.0.0.1:0"]', "the system chooses one port per address"),
        ('["unix:/a", "unix:/./a"]', "unix:/a clashes with listeners[0].bind"),
        ('["systemd:web", "systemd:web"]', "systemd:web clashes with listeners[0].bind"),
        ('"127.0.0.1:9900"', "127.0.0.1:9900 clashes with admin.bind (127.0.0.1:9900)"),
        ('"0.0.0.0:9900"', "0.0.0.0:9900 clashes with admin.bind (127.0.0.1:9900)"),
    ],
)
def test_a_port_is_claimed_once(binds: str, clash: str) -> None:
    (line,) = problems(f"listeners:\n  - {{id: web, bind: {binds}}}\n")
    assert line.endswith(clash)


@pytest.mark.parametrize(
    "binds",
    [
        '["127.0.0.1:80", "127.0.0.2:80"]',
        '["127.0.0.1:80", "127.0.0.1:81"]',
        '["0.0.0.0:80", "[::]:80"]',
        '["127.0.0.1:0", "127.0.0.2:0"]',
    ],
)
def test_different_ports_do_not_clash(binds: str) -> None:
    assert problems(f"listeners:\n  - {{id: web, bind: {binds}}}\n") == []


def test_listeners_clash_across_each_other() -> None:
    text = 'listeners:\n  - {id: a, bind: "0.0.0.0:80"}\n  - {id: b, bind: "10.0.0.1:80"}\n'
    (line,) = problems(text)
    assert line == "3:19: listeners[1].bind: 10.0.0.1:80 clashes with listeners[0].bind (0.0.0.0:80)"


def test_limits_fit_into_each_other() -> None:
    assert problems("limits: {request_line: 32KiB}\n" + HEAD) == [
        "1:24: limits.request_line: 32KiB is more than limits.head, 16KiB"
    ]
    assert problems("idle_connections: {min_per_backend: 9, max_per_backend: 8}\n" + HEAD) == [
        "1:37: idle_connections.min_per_backend: 9 is more than max_per_backend, 8"
    ]


def test_cross_checks_run_beside_other_errors() -> None:
    text = """\
        limits: {request_line: 32KiB, bogus: 1}
        listeners: [{id: web, bind: nope}, {id: web, bind: "127.0.0.1:9900", bogus: 1}]
        backends:
          - {id: broken, host: "", port: 80}
          - {id: broken, host: "", port: 80}
        routing_rules:
          - {backends: [broken, missing], bogus: 1}
          - {backends: [broken], host: "?", algorithm: bogus}
    """
    lines = problems(text)
    places = "1:24 1:31 2:29 2:41 2:52 2:70 4:24 5:10 5:24 7:25 7:35 8:32 8:48"
    assert " ".join(line.split(": ", 1)[0] for line in lines) == places
    assert "unknown backend missing" in lines[9]


def test_what_is_not_known_is_not_held_against_others() -> None:
    """A rule whose host is wrong does not match the same as one without host."""
    text = HEAD + "routing_rules:\n  - {host: '?', backends: [web-1]}\n  - {backends: [web-1]}\n"
    assert len(problems(text)) == 1


TLS = "tls: {certificates: [{chain: c, key: k}]}"


@pytest.mark.parametrize(
    ("admin", "missing"),
    [
        ('bind: "0.0.0.0:9900"', "admin.token_file and admin.tls"),
        ('bind: "[::]:9900", token_file: t', "admin.tls"),
        (f'bind: "192.0.2.1:9900", {TLS}', "admin.token_file"),
    ],
)
def test_an_admin_port_that_others_can_reach_needs_tokens_and_tls(admin: str, missing: str) -> None:
    (line,) = problems(f"admin: {{{admin}}}\n" + HEAD)
    assert f"can be reached by others: that needs {missing} (or bind" in line


@pytest.mark.parametrize(
    "admin",
    [
        'bind: "127.0.0.1:9900"',
        'bind: "[::1]:9900"',
        "bind: unix:/run/admin.sock",
        "bind: null",
        f'bind: "0.0.0.0:9900", token_file: t, {TLS}',
    ],
)
def test_other_admin_ports_are_accepted(admin: str) -> None:
    assert problems(f"admin: {{{admin}}}\n" + HEAD) == []


def test_a_mistake_in_admin_is_told_alone() -> None:
    (line,) = problems('admin: {bind: "0.0.0.0:9900", token_file: 1, ' + TLS + "}\n" + HEAD)
    assert "admin.token_file: must be a path" in line


def test_the_metrics_port_clashes_too() -> None:
    (line,) = problems('metrics: {bind: "0.0.0.0:9900"}\n' + HEAD)
    assert line.endswith("metrics.bind: 0.0.0.0:9900 clashes with admin.bind (127.0.0.1:9900)")
    unix = 'metrics: {bind: "unix:/run/m.sock"}\n'
    (line,) = problems('admin: {bind: "unix:/run/m.sock"}\n' + unix + HEAD)
    assert line.endswith("metrics.bind: unix:/run/m.sock clashes with admin.bind")
    (line,) = problems(unix + HEAD.replace("127.0.0.1:80", "unix:/run/m.sock"))
    assert line.endswith("listeners[0].bind: unix:/run/m.sock clashes with metrics.bind")


def test_what_is_odd_but_works_is_a_warning() -> None:
    text = """\
        listeners:
          - {id: web, bind: "127.0.0.1:80", trusted: [0.0.0.0/0]}
          - {id: other, bind: "127.0.0.1:81"}
          - {id: names, bind: "127.0.0.1:82", protocol: tcp, sni: true}
        backends:
          - {id: web-1, host: 10.0.0.1, port: 80, weight: 0}
          - {id: web-2, host: 10.0.0.2, port: 80}
        routing_rules:
          - {listeners: [web], backends: [web-1]}
          - {listeners: [web], path_prefix: /none, backends: []}
    """
    assert loaded(text).warnings == (
        "lb.yaml:2:47: listeners[0].trusted[0]: 0.0.0.0/0 believes what everybody says of their address",
        "lb.yaml:3:5: listeners[1]: no rule serves other: it answers 404",
        "lb.yaml:4:5: listeners[2]: no rule serves names: it refuses everybody",
        "lb.yaml:7:5: backends[1]: no rule uses web-2",
        "lb.yaml:9:34: routing_rules[0].backends: all of them have weight 0: it serves nobody",
        "lb.yaml:10:54: routing_rules[1].backends: there are none: it serves nobody",
    )
    assert loaded(HEAD + "routing_rules: [{backends: [web-1, web-2]}]\n").warnings == ()


def test_a_listener_that_takes_proxy_headers_trusts_somebody() -> None:
    text = "listeners: [{id: web, bind: '127.0.0.1:80', proxy_protocol: true}]\n"
    assert problems(text) == [
        "1:61: listeners[0].proxy_protocol: needs trusted, the networks whose header is believed"
    ]
    (listener,) = loaded(text.replace("true", "true, trusted: [10.0.0.0/8]")).snapshot.listeners
    assert (listener.proxy_protocol, listener.trusted) == (True, ("10.0.0.0/8",))


def test_only_tcp_listeners_route_by_server_name() -> None:
    text = "listeners: [{id: web, bind: '127.0.0.1:80', sni: true}]\n"
    assert problems(text) == ["1:50: listeners[0].sni: means nothing for a http listener; leave it out"]
