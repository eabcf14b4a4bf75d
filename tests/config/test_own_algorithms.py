from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.configuration import loaded, problems

from txlb.config.effective import effective
from txlb.config.load import loads
from txlb.core.algorithms import factory_for
from txlb.core.backend import Backend
from txlb.core.model import AlgorithmSpec
from txlb.core.pool import Pool
from txlb.extensions import find_algorithm

MODULE = """
from pydantic import BaseModel, RootModel

class Base:
    def rebuild(self, backends):
        self.backends = backends
    def pick(self, context, tried):
        return self.backends[0]

class Plain(Base):
    pass

class Deep(Base):
    class Options(BaseModel):
        depth: int = 1
        names: list[str] = []
    def __init__(self, depth, names):
        self.depth = depth

class Lenient(Base):
    class Options(BaseModel, extra="ignore"):
        depth: int = 1
    def __init__(self, depth):
        self.depth = depth

class Contrary:
    def rebuild(self): ...
    def pick(self): ...

class Rooted(Base):
    Options = RootModel[list[int]]

class Needy(Base):
    def __init__(self, depth):
        pass

class Half:
    def pick(self, context, tried): ...

class Odd(Base):
    Options = dict
"""
RULE = """\
    listeners: [{id: web, bind: "127.0.0.1:80"}]
    backends: [{id: web-1, host: 10.0.0.1, port: 80}]
    routing_rules: [{backends: [web-1], algorithm: %s}]
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "policies.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("policies", None)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("policies:Plain", ()),
        ("{name: 'policies:Plain'}", ()),
        ("{name: 'policies:Deep'}", (("depth", 1), ("names", []))),
        ("{name: 'policies:Deep', depth: 4, names: [a]}", (("depth", 4), ("names", ["a"]))),
        ("{name: 'policies:Lenient', depht: 4}", (("depth", 1),)),
    ],
)
def test_a_class_gets_its_validated_options(text: str, options: tuple[tuple[str, object], ...]) -> None:
    snapshot = loaded(RULE % text).snapshot
    spec = snapshot.rules[0].algorithm
    assert spec.options == options
    assert loads(effective(snapshot).encode(), {}).snapshot == snapshot
    backend = Backend("web-1", "10.0.0.1", "10.0.0.1", 80)
    lease = Pool("r", factory_for(spec, find_algorithm), [backend]).acquire(None, None, 0.0)
    assert lease is not None and lease.backend is backend


def test_an_unknown_option_is_told_at_its_key() -> None:
    (line,) = problems(RULE % "{name: 'policies:Deep', depht: 3}")
    assert line.startswith("3:72: routing_rules[0].algorithm.depht: unknown key")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("absent:First", "algorithm: absent:First: there is no module absent: install it"),
        ("policies:Absent", "algorithm: policies:Absent: module policies has no Absent"),
        ("policies:Needy", "algorithm: policies:Needy cannot be built: TypeError"),
        ("policies:Half", "algorithm: algorithm <policies.Half object"),
        ("policies:Contrary", "allow enough arguments The contract of"),  # two of them, on one line
        ("policies:Odd", "algorithm: policies:Odd: its Options is not a pydantic model"),
        ("policies:Rooted", "algorithm: policies:Rooted: its Options is not a pydantic model"),
        ("{name: 'policies:Plain', depth: 3}", "algorithm.depth: policies:Plain takes no options"),
        ("{name: 'policies:Deep', depth: x}", "algorithm.depth: Input should be a valid integer"),
        ("{name: 'policies:Deep', depht: 3}", "algorithm.depht: unknown key (did you mean depth?)"),
        ("{name: consistent_hash, fallback: 'policies:Plain'}", "must be one of txlb's own algorithms"),
    ],
)
def test_what_is_wrong_is_found_where_it_stands(text: str, message: str) -> None:
    (line,) = problems(RULE % text)
    assert line.startswith("3:")
    assert message in line


@pytest.mark.parametrize("name", ["fill_up", "FILL_UP", "fill-up", "{name: Fill_Up, depth: 2}"])
def test_a_plugin_is_named_in_any_case(name: str, tmp_path: Path) -> None:
    info = tmp_path / "policies-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: policies\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[txlb.algorithms]\nfill_up = policies:Deep\n")
    assert loaded(RULE % name).snapshot.rules[0].algorithm.name == "fill_up"


def test_code_that_is_gone_costs_nobody_a_request() -> None:
    backend = Backend("web-1", "10.0.0.1", "10.0.0.1", 80)
    pool = Pool("r", factory_for(AlgorithmSpec("absent:First"), find_algorithm), [backend])
    assert pool.acquire(None, None, 0.0) is not None
    assert pool.algorithm_errors == 1
    assert "there is no module absent" in pool.take_problem()
