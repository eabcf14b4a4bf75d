from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.configuration import VALID, loaded, problems

from txlb.config.load import Loaded, load, loads, parse
from txlb.core.model import ErrorResponseSpec, RetriesSpec
from txlb.errors import ConfigError


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lb.yaml"
    path.write_text(VALID)
    snapshot = load(path, {}).snapshot
    assert [listener.bind for listener in snapshot.listeners] == [("127.0.0.1:8080",)]
    assert [backend.address for backend in snapshot.backends] == ["10.0.0.1"]


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(ConfigError) as raised:
            load(path, {})
        assert str(raised.value).startswith(f"{path}: cannot be read: ")


def test_an_empty_file_is_an_error() -> None:
    assert problems("") == ["1:1: the file is empty"]
    assert problems("# nothing\n") == ["1:1: the file is empty"]


def test_problems_name_the_file_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lb.yaml").write_text("workers: many\n" + VALID)
    with pytest.raises(ConfigError, match=r"^lb\.yaml:1:10: workers: "):
        load("lb.yaml", {})


def test_the_environment_fills_references() -> None:
    text = VALID.replace("port: 80", 'port: "${PORT:-81}"').replace("web-1, host", '"${ID}", host')
    snapshot = loaded(text.replace("[web-1]", '["${ID}"]'), {"ID": "x", "PORT": ""}).snapshot
    assert [(backend.id, backend.port) for backend in snapshot.backends] == [("x", 81)]


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "503.html").write_text("Zurück in Kürze", encoding="utf-8")
    path = tmp_path / "lb.yaml"
    text = (
        "access_log: {path: logs/a.log}\nerror_responses: {503: {file: 503.html, content_type: text/html}}\n"
    )
    path.write_text(text + VALID)
    snapshot = load(path, {}).snapshot
    assert snapshot.access_log.path == str(tmp_path / "logs/a.log")
    assert snapshot.error_responses == (ErrorResponseSpec(503, "text/html", "Zurück in Kürze"),)


def test_error_responses_are_checked_with_everything_else(tmp_path: Path) -> None:
    (tmp_path / "long").write_text("x" * 65537)
    (tmp_path / "binary").write_bytes(b"\xff")
    path = tmp_path / "lb.yaml"
    text = """\
error_responses:
  200: {body: x}
  401: {}
  402: {body: x, file: x}
  403: {file: missing}
  404: {file: long}
  405: {file: binary}
  406: {body: fine}
"""
    for more in ("", "bogus: 1\n"):
        path.write_text(text + VALID + more)
        with pytest.raises(ConfigError) as raised:
            load(path, {})
        assert [line.removeprefix(f"{path}:") for line in raised.value.problems[:6]] == [
            "2:3: error_responses.200: is not a status of an error: 400 to 599",
            "3:8: error_responses.401: needs either body or file",
            "4:8: error_responses.402: needs either body or file",
            f"5:15: error_responses.403.file: {tmp_path}/missing cannot be read: No such file or directory",
            f"6:15: error_responses.404.file: {tmp_path}/long is longer than 64KiB",
            f"7:15: error_responses.405.file: {tmp_path}/binary is not UTF-8 text",
        ]
        assert len(raised.value.problems) == (7 if more else 6)


def test_rules_without_id_get_their_place_as_id() -> None:
    text = """\
        listeners: [{id: web, bind: "127.0.0.1:80"}]
        backends: [{id: a, host: h, port: 1}]
        routing_rules:
          - {host: a, backends: [a]}
          - {host: b, backends: [a], id: rule-3}
          - {host: c, backends: [a]}
    """
    assert [rule.id for rule in loaded(text).snapshot.rules] == ["rule-1", "rule-3", "rule-3-"]


def test_the_root_path_is_any_path() -> None:
    assert loaded(VALID + "    path_prefix: /\n").snapshot.rules[0].path_prefix is None


def test_data_is_checked_by_the_same_models() -> None:
    data = {
        "listeners": [{"id": "web", "bind": "127.0.0.1:8080"}],
        "backends": [{"id": "web-1", "host": "10.0.0.1", "port": 80}],
        "routing_rules": [{"backends": ["web-1"]}],
    }
    assert parse(data).snapshot == loaded(VALID).snapshot
    data["backends"][0]["wieght"] = 3  # type: ignore[index]
    with pytest.raises(ConfigError) as raised:
        parse(data)
    assert raised.value.problems == ["backends[0].wieght: unknown key (did you mean weight?)"]


@pytest.mark.parametrize("data", [None, 5, "x", [], {"listeners": 5}, {5: 6}, {"error_responses": {"x": 1}}])
def test_any_data_is_loaded_or_refused(data: object) -> None:
    with pytest.raises(ConfigError):
        parse(data)


def test_ten_thousand_backends() -> None:
    count = 10_000
    lines = ["listeners: [{id: web, bind: '127.0.0.1:8080'}]", "backends:"]
    for number in range(count):
        lines.append(f"  - id: web-{number}\n    host: 10.1.{number >> 8}.{number & 255}\n    port: 8080")
    lines.append(f"routing_rules: [{{backends: [{', '.join(f'web-{number}' for number in range(count))}]}}]")
    result = loads("\n".join(lines).encode(), {})
    assert result.warnings == ()
    assert len(result.snapshot.backends) == len(result.snapshot.rules[0].backends) == count


def test_ten_thousand_errors() -> None:
    lines = ["listeners: [{id: web, bind: '127.0.0.1:8080'}]", "backends:"]
    lines += [f"  - {{id: web-{number}, host: 10.1.1.1, prot: 8080}}" for number in range(5_000)]
    lines += ["routing_rules:"]
    lines += [f"  - {{host: h{number}, backends: [wbe-{number}]}}" for number in range(5_000)]
    assert len(problems("\n".join(lines))) == 15_000  # unknown key, missing key, unknown backend


KEYS = [
    "listeners",
    "backends",
    "routing_rules",
    "id",
    "bind",
    "host",
    "port",
    "error_responses",
    "503",
    "limits",
]
VALUES: st.SearchStrategy[object] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["127.0.0.1:80", "web", "/a", "*.x", "auto", "off", "5s"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(KEYS), below, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_no_data_breaks_the_checks(data: object) -> None:
    try:
        result = parse(data)
    except ConfigError as error:
        assert error.problems
    else:
        assert isinstance(result, Loaded)


@given(
    st.integers(0, len(VALID)), st.integers(0, 10), st.text("ab:-[]{}&*!|>'\"#%@, \n\t$0.\x00é", max_size=6)
)
def test_no_text_breaks_the_checks(at: int, drop: int, insert: str) -> None:
    text = VALID[:at] + insert + VALID[at + drop :]
    try:
        result = loads(text.encode(), {})
    except ConfigError as error:
        assert error.problems
    else:
        assert isinstance(result, Loaded)


def test_retries_and_panic_reach_the_rule() -> None:
    keys = "    retries: {max: 5, budget: 12.5%, window: 30s, min_per_second: 0}\n    panic_threshold: 30%\n"
    (rule,) = loaded(VALID + keys).snapshot.rules
    assert rule.retries == RetriesSpec(5, 0.125, 30.0, 0)
    assert rule.panic_threshold == 0.3
    (rule,) = loaded(VALID).snapshot.rules
    assert (rule.retries, rule.panic_threshold) == (RetriesSpec(2, 0.2, 10.0, 10), 0.0)


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        ("retries: {max: 101}", "retries.max: 101 is out of range"),
        ("retries: {budget: 120%}", "retries.budget: 120% is out of range"),
        ("retries: {budget: 0.2}", "retries.budget: must be a share such as 20%"),
        ("retries: {window: 0s}", "retries.window: 0s is out of range"),
        ("retries: {min_per_second: -1}", "retries.min_per_second: -1 is out of range"),
        ("panic_threshold: half", "panic_threshold: must be a share such as 20%"),
    ],
)
def test_what_is_wrong_with_retries_is_told(keys: str, wrong: str) -> None:
    (found,) = problems(f"{VALID}    {keys}\n")
    assert wrong in found
