"""kill -9 of the control process while changes stream in: what was answered is there, whole."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from support.balancer import Balancer

MOMENTS = int(os.environ.get("TXLB_TEST_KILLS", "10"))
WRITERS = 3
State = dict[str, tuple[int, bool]]  # by id: weight, and whether it drains


class Writer:
    """Changes backends of its own, one after another, and remembers what was answered."""

    def __init__(self, number: int, chance: random.Random) -> None:
        self.number = number
        self.chance = chance
        self.state: State = {}
        self.maybe: State = {}  # with the change that was never answered
        self.answered = 0
        self.failure = ""

    def run(self, balancer: Balancer, stop: threading.Event) -> None:
        while not stop.is_set():
            method, path, body, after = self.next_change()
            self.maybe = after
            try:
                status, found = balancer.call(method, path, body)
            except (OSError, HTTPException, ValueError):
                return  # killed before it answered
            if status >= 300:
                self.failure = f"{method} {path} {body}: {status} {found}"
                return
            self.state = after
            self.answered += 1

    def next_change(self) -> tuple[str, str, Any, State]:
        after = dict(self.state)
        id = f"w{self.number}-{self.chance.randrange(6)}"
        if id not in after:
            after[id] = (1, False)
            return "POST", "/backends", {"id": id, "host": "127.0.0.1", "port": 9}, after
        weight, drains = after[id]
        kind = self.chance.randrange(4)
        if kind == 0:
            del after[id]
            return "DELETE", f"/backends/{id}?wait=true", None, after
        if kind == 1:
            after[id] = (weight, not drains)
            return "POST", f"/backends/{id}/{'enable' if drains else 'drain'}", None, after
        after[id] = (weight % 100 + 1, drains)
        return "PATCH", f"/backends/{id}", {"weight": weight % 100 + 1}, after


def states(balancer: Balancer) -> State:
    views = balancer.call("GET", "/backends")[1]["backends"]
    return {
        one["id"]: (one["weight"], one["status"] == "DRAINING") for one in views if one["id"].startswith("w")
    }


@pytest.mark.timeout(60 + 6 * MOMENTS)
def test_every_answered_change_outlives_kill_9(
    start_balancer: Callable[..., Balancer], tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    writers = [Writer(number, random.Random(seed + number + 1)) for number in range(WRITERS)]
    store = str(tmp_path / "store.db")
    for _ in range(MOMENTS):
        balancer = start_balancer([9], workers=0, store=store)
        found = states(balancer)
        for writer in writers:
            mine = {id: value for id, value in found.items() if id.startswith(f"w{writer.number}-")}
            assert mine in (writer.state, writer.maybe), f"seed {seed}"
            writer.state = writer.maybe = mine
        stop = threading.Event()
        threads = [threading.Thread(target=writer.run, args=(balancer, stop)) for writer in writers]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.1, 1.0))
        balancer.kill()
        stop.set()
        for thread in threads:
            thread.join()
        assert [writer.failure for writer in writers if writer.failure] == []
    assert sum(writer.answered for writer in writers) >= MOMENTS


@pytest.mark.parametrize("what", ["text", "folder"])
def test_a_bad_store_is_a_clear_error_at_start(
    start_balancer: Callable[..., Balancer], tmp_path: Path, what: str
) -> None:
    store = tmp_path / "store.db"
    if what == "text":
        store.write_text("nothing of ours\n" * 100)
    else:
        store.mkdir()
    with pytest.raises(AssertionError, match=rf"ended with 1:[^$]*cannot start: store {store}: [iI]s "):
        start_balancer([9], store=str(store))
