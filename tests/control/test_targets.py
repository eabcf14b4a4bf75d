from __future__ import annotations

import pytest

from txlb.control.targets import Targets

OWN = ("127.0.0.1:8080", "0.0.0.0:9000", "[::1]:8443", "unix:/run/x", "systemd:web")


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "224.0.0.1",
        "239.255.255.250",
        "ff02::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "255.255.255.255",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::169.254.169.254",
    ],
)
def test_what_nobody_should_be_sent_to(address: str) -> None:
    assert "not accepted over the API" in Targets((), OWN).refusal(address, 80)


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "127.0.0.1", "192.168.1.1", "8.8.8.8", "::1", "2001:db8::1", "fd00::1"]
)
def test_ordinary_addresses_are_accepted(address: str) -> None:
    assert Targets((), OWN).refusal(address, 80) == ""


def test_a_name_without_address_is_not_judged_yet() -> None:
    assert Targets((), OWN).refusal("", 80) == ""


def test_allowed_networks_are_exempt() -> None:
    targets = Targets(("169.254.10.0/24", "127.0.0.0/8"), OWN)
    assert targets.refusal("169.254.10.7", 80) == ""
    assert targets.refusal("127.0.0.1", 8080) == ""
    assert targets.refusal("169.254.11.7", 80)


@pytest.mark.parametrize(
    ("address", "port", "loop"),
    [
        ("127.0.0.1", 8080, True),
        ("127.0.0.1", 8081, False),
        ("127.0.0.2", 8080, False),
        ("127.0.0.5", 9000, True),  # 0.0.0.0 is all of them
        ("::1", 8443, True),
        ("10.0.0.1", 8080, False),
        ("::ffff:127.0.0.1", 8080, True),
        ("192.0.2.1", 9000, False),  # no interface of this host has it
    ],
)
def test_our_own_listeners_would_be_a_loop(address: str, port: int, loop: bool) -> None:
    assert ("loop" in Targets((), OWN).refusal(address, port)) is loop
