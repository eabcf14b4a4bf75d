"""Affinity cookies: one client, one backend, told by a cookie that nobody can read or forge.

Rules (as HAProxy's ``cookie … insert indirect nocache dynamic``):

* The value is a keyed hash (BLAKE2b) of the backend's id: the same on every node with that key, after every
  restart; it tells nothing about the backend. A value that no backend of the rule has is no cookie.
* The cookie is set only when the backend that answers is not the one it names, with ``HttpOnly`` and
  ``SameSite=Lax``, ``Secure`` where the client came over TLS; such an answer is marked ``private``.
* Backends never see it: it is cut out of Cookie fields, of which nothing may be left.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, final

from txlb.core.backend import Backend

TOKEN_BYTES: Final = 16
END: Final = b"\r\n"


@final
class Affinity:
    """The stickiness of one rule; ``path`` is its prefix, where the cookie is valid."""

    cookie: bytes

    def __init__(self, cookie: str, path: str, key: bytes) -> None:
        """``key``: 1 to 64 bytes."""
        self.cookie = cookie.encode("ascii")
        self._key = key
        self._tail = b"; Path=" + path.encode("latin-1") + b"; HttpOnly; SameSite=Lax"
        self._tokens: dict[str, bytes] = {}
        self._backends: dict[bytes, Backend] = {}

    def set_members(self, backends: list[Backend]) -> None:
        """These are the rule's backends now."""
        known = self._tokens
        self._tokens = {}
        self._backends = {}
        for backend in backends:
            token = known.get(backend.id)
            if token is None:
                data = backend.id.encode("utf-8")
                token = blake2b(data, digest_size=TOKEN_BYTES, key=self._key).hexdigest().encode("ascii")
            self._tokens[backend.id] = token
            self._backends[token] = backend

    def backend_of(self, cookies: bytes | None) -> Backend | None:
        """Who the client belongs to, by its Cookie field."""
        name = self.cookie
        if cookies is None or name not in cookies:
            return None
        for pair in cookies.split(b";"):
            equals = pair.find(b"=")
            if equals > 0 and pair[:equals].strip() == name:
                return self._backends.get(pair[equals + 1 :].strip())
        return None

    def fields_for(self, backend: Backend, secure: bool) -> bytes:
        """The field lines of an answer that bind the client to ``backend``."""
        token = self._tokens.get(backend.id)
        if token is None:
            return b""  # it left the rule meanwhile
        tail = self._tail + b"; Secure" if secure else self._tail
        return b"Set-Cookie: " + self.cookie + b"=" + token + tail + b"\r\nCache-Control: private\r\n"

    def hide(self, head: bytes) -> bytes:
        """A request's head without the cookie."""
        if self.cookie not in head:
            return head
        lines: list[bytes] = []
        for line in head.split(END):
            if line[:7].lower() == b"cookie:":
                rest = [pair for pair in line[7:].split(b";") if not self._is_ours(pair)]
                if not rest or rest == [b" "]:
                    continue
                line = line[:7] + b";".join(rest)
                if line[7:8] not in (b" ", b"\t"):
                    line = line[:7] + b" " + line[7:]
            lines.append(line)
        return END.join(lines)

    def _is_ours(self, pair: bytes) -> bool:
        equals = pair.find(b"=")
        return equals > 0 and pair[:equals].strip() == self.cookie
