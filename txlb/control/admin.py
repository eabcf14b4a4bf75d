"""Where the admin API listens, and the optional port for scrapers beside it.

Rules:

* Both are bound with the listeners, before anything starts; Klein is imported later.
* An admin port that others can reach is refused without tokens and TLS, and so is a token file or certificate
  that cannot be used.
* A reload reads token file and certificate again; if one is bad, the reload fails and the old ones stay.
* The port for scrapers has ``GET /metrics`` and ``GET /health`` and nothing else, for everybody who can
  connect.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred

from txlb.control.api.auth import Tokens, read_tokens
from txlb.control.api.guard import Guard
from txlb.control.endpoint import Endpoint
from txlb.control.node import Node
from txlb.core.model import AdminSpec, AdminTlsSpec
from txlb.errors import ListenError, TxlbError
from txlb.net.sockets import parse_bind


def unusable_files(spec: AdminSpec) -> Iterator[tuple[str, str]]:
    """Which keys of ``spec`` name files that cannot be used, and why: told before anything is bound."""
    reads: tuple[tuple[str, Callable[[Any], Any]], ...] = (("token_file", read_tokens), ("tls", _read_tls))
    for key, read in reads:
        named = getattr(spec, key)
        if spec.bind is None or named is None:
            continue
        try:
            read(named)
        except TxlbError as error:
            for line in str(error).splitlines():
                yield key, line.replace(f"admin.{key}: ", "", 1)


def _read_tls(spec: AdminTlsSpec) -> tuple[Any, float]:
    from txlb.control.api.tls import read_context

    return read_context(spec)


class AdminListener:
    """The admin port."""

    def __init__(self, spec: AdminSpec) -> None:
        assert spec.bind is not None
        self._spec = spec
        self._endpoint = Endpoint(spec.bind)
        self._tokens: Tokens | None = None
        self._context: Any = None  # OpenSSL's
        self._ends = 0.0
        self._node: Node | None = None
        self._guard: Guard | None = None
        self._certificate: Any = None  # what serves the context
        self._site: Any = None

    @property
    def address(self) -> str:
        """Where it listens in fact."""
        return self._endpoint.address

    def bind(self) -> None:
        """Raises `ListenError`, `TokenFileError` and `CertificateError`."""
        self._check_reach()
        self._tokens, self._context, self._ends = self._read()
        self._endpoint.bind()

    def start(self, node: Node, reactor: Any) -> None:
        """Serve."""
        from txlb.control.api.app import AdminApi
        from txlb.control.api.audit import AuditLog
        from txlb.control.api.site import AdminSite

        self._node = node
        self._tell_end(self._ends)
        self._guard = Guard(self._tokens, self._spec.allowed_hosts, reactor.seconds)
        audit = AuditLog(reactor.seconds, time.time, counts=node.admin_requests)
        site = self._site = AdminSite(AdminApi(node).app.resource(), self._guard, audit, reactor)
        factory: Any = site
        if self._context is not None:
            from twisted.protocols.tls import TLSMemoryBIOFactory

            from txlb.control.api.tls import Certificate

            self._certificate = Certificate(self._context)
            site.tls = True
            factory = TLSMemoryBIOFactory(self._certificate, False, site, reactor)
        self._endpoint.serve(factory, reactor)

    def prepare(self) -> Callable[[], None]:
        """A reload: read the files again, in a thread; what is returned puts them in force."""
        tokens, context, ends = self._read()

        def commit() -> None:
            if self._guard is not None:
                self._guard.tokens = tokens
            if self._certificate is not None:
                self._certificate.context = context
            self._tell_end(ends)

        return commit

    def stop(self) -> Deferred[None]:
        """Stop listening and end what is open."""
        if self._site is not None:
            self._site.disconnect()
        return self._endpoint.stop()

    def _tell_end(self, ends: float) -> None:
        if self._node is not None and self._spec.tls is not None:
            self._node.own_certificates[self._spec.tls.chain] = ends

    def _read(self) -> tuple[Tokens | None, Any, float]:
        spec = self._spec
        tokens = None if spec.token_file is None else read_tokens(spec.token_file)
        if spec.tls is None:
            return tokens, None, 0.0
        return tokens, *_read_tls(spec.tls)

    def _check_reach(self) -> None:
        spec = self._spec
        if spec.bind is None or spec.bind.startswith("unix:"):
            return
        if ipaddress.ip_address(parse_bind(spec.bind)[1]).is_loopback:
            return
        missing = [f"admin.{name}" for name in ("token_file", "tls") if getattr(spec, name) is None]
        if missing:
            raise ListenError(
                f"admin.bind {spec.bind}: others can reach it, which needs {' and '.join(missing)}"
                " (or a loopback address, 127.0.0.1 or [::1], or unix:/path)"
            )


class MetricsListener:
    """The port for scrapers."""

    def __init__(self, bind: str) -> None:
        self._endpoint = Endpoint(bind)
        self._site: Any = None

    @property
    def address(self) -> str:
        """Where it listens in fact."""
        return self._endpoint.address

    def bind(self) -> None:
        """Raises `ListenError`."""
        self._endpoint.bind()

    def start(self, node: Node, reactor: Any) -> None:
        """Serve."""
        from txlb.control.api.scrape import ScrapeApi, ScrapeSite

        self._site = ScrapeSite(ScrapeApi(node).app.resource(), reactor)
        self._endpoint.serve(self._site, reactor)

    def stop(self) -> Deferred[None]:
        """Stop listening and end what is open."""
        if self._site is not None:
            self._site.disconnect()
        return self._endpoint.stop()
