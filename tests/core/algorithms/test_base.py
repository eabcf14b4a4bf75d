from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.choosing import Script, backends

from txlb.core.algorithms.base import Algorithm, ForeignAlgorithm
from txlb.core.backend import Backend


def test_a_foreign_algorithm_cannot_change_the_pools_lists() -> None:
    members = backends("A1 B1")
    script = Script(members[0])
    foreign = ForeignAlgorithm(script, False)
    foreign.rebuild(members)
    script.backends.clear()
    assert len(members) == 2
    assert foreign.pick(None, [members[1]]) is members[0]
    assert script.seen == [(members[1],)]


def test_what_is_no_backend_is_refused() -> None:
    with pytest.raises(TypeError, match="not a backend"):
        ForeignAlgorithm(Script("A"), False).pick(None, [])


def test_a_foreign_rebuild_may_be_a_generator() -> None:
    class Sliced(Script):
        def rebuild(self, backends: list[Backend]) -> Iterator[None]:
            yield
            self.backends = backends

    script = Sliced()
    steps = ForeignAlgorithm(script, False).rebuild(backends("A1"))
    assert steps is not None
    assert script.backends == []
    assert list(steps) == [None]
    assert len(script.backends) == 1


def test_only_our_own_are_trusted() -> None:
    assert not Algorithm().trusted
    assert not ForeignAlgorithm(Script(), False).trusted


def test_plain_python_may_subclass_the_native_base() -> None:
    class First(Algorithm):
        def rebuild(self, backends: list[Backend]) -> Iterator[None] | None:
            self.first = backends[0]
            return None

        def pick(self, context: object, tried: list[Backend]) -> Backend | None:
            return self.first

    algorithm = First()
    members = backends("A1 B1")
    algorithm.rebuild(members)
    assert algorithm.pick(None, []) is members[0]
