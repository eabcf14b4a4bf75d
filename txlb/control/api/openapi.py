"""``GET /openapi.json``: every call, its parameters, bodies and answers, as OpenAPI 3.1.

Rules:

* Calls are listed here by hand; a test compares them with the routes that there are.
* Bodies that a file could hold (backends, routing rules) are the configuration's own schemas.
* Every call may also answer what the guard in front refuses with (`GUARD`).
"""

from __future__ import annotations

import json
from typing import Any

import txlb
from txlb.config.schema import schema
from txlb.control.api.rules import PROVENANCES

Json = dict[str, Any]

GUARD = {
    "401": "no token, or none that is valid",
    "403": "a Host or Origin that is not allowed, or a token that may only read",
    "429": "too many wrong tokens from this address; Retry-After tells when to come back",
}
CHANGE = {
    "400": "every error of the body or the query",
    "412": "If-Match names another configuration than the one in force",
    "413": "the body is too long",
    "415": "the body is not application/json",
    "503": "it could not be stored, or txlb is stopping",
}
NONE_SUCH = {"404": "there is no such object"}


def description() -> Json:
    """The whole document."""
    definitions = json.loads(json.dumps(schema()["$defs"]).replace("#/$defs/", "#/components/schemas/"))
    backend, rule = definitions["Backend"], definitions["RoutingRule"]
    definitions["BackendPatch"] = {
        **backend,
        "description": "What changes; what is left out stays.",
        "properties": {name: value for name, value in backend["properties"].items() if name != "id"},
        "required": [],
        "minProperties": 1,
    }
    provenance = {"enum": list(PROVENANCES)}
    definitions["RoutingRulePut"] = {**rule, "properties": {**rule["properties"], "provenance": provenance}}
    definitions["RoutingRuleView"] = {
        "type": "object",
        "description": "A routing rule in force, as a file would say it.",
        "properties": {name: {"description": one["description"]} for name, one in rule["properties"].items()}
        | {"provenance": provenance},
        "required": ["id", "backends", "provenance"],
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "txlb admin API",
            "version": txlb.__version__,
            "description": "Shows and steers one load balancer while it runs.",
        },
        "security": [{"token": []}, {}],  # none, where there is no token file
        "paths": _paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": definitions | _views(),
        },
    }


def _paths() -> Json:
    id_parameter = [_parameter("id", "path", {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"})]
    match = _parameter(
        "If-Match", "header", {"type": "string"}, "The ETag of the configuration to be changed."
    )
    cursor = {"type": "string", "pattern": r"^([1-9][0-9]{0,3}\.[0-9]{1,9})?$"}
    flag = {"type": "string", "enum": ["true", "false"]}
    backend, rule = _answer("Backend as it stands", "BackendView"), _answer("The rule", "RoutingRuleView")
    return {
        "/health": {
            "get": _call(
                "How this load balancer is doing",
                {
                    "200": _answer("It serves", "HealthView"),
                    "503": _answer("It does not serve yet, or is stopping", "HealthView"),
                },
            ),
        },
        "/metrics": {
            "get": _call(
                "Metrics for Prometheus, or as OpenMetrics for who accepts that",
                {
                    "200": {
                        "description": "All of them",
                        "content": {
                            "text/plain": {"schema": {"type": "string"}},
                            "application/openmetrics-text": {"schema": {"type": "string"}},
                        },
                    },
                },
            ),
        },
        "/connections": {
            "get": _call(
                "Client connections, in pages",
                {
                    "200": _answer("A page", "ConnectionsView"),
                    **_problems(
                        {
                            "400": "limit or next is malformed, or an unknown query",
                            "503": "a worker does not answer",
                        }
                    ),
                },
                [
                    _parameter(
                        "limit", "query", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
                    ),
                    _parameter("next", "query", cursor, "The `next` of the page before."),
                ],
            ),
        },
        "/config": {
            "get": _call(
                "The configuration in force, as a file could say it; no secrets",
                {
                    "200": {
                        "description": "YAML",
                        "content": {"application/yaml": {"schema": {}}},
                    },
                    **_problems({"400": "an unknown query"}),
                },
            ),
        },
        "/openapi.json": {
            "get": _call(
                "This description",
                {
                    "200": {
                        "description": "OpenAPI",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    },
                    **_problems({"400": "an unknown query"}),
                },
            ),
        },
        "/backends": {
            "get": _call(
                "Every backend",
                {"200": _answer("All", "BackendsView"), **_problems({"400": "an unknown query"})},
            ),
            "post": _call(
                "Add a backend",
                {
                    "201": _answer("Added, on disk and in every worker", "BackendAdded"),
                    **_problems({**CHANGE, "409": "the id is taken"}),
                },
                [match],
                "Backend",
            ),
        },
        "/backends/{id}": {
            "get": _call(
                "One backend",
                {"200": backend, **_problems({**NONE_SUCH, "400": "an unknown query"})},
                [
                    *id_parameter,
                    _parameter(
                        "wait",
                        "query",
                        {"type": "string", "enum": ["drained"]},
                        "Answer when nothing is open any more, after 60 s at the latest.",
                    ),
                ],
            ),
            "patch": _call(
                "Change a backend",
                {"200": backend, **_problems({**CHANGE, **NONE_SUCH, "409": "it is being removed"})},
                [*id_parameter, match],
                "BackendPatch",
            ),
            "delete": _call(
                "Remove a backend",
                {
                    "200": _answer("It is gone", "BackendGone"),
                    "202": _answer("It is drained first", "BackendGone"),
                    **_problems({**CHANGE, **NONE_SUCH}),
                },
                [
                    *id_parameter,
                    match,
                    _parameter("force", "query", flag, "Cut off what is open."),
                    _parameter("wait", "query", flag, "Answer when it is gone, after 60 s at the latest."),
                ],
            ),
        },
        "/backends/{id}/drain": {
            "post": _call(
                "No new traffic for a backend",
                {"202": backend, **_problems({**CHANGE, **NONE_SUCH, "409": "it is being removed"})},
                [*id_parameter, match],
                "Drain",
            ),
        },
        "/backends/{id}/enable": {
            "post": _call(
                "End the drain of a backend",
                {"200": backend, **_problems({**CHANGE, **NONE_SUCH, "409": "it is being removed"})},
                [*id_parameter, match],
                "Nothing",
            ),
        },
        "/routing-rules": {
            "get": _call(
                "Every routing rule",
                {"200": _answer("All", "RoutingRulesView"), **_problems({"400": "an unknown query"})},
            ),
            "post": _call(
                "Add a routing rule",
                {
                    "201": _answer("Added", "RuleAdded"),
                    **_problems({**CHANGE, "409": "the id is taken"}),
                },
                [match],
                "RoutingRule",
            ),
        },
        "/routing-rules/{id}": {
            "get": _call(
                "One routing rule",
                {"200": rule, **_problems({**NONE_SUCH, "400": "an unknown query"})},
                id_parameter,
            ),
            "put": _call(
                "Replace a routing rule",
                {"200": rule, **_problems({**CHANGE, **NONE_SUCH})},
                [*id_parameter, match],
                "RoutingRulePut",
            ),
            "delete": _call(
                "Remove a routing rule",
                {"200": _answer("It is gone", "RuleGone"), **_problems({**CHANGE, **NONE_SUCH})},
                [*id_parameter, match],
            ),
        },
        "/reload": {
            "post": _call(
                "Load the configuration file again",
                {
                    "200": _answer("What changed", "Reloaded"),
                    **_problems(
                        {
                            **{status: CHANGE[status] for status in ("400", "412", "413", "415")},
                            "422": "every error of the file; nothing changed",
                            "503": "txlb is stopping",
                        }
                    ),
                },
                [match],
                "Nothing",
            ),
        },
    }


def _views() -> Json:
    text: Json = {"type": "string"}
    count: Json = {"type": "integer", "minimum": 0}
    number: Json = {"type": "number", "minimum": 0}
    maybe_text: Json = {"type": ["string", "null"]}
    moment: Json = {"type": ["string", "null"], "format": "date-time"}
    status: Json = {"enum": ["HEALTHY", "UNHEALTHY", "DRAINING"]}
    anything: Json = {}
    problem = _object(
        {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "errors": {"type": "array", "items": _object({"detail": text})},
        }
    )
    health = _object(
        {
            "load_balancer_id": text,
            "role": {"enum": ["ACTIVE", "STANDBY"]},
            "active_connections": count,
            "requests_per_sec": number,
            "generation": count,
            "backend_health": {"type": "object", "additionalProperties": status},
        }
    )
    connection = _object(
        {
            "connection_id": text,
            "client_ip": text,
            "client_port": count,
            "listener": text,
            "backend_id": maybe_text,
            "backend_connection_id": maybe_text,
            "session_id": maybe_text,
            "created_at": text,
            "last_activity_at": text,
            "bytes_in": count,
            "bytes_out": count,
        }
    )
    backend = _object(
        {
            "id": text,
            "host": text,
            "port": count,
            "weight": count,
            "max_connections": {"type": ["integer", "null"]},
            "status": status,
            "provenance": {"enum": ["file", "api"]},
            "active_connections": count,
            "consecutive_failures": count,
            "max_consecutive_failures": count,
            "last_health_check_at": moment,
            "last_successful_check_at": moment,
            "last_reason": maybe_text,
            "requests": count,
            "errors": count,
            "mean_latency_ms": {"type": ["number", "null"]},
            "p99_latency_ms": {"type": ["number", "null"]},
        }
    )
    return {
        "Problem": problem,
        "HealthView": health,
        "ConnectionsView": _object(
            {
                "connections": {"type": "array", "items": connection},
                "next": maybe_text,
            }
        ),
        "BackendView": backend,
        "BackendsView": _object({"backends": {"type": "array", "items": _reference("BackendView")}}),
        "BackendAdded": _object({"id": text, "status": {"const": "REGISTERED"}}),
        "BackendGone": _object({"id": text, "status": {"enum": ["DEREGISTERED", "DRAINING"]}}),
        "Drain": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "timeout": {
                    "description": "A duration such as 5m, or seconds; left out: timeouts.drain.",
                    "anyOf": [{"type": "number", "minimum": 0, "maximum": 2592000}, text, {"type": "null"}],
                }
            },
        },
        "Nothing": {"type": "object", "additionalProperties": False},
        "RoutingRulesView": _object(
            {
                "routing_rules": {"type": "array", "items": _reference("RoutingRuleView")},
            }
        ),
        "RuleAdded": _object({"rule_id": text}),
        "RuleGone": _object({"rule_id": text, "status": text}),
        "Reloaded": _object({"generation": count, "changed": anything}),
    }


def _object(properties: Json) -> Json:
    """More may come with later versions; these are always there."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(what: str, name: str) -> Json:
    return {"description": what, "content": {"application/json": {"schema": _reference(name)}}}


def _problems(why: dict[str, str]) -> Json:
    content = {"application/problem+json": {"schema": _reference("Problem")}}
    return {status: {"description": what, "content": content} for status, what in sorted(why.items())}


def _parameter(name: str, place: str, schema: Json, what: str = "") -> Json:
    found = {"name": name, "in": place, "required": place == "path", "schema": schema}
    return {**found, "description": what} if what else found


def _call(summary: str, answers: Json, parameters: list[Json] | None = None, body: str = "") -> Json:
    call: Json = {"summary": summary, "responses": {**answers, **_problems(GUARD)}}
    if parameters:
        call["parameters"] = parameters
    if body:
        content = {"application/json": {"schema": _reference(body)}}
        call["requestBody"] = {"required": True, "content": content}
    return call
