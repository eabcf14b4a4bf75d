"""What the resources of the admin API have in common: reading requests, tagging answers.

Rules:

* Every answer about the configuration carries its ETag; a change with If-Match is refused with 412 if the
  configuration is another by then.
* A wait ends after `LONGEST_WAIT` seconds; the answer then says how things stand.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from twisted.web.iweb import IRequest

from txlb.control.amendment import matches
from txlb.control.api.body import read_json
from txlb.control.api.problems import answer
from txlb.control.node import Node
from txlb.errors import ConfigError, RevisionMismatch

LONGEST_WAIT = 60.0


def body_of(request: IRequest, optional: bool = False) -> Any:
    """The JSON of a request; `ConfigError` says what is wrong. An ``optional`` body may be empty: {}."""
    content: Any = request.content
    raw: bytes = content.read()
    if not raw and optional:
        return {}
    try:
        return read_json(raw)
    except ValueError as error:
        raise ConfigError([str(error)]) from None


def arguments_of(request: IRequest) -> dict[str, list[str]]:
    """Everything after the question mark; what has no value is there, too, which Twisted's own lacks."""
    uri: Any = request.uri
    return parse_qs(uri.partition(b"?")[2].decode("latin-1"), keep_blank_values=True, encoding="latin-1")


def query(request: IRequest, **known: tuple[str, ...]) -> dict[str, str]:
    """The arguments after the question mark: of these names, with these values, each once."""
    found: dict[str, str] = {}
    problems: list[str] = []
    for name, values in arguments_of(request).items():
        value = values[0]
        if name not in known:
            problems.append(f"?{name[:64]}: unknown (known here: {', '.join(known) or 'none'})")
        elif len(values) > 1 or value not in known[name]:
            problems.append(f"?{name}: must be {' or '.join(known[name])}")
        else:
            found[name] = value
    if problems:
        raise ConfigError(problems)
    return found


def if_match(request: IRequest) -> str | None:
    """What the If-Match fields say, as one list; None if there is none."""
    values: list[str] | None = request.requestHeaders.getRawHeaders("if-match")
    return None if values is None else ", ".join(values)


def require_match(node: Node, request: IRequest) -> None:
    """Raises `RevisionMismatch` if the request is for another configuration than this one."""
    wanted = if_match(request)
    if wanted is not None and not matches(wanted, node.configuration.etag):
        raise RevisionMismatch("the configuration is another by now: read it again")


def tagged(node: Node, request: IRequest, body: object, status: int = 200) -> bytes:
    """JSON with the ETag of the configuration."""
    request.setHeader(b"etag", node.configuration.etag.encode("ascii"))
    return answer(request, body, status)
