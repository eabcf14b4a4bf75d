"""`txlb.control.connections`: several workers' lists as one."""

from __future__ import annotations

import functools
import operator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail, succeed

from txlb.control.connections import Cursor, connections
from txlb.errors import TxlbError
from txlb.net.link import LinkClosed, LinkTimeout


class Workers:
    """Each with the descriptors of its connections, or what asking it fails with."""

    def __init__(self, *answers: Any) -> None:
        self.answers = answers

    def up(self) -> list[bool]:
        return [True for _ in self.answers]

    def connections(self, worker: int, after: int, limit: int) -> Deferred[list[dict[str, Any]]]:
        answer = self.answers[worker]
        if isinstance(answer, Exception):
            return fail(answer)
        rows = [one for one in answer if one > after][:limit]
        return succeed(
            [
                {
                    "descriptor": one,
                    "connection_id": one,
                    "backend_connection_id": None,
                    "created_at": 0.0,
                    "last_activity_at": 0.0,
                }
                for one in rows
            ]
        )


async def every(workers: Any, limit: int) -> list[list[str]]:
    pages: list[list[str]] = []
    cursor: Cursor | None = Cursor()
    while cursor is not None:
        rows, cursor = await connections(workers, cursor, limit)
        pages.append([row["connection_id"] for row in rows])
        if cursor is not None:
            cursor = Cursor.parse(str(cursor))
    return pages


@pytest_twisted.ensureDeferred
async def test_pages_go_through_all_workers():
    workers = Workers([5, 9, 12], [], [4, 7])
    assert await every(workers, 100) == [["1-5", "1-9", "1-12", "3-4", "3-7"]]
    assert await every(workers, 2) == [["1-5", "1-9"], ["1-12", "3-4"], ["3-7"]]
    assert functools.reduce(operator.iadd, await every(workers, 1), []) == [
        "1-5",
        "1-9",
        "1-12",
        "3-4",
        "3-7",
    ]


@pytest_twisted.ensureDeferred
async def test_a_worker_that_died_has_none_and_one_that_hangs_is_an_error():
    assert await every(Workers([5], LinkClosed(), [6]), 10) == [["1-5", "3-6"]]
    with pytest.raises(TxlbError, match="worker-2 does not answer"):
        await every(Workers([5], LinkTimeout()), 10)
