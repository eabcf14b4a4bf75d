"""A snapshot as the YAML that gives it again: what ``GET /config`` shows.

Rules:

* ``loads(effective(snapshot))`` equals ``snapshot``, but for its generation and for
  the addresses that names resolved to.
* Keys and certificates are named by their files, never shown.
* Text is quoted unless the strict reader takes it for just that text.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any

from txlb.config.health import shown_check
from txlb.config.scalars import resolve_plain
from txlb.config.values import show_duration, show_percent, show_size
from txlb.core.model import AdminSpec, BackendTlsSpec, Snapshot, TlsSpec

_PLAIN = re.compile(r"[A-Za-z0-9./][A-Za-z0-9._/-]*")
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def effective(snapshot: Snapshot) -> str:
    return "".join(_mapping(data_of(snapshot), ""))


def data_of(snapshot: Snapshot) -> dict[str, Any]:
    """The same as plain data: what `txlb.config.load.parse` takes."""
    limits, idle = snapshot.limits, snapshot.idle_connections
    timeouts = {name: getattr(snapshot.timeouts, name) for name in snapshot.timeouts.__dataclass_fields__}
    checks = snapshot.health_check
    return {
        "node": {"id": snapshot.node_id or None},
        "workers": "auto" if snapshot.workers is None else snapshot.workers,
        "admin": {**_admin(snapshot.admin), "allowed_backends": list(snapshot.admin_allowed_backends)},
        "metrics": {"bind": snapshot.metrics_bind},
        "store": snapshot.store,
        "secret_file": snapshot.secret_file,
        "limits": {
            "max_connections": "auto" if limits.max_connections is None else limits.max_connections,
            "request_line": show_size(limits.request_line),
            "head": show_size(limits.head),
            "fields": limits.fields,
            "body": None if limits.body is None else show_size(limits.body),
            "tls_handshakes": limits.tls_handshakes,
        },
        "timeouts": {name: show_duration(seconds) for name, seconds in timeouts.items()},
        "idle_connections": {
            "min_per_backend": idle.min_per_backend,
            "max_per_backend": idle.max_per_backend,
            "idle_timeout": show_duration(idle.idle_timeout),
        },
        "access_log": {"path": snapshot.access_log.path, "format": snapshot.access_log.format},
        "health_check": {
            "interval": show_duration(checks.interval),
            "timeout": show_duration(checks.timeout),
            "rise": checks.rise,
            "fall": checks.fall,
            "suspect_after": show_duration(checks.suspect_after),
            "concurrency": snapshot.health_check_concurrency,
        },
        "error_responses": {
            str(one.status): {"content_type": one.content_type, "body": one.body}
            for one in snapshot.error_responses
        },
        "listeners": [
            {
                "id": one.id,
                "bind": list(one.bind),
                "protocol": one.protocol,
                "trusted": list(one.trusted),
                "forwarded": one.forwarded,
                "via": one.via,
                "proxy_protocol": one.proxy_protocol,
                "udp": asdict(one.udp),
                "steer": one.steer,
                "tls": _tls(one.tls),
                "sni": one.sni,
            }
            for one in snapshot.listeners
        ],
        "backends": [
            {
                "id": one.id,
                "host": one.host,
                "port": one.port,
                "weight": one.weight,
                "max_connections": one.max_connections,
                "proxy_protocol": one.proxy_protocol,
                "tls": _backend_tls(one.tls),
                **shown_check(one.health_check),
            }
            for one in snapshot.backends
        ],
        "routing_rules": [
            {
                "id": one.id,
                **({} if one.listeners is None else {"listeners": list(one.listeners)}),
                "host": one.host,
                "path_prefix": one.path_prefix,
                "algorithm": one.algorithm.name
                if not one.algorithm.options
                else {"name": one.algorithm.name, **dict(one.algorithm.options)},
                "backends": list(one.backends),
                "retries": {
                    "max": one.retries.max,
                    "budget": show_percent(one.retries.budget),
                    "window": show_duration(one.retries.window),
                    "min_per_second": one.retries.min_per_second,
                },
                "panic_threshold": show_percent(one.panic_threshold),
                "session_sticky": False if one.sticky is None else {"cookie": one.sticky},
            }
            for one in snapshot.rules
        ],
    }


def _admin(admin: AdminSpec) -> dict[str, Any]:
    shown: dict[str, Any] = {"bind": admin.bind, "token_file": admin.token_file}
    if admin.tls is not None:
        certificate = {"chain": admin.tls.chain, "key": admin.tls.key}
        shown["tls"] = {"certificates": [certificate], "min_version": admin.tls.min_version}
    return {**shown, "allowed_hosts": list(admin.allowed_hosts)}


def _tls(spec: TlsSpec | None) -> dict[str, Any] | None:
    if spec is None:
        return None
    return {
        "certificates": [
            {
                "chain": one.chain,
                "key": one.key,
                "client_ca": one.client_ca,
                "ocsp": None if one.ocsp is None else one.ocsp.path,
            }
            for one in spec.certificates
        ],
        "client_ca": spec.client_ca,
        "client_auth": spec.client_auth,
        "min_version": spec.min_version,
        "unknown_name": spec.unknown_name,
    }


def _backend_tls(spec: BackendTlsSpec | None) -> dict[str, Any] | None:
    if spec is None:
        return None
    mine = spec.client_certificate
    return {
        "ca": spec.ca,
        "server_name": spec.server_name,
        "client_certificate": None if mine is None else {"chain": mine.chain, "key": mine.key},
        "verify": spec.verify,
    }


def _mapping(data: dict[str, Any], indent: str) -> list[str]:
    """The lines of a block mapping; lists of mappings become blocks, other lists stay on a line."""
    lines: list[str] = []
    for name, value in data.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}:\n", *_mapping(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{indent}{name}:\n")
            for item in value:
                first, *rest = _mapping(item, indent + "    ")
                lines += [f"{indent}  - {first.lstrip(' ')}", *rest]
        else:
            lines.append(f"{indent}{name}: {_flow(value)}\n")
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value):
        try:
            if resolve_plain(value) == value:
                return value
        except ValueError:
            pass
    quoted = json.dumps(value.replace("${", "$${"), ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)
