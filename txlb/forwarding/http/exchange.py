"""Exchange: one request and its answer, from routing to the log line.

Rules:

* How the request reaches a backend is in `dispatch`; here is what comes of it: the answer, or
  a failure on either side. Each step is synchronous; waiting is the sides' business.
* The exchange is logged and counted once.
* Failures before the answer begins become an answer of our own (502, 503, 504); after that
  the client's connection is broken off, for a cut answer must not look whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted.internet.error import ConnectionClosed

from txlb.core import outcome as outcomes
from txlb.core import termination as ends
from txlb.core.http.forward import CLOSE, KEEP_ALIVE, response_head
from txlb.core.http.head import CHUNKED, UNTIL_CLOSE, RequestHead, ResponseHead
from txlb.errors import SendStalled
from txlb.forwarding.http.dispatch import Dispatch
from txlb.forwarding.http.sides import BackendSide, ClientSide
from txlb.forwarding.relay import Relay

if TYPE_CHECKING:
    from txlb.forwarding.http.settings import HttpSettings

WRAPPED: Final = b"Transfer-Encoding: chunked\r\n"


class Exchange(Dispatch):
    """One request and its answer."""

    relay: Relay | None
    ended: bool
    client_closing: bool
    to_head: bool
    decode: bool
    wrap: bool
    __slots__ = tuple(__annotations__)

    def __init__(
        self, client: ClientSide, settings: HttpSettings, head: RequestHead, client_ip: str, client_port: int
    ) -> None:
        super().__init__(client, settings, head, client_ip, client_port)
        self.relay = None
        self.ended = False
        self.client_closing = not head.keep_alive
        self.to_head = head.method == b"HEAD"
        self.decode = head.minor == 0
        self.wrap = False

    def carried_by(self, side: BackendSide) -> None:
        side.begin(self)

    # -- the answer --------------------------------------------------------------------------------

    def response_spliced(self, size: int) -> None:
        """More of the answer went straight to the client."""
        self.bytes_out += size

    # -- what happened on the backend side --------------------------------------------------

    def heard_from_backend(self, side: BackendSide) -> None:
        """Something arrived: the answer is on its way."""
        if self.asked_at != 0.0:
            self.leave_line()
            pool = self.pool
            if pool is not None:
                pool.answered_at = self.settings.loop.now
            hold = self.hold
            if hold is not None:
                hold.drop()
        if side.deadline != 0.0:
            side.deadline = self.settings.loop.now + self.settings.backend_response

    def is_client_slow(self, side: BackendSide) -> bool:
        """The backend is silent because the client does not take the answer; wait on."""
        if self.answer_begun and (self.client.blocked or self.client.transport.is_backed_up()):
            self.settings.loop.arm(side, self.settings.backend_response)
            return True
        return False

    def interim_response(self, head: ResponseHead, data: bytes, end: int) -> None:
        """A 1xx answer other than 101."""
        if self.head.minor == 1:
            out = response_head(head, data, end, b"", False)
            self.client.transport.write(data[: end + 4] if out is None else out)

    def response_started(self, head: ResponseHead, data: bytes, end: int) -> bytes | None:
        """The final head is here: what to send for it, None = as it came."""
        self.answer_begun = True
        self.answered_by_backend = True
        self.first_byte_at = self.settings.loop.now
        self.status = head.status
        ending = b""
        drop = False
        framing = head.framing
        if self.decode:
            if framing == CHUNKED or framing == UNTIL_CLOSE:
                self.client_closing = True
            drop = head.fields.coded
        elif framing == UNTIL_CLOSE:
            self.wrap = True
            ending = WRAPPED
        if self.settings.draining or not self.request_done:
            self.client_closing = True
        if self.client_closing:
            ending += CLOSE
        elif self.head.minor == 0:
            ending += KEEP_ALIVE
        if self.binding:
            ending += self.binding
        return response_head(head, data, end, ending, drop)

    def send_to_client(self, data: bytes) -> None:
        """Bytes of the answer, framed for the client."""
        self.bytes_out += len(data)
        self.client.transport.write(data)

    def send_last(self, data: bytes) -> None:
        """The last bytes of the answer; `response_ended` follows."""
        self.bytes_out += len(data)
        if self.client_closing:
            self.client.transport.write_last(data)
        else:
            self.client.transport.write(data)

    def response_ended(self) -> None:
        """The answer is whole."""
        side = self.backend
        self.backend = None
        if side is not None:
            if self.request_done:
                side.release(True)
            else:
                side.abort()  # an early answer: the rest of the request is not wanted any more
        self.release_lease(outcomes.OK)
        if not self.ended:
            self._log()
            self.client.response_ended(self.request_done and not self.client_closing)

    def may_upgrade(self, head: ResponseHead) -> bool:
        """A 101 that answers what was asked."""
        fields = head.fields
        return (
            self.head.websocket and self.request_done and fields.upgrade and fields.upgrade_to == b"websocket"
        )

    def upgraded(self, head: ResponseHead, data: bytes, end: int) -> None:
        """101: from here on bytes are relayed."""
        side = self.backend
        if side is None:
            return
        settings = self.settings
        self.answer_begun = True
        self.answered_by_backend = True
        self.status = 101
        self.first_byte_at = settings.loop.now
        out = response_head(head, data, end, self.binding, False)
        self.send_to_client(data[: end + 4] if out is None else out)
        early = self.client.tunnel_opened()
        relay = Relay(
            self, settings, side.backend, self.client.transport, side.transport, settings.tunnel_idle
        )
        self.relay = relay
        relay.start()
        if early:
            relay.from_client(early)
        if self.client.read_closed:
            relay.client_finished()

    def relay_ended(self) -> None:
        """The tunnel is over."""
        relay = self.relay
        if relay is not None:
            self.counted_in = relay.bytes_in
            self.counted_out = relay.bytes_out
            self.bytes_in += relay.bytes_in
            self.bytes_out += relay.bytes_out
            self.termination = relay.termination
            self.release_lease(relay.outcome)
            self._log()

    def backend_closed(self, unanswered: bool) -> None:
        """The connection closed under the exchange; ``unanswered``: no byte of an answer came."""
        side = self.backend
        self.backend = None
        if side is not None:
            side.abort()
        if self.ended:
            return
        if self.asked_at != 0.0:
            self.leave_line()
        if self.repeat(unanswered):
            return
        if self.answer_begun:
            self._failed(502, outcomes.RESET, ends.BACKEND_RESET_DATA)
        elif self.request_done:
            self._failed(502, outcomes.RESET, ends.BACKEND_RESET_WAIT)
        else:
            self._failed(502, outcomes.RESET, ends.BACKEND_RESET_BODY)

    def backend_stalled(self) -> None:
        """The backend does not take the request."""
        self._failed(504, outcomes.TIMEOUT, ends.BACKEND_SEND_TIMEOUT)

    def backend_silent(self) -> None:
        """Nothing for ``backend_response`` seconds."""
        self._failed(
            504, outcomes.TIMEOUT, ends.BACKEND_DATA_TIMEOUT if self.answer_begun else ends.BACKEND_TIMEOUT
        )

    def backend_defective(self, reason: str) -> None:
        """What came is not a well-formed answer."""
        self._failed(
            502, outcomes.BAD_RESPONSE, ends.BAD_RESPONSE_BODY if self.answer_begun else ends.BAD_RESPONSE
        )

    def _failed(self, status: int, outcome: int, termination: int) -> None:
        self._abandon(outcome)
        if self.answer_begun:
            self.termination = termination
            self._break_off()
        else:
            self.answer(status, termination)

    # -- what happened on the client side -----------------------------------------------------

    def request_refused(self, status: int, termination: int) -> None:
        """The request's body is malformed, too large or too slow."""
        self._abandon(outcomes.CLIENT_ABORT)
        if self.answer_begun:
            self.termination = termination
            self._break_off()
        else:
            self.answer(status, termination)

    def faulted(self) -> None:
        """An exception in txlb itself ended the backend's connection."""
        self.settings.errors_internal += 1
        self._failed(500, outcomes.UNUSED, ends.INTERNAL_ERROR)

    def client_gone(self, why: object) -> None:
        """The client's connection is lost."""
        if self.ended:
            return
        if self.relay is not None:
            self.relay.client_lost(why)
            return
        stalled = isinstance(why, SendStalled)
        if not stalled and not isinstance(why, ConnectionClosed):  # an exception in txlb itself
            self.settings.errors_internal += 1
            self.termination = ends.INTERNAL_ERROR
            self._abandon(outcomes.UNUSED)
            self._log()
            return
        if stalled:
            self.termination = ends.SEND_TIMEOUT
        elif self.answer_begun:
            self.termination = ends.CLIENT_ABORT_DATA
        elif not self.request_done:
            self.termination = ends.CLIENT_ABORT_BODY
        else:
            self.termination = ends.CLIENT_ABORT_CONNECT if self.backend is None else ends.CLIENT_ABORT_WAIT
        self._abandon(outcomes.CLIENT_ABORT)
        if stalled:
            self.settings.errors_send_timeout += 1
        else:
            self.settings.errors_client_abort += 1
        self._log()

    def stopped(self) -> None:
        """Not finished within ``timeouts.shutdown``."""
        if self.ended:
            return
        if self.relay is not None:
            self.relay.abort(ends.SHUTDOWN)
        else:
            self.termination = ends.SHUTDOWN
            self._abandon(outcomes.CLIENT_ABORT)
            self._log()

    # -- end ----------------------------------------------------------------------------------

    def answer(self, status: int, termination: int) -> None:
        """txlb's own answer."""
        self.status = status
        self.termination = termination
        self.answer_begun = True
        self.release_lease(outcomes.UNUSED)
        settings = self.settings
        settings.count_error(status)
        keep_alive = self.request_done and not self.client_closing and not settings.draining
        self.bytes_out = self.client.answer(status, keep_alive)
        self._log()
        self.client.response_ended(keep_alive)

    def _break_off(self) -> None:
        self._log()
        self.client.broken_off()

    def _abandon(self, outcome: int) -> None:
        if self.asked_at != 0.0:
            self.leave_line()
        attempt = self.attempt
        if attempt is not None:
            self.attempt = None
            attempt.cancel()
        side = self.backend
        self.backend = None
        if side is not None:
            side.abort()
        self.release_lease(outcome)

    def _log(self) -> None:
        if not self.ended:
            self.ended = True
            self.settings.exchange_ended(self)
