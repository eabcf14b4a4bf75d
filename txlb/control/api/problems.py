"""Answers of the admin API: JSON, and errors as ``application/problem+json``.

A problem is ``{type, title, status, errors: [{detail}]}``, with every error that was found; ``title`` is what
HTTP calls the status.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from twisted.python.failure import Failure
from twisted.web.iweb import IRequest

from txlb.errors import ConfigError, IdTaken, RevisionMismatch, UnknownId

STATUSES = {ConfigError: 400, UnknownId: 404, IdTaken: 409, RevisionMismatch: 412}


def problem(request: IRequest, status: int, *details: str) -> bytes:
    """Make this answer a problem report."""
    title = HTTPStatus(status).phrase
    request.setResponseCode(status, title.encode("ascii"))
    request.setHeader(b"content-type", b"application/problem+json")
    errors = [{"detail": detail} for detail in details]
    return json.dumps({"type": "about:blank", "title": title, "status": status, "errors": errors}).encode(
        "utf-8"
    )


def answer(request: IRequest, body: object, status: int = 200) -> bytes:
    """Make this answer JSON."""
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"cache-control", b"no-store")
    return json.dumps(body).encode("utf-8")


def refused(request: IRequest, failure: Failure) -> bytes:
    """What werkzeug found wrong: no such path, no such method."""
    error: Any = failure.value
    if error.code == 405:
        request.setHeader(b"allow", ", ".join(sorted(error.valid_methods or ())).encode("ascii"))
    return problem(request, error.code or 500, error.description or "")


def refused_change(request: IRequest, failure: Failure) -> bytes:
    """What is wrong with a change; 503 if it is not the change that is wrong, but us (the store, the end)."""
    error: Any = failure.value
    details = error.problems if isinstance(error, ConfigError) else [str(error)]
    return problem(request, STATUSES.get(type(error), 503), *details)
