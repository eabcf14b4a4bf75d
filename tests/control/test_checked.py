"""`txlb.control.checked`: who is checked how, as the rules say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from txlb.control.checked import only_over_udp, over_http, place
from txlb.core.model import BackendSpec, BackendTlsSpec, ListenerSpec, RuleSpec, Snapshot

WEB: dict[str, Any] = {
    "listeners": (ListenerSpec("web", ("x",)), ListenerSpec("tcp", ("y",), "tcp")),
    "rules": (RuleSpec("web", ("b", "both")), RuleSpec("tcp", ("both", "tcp"), ("tcp",))),
}


def test_who_is_used_over_http() -> None:
    assert over_http(Snapshot(**WEB)) == {"b", "both"}


def test_what_only_udp_listeners_use() -> None:
    listeners = (ListenerSpec("dns", ("x",), "udp"), ListenerSpec("web", ("y",)))
    rules = (
        RuleSpec("dns", ("both", "udp"), ("dns",)),
        RuleSpec("web", ("both", "web"), ("web",)),
        RuleSpec("all", ("other",)),
    )
    assert only_over_udp(Snapshot(listeners=listeners, rules=rules)) == {"udp"}
    assert only_over_udp(Snapshot(rules=rules)) == set()


def test_health_belongs_to_a_place() -> None:
    one = BackendSpec("b", "h", 80)
    for same in ({"weight": 3}, {"address": "10.0.0.1"}, {"max_connections": 3}):
        assert place(replace(one, **same)) == place(one)
    for other in ({"host": "g"}, {"port": 81}, {"tls": BackendTlsSpec()}):
        assert place(replace(one, **other)) != place(one)
