"""Request smuggling, end to end: eight real origins behind txlb always agree on what was asked.

One stream of bytes goes to every origin on a connection of its own, and txlb in between. Whatever it is, good
or bad, all origins must see the same requests, targets and bodies: a request that one of them refuses is no
disagreement, a request that one of them sees beyond what its answers tell is (``n`` in ``X-Seen`` counts).
After each stream a plain request must be seen as just that: nothing is left over on any connection.
"""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import http_mutations, real_origins
from support.balancer import Balancer, Nginx, wait_for_port
from support.origins import eventually
from support.ports import free_port
from support.processes import Program, find_tool, python
from support.wire import Wire, get

pytestmark = [pytest.mark.integration(needs="nginx,haproxy"), pytest.mark.timeout(180)]

SCRIPT = str(Path(real_origins.__file__))
LIBRARIES = [kind for kind in real_origins.KINDS if kind != "recorder"]
KINDS = [*LIBRARIES, "nginx", "haproxy"]
TAIL = b"GET /tail HTTP/1.1\r\nHost: a\r\n\r\n"


class Seen(NamedTuple):
    method: str
    target: str
    body: str


#: One per answer: what the origin saw, or None where the answer is a refusal (an origin's or txlb's).
Story = list[Seen | None]


class Contestant:
    """One origin behind a listener of its own."""

    def __init__(self, kind: str, host: str, port: int) -> None:
        self.kind = kind
        self.host = host
        self.port = port
        self.count: int | None = None

    def tell(self, stream: bytes) -> Story:
        """Send ``stream`` and FIN, read answers to the end; then the plain request."""
        story = self._answers(stream)
        try:
            after = self._answers(get("/plain"))
        except AssertionError as error:
            raise AssertionError(f"after {stream!r} and {story}") from error
        assert after == [Seen("GET", "/plain", "")], (self.kind, stream, after)
        return story

    def _answers(self, stream: bytes) -> Story:
        story: Story = []
        received = self._exchange(stream)
        while received:
            head, found, received = received.partition(b"\r\n\r\n")
            assert found, (self.kind, head)
            status = int(head.split(b" ")[1])
            if status < 200:
                continue
            told = re.search(rb"\r\nX-Seen: (\{.*\})", head + b"\r\n", re.IGNORECASE)
            if status == 200 and told:
                what = json.loads(told[1])
                if self.count is not None:
                    assert what["n"] == self.count + 1, (self.kind, "saw a request that nobody sent", what)
                self.count = what["n"]
                story.append(Seen(what["method"], what["target"], what["body"]))
            else:
                story.append(None)
            received = self._after_body(head, received)
        return story

    def _exchange(self, stream: bytes) -> bytes:
        with Wire.to(self.port, self.host) as client:
            try:
                client.send(stream)
                client.finish()
                return client.rest()
            except (ConnectionResetError, BrokenPipeError):
                return b""

    def _after_body(self, head: bytes, received: bytes) -> bytes:
        if received[:7] == b"HTTP/1." or not received:  # HEAD, or no body at all
            return received
        if length := re.search(rb"\r\nContent-Length: *(\d+)", head, re.IGNORECASE):
            return received[int(length[1]) :]
        if re.search(rb"\r\nTransfer-Encoding: *chunked", head, re.IGNORECASE):
            while size := int(received.partition(b"\r\n")[0], 16):
                received = received.partition(b"\r\n")[2][size + 2 :]
            return received.partition(b"\r\n\r\n")[2]
        return b""


class Direct(Contestant):
    """One origin without txlb; not every one answers after FIN, so the last request says close."""

    def tell(self, stream: bytes) -> Story:
        return self._answers(stream)

    def _exchange(self, stream: bytes) -> bytes:
        received = b""
        with Wire.to(self.port, self.host) as client:
            client.sock.settimeout(2.0)
            try:
                client.send(stream, get("/close", "Connection: close"))
                while data := client.more():
                    received += data
            except OSError:  # it waits for more, or has reset the connection
                pass
        return received


class Contest:
    """All origins, told the same."""

    def __init__(self, contestants: list[Contestant]) -> None:
        self.contestants = contestants
        self._threads = ThreadPoolExecutor(len(contestants))
        everyone = threading.Barrier(len(contestants))  # all threads start here, none within a test
        list(self._threads.map(lambda _: everyone.wait(20), contestants))
        self.told = self.seen = 0
        for story in self._stories(TAIL):
            assert story == [Seen("GET", "/tail", "")]

    def close(self) -> None:
        self._threads.shutdown()

    def _stories(self, stream: bytes) -> list[Story]:
        return list(self._threads.map(lambda one: one.tell(stream), self.contestants))

    def agree(self, stream: bytes) -> Story:
        """Fails unless all origins saw the same; the longest story."""
        stories = self._stories(stream)
        longest = max(stories, key=len)
        for one, story in zip(self.contestants, stories, strict=True):
            told = [(kind.kind, what) for kind, what in zip(self.contestants, stories, strict=True)]
            # Only a refusal may end a story early: its connection is closed with it.
            assert len(story) == len(longest) or (story and story[-1] is None), (one.kind, stream, told)
            for position, what in enumerate(story):
                others = {other[position] for other in stories if len(other) > position} - {None}
                assert what is None or others == {what}, (one.kind, position, stream, told)
        self.told += 1
        self.seen += sum(what is not None for story in stories for what in story)
        return longest


@pytest.fixture(scope="module")
def origins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of all origins."""
    folder = tmp_path_factory.mktemp("origins")
    with ExitStack() as stack:
        programs = {kind: Program(python(SCRIPT, kind), cwd=folder) for kind in LIBRARIES}
        for kind in ("behind nginx", "behind haproxy"):
            programs[kind] = Program(python(SCRIPT, "recorder"), cwd=folder)
        for program in programs.values():
            stack.callback(program.stop)
        ports = {kind: announced(program) for kind, program in programs.items()}
        ports["nginx"] = free_port()
        server = (
            f"server {{ listen 127.0.0.1:{ports['nginx']}; location / {{"
            f" proxy_pass http://127.0.0.1:{ports['behind nginx']}; proxy_next_upstream off; }} }}"
        )
        stack.enter_context(Nginx(folder / "nginx", server)).ready(ports["nginx"])
        ports["haproxy"] = free_port()
        stack.callback(start_haproxy(folder, ports["haproxy"], ports["behind haproxy"]).stop)
        wait_for_port(ports["haproxy"])
        yield {kind: ports[kind] for kind in KINDS}


@pytest.fixture(scope="module")
def contest(origins: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    """All origins behind one txlb."""
    with balancer_for(tmp_path_factory.mktemp("contest"), origins) as balancer:
        hosts = [address(number) for number in range(len(KINDS))]
        contest = Contest(
            [Contestant(kind, host, balancer.ports[kind]) for kind, host in zip(KINDS, hosts, strict=True)]
        )
        with closing(contest):
            yield contest
        print(f"{contest.told} streams, {contest.seen} requests seen")


def announced(program: Program) -> int:
    """The port it says that it listens on."""
    eventually(lambda: "port " in program.output or program.returncode is not None, "a port")
    assert program.returncode is None, program.output
    return int(re.findall(r"port (\d+)", program.output)[0])


def address(number: int) -> str:
    return f"127.0.2.{number + 1}"


def balancer_for(folder: Path, ports: dict[str, int]) -> Balancer:
    """A txlb with a listener, a rule and a backend for each origin."""
    return Balancer(
        folder,
        workers=0,
        listeners=[{"id": kind, "bind": f"{address(number)}:0"} for number, kind in enumerate(KINDS)],
        backends=[{"id": kind, "host": "127.0.0.1", "port": ports[kind]} for kind in KINDS],
        routing_rules=[{"id": kind, "listeners": [kind], "backends": [kind]} for kind in KINDS],
    )


def start_haproxy(folder: Path, port: int, recorder: int) -> Program:
    tool = find_tool("haproxy")
    assert tool is not None
    config = folder / "haproxy.cfg"
    config.write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n retries 0\n"
        f"listen all\n bind 127.0.0.1:{port}\n server one 127.0.0.1:{recorder}\n"
    )
    return Program([tool, "-db", "-f", str(config)], cwd=folder)


# -- the corpus ----------------------------------------------------------------------------------------


def post(fields: bytes, body: bytes) -> bytes:
    return b"POST /p HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n" + body


def corpus() -> Iterator[bytes]:
    """Streams that some parser somewhere reads as another does not."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    yield from http_mutations.REQUESTS
    both = b"0\r\n\r\n" + smuggled
    for length in (5, len(both), 0):
        for order in (0, 1):
            pair = [b"Content-Length: %d\r\n" % length, b"Transfer-Encoding: chunked\r\n"]
            yield post(b"".join(pair[::-1] if order else pair), both)
    for _, line in http_mutations.spoilt_fields():
        yield post(line, both)
        yield post(b"Content-Length: %d\r\n" % len(both) + line, both)
    for line in http_mutations.LINES:
        yield post(line, b"hello" + smuggled)
        yield post(b"Transfer-Encoding: chunked\r\n" + line, b"5\r\nhello\r\n0\r\n\r\n")
        yield post(b"Content-Length: 5\r\n" + line, b"hello")
    for body in http_mutations.SPILT_CHUNKS.values():
        yield post(b"Transfer-Encoding: chunked\r\n", body + smuggled)
    for target in (
        b"//a/b",
        b"/a/../b",
        b"/%2e%2e/%00",
        b"/?a=/../",
        b"/\\x",
        b"/a;b",
        b"http://b:80/x",
        b"*",
    ):
        for method in (b"GET", b"OPTIONS", b"FOO", b"HEAD"):
            yield method + b" " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    for version in (
        b"HTTP/1.0",
        b"HTTP/1.2",
        b"HTTP/0.9",
        b"HTTP/2.0",
        b"http/1.1",
        b"HTTP/1.10",
        b"HTTP/01.1",
    ):
        yield b"POST /v " + version + b"\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
    yield b"GET /body HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(smuggled) + smuggled
    yield b"GET /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + both
    yield b"HEAD /body HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    yield b"GET /no-end HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"
    yield b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + smuggled
    yield (
        b"GET /h2c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
        + smuggled
    )
    yield b"".join(http_mutations.REQUESTS[:5]) * 3
    yield b"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello" + smuggled
    yield b"GET /one HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + smuggled


def test_all_origins_agree_on_plain_requests(contest: Contest) -> None:
    """And the comparison does see them: nothing is refused here."""
    stream = b"".join(
        [
            b"GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            b"PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            TAIL,
        ]
    )
    expected = [
        ("GET", "/a?b=c", ""),
        ("POST", "/b", b"hello".hex()),
        ("PUT", "/c", b"ab".hex()),
        ("GET", "/tail", ""),
    ]
    before = contest.seen
    assert contest.agree(stream) == expected
    assert contest.seen - before == len(expected) * len(KINDS)


def test_all_origins_agree_on_the_corpus(contest: Contest) -> None:
    for stream in corpus():
        for what in contest.agree(stream + TAIL):
            assert what is None or what.target != "/smuggled" or b"GET /smuggled" in stream


@settings(
    max_examples=400, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
@given(
    originals=st.lists(st.sampled_from(http_mutations.REQUESTS), min_size=1, max_size=3),
    choices=st.randoms(use_true_random=False),
)
def test_all_origins_agree_on_mutations(
    contest: Contest, originals: list[bytes], choices: random.Random
) -> None:
    contest.agree(http_mutations.mutated(b"".join(originals), choices) + TAIL)


def test_without_txlb_they_do_disagree(origins: dict[str, int]) -> None:
    """The comparison has teeth: the same origins, asked directly, make different things of these."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    streams = [
        post(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"0\r\n\r\n" + smuggled),
        post(b"Transfer-Encoding: chunked\r\n", b"1;\nxx\r\na\r\n0\r\n\r\n" + smuggled),
        b"GET /lf HTTP/1.1\nHost: a\nContent-Length: 4\n\nbody" + smuggled,
    ]
    disagreed = 0
    with ThreadPoolExecutor(len(KINDS)) as threads:
        for stream in streams:
            direct = [Direct(kind, "127.0.0.1", origins[kind]) for kind in KINDS]
            stories = threads.map(Direct.tell, direct, [stream] * len(direct))
            disagreed += len(set(map(tuple, stories))) > 1
    assert disagreed == len(streams)
