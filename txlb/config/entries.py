"""The sections that are lists: listeners, backends, routing rules."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from txlb.config import kinds
from txlb.config.algorithms import NAME, OWN, Algorithm, named
from txlb.config.health import BackendHealthCheck, off
from txlb.config.kinds import Bind, Duration, Id, Network, Or, choice, nullable, reserved, whole
from txlb.config.section import REQUIRED, Section, key
from txlb.config.tls import BackendTls, Tls


class Udp(Section):
    """Bounds on the flows of a `udp` listener, per worker. A flow is what one client address and port sends
    to one address of the listener, and what comes back.
    """

    max_responses: Annotated[int | None, nullable(whole(0, 65535, "answers"))] = key(
        None,
        "A flow ends at once when each datagram of the client has had so many answers: 1 suits DNS, 0 what is"
        " never answered (syslog). `null` = only `timeouts.udp_idle` ends it.",
        1,
    )
    max_flows: Annotated[int, whole(1, 2**24, "flows")] = key(
        65536, "Flows at a time; past it the least recently used one is ended.", 10000
    )
    max_flows_per_source: Annotated[int, whole(1, 2**24, "flows")] = key(
        1024,
        "Flows at a time of one client address (IPv6: one /64); past it new ones are dropped.",
        100,
    )


def _as_list(value: object) -> object:
    return [value] if isinstance(value, (str, int)) else value


class Listener(Section):
    """A place where clients come in."""

    id: Id = key(REQUIRED, "Its name in rules, logs and metrics.", "web")
    bind: Annotated[
        tuple[Bind, ...], Field(min_length=1), BeforeValidator(_as_list), Or({"type": "string"})
    ] = key(
        REQUIRED,
        "Where it listens: `host:port`, `[v6]:port`, `unix:/path` or `systemd:NAME`, or a list of them. The"
        " host is an address of this machine, `0.0.0.0` (all of IPv4) or `[::]` (all of IPv6, and only that:"
        " list both for both). Port 0 lets the kernel choose one, which suits tests.",
        "0.0.0.0:8080",
    )
    protocol: Annotated[str, choice("http", "tcp", "udp")] = key("http", "What clients speak.", "http")
    trusted: tuple[Network, ...] = key(
        [],
        "Networks of proxies in front whose `X-Forwarded-*` fields and PROXY headers are believed: the client"
        " is then who they say it is. `unix:` stands for whoever comes through a UNIX socket.",
        ["10.0.0.0/8", "fd00::/8"],
    )
    forwarded: Annotated[str, choice("replace", "append")] = key(
        "replace",
        "`X-Forwarded-For`, `-Proto` and `-Host` that come in: `replace` keeps those of `trusted` proxies and"
        " removes all others; `append` keeps them whoever sent them. Ours are added either way.",
        "append",
    )
    via: Annotated[str, choice("chain", "always", "off")] = key(
        "chain", "When to append to `Via`: where one came in, always, or never.", "always"
    )
    tls: Tls | None = key(None, "TLS ends here: certificates and who must show one. `null` = no TLS.")
    proxy_protocol: Annotated[bool, kinds.BOOLEAN] = key(
        False,
        "Whether connections begin with a PROXY header, v1 or v2, that names the client. Then only `trusted`"
        " may connect: everybody else is refused.",
        True,
    )
    sni: Annotated[bool, kinds.BOOLEAN] = key(
        False,
        "For `tcp`: the rule is chosen by the server name that TLS clients ask for (the rules' `host`), and"
        " the bytes are relayed untouched; certificates are the backends' business.",
    )
    udp: Udp = key({}, "Bounds on UDP flows.")
    steer: Annotated[str, choice("connection", "client")] = key(
        "connection",
        "How the kernel spreads clients over workers: by `connection` (address and port), or by `client`: by"
        " address alone, so that one client always meets the same worker.",
        "client",
    )
    forwarding: Annotated[str, reserved(choice("proxy", "kernel"), "proxy")] = key("proxy", "Who forwards.")


class Backend(Section):
    """One address that serves."""

    model_config = ConfigDict(validate_default=False)

    id: Id = key(REQUIRED, "Its name in rules, logs and metrics.", "web-1")
    host: Annotated[str, kinds.HOST] = key(REQUIRED, "IP address or DNS name.", "10.0.1.1")
    port: Annotated[int, whole(1, 65535)] = key(REQUIRED, "TCP port.", 8080)
    weight: Annotated[int, whole(0, 65535)] = key(
        1, "Its share of the traffic, relative to the others of a rule; 0 = no new traffic.", 3
    )
    max_connections: Annotated[int | None, nullable(whole(1, 10_000_000, "connections"))] = key(
        None,
        "Most requests it gets at a time; others are chosen meanwhile. `null` = no limit. It is for all"
        " workers together: they know of each other's within about a tenth of a second, and a burst may pass"
        " it by what came in that time.",
        100,
    )
    health_check_path: Annotated[str | None, nullable(kinds.TARGET)] = key(
        None, "It is checked by `GET` of this path. Left out: by connecting to it.", "/health"
    )
    health_check: Annotated[
        BackendHealthCheck | None, BeforeValidator(off), Or({"anyOf": [{"const": "off"}, kinds.A_REFERENCE]})
    ] = key(
        None,
        "What is particular about its checks, see below, or `off` for none: then it is always HEALTHY."
        " Left out: the `health_check` of all.",
    )
    tls: BackendTls | None = key(None, "TLS to the backend; `{}` = with all its defaults, `null` = no TLS.")
    proxy_protocol: Annotated[str | None, nullable(choice("v1", "v2"))] = key(
        None,
        "Version of the PROXY header that connections to it begin with, to name the client; the backend must"
        " expect that. `null` = none.",
        "v2",
    )


class Retries(Section):
    """How often a request may be tried on another backend.

    After a connect that failed any request is; after something was sent, only an idempotent one of whose
    answer no byte came. Never twice on the same backend. The budget holds per worker.
    """

    max: Annotated[int, whole(0, 100)] = key(2, "Tries of one request after the first; 0 = none.", 3)
    budget: Annotated[float, kinds.PERCENT] = key(
        "20%",
        "Share of a rule's requests of the last `window` that may be tried again after they were sent. Failed"
        " connects do not count.",
        "10%",
    )
    window: Duration = key("10s", "Time over which the share is taken.", "30s")
    min_per_second: Annotated[int, whole(0, 10**6, "retries")] = key(
        10, "Retries per second that are within the budget however little traffic there is.", 5
    )


class Sticky(Section):
    """How a client stays with its backend."""

    cookie: Annotated[str | None, nullable(kinds.COOKIE)] = key(
        None, "Name of the affinity cookie; left out: `txlb-` and the rule's id.", "lb"
    )


def _sticky(value: object) -> object:
    return {} if value is True else None if value is False else value


class RoutingRule(Section):
    """Which requests go to which backends, and how one of them is chosen.

    The most specific host wins: the exact name, then the longest wildcard, then rules without host. Within
    a host the longest `path_prefix` wins; if none fits, the next host is looked at. Without a rule the
    answer is 404.
    """

    id: Annotated[str | None, nullable(kinds.ID)] = key(
        None, "Its name in logs and metrics; left out: `rule-1` for the first, and so on.", "api"
    )
    listeners: Annotated[tuple[Id, ...] | None, Field(min_length=1)] = key(
        None, "Ids of the listeners it serves; left out: every HTTP listener.", ["web"]
    )
    host: Annotated[str | None, nullable(kinds.RULE_HOST)] = key(
        None,
        "Name in the request's `Host`, or `*.example.com` for every name below, however deep; left out: any.",
        "api.example.com",
    )
    path_prefix: Annotated[str | None, nullable(kinds.PATH_PREFIX)] = key(
        None,
        "First segments of the path: `/api` matches `/api` and `/api/x`, not `/apix`. Compared as sent, not"
        " decoded. Left out: any path.",
        "/api",
    )
    algorithm: Annotated[Algorithm, BeforeValidator(named), Or({"anyOf": [NAME.schema, OWN]})] = key(
        "round_robin",
        "How a backend is chosen: a name or a mapping, see below.",
        "least_connections",
    )
    backends: tuple[Id, ...] = key(
        REQUIRED, "Ids of the backends that serve it; of none: the answer is 503.", ["web-1", "web-2"]
    )
    session_sticky: Annotated[Sticky | None, BeforeValidator(_sticky), Or(kinds.BOOLEAN.schema)] = key(
        False,
        "Whether a client stays with its backend: `true`, or a mapping with the name of the cookie. On tcp"
        " and udp listeners it does so by its address, and the algorithm is `ip_hash`.",
    )
    retries: Retries = key({}, "How often a request may be tried again.")
    panic_threshold: Annotated[float, kinds.PERCENT] = key(
        "0%",
        "When no more than this share of the backends is HEALTHY, all are used, UNHEALTHY ones too: better"
        " some errors than the few that are left overrun. Those that drain or weigh 0 stay out. `0%` ="
        " never.",
        "30%",
    )
    fallback: Annotated[None, kinds.NOTHING] = key(None, "Rule used when no backend is left.")
