"""slowhttptest's attacks: its connections are ended by their deadline, others are served, memory is flat.

How long the good clients take is printed, before and during the attack; `python -m benchmarks slow-clients`
measures it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.balancer import Balancer, Nginx
from support.clients import Clients
from support.origins import eventually
from support.ports import free_port
from support.processes import Program, find_tool

pytestmark = [pytest.mark.integration(needs="slowhttptest,nginx"), pytest.mark.timeout(120)]

CONNECTIONS = 500
DEADLINES = {"client_header": "2s", "client_body": "3s", "send": "3s", "client_idle": "2s"}
#: What slowhttptest is told, how its connections end, and what the log says of them.
ATTACKS = {
    "headers": (["-H", "-i", "1"], 408, "cR"),
    "body": (["-B", "-i", "1", "-s", "8192"], 408, "cB"),
    "read": (["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "5"], 200, "cD"),
}
ALLOWED = 20 << 20
OTHERS = 5  # the good clients and slowhttptest's own probe
ALONE = 2.0  # seconds of the good clients without the attack
#: Seconds. Who had to wait for slow ones would wait for the shortest deadline; no noise is that long.
GROSS = 2.0


@pytest.mark.parametrize("attack", ATTACKS)
def test_slow_clients(
    tmp_path: Path,
    start_balancer: Callable[..., Balancer],
    start_program: Callable[..., Program],
    attack: str,
) -> None:
    options, status, termination = ATTACKS[attack]
    port = free_port()
    (tmp_path / "nginx").mkdir()
    (tmp_path / "nginx" / "big").write_bytes(bytes(16 << 20))
    server = (
        f'server {{ listen 127.0.0.1:{port}; location = /good {{ return 200 "good"; }}'
        f" location = /big {{ root {tmp_path}/nginx; }}"
        f" location = /form {{ proxy_pass http://127.0.0.1:{port}/good; }} }}"  # reads the whole body first
    )
    with Nginx(tmp_path / "nginx", server) as nginx:
        nginx.ready(port)
        balancer = start_balancer([port], timeouts=DEADLINES)
        with Clients(balancer.port, 2, "/good") as clients:
            eventually(lambda: clients.total > 200, "good clients are served")
            time.sleep(ALONE)
            alone = clients.percentile(0.99)
            clients.forget_times()
            before = balancer.resident()
            tool = find_tool("slowhttptest")
            assert tool is not None
            target = f"{balancer.url}/{'form' if attack == 'body' else 'big'}"
            command = [
                tool,
                "-c",
                str(CONNECTIONS),
                "-r",
                "250",
                "-l",
                "60",
                "-p",
                "30",
                "-u",
                target,
                *options,
            ]
            attacking = start_program(command, cwd=tmp_path)
            peak = most = 0

            def over() -> bool:
                """Every slow connection was there, and none of them is any more."""
                nonlocal peak, most
                peak = max(peak, balancer.resident())
                now = balancer.connections()
                most = max(most, now)
                # By their own log lines: a counter that is written every 0.1 s, less the good clients'
                # count of this moment, is hundreds too low at thousands of connections a second.
                text = balancer.log_path.read_bytes()
                ended = text.count(b"\n") - text.count(b'"target":"/good"')
                return ended >= CONNECTIONS and now <= OTHERS

            eventually(over, "all slow ones are ended", within=60)
            beside = clients.percentile(0.99)
            attacking.stop()
        eventually(lambda: balancer.connections() == 0, "nobody is left")
    assert most > CONNECTIONS // 2
    assert set(clients.outcomes) == {"200"}
    assert peak - before <= ALLOWED, f"grew by {(peak - before) >> 20} MiB"
    slow = [line for line in balancer.log() if line["target"] != "/good"]
    ended = [line for line in slow if (line["status"], line["termination"]) == (status, termination)]
    assert len(ended) >= CONNECTIONS * 0.9, Counter((line["status"], line["termination"]) for line in slow)
    assert max(line["total_ms"] for line in ended) < 30_000
    assert beside < GROSS
    grown = (peak - before) >> 10
    times = f"p99 {alone * 1000:.1f} ms alone, {beside * 1000:.1f} ms beside it"
    print(f"{attack}: {most} connections, +{grown} KiB, {clients.total} good answers, {times}")
