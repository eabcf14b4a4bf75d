from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.choosing import round_robin

from txlb.core.pool import Pool
from txlb.core.routing import Route, RouteTable, normal_host, normal_prefix

Rule = tuple[str | None, str | None]  # host, path prefix


def table(*rules: Rule) -> RouteTable:
    return RouteTable(
        [Route(host, prefix, Pool(f"{host} {prefix}", round_robin, [])) for host, prefix in rules]
    )


def matched(it: RouteTable, host: str, path: str) -> str | None:
    pool = it.match(host.encode(), path.encode("latin-1"))
    return None if pool is None else pool.rule_id


def test_a_rule_without_conditions_takes_everything() -> None:
    it = table((None, None))
    for host, path in (("a", "/"), ("", "*"), ("a.b.", "/x?y")):
        assert matched(it, host, path) == "None None"


def test_no_rule_no_pool() -> None:
    assert matched(table(), "a", "/") is None


HOSTS = table(
    ("www.example.com", None), ("*.example.com", None), ("*.deep.example.com", None), (None, "/health")
)


@pytest.mark.parametrize(
    ("host", "rule"),
    [
        ("www.example.com", "www.example.com None"),
        ("www.example.com.", "www.example.com None"),
        ("api.example.com", "*.example.com None"),
        ("a.b.c.example.com", "*.example.com None"),
        ("a.deep.example.com", "*.deep.example.com None"),
        ("deep.example.com", "*.example.com None"),
        ("example.com", None),
        (".example.com", None),
        ("badexample.com", None),
        ("example.org", None),
        ("", None),
        (".", None),
    ],
)
def test_the_most_specific_host_wins(host: str, rule: str | None) -> None:
    assert matched(HOSTS, host, "/") == rule


PATHS = table((None, "/api"), (None, "/api/v1"), (None, "/a b"), (None, "/static/"), (None, "//twice"))


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/api", "/api"),
        ("/api/", "/api"),
        ("/api/x", "/api"),
        ("/api?q=/v1", "/api"),
        ("/api/v1", "/api/v1"),
        ("/api/v1/", "/api/v1"),
        ("/api/v1?x", "/api/v1"),
        ("/api/v1/deep/er", "/api/v1"),
        ("/api/v12", "/api"),
        ("/apix", None),
        ("/API", None),
        ("/%61pi", None),
        ("//api", None),
        ("/x/../api", None),
        ("/api//x", "/api"),
        ("/api/../x", "/api"),
        ("/api//v1", "/api"),
        ("/", None),
        ("/?/api", None),
        ("*", None),
        ("", None),
        ("api", None),
        ("/static", "/static/"),
        ("/static/x", "/static/"),
        ("/staticx", None),
        ("//twice/x", "//twice"),
        ("/twice", None),
    ],
)
def test_prefixes_are_whole_segments_of_raw_bytes(path: str, rule: str | None) -> None:
    assert matched(PATHS, "h", path) == (None if rule is None else f"None {rule}")


def test_what_fits_in_no_rule_of_a_host_goes_to_the_next_host() -> None:
    it = table(
        ("www.example.com", "/a"), ("*.example.com", "/b"), ("*.com", "/c"), (None, "/d"), (None, "/a")
    )
    assert matched(it, "www.example.com", "/a") == "www.example.com /a"
    assert matched(it, "www.example.com", "/b") == "*.example.com /b"
    assert matched(it, "www.example.com", "/c") == "*.com /c"
    assert matched(it, "www.example.com", "/d") == "None /d"
    assert matched(it, "www.example.com", "/e") is None


def test_a_shorter_prefix_of_a_better_host_beats_a_longer_one() -> None:
    it = table(("www.example.com", None), (None, "/a/b/c"))
    assert matched(it, "www.example.com", "/a/b/c") == "www.example.com None"


def test_an_asterisk_target_needs_a_rule_without_prefix() -> None:
    assert matched(table((None, "/"), (None, "/a")), "h", "*") == "None /"


@pytest.mark.parametrize(
    "pair",
    [
        ((None, None), (None, "/")),
        ((None, "/a"), (None, "/a/")),
        (("A.example", None), ("a.example", None)),
        (("a.example.", None), ("a.example", None)),
        (("*", None), (None, None)),
    ],
)
def test_two_rules_that_match_the_same_are_an_error(pair: tuple[Rule, Rule]) -> None:
    with pytest.raises(ValueError, match="two rules"):
        table(*pair)


def test_keys_for_those_who_look_for_duplicates() -> None:
    assert [normal_prefix(prefix) for prefix in (None, "/", "/a/", "/a//", "/\xe9")] == [
        b"",
        b"",
        b"/a",
        b"/a/",
        b"/\xe9",
    ]
    assert [normal_host(host) for host in (None, "*", "*.X.y", "a.B.")] == [b"", b"", b".x.y", b"a.b"]


# Against a linear search that only uses the definition


def host_rank(rule: str | None, host: str) -> int | None:
    """How good a match; None = none."""
    if rule is None:
        return 0
    if rule.startswith("*."):
        return rule.count(".") if host.endswith(rule[1:]) and host != rule[1:] else None
    return 1000 if host == rule else None


def prefix_rank(rule: str | None, path: str) -> int | None:
    wanted = [] if rule is None else rule.removesuffix("/").split("/")[1:]
    if not wanted:
        return 0
    has = path.split("?")[0].split("/")
    return len(wanted) if has[0] == "" and has[1 : len(wanted) + 1] == wanted else None


def naive(rules: list[Rule], host: str, path: str) -> str | None:
    best: tuple[tuple[int, int], str] | None = None
    for rule_host, prefix in rules:
        ranks = (host_rank(rule_host, host), prefix_rank(prefix, path))
        if ranks[0] is None or ranks[1] is None:
            continue
        rank = (ranks[0], ranks[1])
        if best is None or rank > best[0]:
            best = (rank, f"{rule_host} {prefix}")
    return None if best is None else best[1]


label = st.sampled_from(["a", "b", "aa"])
names = st.lists(label, min_size=1, max_size=4).map(".".join)
hosts = st.one_of(st.none(), names, names.map("*.{}".format))
segment = st.sampled_from(["a", "b", "aa", "", ".", "..", "%61"])
prefixes = st.one_of(st.none(), st.lists(segment, min_size=1, max_size=4).map(lambda it: "/" + "/".join(it)))
paths = st.one_of(
    st.tuples(st.lists(segment, max_size=6), st.sampled_from(["", "?", "?a", "?/a", "/?"])).map(
        lambda it: "/" + "/".join(it[0]) + it[1]
    ),
    st.sampled_from(["*", ""]),
)


def unique(rules: list[Rule]) -> list[Rule]:
    return list(
        {(normal_host(host), normal_prefix(prefix)): (host, prefix) for host, prefix in rules}.values()
    )


@given(st.lists(st.tuples(hosts, prefixes), max_size=12).map(unique), names, paths)
@settings(max_examples=300)
def test_the_table_agrees_with_a_linear_search(rules: list[Rule], host: str, path: str) -> None:
    assert matched(table(*rules), host, path) == naive(rules, host, path)
