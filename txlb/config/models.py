"""The configuration, key by key: one set of models for file, API and store.

Rules:

* What is not declared here does not exist: unknown keys are errors.
* A key's default is written as a file would write it, and checked like a file's.
* Keys whose feature is still to come are declared `reserved`: their default is
  accepted, any other value refused, and they reach no spec.
* Checks that need more than one key are in `txlb.config.crosschecks`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from txlb.config import kinds
from txlb.config.entries import Backend, Listener, RoutingRule
from txlb.config.kinds import nullable, whole
from txlb.config.section import REQUIRED, Section, key
from txlb.config.settings import (
    AccessLog,
    Admin,
    ErrorResponse,
    HealthCheck,
    IdleConnections,
    Limits,
    Metrics,
    Node,
    Timeouts,
)


class Configuration(Section):
    """The whole file."""

    node: Node = key({}, "This load balancer among others.")
    workers: Annotated[int | None, nullable(whole(0, 256, "processes"), "auto")] = key(
        "auto",
        "Processes that forward. `auto` = one per core; 0 = the control process forwards itself. Fixed until"
        " restart.",
        4,
    )
    admin: Admin = key({}, "The admin port.")
    metrics: Metrics = key({}, "A listener for scrapers alone.")
    store: Annotated[str | None, nullable(kinds.FILE)] = key(
        None,
        "SQLite file that keeps changes made over the API; `null` = they are forgotten at exit. Made if it is"
        " not there. Relative to the configuration file. Fixed until restart.",
        "/var/lib/txlb/store.db",
    )
    secret_file: Annotated[str | None, nullable(kinds.FILE)] = key(
        None,
        "A file of 16 bytes or more, the same on all nodes: the key of affinity cookies. `null` = one that is"
        " made up at the start. Relative to the configuration file.",
    )
    limits: Limits = key({}, "What one client may ask for.")
    timeouts: Timeouts = key({}, "Every deadline.")
    idle_connections: IdleConnections = key({}, "Connections to backends that wait for the next request.")
    access_log: AccessLog = key({}, "One line for every request.")
    health_check: HealthCheck = key({}, "How backends are checked.")
    error_responses: Annotated[
        dict[str, ErrorResponse],
        Field(json_schema_extra={"propertyNames": {"pattern": "^[45][0-9][0-9]$"}}),
    ] = key({}, "What txlb's own error answers say, by status: 400 to 599.", {"503": {"body": "Back soon."}})
    listeners: Annotated[tuple[Listener, ...], Field(min_length=1)] = key(REQUIRED, "Where clients come in.")
    backends: tuple[Backend, ...] = key([], "Addresses that serve.")
    routing_rules: tuple[RoutingRule, ...] = key([], "Which requests go where.")
