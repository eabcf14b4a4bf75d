"""What is told of one backend's health, and who is checked how.

Rules:

* Health belongs to an id and a `place`: another host, port or TLS is another backend.
* Who only UDP listeners use, and whom HTTP listeners use, is told from the rules of a snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from txlb.core.model import BackendSpec, Snapshot


@dataclass(frozen=True, slots=True)
class HealthView:
    """What is known of one backend, as JSON has it."""

    healthy: bool = True
    consecutive_failures: int = 0
    max_consecutive_failures: int = 0
    last_health_check_at: str | None = None
    last_successful_check_at: str | None = None
    last_reason: str | None = None


def over_http(snapshot: Snapshot) -> set[str]:
    """Ids of backends that HTTP listeners use."""
    http = {listener.id for listener in snapshot.listeners if listener.protocol == "http"}
    found: set[str] = set()
    for rule in snapshot.rules:
        if rule.listeners is None or not http.isdisjoint(rule.listeners):
            found.update(rule.backends)
    return found


def only_over_udp(snapshot: Snapshot) -> set[str]:
    """Ids of backends that are used, and by UDP listeners alone."""
    udp = {listener.id for listener in snapshot.listeners if listener.protocol == "udp"}
    used: set[str] = set()
    others: set[str] = set()
    if udp:
        for rule in snapshot.rules:
            over_udp = rule.listeners is not None and udp.issuperset(rule.listeners)
            (used if over_udp else others).update(rule.backends)
    return used - others


def place(spec: BackendSpec) -> tuple[Any, ...]:
    """What health belongs to, beside the id."""
    return (spec.host, spec.port, spec.tls)
