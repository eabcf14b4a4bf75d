"""One line per exchange.

Rules:

* `record` formats at once and appends to a list: about a microsecond, no I/O. A batch goes to the writer's
  thread on `flush` (the plane's tick) or when it is full. (Formatting in the thread would hold the
  interpreter's lock against the loop for as long; it was not measured whole)
* A line that cannot be queued is dropped and counted; nothing ever waits.
* Every line is ASCII. What a client sent (method, target, host) is escaped: in JSON bytes above 0x7e as
  ``\\u00XX``, in the common format as Apache does it, ``\\xXX``. Nobody can forge a line or a field.
* Times are given in microseconds, -1 where the exchange did not get that far (null). ``started`` is
  monotonic; the offset to the wall clock is taken anew at each flush.
* Ids of listeners, rules and backends need no escaping: the configuration only lets ``[A-Za-z0-9._-]``
  through.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from typing import Any, Final, final

from txlb.core.model import AccessLogSpec
from txlb.core.termination import TERMINATIONS
from txlb.forwarding.log_writer import LogWriter

BATCH: Final = 4096  # lines; at most this many wait for the tick
DAY: Final = 86_400
SMALL: Final = 65_536  # numbers whose text is remembered: ports, most sizes
INTEGERS: Final[list[str | None]] = [None] * SMALL
TWO: Final = [f"{number:02}" for number in range(60)]
FRACTIONS: Final = [f".{number:03}" for number in range(1000)]
HTTP_JSON: Final = ['"HTTP/1.0"', '"HTTP/1.1"']
HTTP_COMMON: Final = [" HTTP/1.0", " HTTP/1.1"]
ENDINGS: Final = [
    f',"termination":"{it.code}","reason":' + (f'"{it.reason}"' if it.reason else "null") + "}\n"
    for it in TERMINATIONS
]
NO_BACKEND: Final = ',"backend":null'
BEFORE_BACKEND: Final = ',"backend":"'
AFTER_BACKEND: Final = '","tries":1,"reused":true,"connect_ms":null,"first_byte_ms":'  # most often
TEXTS: Final = 1024  # hosts and methods remembered in their escaped form


def integer(number: int) -> str:
    """Its decimal digits."""
    if 0 <= number < SMALL:
        text = INTEGERS[number]
        if text is None:
            text = INTEGERS[number] = str(number)
        return text
    return str(number)


def milliseconds(us: int) -> str:
    """Three decimals; null for what did not happen."""
    if us < 0:
        return "null"
    return f"{integer(us // 1000)}{FRACTIONS[us % 1000]}"


def served(tries: int, reused: bool, connect_us: int) -> str:
    """What follows the backend."""
    return (
        f',"tries":{tries},"reused":{"true" if reused else "false"},'
        f'"connect_ms":{milliseconds(connect_us)},"first_byte_ms":'
    )


def json_text(raw: bytes) -> str:
    """A JSON string, quotes included."""
    return encode_basestring_ascii(raw.decode("latin-1"))


def common_text(raw: bytes) -> str:
    """Apache's escapes."""
    text = raw.decode("latin-1")
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    escaped = ""
    for char in text:
        if char in '"\\':
            escaped += "\\" + char
        elif " " <= char <= "~":
            escaped += char
        else:
            escaped += f"\\x{ord(char):02x}"
    return escaped


@final
class AccessLog:
    """``format`` is ``json``, ``common`` or ``off``; ``writer`` is a `LogWriter` (or what has its
    methods)."""

    def __init__(self, writer: Any, format: str, worker: str, wall_clock: Callable[[], float]) -> None:
        self.enabled = format != "off"
        self._writer = writer
        self._json = format == "json"
        self._wall_clock = wall_clock
        self._lines: list[str] = []
        self._refused = 0
        self._texts: dict[bytes, str] = {}
        self._places: dict[str, dict[str, str]] = {}  # by listener, then by rule
        self._methods: dict[bytes, str] = {}
        self._hosts: dict[bytes, str] = {}
        self._after_time = f'Z","worker":"{worker}","listener":"'
        self._offset = 0.0
        self._second = -1
        self._second_text = ""
        self._day = -1
        self._day_text = ""

    @property
    def dropped(self) -> int:
        """Lines that are not in the log and never will be."""
        lost: int = 0 if self._writer is None else self._writer.lost
        return self._refused + lost

    # Data speed

    def record(
        self,
        started: float,  # monotonic seconds: the first byte of the request
        listener: str,
        rule: str,  # "" = none matched
        client_ip: str,
        client_port: int,
        method: bytes,
        target: bytes,  # raw
        minor: int,  # of HTTP/1.x; negative = not understood
        host: bytes,
        status: int,  # sent to the client; 0 = none
        bytes_in: int,  # from the client
        bytes_out: int,  # to the client
        backend: str,  # the last one tried; "" = none
        tries: int,
        reused: bool,  # the backend connection was kept from before
        connect_us: int,
        first_byte_us: int,
        total_us: int,
        termination: int,  # of txlb.core.termination
    ) -> None:
        """One exchange ended."""
        if not self.enabled:
            return
        wall = started + self._offset
        second = int(wall)
        if second != self._second:
            self._turn(second)
        if self._json:
            # Pieces that repeat are remembered whole: what a line costs is their number.
            places = self._places.get(listener)
            place = None if places is None else places.get(rule)
            if place is None:
                place = self._place(listener, rule)
            method_text = self._methods.get(method)
            if method_text is None:
                method_text = self._method(method)
            host_text = self._hosts.get(host) if minor == 1 else None
            if host_text is None:
                host_text = self._host(host, minor)
            before = BEFORE_BACKEND
            if not backend:
                before = NO_BACKEND
                after = served(tries, reused, connect_us)
            elif reused and tries == 1 and connect_us < 0:
                after = AFTER_BACKEND
            else:
                after = '"' + served(tries, reused, connect_us)
            if first_byte_us >= 0:
                whole, part = integer(first_byte_us // 1000), FRACTIONS[first_byte_us % 1000]
            else:
                whole, part = "null", ""
            self._lines.append(
                f"{self._second_text}{FRACTIONS[int((wall - second) * 1000.0)]}{place}{client_ip}"
                f'","client_port":{integer(client_port)}{method_text}'
                f"{encode_basestring_ascii(target.decode('latin-1'))}{host_text}"
                f'{integer(status) if status else "null"},"bytes_in":{integer(bytes_in)}'
                f',"bytes_out":{integer(bytes_out)}{before}{backend}{after}{whole}{part}'
                f',"total_ms":{integer(total_us // 1000)}{FRACTIONS[total_us % 1000]}{ENDINGS[termination]}'
            )
        else:
            request = "-"
            if method:
                version = HTTP_COMMON[minor] if minor >= 0 else ""
                request = f"{self._text(method)} {common_text(target)}{version}"
            self._lines.append(
                f'{client_ip} - - [{self._second_text} +0000] "{request}" '
                f"{integer(status) if status else '-'} {integer(bytes_out) if bytes_out else '-'}\n"
            )
        if len(self._lines) >= BATCH:
            self._hand_over()

    def record_connection(
        self,
        started: float,
        listener: str,
        rule: str,
        client_ip: str,
        client_port: int,
        server_name: bytes,  # that TLS asked for, where it was looked at
        bytes_in: int,
        bytes_out: int,
        backend: str,
        tries: int,
        connect_us: int,
        first_byte_us: int,
        total_us: int,
        termination: int,
    ) -> None:
        """One TCP connection ended; see `record`."""
        if not self.enabled:
            return
        wall = started + self._offset
        second = int(wall)
        if second != self._second:
            self._turn(second)
        if self._json:
            places = self._places.get(listener)
            place = None if places is None else places.get(rule)
            if place is None:
                place = self._place(listener, rule)
            name_text = json_text(server_name) if server_name else "null"
            backend_text = f'"{backend}"' if backend else "null"
            self._lines.append(
                f"{self._second_text}{FRACTIONS[int((wall - second) * 1000.0)]}{place}{client_ip}"
                f'","client_port":{integer(client_port)},"protocol":"tcp","server_name":{name_text}'
                f',"bytes_in":{integer(bytes_in)},"bytes_out":{integer(bytes_out)}'
                f',"backend":{backend_text},"tries":{tries},"connect_ms":{milliseconds(connect_us)}'
                f',"first_byte_ms":{milliseconds(first_byte_us)}'
                f',"total_ms":{milliseconds(total_us)}{ENDINGS[termination]}'
            )
        else:
            self._lines.append(
                f'{client_ip} - - [{self._second_text} +0000] "TCP {listener}" - '
                f"{integer(bytes_out) if bytes_out else '-'}\n"
            )
        if len(self._lines) >= BATCH:
            self._hand_over()

    def record_flow(
        self,
        started: float,
        listener: str,
        rule: str,
        client_ip: str,
        client_port: int,
        datagrams_in: int,
        datagrams_out: int,
        bytes_in: int,
        bytes_out: int,
        backend: str,
        tries: int,
        first_byte_us: int,
        total_us: int,
        termination: int,
    ) -> None:
        """One UDP flow ended; see `record`."""
        if not self.enabled:
            return
        wall = started + self._offset
        second = int(wall)
        if second != self._second:
            self._turn(second)
        if self._json:
            places = self._places.get(listener)
            place = None if places is None else places.get(rule)
            if place is None:
                place = self._place(listener, rule)
            backend_text = f'"{backend}"' if backend else "null"
            self._lines.append(
                f"{self._second_text}{FRACTIONS[int((wall - second) * 1000.0)]}{place}{client_ip}"
                f'","client_port":{integer(client_port)},"protocol":"udp"'
                f',"datagrams_in":{integer(datagrams_in)},"datagrams_out":{integer(datagrams_out)}'
                f',"bytes_in":{integer(bytes_in)},"bytes_out":{integer(bytes_out)}'
                f',"backend":{backend_text},"tries":{tries},"first_byte_ms":{milliseconds(first_byte_us)}'
                f',"total_ms":{milliseconds(total_us)}{ENDINGS[termination]}'
            )
        else:
            self._lines.append(
                f'{client_ip} - - [{self._second_text} +0000] "UDP {listener}" - '
                f"{integer(bytes_out) if bytes_out else '-'}\n"
            )
        if len(self._lines) >= BATCH:
            self._hand_over()

    def _place(self, listener: str, rule: str) -> str:
        rule_text = f'"{rule}"' if rule else "null"
        text = f'{self._after_time}{listener}","rule":{rule_text},"client_ip":"'
        self._places.setdefault(listener, {})[rule] = text
        return text

    def _method(self, method: bytes) -> str:
        text = f',"method":{json_text(method)},"target":'
        if len(self._methods) < TEXTS and len(method) <= 255:
            self._methods[method] = text
        return text

    def _host(self, host: bytes, minor: int) -> str:
        version = HTTP_JSON[minor] if minor >= 0 else "null"
        text = f',"version":{version},"host":{json_text(host)},"status":'
        if minor == 1 and len(self._hosts) < TEXTS and len(host) <= 255:
            self._hosts[host] = text
        return text

    def _text(self, raw: bytes) -> str:
        """The escaped form of what repeats."""
        text = self._texts.get(raw)
        if text is None:
            text = common_text(raw)
            if len(self._texts) < TEXTS and len(raw) <= 255:
                self._texts[raw] = text
        return text

    def _turn(self, second: int) -> None:
        """Another second."""
        day = second // DAY
        if day != self._day:
            self._day = day
            form = "%Y-%m-%d" if self._json else "%d/%b/%Y"
            self._day_text = time.strftime(form, time.gmtime(day * DAY))
        rest = second - day * DAY
        clock = f"{TWO[rest // 3600]}:{TWO[rest // 60 % 60]}:{TWO[rest % 60]}"
        self._second = second
        self._second_text = f"{self._day_text}{'T' if self._json else ':'}{clock}"
        if self._json:
            self._second_text = '{"time":"' + self._second_text

    def _hand_over(self) -> None:
        lines = self._lines
        self._lines = []
        if not self._writer.put(lines):
            self._refused += len(lines)

    # Control speed

    def flush(self, now: float) -> None:
        """Every tick, and once before the first line. ``now`` is monotonic, as in `record`."""
        self._offset = self._wall_clock() - now
        if self._lines:
            self._hand_over()

    def reopen(self) -> None:
        """The file was moved away: hand over what waits (for the old one) and open the new."""
        if self._writer is not None:
            if self._lines:
                self._hand_over()
            self._writer.reopen()

    def take_problem(self) -> str:
        """Why the file cannot be written: once, for the daemon's log; else ""."""
        problem: str = "" if self._writer is None else self._writer.take_problem()
        return problem

    def close(self, timeout: float = 1.0) -> bool:
        """Write what waits, for at most ``timeout`` seconds; False if something was left."""
        if not self.enabled:
            return True
        self.enabled = False
        if self._lines:
            self._hand_over()
        done: bool = self._writer.close(timeout)
        return done


def open_access_log(spec: AccessLogSpec, worker: str, wall_clock: Callable[[], float]) -> AccessLog:
    """As configured, with its writer's thread running; `AccessLog.close` ends it."""
    writer = None if spec.format == "off" else LogWriter(spec.path)
    return AccessLog(writer, spec.format, worker, wall_clock)
