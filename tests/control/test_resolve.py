"""`txlb.control.resolve`: names become addresses, and what happens to those that do not."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from txlb.control.resolve import addresses_of, look_up, names_of, with_addresses
from txlb.core.model import BackendSpec, Snapshot


def snapshot_of(*hosts: str) -> Snapshot:
    """A backend per host; those that begin with a digit are addresses."""
    return Snapshot(
        backends=tuple(
            BackendSpec(f"b{number}", host, 80, address=host if host[0].isdigit() else "")
            for number, host in enumerate(hosts)
        )
    )


def test_only_names_are_looked_up_and_each_once():
    assert names_of(snapshot_of("10.0.0.1", "x.example", "y.example", "x.example")) == [
        "x.example",
        "y.example",
    ]


@pytest_twisted.ensureDeferred
async def test_names_are_looked_up_by_the_system(running_reactor: Any):
    found = await look_up(running_reactor, ["localhost", "nothing.invalid"])
    assert found.keys() == {"localhost"}
    assert found["localhost"] in ("127.0.0.1", "::1")
    assert await look_up(running_reactor, []) == {}


def test_addresses_are_filled_in_and_the_missing_are_reported():
    snapshot, warnings = with_addresses(snapshot_of("10.0.0.1", "x", "y"), {"x": "10.0.0.2"}, {})
    assert [backend.address for backend in snapshot.backends] == ["10.0.0.1", "10.0.0.2", ""]
    assert warnings == ["'y' does not resolve; its backends get no traffic"]


def test_a_name_that_fails_now_keeps_the_address_it_had():
    configured = snapshot_of("10.0.0.1", "x")
    before, _ = with_addresses(configured, {"x": "10.0.0.2"}, {})
    known = addresses_of(configured, before)
    assert known == {"x": "10.0.0.2"}
    after, warnings = with_addresses(configured, {}, known)
    assert after == before
    assert warnings == ["'x' does not resolve; keeping 10.0.0.2"]


def test_what_was_found_now_counts_more_than_what_was_known():
    snapshot, warnings = with_addresses(snapshot_of("x"), {"x": "10.0.0.3"}, {"x": "10.0.0.2"})
    assert snapshot.backends[0].address == "10.0.0.3"
    assert warnings == []
