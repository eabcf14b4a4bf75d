"""From a file, or data as an API gets it, to the snapshot that every process agrees on.

Rules:

* `load` and `parse` give a whole valid `Snapshot`, or raise `ConfigError` with every
  problem, one a line, in the order of the file.
* Relative paths in a file are relative to that file.
* Host names of backends are left for control to resolve; addresses are normalised.
* A rule without id gets ``rule-N``, N its place among the rules.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from txlb.config import addresses
from txlb.config.certificates import TlsFiles
from txlb.config.crosschecks import Examination, draft_of, draft_of_data
from txlb.config.document import Document
from txlb.config.entries import Backend, Listener, RoutingRule
from txlb.config.files import read_file
from txlb.config.health import all_checks, own_check
from txlb.config.models import Configuration
from txlb.config.problems import Finding, Problem, Suggestions
from txlb.config.reader import read
from txlb.config.settings import Admin, ErrorResponse
from txlb.config.validation import findings_of
from txlb.core.model import (
    AccessLogSpec,
    AdminSpec,
    AdminTlsSpec,
    AlgorithmSpec,
    BackendSpec,
    BackendTlsSpec,
    ErrorResponseSpec,
    IdleConnectionsSpec,
    LimitsSpec,
    ListenerSpec,
    RetriesSpec,
    RuleSpec,
    Snapshot,
    TimeoutsSpec,
    TlsSpec,
    UdpSpec,
)
from txlb.errors import ConfigError

# Keys whose value may be the word off, which elsewhere is refused as an ambiguous boolean.
WORDS = {"off": ("format", "via", "health_check", "type")}

LARGEST_FILE = 65536  # of a secret, of an answer's body

Further = Callable[[Snapshot], Iterable[Finding]]


def _nothing(_: Snapshot) -> Iterable[Finding]:
    return ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration, and what is odd about it, one a line."""

    snapshot: Snapshot
    warnings: tuple[str, ...]


def load(path: str | os.PathLike[str], environ: Mapping[str, str], further: Further = _nothing) -> Loaded:
    """Read the configuration file at ``path``; ``further`` examines what is valid so far."""
    source = os.fspath(path)
    try:
        raw = Path(source).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        problem = Problem(source, 0, 0, "", f"cannot be read: {reason or error}")
        raise ConfigError([str(problem)]) from None
    return loads(raw, environ, source=source, further=further)


def loads(
    raw: bytes, environ: Mapping[str, str], source: str = "<configuration>", further: Further = _nothing
) -> Loaded:
    """Like `load`, for text that is already here."""
    document = read(source, raw, environ, WORDS)
    if document.place is None:
        problems = document.problems or [Problem(source, 1, 1, "", "the file is empty")]
        raise ConfigError(map(str, problems))
    return _validate(document, Path(source).absolute().parent, further)


def parse(data: object, source: str = "", base: str | os.PathLike[str] = ".") -> Loaded:
    """Like `load`, for data: what JSON gives."""
    return _validate(Document(source, data), Path(base).absolute())


def _validate(document: Document, base: Path, further: Further = _nothing) -> Loaded:
    suggestions = Suggestions()
    findings: list[Finding] = []
    configuration = None
    try:
        configuration = Configuration.model_validate(document.data)
        draft = draft_of(configuration)
    except ValidationError as error:
        findings = findings_of(error, Configuration, suggestions)
        draft = draft_of_data(document.data)
    examination = Examination(draft, suggestions)
    examination.run()
    findings += examination.errors
    responses = _error_responses(configuration, document.data, base, findings)
    secret = _secret(configuration, base, findings)
    files = TlsFiles(base)
    listener_tls, backend_tls = _tls(configuration, files)
    findings += files.errors
    problems = document.located(findings)
    if problems or configuration is None:
        raise ConfigError(map(str, problems))
    warnings = Document(document.source, None, place=document.place).located(
        [*examination.warnings, *files.warnings]
    )
    snapshot = _snapshot(configuration, responses, secret, base)
    if listener_tls or backend_tls:
        snapshot = replace(
            snapshot,
            listeners=tuple(replace(one, tls=listener_tls.get(one.id)) for one in snapshot.listeners),
            backends=tuple(
                replace(one, tls=backend_tls[one.id]) if one.id in backend_tls else one
                for one in snapshot.backends
            ),
        )
    if more := document.located(list(further(snapshot))):
        raise ConfigError(map(str, more))
    return Loaded(snapshot, tuple(map(str, warnings)))


def _tls(
    configuration: Configuration | None, files: TlsFiles
) -> tuple[dict[str, TlsSpec], dict[str, BackendTlsSpec]]:
    """What the files say that listeners and backends name, by id."""
    listeners: dict[str, TlsSpec] = {}
    backends: dict[str, BackendTlsSpec] = {}
    if configuration is not None:
        for index, listener in enumerate(configuration.listeners):
            if listener.tls is not None:
                listeners[listener.id] = files.listener(listener.tls, ("listeners", index, "tls"))
        for index, backend in enumerate(configuration.backends):
            if backend.tls is not None:
                backends[backend.id] = files.backend(backend.tls, ("backends", index, "tls"))
    return listeners, backends


def _snapshot(
    configuration: Configuration, responses: tuple[ErrorResponseSpec, ...], secret: str, base: Path
) -> Snapshot:
    limits, idle, log = configuration.limits, configuration.idle_connections, configuration.access_log
    return Snapshot(
        node_id=configuration.node.id or _host_name(),
        workers=configuration.workers,
        admin=_admin(configuration.admin, base),
        admin_allowed_backends=configuration.admin.allowed_backends,
        metrics_bind=configuration.metrics.bind,
        store=None if configuration.store is None else str(base / configuration.store),
        secret_file=None if configuration.secret_file is None else str(base / configuration.secret_file),
        secret=secret,
        limits=LimitsSpec(
            limits.max_connections,
            limits.request_line,
            limits.head,
            limits.fields,
            limits.body,
            limits.tls_handshakes,
        ),
        timeouts=TimeoutsSpec(**configuration.timeouts.model_dump()),
        idle_connections=IdleConnectionsSpec(idle.min_per_backend, idle.max_per_backend, idle.idle_timeout),
        access_log=AccessLogSpec(log.path if log.path == "-" else str(base / log.path), log.format),
        health_check=all_checks(configuration.health_check),
        health_check_concurrency=configuration.health_check.concurrency,
        listeners=tuple(listener_spec(one) for one in configuration.listeners),
        backends=tuple(map(backend_spec, configuration.backends)),
        rules=_rules(configuration.routing_rules),
        error_responses=responses,
    )


def listener_spec(listener: Listener) -> ListenerSpec:
    return ListenerSpec(
        listener.id,
        listener.bind,
        listener.protocol,
        listener.trusted,
        listener.forwarded,
        listener.via,
        proxy_protocol=listener.proxy_protocol,
        udp=UdpSpec(**listener.udp.model_dump()),
        steer=listener.steer,
        sni=listener.sni,
    )


def _admin(admin: Admin, base: Path) -> AdminSpec:
    tls = None
    if admin.tls is not None:
        certificate = admin.tls.certificates[0]
        tls = AdminTlsSpec(str(base / certificate.chain), str(base / certificate.key), admin.tls.min_version)
    tokens = None if admin.token_file is None else str(base / admin.token_file)
    return AdminSpec(admin.bind, tokens, tls, admin.allowed_hosts)


def backend_spec(backend: Backend) -> BackendSpec:
    return BackendSpec(
        backend.id,
        backend.host,
        backend.port,
        backend.weight,
        backend.max_connections,
        addresses.ip_address(backend.host),
        proxy_protocol=backend.proxy_protocol,
        health_check=own_check(backend.health_check, backend.health_check_path),
    )


def rule_spec(rule: RoutingRule, id: str) -> RuleSpec:
    """``id`` is used if the rule has none of its own."""
    prefix = None if rule.path_prefix == "/" else rule.path_prefix
    algorithm = AlgorithmSpec(rule.algorithm.name, rule.algorithm.options())
    retries = RetriesSpec(
        rule.retries.max, rule.retries.budget, rule.retries.window, rule.retries.min_per_second
    )
    return RuleSpec(
        rule.id or id,
        rule.backends,
        rule.listeners,
        rule.host,
        prefix,
        algorithm,
        retries,
        rule.panic_threshold,
        None if rule.session_sticky is None else rule.session_sticky.cookie or f"txlb-{rule.id or id}",
    )


def _rules(rules: tuple[RoutingRule, ...]) -> tuple[RuleSpec, ...]:
    taken = {rule.id for rule in rules if rule.id is not None}
    specs: list[RuleSpec] = []
    for number, rule in enumerate(rules, start=1):
        id = f"rule-{number}"
        while rule.id is None and id in taken:
            id += "-"
        specs.append(rule_spec(rule, id))
    return tuple(specs)


def _error_responses(
    configuration: Configuration | None, data: Any, base: Path, findings: list[Finding]
) -> tuple[ErrorResponseSpec, ...]:
    """The answers, files read; ``findings`` gets what is wrong with them."""
    if configuration is not None:
        responses: dict[str, ErrorResponse] = configuration.error_responses
    else:
        responses = {}
        section = data.get("error_responses") if isinstance(data, dict) else None
        for status, response in section.items() if isinstance(section, dict) else ():
            try:
                responses[str(status)] = ErrorResponse.model_validate(response)
            except ValidationError:
                continue
    specs: list[ErrorResponseSpec] = []
    for status, response in responses.items():
        path = ("error_responses", status)
        if not re.fullmatch(r"[45][0-9][0-9]", status):
            findings.append(Finding(path, "is not a status of an error: 400 to 599", at_key=True))
            continue
        if (response.body is None) == (response.file is None):
            findings.append(Finding(path, "needs either body or file"))
            continue
        body = response.body
        if response.file is not None:
            try:
                body = _body_of(base / response.file)
            except ValueError as error:
                findings.append(Finding((*path, "file"), str(error)))
                continue
        specs.append(ErrorResponseSpec(int(status), response.content_type, body or ""))
    return tuple(sorted(specs, key=lambda spec: spec.status))


def _secret(configuration: Configuration | None, base: Path, findings: list[Finding]) -> str:
    """The key of affinity cookies, hex; "" if no file has it."""
    if configuration is None or configuration.secret_file is None:
        return ""
    path = base / configuration.secret_file
    try:
        raw = read_file(path, LARGEST_FILE)
    except ValueError as error:
        findings.append(Finding(("secret_file",), str(error)))
        return ""
    if len(raw.strip()) < 16:
        findings.append(Finding(("secret_file",), f"{path} must hold at least 16 bytes"))
    return blake2b(raw.strip(), digest_size=32).hexdigest()


def _body_of(path: Path) -> str:
    try:
        return read_file(path, LARGEST_FILE).decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None


def _host_name() -> str:
    """The host name, as far as it can be an id."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "txlb"
