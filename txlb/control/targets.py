"""Which addresses a backend added over the API may have: not everything that this host can reach.

Rules:

* Refused: link-local addresses (cloud metadata is there), multicast, unspecified and broadcast ones, and our
  own listeners and admin port, which would be a loop; also inside an IPv6 address that stands for IPv4.
* ``admin.allowed_backends`` names networks to which that does not apply.
* The file may name any address. A name is judged by what it resolved to, each time it does.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence

from txlb.net.sockets import parse_bind

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_METADATA = ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")  # where it is not link-local
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Targets:
    """``own``: addresses as binds are written; ``allowed``: networks."""

    def __init__(self, allowed: Sequence[str], own: Iterable[str]) -> None:
        self._allowed = [ipaddress.ip_network(network) for network in allowed]
        self._own: list[tuple[_Address, int]] = []
        for bind in own:
            if not bind.startswith(("unix:", "systemd:")):
                _, host, port = parse_bind(bind)
                self._own.append((ipaddress.ip_address(host), port))

    def refusal(self, address: str, port: int) -> str:
        """Why not, or ""."""
        if not address:
            return ""
        given = ipaddress.ip_address(address)
        if any(given in network for network in self._allowed):
            return ""
        meant = _embedded(given)
        for one in (given, meant):
            what = _kind(one)
            if what:
                return f"{address} is {what}: not accepted over the API (see admin.allowed_backends)"
        if any(port == taken and _same(meant, ours) for ours, taken in self._own):
            return f"{address}:{port} is an address of this txlb itself: that would be a loop"
        return ""


def _kind(address: _Address) -> str:
    if address.is_link_local or str(address) in _METADATA:
        return "a link-local or metadata address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_unspecified or (address.version == 4 and address.packed[0] == 0):
        return "the unspecified address"
    if str(address) == "255.255.255.255":
        return "the broadcast address"
    return ""


def _embedded(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 address stands for; else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64 or (address.packed[:12] == bytes(12) and int(address) > 1):
            return ipaddress.IPv4Address(address.packed[12:])
    return address


def _same(address: _Address, ours: _Address) -> bool:
    if address == ours:
        return True
    return ours.is_unspecified and (address.is_loopback or _is_local(address))


def _is_local(address: _Address) -> bool:
    """Whether an interface of this host has it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.bind((str(address), 0))
    except OSError:
        return False
    return True
