"""A client's connection, as the plane sees it whatever the protocol.

Rules:

* `drain` is asked once, when txlb stops: what is idle closes now, what is busy closes when it is done.
* `cut_off` ends whatever is left, at once.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from txlb.net.transport import StreamProtocol


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientProtocol(StreamProtocol):
    """Base of what listeners put on accepted connections."""

    ip: str
    port: int

    def listener_id(self) -> str:
        """The listener it came in by."""
        raise NotImplementedError

    def backend_id(self) -> str:
        """The backend that serves it now; "" = none."""
        raise NotImplementedError

    def drain(self) -> None:
        """txlb stops."""
        raise NotImplementedError

    def cut_off(self) -> None:
        """The end of a shutdown: whatever is not finished is given up."""
        raise NotImplementedError
