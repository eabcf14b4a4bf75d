from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.core.backend import Backend
from txlb.core.stickiness import Affinity

KEY = b"k" * 32
PAIRS = st.lists(
    st.tuples(st.sampled_from(["lb", "a", "LB", "lb2", "b"]), st.text("abc=%", max_size=4)), max_size=5
)


def backend(name: str) -> Backend:
    return Backend(name, "10.0.0.1", "10.0.0.1", 80)


def affinity(*names: str, key: bytes = KEY) -> Affinity:
    made = Affinity("lb", "/shop", key)
    made.set_members([backend(name) for name in names])
    return made


def value(fields: bytes) -> bytes:
    return fields.partition(b"=")[2].partition(b";")[0]


def test_a_cookie_leads_back_to_its_backend() -> None:
    here = affinity("a", "b")
    for name in ("a", "b"):
        token = value(here.fields_for(backend(name), False))
        found = here.backend_of(b"x=1; lb=" + token + b"; y=2")
        assert found is not None and found.id == name


def test_it_means_the_same_on_another_node_and_after_a_restart() -> None:
    token = value(affinity("a", "b").fields_for(backend("a"), False))
    found = affinity("b", "a", "c").backend_of(b"lb=" + token)
    assert found is not None and found.id == "a"


def test_another_key_makes_another_cookie_and_ids_do_not_show() -> None:
    token = value(affinity("web-1").fields_for(backend("web-1"), False))
    assert b"web" not in token
    assert affinity("web-1", key=b"other").backend_of(b"lb=" + token) is None


@pytest.mark.parametrize(
    "cookies", [None, b"", b"a=b", b"lb", b"lb=", b"lb=nonsense", b"LB=x", b"xlb=1; alb=2", b"=lb"]
)
def test_what_is_not_ours_leads_nowhere(cookies: bytes | None) -> None:
    assert affinity("a").backend_of(cookies) is None


def test_who_left_is_not_found_and_binds_nobody() -> None:
    here = affinity("a", "b")
    token = value(here.fields_for(backend("a"), False))
    here.set_members([backend("b")])
    assert here.backend_of(b"lb=" + token) is None
    assert here.fields_for(backend("a"), False) == b""


def test_the_field_says_what_browsers_and_caches_must_know() -> None:
    plain = affinity("a").fields_for(backend("a"), False)
    secure = affinity("a").fields_for(backend("a"), True)
    assert plain.startswith(b"Set-Cookie: lb=")
    assert plain.endswith(b"; Path=/shop; HttpOnly; SameSite=Lax\r\nCache-Control: private\r\n")
    assert b"; Secure\r\n" in secure


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (b"Cookie: lb=1", None),
        (b"Cookie:lb=1", None),
        (b"cookie: lb=1; a=b", b"cookie: a=b"),
        (b"Cookie: a=b; lb=1", b"Cookie: a=b"),
        (b"Cookie: a=b; lb=1; c=d", b"Cookie: a=b; c=d"),
        (b"Cookie: a=b;lb=1;c=d", b"Cookie: a=b;c=d"),
        (b"Cookie: lb=1; lb=2", None),
        (b"Cookie: LB=1; xlb=2; lb2=3", b"Cookie: LB=1; xlb=2; lb2=3"),
        (b"X-Cookie: lb=1", b"X-Cookie: lb=1"),
    ],
)
def test_backends_never_see_it(line: bytes, left: bytes | None) -> None:
    head = b"GET /lb HTTP/1.1\r\nHost: lb\r\n" + line + b"\r\n\r\n"
    expected = b"GET /lb HTTP/1.1\r\nHost: lb\r\n" + (b"" if left is None else left + b"\r\n") + b"\r\n"
    assert affinity("a").hide(head) == expected


@given(PAIRS)
def test_hiding_takes_out_ours_and_nothing_else(pairs: list[tuple[str, str]]) -> None:
    field = "; ".join(f"{name}={text}" for name, text in pairs).encode()
    head = b"GET / HTTP/1.1\r\nCookie: " + field + b"\r\n\r\n"
    out = affinity("a").hide(head)
    kept = [f"{name}={text}" for name, text in pairs if name != "lb"]
    found = [line[7:] for line in out.split(b"\r\n") if line.startswith(b"Cookie:")]
    if kept or not any(name == "lb" for name, _ in pairs):
        assert found == [b" " + "; ".join(kept).encode()]
    else:
        assert found == []
