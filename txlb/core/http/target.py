"""Request targets and Host (RFC 9112 §3.2, RFC 9110 §7.2).

Rules:

* Targets are visible ASCII without "#". Anything else is refused: two parsers could
  read it differently.
* origin-form, absolute-form (http, https) and ``OPTIONS *`` are understood. The
  authority of an absolute-form target replaces Host. User information is refused.
* A host is letters, digits, ".", "-", "_" or a bracketed IPv6 literal, with an optional
  port 0…65535. It is compared in lower case, without port and without a final dot.
* Paths are raw bytes: neither decoded nor normalised.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Final

TARGET: Final = bytes(1 if 0x21 <= c <= 0x7E and c != 0x23 else 0 for c in range(256))
_HOST: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
_IPV6: Final = b"abcdefABCDEF0123456789:."
MAX_HOST: Final = 255


def normal_host(value: bytes) -> bytes | None:
    """The host of a Host field in the form that routing compares; None if it is invalid."""
    if not value or len(value) > MAX_HOST + 6:
        return None
    if value[0] == 0x5B:  # "["
        bracket = value.find(b"]")
        if bracket < 3 or not _is_ipv6(value[1:bracket]):
            return None
        host, rest = value[: bracket + 1], value[bracket + 1 :]
        if rest and rest[0] != 0x3A:
            return None
        port = rest[1:]
    else:
        colon = value.find(b":")
        if colon >= 0:
            host, port = value[:colon], value[colon + 1 :]
        else:
            host, port = value, b""
        if not host or len(host) > MAX_HOST or host.translate(None, _HOST):
            return None
        if host.endswith(b"."):
            host = host[:-1]
            if not host or host.endswith(b"."):
                return None
        if host.startswith(b"."):
            return None
    if port and (not port.isdigit() or len(port) > 5 or int(port) > 65535):
        return None
    return host.lower()


def _is_ipv6(address: bytes) -> bool:
    if address.translate(None, _IPV6):
        return False
    try:
        IPv6Address(address.decode("ascii"))
    except ValueError:
        return False
    return True


def split_absolute(target: bytes) -> tuple[bytes, bytes] | None:
    """Authority and origin-form of an absolute-form http(s) target; None if it is not one.

    The origin-form is empty where the target has neither path nor query.
    """
    lowered = target[:8].lower()
    if lowered.startswith(b"http://"):
        at = 7
    elif lowered.startswith(b"https://"):
        at = 8
    else:
        return None
    rest = target[at:]
    end = len(rest)
    for mark in (b"/", b"?"):
        found = rest.find(mark)
        if 0 <= found < end:
            end = found
    authority = rest[:end]
    path = rest[end:]
    if path.startswith(b"?"):
        path = b"/" + path
    return authority, path
