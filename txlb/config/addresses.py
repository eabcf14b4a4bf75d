"""Addresses, networks, hosts and paths as values.

Rules, beside those of `txlb.config.values`:

* Names are ASCII (``xn--…``); what comes out is lower case, addresses in their
  shortest spelling. IPv6 addresses that mean IPv4, or hold a zone, are refused.
* A name whose last label is a number would be an address: it must be a valid one.
* A bind is an address of this machine; only ``localhost`` is looked up: 127.0.0.1.
* A listener may bind to a file (``unix:/path``, absolute) or take a socket that systemd
  passes (``systemd:NAME``, its FileDescriptorName) instead.
"""

from __future__ import annotations

import ipaddress
import os.path
import re

from txlb.config.values import as_text, shown

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PATH = re.compile(r"/[!-~]*")
_DESCRIPTOR_NAME = re.compile(r"[!-9;-~]{1,255}")  # what systemd lets through, less the space
LONGEST_SOCKET_PATH = 107  # bytes: what sockaddr_un holds


def parse_bind(value: object) -> str:
    """``host:port`` or ``[v6]:port``, normalised."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(
            f"is only a port: write 0.0.0.0:{value}, or 127.0.0.1:{value} for this machine alone"
        )
    text = as_text(value, "an address such as 0.0.0.0:8080")
    if is_named(text):
        raise ValueError(f"{shown(text)} is not supported yet here: write host:port, such as 127.0.0.1:9900")
    if text.startswith(("tcp:", "tcp4:", "tcp6:", "ssl:", "http:", "https:")):
        raise ValueError(f"{shown(text)}: write only host:port, such as 0.0.0.0:8080")
    host, colon, port_text = text.rpartition(":")
    if not colon:
        raise ValueError(f"{shown(text)} lacks a port: write host:port, such as 0.0.0.0:8080")
    if not re.fullmatch(r"0|[1-9][0-9]{0,4}", port_text) or int(port_text) > 65535:
        raise ValueError(f"{shown(port_text)} is not a port: 1 to 65535 (0: the kernel chooses)")
    if host in ("", "*"):
        raise ValueError(
            f"{shown(text)} has no address: write 0.0.0.0:{port_text} (all of IPv4) or [::]:{port_text}"
        )
    if host.lower() == "localhost":
        return f"127.0.0.1:{port_text}"
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        raise ValueError(f"{shown(text)}: an IPv6 address needs brackets, [::1]:8080")
    address = _address(host[1:-1] if bracketed else host)
    if address is None or bracketed != (":" in address):
        raise ValueError(f"{shown(host)} is not an IP address of this machine (names are not looked up here)")
    return f"[{address}]:{port_text}" if bracketed else f"{address}:{port_text}"


def is_named(bind: str) -> bool:
    """It names a file or a descriptor of systemd's, not an address and a port."""
    return bind.startswith(("unix:", "systemd:"))


def parse_listener_bind(value: object) -> str:
    """`parse_bind`, or ``unix:/path``, or ``systemd:NAME``."""
    if not isinstance(value, str) or not is_named(value):
        return parse_bind(value)
    kind, _, name = value.partition(":")
    if kind == "systemd":
        if not _DESCRIPTOR_NAME.fullmatch(name):
            raise ValueError(
                f"{shown(value)}: write systemd:NAME, the FileDescriptorName of the socket unit"
                " (by default the unit's own name, such as web.socket)"
            )
        return value
    if not name.startswith("/"):
        raise ValueError(f"{shown(value)}: the path must be absolute, as in unix:/run/txlb/web.sock")
    if "\0" in name or len(name.encode()) > LONGEST_SOCKET_PATH:
        raise ValueError(f"{shown(value)} is no path for a socket: at most {LONGEST_SOCKET_PATH} bytes")
    return f"unix:{os.path.normpath('/' + name.lstrip('/'))}"


def parse_admin_bind(value: object) -> str:
    """`parse_listener_bind` without ``systemd:``."""
    if isinstance(value, str) and value.startswith("systemd:"):
        raise ValueError(f"{shown(value)}: write host:port or unix:/path")
    return parse_listener_bind(value)


def split_bind(bind: str) -> tuple[str, int]:
    """A bind that `parse_bind` gave, as address and port."""
    host, _, port = bind.rpartition(":")
    return host.strip("[]"), int(port)


def _address(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped):
        return None
    return str(address)


def ip_address(host: str) -> str:
    """The normalised address if ``host`` is one, else ""."""
    return _address(host) or ""


def parse_host(value: object) -> str:
    """A backend's host: an IP address, normalised, or a DNS name in lower case."""
    text = as_text(value, "a host name or an IP address")
    bracketed = text.startswith("[") and text.endswith("]")
    if address := _address(text[1:-1] if bracketed else text):
        return address
    if "://" in text:
        raise ValueError(f"{shown(text)} is a URL: write the host alone; its port goes into port")
    if text.count(":") == 1:
        raise ValueError(f"{shown(text)} holds a port: it goes into port")
    return _name(text)


def parse_rule_host(value: object) -> str:
    """What a rule matches Host with: a name, ``*.name``, or an address as a Host field spells it."""
    text = as_text(value, "a host name")
    if text in ("*", "*:*"):
        raise ValueError("matches any host: leave host out instead")
    if text.startswith("["):
        address = _address(text[1:-1]) if text.endswith("]") else None
        if address is None or ":" not in address:
            raise ValueError(f"{shown(text)} is not an IPv6 address in brackets (without port)")
        return f"[{address}]"
    if ":" in text:
        raise ValueError(f"{shown(text)}: write the name alone, without scheme or port (IPv6: in brackets)")
    if text.startswith("*."):
        return "*." + _name(text[2:])
    if "*" in text:
        raise ValueError(f"{shown(text)}: a wildcard is a whole first label, as in *.example.com")
    return _name(text)


def _name(text: str) -> str:
    if not text.isascii():
        raise ValueError(f"{shown(text)} is not ASCII: write an international name in its xn-- form")
    name = text.lower()
    if name.endswith("."):
        raise ValueError(f"{shown(text)}: leave out the dot at the end")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{shown(text)} is not a host name")
    if labels[-1].isdigit() and _address(name) is None:
        raise ValueError(f"{shown(text)} is not an IP address")
    return name


def parse_network(value: object) -> str:
    """A network in CIDR notation; a single address is one too, and ``unix:`` means UNIX sockets."""
    text = as_text(value, "a network such as 10.0.0.0/8")
    if text == "unix:":
        return text
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{shown(text)} is not a network such as 10.0.0.0/8 or fd00::/8") from None
    raise ValueError(
        f"{shown(text)} is an address inside a network: write {loose}, or {text.split('/')[0]} alone"
    )


def parse_path_prefix(value: object) -> str:
    """``/api``; a slash at the end means the same and goes. "/" is any path."""
    text = as_text(value, "a path such as /api")
    if not text.startswith("/"):
        raise ValueError(f"{shown(text)} must start with /")
    for sign, what in (("?", "a query"), ("#", "a fragment"), ("*", "a wildcard (a prefix needs none)")):
        if sign in text:
            raise ValueError(f"{shown(text)} holds {what}: only the path is compared")
    if not _PATH.fullmatch(text):
        raise ValueError(f"{shown(text)}: write spaces, controls and non-ASCII as clients send them, %20")
    if "//" in text:
        raise ValueError(f"{shown(text)} holds an empty segment")
    if len(text) > 2048:
        raise ValueError("is longer than 2048 characters")
    return text if text == "/" else text.removesuffix("/")
