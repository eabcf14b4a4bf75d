from __future__ import annotations

from pathlib import Path

import pytest
from support.configuration import loaded, problems

from txlb.config.effective import effective
from txlb.config.load import load, loads

RULE = """\
    listeners: [{id: web, bind: "127.0.0.1:80"}]
    backends: [{id: web-1, host: 10.0.0.1, port: 80}]
    routing_rules: [{id: app, backends: [web-1], session_sticky: %s}]
"""


@pytest.mark.parametrize(
    ("text", "cookie"),
    [("false", None), ("true", "txlb-app"), ("{}", "txlb-app"), ("{cookie: SERVERID}", "SERVERID")],
)
def test_the_cookie_has_a_name(text: str, cookie: str | None) -> None:
    snapshot = loaded(RULE % text).snapshot
    assert snapshot.rules[0].sticky == cookie
    assert loads(effective(snapshot).encode(), {}).snapshot == snapshot


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{cookie: a b}", "session_sticky.cookie: 'a b' is not the name of a cookie"),
        ("{coookie: a}", "session_sticky.coookie: unknown key (did you mean cookie?)"),
        ("lb", "session_sticky: must be a mapping"),
    ],
)
def test_what_is_wrong_is_found_where_it_stands(text: str, message: str) -> None:
    (line,) = problems(RULE % text)
    assert message in line


def test_the_secret_is_read_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("0123456789abcdef\n")
    (tmp_path / "lb.yaml").write_text(RULE % "true" + "    secret_file: secret\n")
    snapshot = load(tmp_path / "lb.yaml", {}).snapshot
    assert len(bytes.fromhex(snapshot.secret)) == 32
    for shown in (repr(snapshot), effective(snapshot)):
        assert snapshot.secret not in shown
        assert "0123456789abcdef" not in shown
    assert f"secret_file: {tmp_path}/secret" in effective(snapshot)


@pytest.mark.parametrize(("content", "message"), [(None, "cannot be read"), ("short", "at least 16 bytes")])
def test_a_secret_of_no_use_is_an_error(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)
    (line,) = problems(RULE % "true" + f"    secret_file: {path}\n")
    assert "secret_file: " in line and message in line


def test_cookies_without_a_secret_are_warned_of() -> None:
    (warning,) = loaded(RULE % "true").warnings
    assert "without secret_file cookies mean nothing after a restart" in warning
    tcp = """\
        listeners: [{id: db, bind: "127.0.0.1:80", protocol: tcp}]
        backends: [{id: a, host: 10.0.0.1, port: 80}]
        routing_rules: [{listeners: [db], backends: [a], session_sticky: true}]
    """
    assert loaded(tcp).warnings == ()
