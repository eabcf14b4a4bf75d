"""Listening sockets: bound once by control, one per worker, sent to whoever serves them.

Rules:

* The N TCP sockets of a bind share its port by SO_REUSEPORT. The first one binds
  *without* the option and gets it afterwards: that bind fails when anybody, also another
  txlb of the same user, holds the port. With the option set from the start the kernel
  would let a second instance in and give it half of the connections, silently. The same holds for UDP.
* A bind with port 0 asks the kernel for a port; the whole group shares that one.
* ``[::]:80`` accepts IPv6 only, like nginx and HAProxy's ``v6only``: write both binds
  to serve both families. So no bind ever depends on a sysctl.
* ``*:80`` and ``:80`` are ``0.0.0.0:80``. Host names are not resolved: a listener binds
  to an address of this host.
* Every socket is non-blocking and close-on-exec.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat

from txlb.errors import ListenError

BACKLOG = 4096
UDP_BUFFER = 4 << 20  # bytes of datagrams that may wait in a socket; the kernel caps it at net.core.rmem_max


def parse_bind(bind: str) -> tuple[socket.AddressFamily, str, int]:
    """``host:port`` or ``[v6]:port`` as (family, address, port); `ListenError` says what is wrong."""
    host, colon, port_text = bind.rpartition(":")
    if not colon or not port_text.isascii() or not port_text.isdigit() or int(port_text) > 65535:
        raise ListenError(f"cannot listen on {bind!r}: not host:port or [v6]:port")
    if host in ("", "*"):
        host = "0.0.0.0"
    if host == "localhost":
        host = "127.0.0.1"
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        raise ListenError(f"cannot listen on {bind!r}: {host!r} is not an IP address") from None
    if bracketed != (address.version == 6):
        raise ListenError(f"cannot listen on {bind!r}: write an IPv6 address as [address]:port")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    return family, str(address), int(port_text)


def listen_tcp(bind: str, count: int = 1) -> list[socket.socket]:
    """``count`` listening sockets of one SO_REUSEPORT group; `ListenError` if the bind is not ours alone."""
    family, host, port = parse_bind(bind)
    sockets: list[socket.socket] = []
    try:
        for index in range(max(count, 1)):
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if index:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            if not index:
                port = sock.getsockname()[1]
                if count > 1:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for sock in sockets:
            sock.listen(BACKLOG)
    except OSError as error:
        close_all(sockets)
        raise ListenError(f"cannot listen on {bind}: {_reason(error, port)}") from error
    return sockets


def bind_udp(bind: str, count: int = 1) -> list[socket.socket]:
    """``count`` UDP sockets of one SO_REUSEPORT group; `ListenError` if the bind is not ours alone."""
    family, host, port = parse_bind(bind)
    sockets: list[socket.socket] = []
    try:
        for index in range(max(count, 1)):
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UDP_BUFFER)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if index:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            if not index:
                port = sock.getsockname()[1]
                if count > 1:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        close_all(sockets)
        raise ListenError(f"cannot listen on {bind} (udp): {_reason(error, port)}") from error
    return sockets


def listen_unix(path: str, mode: int = 0o660) -> socket.socket:
    """A listening UNIX socket at ``path``; replaces one that nobody serves any more."""
    if not os.path.isabs(path):
        raise ListenError(f"cannot listen on unix:{path}: the path must be absolute")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _remove_stale(path)
        before = os.umask(0o777 & ~mode)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on unix:{path}: {_reason(error, 65535)}") from error
    return sock


def close_all(sockets: list[socket.socket]) -> None:
    """Close these copies. Never shutdown(): that would end the listening in every process."""
    for sock in sockets:
        sock.close()
    sockets.clear()


def describe(sock: socket.socket) -> str:
    """``host:port`` as a bind would be written."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file that is not a socket", path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _reason(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return "address already in use (another server or txlb)"
    if error.errno == errno.EACCES and 0 < port < 1024:
        return (
            "permission denied: ports below 1024 need root (which twistd --uid gives up after the start)"
            " or the capability CAP_NET_BIND_SERVICE"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return "this address is not one of this host's"
    return (error.strerror or str(error)).lower()
