"""Answers of the admin API: JSON, and errors as ``application/problem+json``.

A problem is ``{type, title, status, errors: [{detail}]}``, with every error that was found.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.python.failure import Failure
from twisted.web.http import RESPONSES
from twisted.web.iweb import IRequest


def problem(request: IRequest, status: int, *details: str) -> bytes:
    """Make this answer a problem report."""
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/problem+json")
    title = RESPONSES.get(status, b"Error").decode("ascii")
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
