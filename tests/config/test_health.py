"""`health_check` and `health_check_path`: what they mean together, errors, and back to YAML."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.configuration import VALID, loaded, problems

from txlb.config.effective import effective
from txlb.config.load import loads
from txlb.core.model import HealthCheckSpec, OwnCheckSpec

DEFAULT = HealthCheckSpec()


def with_check(keys: str) -> str:
    return VALID.replace("port: 80", f"port: 80, {keys}")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("weight: 1", DEFAULT),
        ("health_check_path: /health", replace(DEFAULT, type="http", path="/health")),
        ("health_check_path: /h?x=1, health_check: {rise: 5}",
         replace(DEFAULT, type="http", path="/h?x=1", rise=5)),
        ("health_check: off", replace(DEFAULT, type="off")),
        ("health_check_path: /health, health_check: off", replace(DEFAULT, type="off", path="/health")),
        ("health_check: {type: off}", replace(DEFAULT, type="off")),
        ("health_check: {type: http}", replace(DEFAULT, type="http", path="/")),
        ("health_check: {type: tcp, interval: 1s, timeout: 300ms, fall: 1, suspect_after: 2s}",
         replace(DEFAULT, interval=1.0, timeout=0.3, fall=1, suspect_after=2.0)),
        ("health_check: {type: http, host: a.example, status: 204}",
         replace(DEFAULT, type="http", path="/", host="a.example", statuses=((204, 204),))),
        ("health_check: {type: http, status: [200-299, 404]}",
         replace(DEFAULT, type="http", path="/", statuses=((200, 299), (404, 404)))),
    ],
)  # fmt: skip
def test_what_a_backend_says(keys: str, expected: HealthCheckSpec) -> None:
    snapshot = loaded(with_check(keys)).snapshot
    assert snapshot.backends[0].health_check.over(snapshot.health_check) == expected
    assert loads(effective(snapshot).encode(), {}).snapshot == snapshot


def test_over_tls_a_path_means_https() -> None:
    own = OwnCheckSpec(path="/health")
    assert own.over(DEFAULT, secure=True) == replace(DEFAULT, type="https", path="/health")
    assert OwnCheckSpec(rise=5).over(DEFAULT, secure=True).type == "tcp"
    assert loaded(with_check("health_check: {type: https}")).snapshot.backends[0].health_check.type == "https"


def test_what_it_leaves_out_is_as_for_all() -> None:
    text = "health_check: {interval: 1s, fall: 7}\n" + with_check("health_check: {fall: 2}")
    snapshot = loaded(text).snapshot
    assert snapshot.backends[0].health_check.over(snapshot.health_check) == replace(
        DEFAULT, interval=1.0, fall=2
    )
    assert loads(effective(snapshot).encode(), {}).snapshot == snapshot


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("health_check_path: health", "backends[0].health_check_path: 'health' is not a path"),
        ('health_check_path: "/a b"', "is not a path"),
        ('health_check_path: "/é"', "is not a path"),
        ('health_check_path: "/a\\r\\nX: y"', "is not a path"),
        ("health_check_path: /h, health_check: {type: tcp}",
         "backends[0].health_check_path: is for checks over HTTP, not of type tcp"),
        ("health_check: {host: a.example}", "backends[0].health_check.host: is for checks over HTTP"),
        ("health_check: {status: 200}", "backends[0].health_check.status: is for checks over HTTP"),
        ("health_check: {options: {a: 1}}", "health_check.options: are those of a class, not of type tcp"),
        ("health_check: {type: htpp}", "not 'htpp' (did you mean http?)"),
        ("health_check: {type: http, status: 20}", "must be statuses such as 200"),
        ("health_check: {type: http, status: 300-200}", "must be statuses such as 200"),
        ("health_check: {type: http, status: 101}", "must be statuses such as 200"),
        ('health_check: {type: http, host: "a b"}', "health_check.host: "),
        ('health_check: {type: http, host: "a\\r\\nb"}', "health_check.host: "),
        ("health_check: {intervall: 1s}", "unknown key (did you mean interval?)"),
        ("health_check: {interval: 5}", "health_check.interval: "),
        ("health_check: {fall: 0}", "0 is out of range: from 1 to 1000"),
        ("health_check: often", "backends[0].health_check: must be a mapping"),
        ("health_check: {type: 'nowhere.to_be:Found'}",
         "health_check.type: cannot import nowhere.to_be: ModuleNotFoundError"),
        ("health_check: {type: 'json:Encoder'}", "json has no Encoder"),
        ("health_check: {type: 'json:JSONEncoder'}", "JSONEncoder is no IProbe"),
        ("health_check: {type: 'json:JSONEncoder', options: {odd: 1}}",
         "JSONEncoder cannot be made: TypeError"),
        ("health_check: {type: 'json:JSONEncoder', options: {a-b: 1}}",
         "'a-b' is not the name of an argument"),
        ("health_check: {type: 'json:JSONEncoder', options: {a: [1]}}", "a must be text, a number"),
    ],
)  # fmt: skip
def test_what_is_wrong(keys: str, message: str) -> None:
    (line,) = problems(with_check(keys))
    assert message in line
    assert line.startswith("4:")


@pytest.fixture
def probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "my_probes.py").write_text(
        dedent("""\
            from zope.interface import implementer
            from txlb.interfaces import IProbe

            @implementer(IProbe)
            class Good:
                def __init__(self, user="x", tries=1):
                    self.user, self.tries = user, tries
                async def check(self, backend):
                    pass

            @implementer(IProbe)
            class NoCheck:
                pass

            @implementer(IProbe)
            class OtherArguments:
                async def check(self):
                    pass
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_probes", None)


def test_a_class_of_ones_own(probes: None) -> None:
    snapshot = loaded(
        with_check("health_check: {type: 'my_probes:Good', options: {user: me, tries: 2}, interval: 1s}")
    ).snapshot
    expected = replace(DEFAULT, type="my_probes:Good", interval=1.0, options=(("user", "me"), ("tries", 2)))
    assert snapshot.backends[0].health_check.over(snapshot.health_check) == expected
    assert loads(effective(snapshot).encode(), {}).snapshot == snapshot


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Gooood", "my_probes has no Gooood (did you mean Good?)"),
        ("NoCheck", "NoCheck is no IProbe"),
        ("OtherArguments", "OtherArguments is no IProbe"),
    ],
)
def test_a_class_that_is_none(probes: None, name: str, message: str) -> None:
    (line,) = problems(with_check(f"health_check: {{type: 'my_probes:{name}'}}"))
    assert message in line


numbers = st.none() | st.integers(1, 1000)
durations = st.none() | st.integers(1, 10**6).map(lambda ms: ms / 1000)
http_checks = st.builds(
    OwnCheckSpec,
    type=st.sampled_from([None, "http", "off"]),
    path=st.sampled_from(["/", "/health", "/a?b=${c}", "/%20"]),
    interval=durations,
    timeout=durations,
    rise=numbers,
    fall=numbers,
    suspect_after=durations,
)
other_checks = st.builds(
    OwnCheckSpec, type=st.sampled_from([None, "tcp", "off"]), interval=durations, rise=numbers
)
special = st.builds(
    OwnCheckSpec,
    type=st.just("http"),
    path=st.none(),
    host=st.sampled_from(["a.example", "a.example:8080"]),
    statuses=st.sampled_from([((200, 399),), ((200, 200), (404, 410))]),
)


@given(http_checks | other_checks | special, st.builds(HealthCheckSpec, fall=st.integers(1, 9)))
def test_every_check_survives_being_shown(check: OwnCheckSpec, everybody: HealthCheckSpec) -> None:
    snapshot = loaded(VALID).snapshot
    (backend,) = snapshot.backends
    snapshot = replace(snapshot, health_check=everybody, backends=(replace(backend, health_check=check),))
    assert loads(effective(snapshot).encode(), {}).snapshot == snapshot
