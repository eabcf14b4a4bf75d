"""Sockets that systemd opened for us: ``systemd:NAME`` binds (sd_listen_fds(3)).

Rules:

* A socket counts as ours only if ``LISTEN_PID`` is this very process: twistd must stay in the foreground.
* NAME is the socket's FileDescriptorName. One unit may have several sockets; all of them bear its name.
* Copies are given out: the original stays open until we end, so that a listener that a reload removed can
  come back.
* What is not a listening stream socket is refused: a wrong unit is a clear error, not a hang.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Mapping

from txlb.errors import ListenError

FIRST = 3  # SD_LISTEN_FDS_START


def inherited_names(environ: Mapping[str, str], pid: int) -> list[str]:
    """The names of descriptors `FIRST` and on; `ListenError` if they are not meant for us."""
    count, owner = environ.get("LISTEN_FDS", ""), environ.get("LISTEN_PID", "")
    if not count.isascii() or not count.isdecimal() or int(count) == 0:
        raise ListenError("systemd passed no socket: is txlb started by its socket unit?")
    if owner != str(pid):
        raise ListenError(
            f"systemd's sockets are for process {owner or '?'}, not for us ({pid}): run twistd in the"
            " foreground (-n)"
        )
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    return [names[index] if index < len(names) and names[index] else "unknown" for index in range(int(count))]


def activated(name: str) -> list[socket.socket]:
    """Copies of every socket that systemd passed under ``name``; `ListenError` if there is none."""
    try:
        names = inherited_names(os.environ, os.getpid())
        if name not in names:
            raise ListenError(f"systemd passed no socket of that name (but {', '.join(sorted(set(names)))})")
        return _copies([FIRST + index for index, found in enumerate(names) if found == name])
    except ListenError as error:
        raise ListenError(f"cannot listen on systemd:{name}: {error}") from None


def _copies(descriptors: list[int]) -> list[socket.socket]:
    copies: list[socket.socket] = []
    try:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
            copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST)
            try:
                sock = socket.socket(fileno=copy)
            except OSError:
                os.close(copy)
                raise
            copies.append(sock)
            if sock.type != socket.SOCK_STREAM or not sock.getsockopt(
                socket.SOL_SOCKET, socket.SO_ACCEPTCONN
            ):
                raise ListenError("that socket does not listen for streams (ListenStream=, Accept=no)")
            sock.setblocking(False)
    except (OSError, ListenError) as error:
        for sock in copies:
            sock.close()
        if isinstance(error, ListenError):
            raise
        raise ListenError(f"descriptor {descriptor} is no socket: {error.strerror}") from error
    return copies
