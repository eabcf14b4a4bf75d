"""How an exchange ended, as the access log tells it: two characters and a word.

Rules:

* The first character says who ended it, the second in which phase; they read like HAProxy's. ``--`` is an
  exchange that ended in order, whatever its status code.
* The word says why, precisely enough to act on. Words and characters never change their meaning; new ones may
  come.
* The causes are numbers (`NORMAL` = 0 …), indexes into `TERMINATIONS`: the data path stores one number.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Termination(NamedTuple):
    code: str
    reason: str
    meaning: str


WHO: Final = {
    "-": "nobody: it ended in order",
    "C": "the client closed or reset its connection",
    "c": "the client was too slow, txlb's deadline ended it",
    "S": "the backend refused, closed or reset its connection",
    "s": "the backend was too slow, txlb's deadline ended it",
    "P": "txlb refused to go on: a rule of the protocol or of the configuration",
    "R": "txlb lacked a resource",
    "I": "a fault in txlb itself",
    "K": "the operator: txlb or the backend was told to stop",
}
PHASE: Final = {
    "-": "none, or any",
    "R": "request head: reading and understanding it",
    "B": "request body: reading it and passing it on",
    "C": "choosing a backend and connecting to it",
    "H": "waiting for the answer's head",
    "D": "data: the answer's body on its way to the client",
    "T": "tunnel, after an upgrade",
}

NORMAL: Final = 0
BAD_REQUEST: Final = 1
REQUEST_TOO_LARGE: Final = 2
NO_RULE: Final = 3
BAD_REQUEST_BODY: Final = 4
BODY_TOO_LARGE: Final = 5
CLIENT_ABORT_REQUEST: Final = 6
CLIENT_ABORT_BODY: Final = 7
CLIENT_ABORT_CONNECT: Final = 8
CLIENT_ABORT_WAIT: Final = 9
CLIENT_ABORT_DATA: Final = 10
CLIENT_ABORT_TUNNEL: Final = 11
HEADER_TIMEOUT: Final = 12
BODY_TIMEOUT: Final = 13
SEND_TIMEOUT: Final = 14
NO_BACKEND: Final = 15
CONNECT_REFUSED: Final = 16
CONNECT_FAILED: Final = 17
CONNECT_TIMEOUT: Final = 18
BACKEND_RESET_BODY: Final = 19
BACKEND_RESET_WAIT: Final = 20
BACKEND_RESET_DATA: Final = 21
BACKEND_RESET_TUNNEL: Final = 22
BACKEND_SEND_TIMEOUT: Final = 23
BACKEND_TIMEOUT: Final = 24
BACKEND_DATA_TIMEOUT: Final = 25
BAD_RESPONSE: Final = 26
BAD_RESPONSE_BODY: Final = 27
TUNNEL_IDLE: Final = 28
NO_RESOURCES: Final = 29
INTERNAL_ERROR: Final = 30
SHUTDOWN: Final = 31
FLOW_IDLE: Final = 32
FLOW_EVICTED: Final = 33
CONNECT_TLS: Final = 34
MISDIRECTED: Final = 35
BACKEND_TRUNCATED: Final = 36

TERMINATIONS: Final = (
    Termination("--", "", "the exchange ended in order"),
    Termination(
        "PR", "bad_request", "the request is malformed, ambiguous or not supported (400, 417, 501, 505)"
    ),
    Termination("PR", "request_too_large", "request line or head beyond its limit (414, 431)"),
    Termination("PR", "no_rule", "no routing rule matches (404)"),
    Termination("PB", "bad_request_body", "the request body's framing is malformed (400)"),
    Termination("PB", "body_too_large", "the request body is beyond `limits.body` (413)"),
    Termination("CR", "client_abort", "the client left in the middle of the request head"),
    Termination("CB", "client_abort", "the client left in the middle of the request body"),
    Termination("CC", "client_abort", "the client left before a backend was reached"),
    Termination("CH", "client_abort", "the client left before the answer began"),
    Termination("CD", "client_abort", "the client left in the middle of the answer"),
    Termination("CT", "client_abort", "the client's side of a tunnel was reset"),
    Termination("cR", "header_timeout", "no whole request head within `timeouts.client_header` (408)"),
    Termination("cB", "body_timeout", "no byte of the request body for `timeouts.client_body` (408)"),
    Termination("cD", "send_timeout", "the client took nothing of the answer for `timeouts.send`"),
    Termination("SC", "no_backend", "no backend of the rule can take it (503)"),
    Termination("SC", "connect_refused", "the backend refused the connection, and so did others tried (502)"),
    Termination("SC", "connect_failed", "the backend is unreachable, or closed while connecting (502)"),
    Termination("sC", "connect_timeout", "no connection within `timeouts.connect` (504)"),
    Termination("SB", "backend_reset", "the backend left while the request was being sent (502)"),
    Termination("SH", "backend_reset", "the backend left before its answer began (502)"),
    Termination("SD", "backend_reset", "the backend left in the middle of its answer"),
    Termination("ST", "backend_reset", "the backend's side of a tunnel was reset"),
    Termination(
        "sB", "backend_send_timeout", "the backend took nothing of the request for `timeouts.send` (504)"
    ),
    Termination("sH", "backend_timeout", "no answer within `timeouts.backend_response` (504)"),
    Termination("sD", "backend_timeout", "the answer stopped for `timeouts.backend_response`"),
    Termination("PH", "bad_response", "the answer's head is malformed, ambiguous or too large (502)"),
    Termination("PD", "bad_response_body", "the framing of the answer's body is malformed"),
    Termination("PT", "tunnel_idle", "no byte in either direction for `timeouts.tunnel_idle`"),
    Termination("RC", "no_resources", "no descriptor, port or memory for a backend connection (503)"),
    Termination("I-", "internal_error", "an exception in txlb; its traceback is in the daemon's log"),
    Termination(
        "K-",
        "shutdown",
        "cut off: not finished within `timeouts.shutdown`, or by the deadline of its backend's drain",
    ),
    Termination("--", "flow_idle", "a UDP flow that carried nothing for `timeouts.udp_idle`"),
    Termination("R-", "flow_evicted", "a UDP flow had to make room for another (`udp.max_flows`)"),
    Termination("SC", "connect_tls", "TLS to the backend failed, or its certificate is not valid (502)"),
    Termination("PR", "misdirected", "the name asks for a client certificate, the connection was not (421)"),
    Termination("ST", "backend_truncated", "the backend's TLS ended without close_notify: a cut"),
)


def table() -> str:
    """The table of `docs/access-log.md`, in Markdown."""
    lines = ["| code | reason | meaning |", "|---|---|---|"]
    for it in TERMINATIONS:
        reason = f"`{it.reason}`" if it.reason else ""
        lines.append(f"| `{it.code}` | {reason} | {it.meaning} |")
    return "\n".join(lines) + "\n"
