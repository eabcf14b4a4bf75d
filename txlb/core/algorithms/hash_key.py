"""What hashing algorithms hash: a piece of an exchange, as a number that is equal everywhere.

Rules:

* ``client_ip``: IPv4 by /32, IPv6 by /64 (what one household gets) unless told otherwise; an IPv4 address in
  IPv6 clothes (``::ffff:192.0.2.1``) is the IPv4 address.
* ``header:NAME`` and ``cookie:NAME``: the value as sent; ``path``: raw and without query. Absent or empty is
  missing, and so is what a protocol does not have.
* The number is 32 bits of BLAKE2b under a fixed key: the same in every process, after every restart, on every
  machine. Recent values are remembered, at most 2 × `REMEMBERED` of at most `LONGEST` characters.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, final

REMEMBERED: Final = 4096
LONGEST: Final = 128
MISSING: Final = -1
KEY: Final = b"txlb hash key"
TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
CLIENT_IP: Final = 0
PATH: Final = 1
HEADER: Final = 2
COOKIE: Final = 3


def parse_hash_key(text: str) -> str:
    """The canonical spelling; ValueError if it is none."""
    word, colon, name = text.partition(":")
    word = word.strip().lower().replace("-", "_")
    name = name.strip()
    if not colon and word in ("client_ip", "path"):
        return word
    if colon and word in ("header", "cookie") and TOKEN.fullmatch(name):
        return f"{word}:{name.lower() if word == 'header' else name}"
    raise ValueError(f"must be client_ip, header:NAME, cookie:NAME or path, not {text!r:.80}")


def number_of(value: str) -> int:
    """32 bits."""
    data = value.encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(data, digest_size=4, key=KEY).digest(), "big")


def network_of(ip: str, ipv4_prefix: int, ipv6_prefix: int) -> str:
    """The network that ``ip`` is in, as text; what is no address stays as it is."""
    if ":" not in ip and ipv4_prefix == 32:
        return ip
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is None:
            return f"{int(address) >> (128 - ipv6_prefix):x}/{ipv6_prefix}"
        address = mapped
    if ipv4_prefix == 32:
        return str(address)
    return f"{int(address) >> (32 - ipv4_prefix):x}/{ipv4_prefix}"


def cookie_in(field: str, name: str) -> str:
    """The first cookie of that name in a Cookie field; "" if there is none."""
    for pair in field.split(";"):
        found, equals, value = pair.partition("=")
        if equals and found.strip() == name:
            return value.strip()
    return ""


@final
class HashKey:
    """``spelling`` as `parse_hash_key` takes it."""

    def __init__(self, spelling: str = "client_ip", ipv4_prefix: int = 32, ipv6_prefix: int = 64) -> None:
        if not 1 <= ipv4_prefix <= 32 or not 1 <= ipv6_prefix <= 128:
            raise ValueError(f"no such prefixes: /{ipv4_prefix} of IPv4, /{ipv6_prefix} of IPv6")
        word, _, self._name = parse_hash_key(spelling).partition(":")
        self._kind = ("client_ip", "path", "header", "cookie").index(word)
        self._ipv4_prefix = ipv4_prefix
        self._ipv6_prefix = ipv6_prefix
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}

    def of(self, context: Any) -> int:
        """The number, 0 ≤ n < 2**32, or `MISSING`."""
        value = self._value(context)
        if not value:
            return MISSING
        number = self._young.get(value, MISSING)
        if number < 0:
            number = self._number(value)
        return number

    def _value(self, context: Any) -> str:
        kind = self._kind
        value: str | None
        if kind == CLIENT_IP:
            value = context.client_ip
        elif kind == PATH:
            value = context.path
        elif kind == HEADER:
            value = context.header(self._name)
        else:
            value = context.header("cookie")
            if value:
                value = cookie_in(value, self._name)
        return value or ""

    def _number(self, value: str) -> int:
        number = self._old.get(value, MISSING)
        if number < 0:
            text = value
            if self._kind == CLIENT_IP:
                text = network_of(value, self._ipv4_prefix, self._ipv6_prefix)
            number = number_of(text)
        if len(value) <= LONGEST:
            if len(self._young) >= REMEMBERED:
                self._old = self._young
                self._young = {}
            self._young[value] = number
        return number
