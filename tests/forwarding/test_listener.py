from __future__ import annotations

from ipaddress import ip_network

import pytest
from support.dataplane import stage

from txlb.core.model import ListenerSpec, Snapshot


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("127.0.0.1", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_who_is_trusted(address: str, trusted: bool) -> None:
    with stage() as here:
        here.settings.trusted = [ip_network(it) for it in ("10.0.0.0/8", "127.0.0.1/32", "2001:db8::/32")]
        assert here.settings.is_trusted(address) is trusted


def test_peers_of_unix_sockets_are_trusted_by_name() -> None:
    with stage() as here:
        for trusted in ((), ("10.0.0.0/8",), ("10.0.0.0/8", "unix:")):
            here.settings.configure(ListenerSpec("web", ("unix:/a",), trusted=trusted), Snapshot(), {})
            assert here.settings.is_trusted("unix:") is ("unix:" in trusted)


def test_nobody_is_trusted_unless_configured() -> None:
    with stage() as here:
        assert not here.settings.is_trusted("127.0.0.1")


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        (b"192.0.2.1", "192.0.2.1"),
        (b"192.0.2.1, 10.0.0.2", "192.0.2.1"),
        (b"198.51.100.9, 192.0.2.1,10.0.0.2", "192.0.2.1"),  # what the client itself said is not believed
        (b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (b"192.0.2.1, unknown", "10.0.0.1"),
        (b"192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
        (b"nonsense", "10.0.0.1"),
        (b"2001:db8::7", "2001:db8::7"),
    ],
)
def test_the_client_is_the_last_one_that_is_not_trusted(chain: bytes, client: str) -> None:
    with stage() as here:
        here.settings.trusted = [ip_network("10.0.0.0/8")]
        assert here.settings.client_behind(chain, "10.0.0.1") == client
