"""Probes of one's own, as tests need them: ``own_probes:Class``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from txlb.interfaces import IProbe


@implementer(IProbe)
class Scripted:
    """Does what ``ANSWERS`` says for the backend's id: None = well, text = raises it, "hang"."""

    def __init__(self, answers: dict[str, str | None] | None = None) -> None:
        self.answers = ANSWERS if answers is None else answers
        self.asked: list[str] = ASKED
        self.cancelled: list[str] = []

    async def check(self, backend: Any) -> None:
        self.asked.append(backend.id)
        answer = self.answers.get(backend.id)
        if answer == "hang":
            HANGING[backend.id] = Deferred(lambda _: self.cancelled.append(backend.id))
            await HANGING[backend.id]
        elif answer is not None:
            raise RuntimeError(answer)


@implementer(IProbe)
class WithDeferred:
    """Not a coroutine."""

    def check(self, backend: Any) -> Deferred[str]:
        done: Deferred[str] = Deferred()
        done.callback("fine")
        return done


ANSWERS: dict[str, str | None] = {}
ASKED: list[str] = []
HANGING: dict[str, Deferred[None]] = {}
