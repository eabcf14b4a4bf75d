"""txlb's core beside h11 and llhttp over mutated messages.

Two things are claimed. *Sent on*: the bytes that txlb would send, whatever it was given, are read by both
others as exactly the messages that txlb saw. *Taken*: a message that txlb accepts is not refused by both
others, and none that accepts it frames it differently.

Where the others differ from txlb by design:

* llhttp knows a fixed list of methods and of versions (0.9, 1.0, 1.1, 2.0), and takes Upgrade for the end
  of HTTP (only where it came: what is sent on has it for WebSocket alone, without a body).
* h11 gives up a connection after a ``Connection: close`` request; it is asked one message at a time here.
* txlb is stricter than both: "_" in names of requests, "#" in targets, the form of Host, Transfer-Encoding in
  HTTP/1.0, doubled Content-Length, doubled chunked, tabs in Transfer-Encoding, CONNECT, open quotes in chunk
  extensions, bounds.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.http_mutations import ANSWERS, LINES, REQUESTS, mutated, spoilt_fields
from support.http_oracles import (
    FieldList,
    Passed,
    Seen,
    by_name,
    h11_answer,
    h11_requests,
    listed,
    llhttp_answer,
    llhttp_requests,
    through_request,
    through_response,
)

ROUNDS = 6000
HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade"}
OURS = {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}
NEVER_NOMINATED = {b"host", b"content-length", b"transfer-encoding"}
MARK = b"GET /mark HTTP/1.1\r\nHost: mark\r\n\r\n"


def expected(fields: FieldList) -> FieldList:
    """What must be left of a field block that was accepted (Host, Via, Expect, Max-Forwards aside)."""
    gone = set(HOP)
    for name, value in fields:
        if name == b"connection":
            gone.update(token.strip(b" \t").lower() for token in value.split(b","))
    gone -= NEVER_NOMINATED
    kept = []
    for name, value in fields:
        if name not in gone:
            if name == b"content-length":
                value = b"%d" % int(value)
            elif name == b"transfer-encoding":
                value = value.lower()
            kept.append((name, value))
    return kept


def without(fields: FieldList, *names: bytes) -> FieldList:
    return [field for field in fields if field[0] not in names]


REWRITTEN = (b"host", b"via", b"expect", b"max-forwards", b"connection", b"upgrade", *OURS)


def check_sent_request(data: bytes) -> Passed:
    """What txlb accepts of ``data``, after checking what it sends on."""
    passed = through_request(data)
    if passed.seen:
        check_first_fields(data, passed)
    for name, (seen, why) in (
        ("h11", h11_requests(passed.out)),
        ("llhttp", llhttp_requests(passed.out)),
    ):
        assert same(name, passed.seen, seen, why), (name, why, data, passed, seen)
    return passed


def check_first_fields(data: bytes, passed: Passed) -> None:
    """The fields that came, without what ends here, and with ours."""
    head, seen = passed.heads[0], passed.seen[0]
    came = listed(data[data.index(b"\r\n") + 2 : data.index(b"\r\n\r\n") + 2])
    assert without(expected(came), *REWRITTEN) == without(seen.fields, *REWRITTEN), data
    sent = dict(seen.fields)
    assert sent[b"x-forwarded-for"] == b"192.0.2.1"
    assert sent[b"x-forwarded-proto"] == b"http"
    assert sent.get(b"x-forwarded-host", b"") == sent[b"host"]
    for name in (b"host", *OURS):
        assert len([field for field in seen.fields if field[0] == name]) <= 1, data
    assert head.websocket == (b"connection" in sent) == (b"upgrade" in sent)


def same(name: str, ours: list[Seen], theirs: list[Seen], why: str) -> bool:
    if why and name == "llhttp" and "Method" in why:
        # a method that llhttp does not know: it saw what was before
        return theirs == ours[: len(theirs)]
    return theirs == ours and not why


def check_taken_request(data: bytes, passed: Passed) -> None:
    """The others, given what came: not both refuse it, and who takes it takes the same."""
    if not passed.seen:
        return
    ours = passed.seen[0]
    head = passed.heads[0]
    verdicts = []
    for name, (seen, why) in (("h11", h11_requests(data)), ("llhttp", llhttp_requests(data))):
        if not seen:
            verdicts.append(f"{name}: {why}")
            continue
        theirs = seen[0]
        if name == "llhttp" and b"upgrade" in dict(theirs.fields):
            continue
        target = ours.start[1] if head.rewritten_host is not None else theirs.start[1]
        assert (theirs.start[0], target) == ours.start, (name, data, ours, theirs)
        assert (theirs.body, theirs.complete) == (ours.body, ours.complete), (name, data, ours, theirs)
    assert len(verdicts) < 2, (verdicts, data)


def check_request(data: bytes) -> bool:
    passed = check_sent_request(data)
    check_taken_request(data, passed)
    return bool(passed.seen)


def check_answer(data: bytes, method: bytes) -> bool:
    passed = through_response(data, method)
    if passed.refusal or not passed.seen:
        return False
    if not passed.seen[-1].complete:
        return False  # the client's connection is broken off
    at = 0
    for seen in passed.seen:
        start = data.index(b"\r\n", at) + 2
        at = data.index(b"\r\n\r\n", at) + 4
        came = expected(listed(data[start : at - 2]))
        framing = (b"content-length", b"transfer-encoding")
        names = framing if seen.start[0] < 200 or seen.start[0] == 204 else ()
        wrapped = through_framing(came, seen, method)
        assert by_name(without(came, *names) + wrapped) == seen.fields, data
    theirs, why = h11_answer(passed.out, method)
    assert theirs == passed.seen and not why, ("h11", why, data, passed, theirs)
    if method != b"HEAD":
        theirs, why = llhttp_answer(passed.out)
        assert theirs == passed.seen and not why, ("llhttp", why, data, passed, theirs)
    verdicts = []
    for name, (theirs, why) in (("h11", h11_answer(data, method)), ("llhttp", llhttp_answer(data))):
        if name == "llhttp" and method == b"HEAD":
            continue
        if len(theirs) < len(passed.seen):
            verdicts.append(f"{name}: {why}")
            continue
        assert [one.start for one in theirs[: len(passed.seen)]] == [one.start for one in passed.seen]
        assert theirs[len(passed.seen) - 1].body == passed.seen[-1].body, (name, data)
    assert len(verdicts) < (1 if method == b"HEAD" else 2), (verdicts, data)
    return True


def through_framing(came: FieldList, seen: Seen, method: bytes) -> FieldList:
    """The Transfer-Encoding that txlb adds to an answer that ends with its connection."""
    bodiless = seen.start[0] < 200 or seen.start[0] in (204, 304) or method == b"HEAD"
    if bodiless or {b"content-length", b"transfer-encoding"} & {name for name, _ in came}:
        return []
    return [(b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize("data", REQUESTS)
def test_valid_requests_are_seen_alike(data: bytes) -> None:
    passed = check_sent_request(data)
    assert passed.refusal == ""
    assert all(seen.complete for seen in passed.seen)
    assert len(passed.seen) == data.count(b" HTTP/1.")
    check_taken_request(data, passed)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("data", ANSWERS)
def test_valid_answers_are_seen_alike(data: bytes, method: bytes) -> None:
    assert check_answer(data, method)


def test_mutated_requests_are_seen_alike() -> None:
    choices = random.Random(2)
    taken = sum(check_request(mutated(choices.choice(REQUESTS), choices)) for _ in range(ROUNDS))
    assert ROUNDS // 5 < taken < ROUNDS  # both outcomes are really met


def test_mutated_answers_are_seen_alike() -> None:
    choices = random.Random(3)
    taken = 0
    for _ in range(ROUNDS):
        method = b"HEAD" if choices.random() < 0.1 else b"GET"
        taken += check_answer(mutated(choices.choice(ANSWERS), choices), method)
    assert ROUNDS // 5 < taken < ROUNDS


@settings(max_examples=300)
@given(st.sampled_from(REQUESTS), st.randoms(use_true_random=False))
def test_any_mutated_request_is_seen_alike(original: bytes, choices: random.Random) -> None:
    check_request(mutated(original, choices))


@settings(max_examples=200)
@given(st.sampled_from(ANSWERS), st.randoms(use_true_random=False))
def test_any_mutated_answer_is_seen_alike(original: bytes, choices: random.Random) -> None:
    check_answer(mutated(original, choices), b"GET")


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(LINES), max_size=4),
    st.sampled_from((b"1.1", b"1.0")),
    st.sampled_from((b"", b"5\r\nhello\r\n0\r\n\r\n", b"hello")),
)
def test_any_mix_of_field_lines_is_seen_alike(lines: list[bytes], version: bytes, body: bytes) -> None:
    data = b"POST /x HTTP/" + version + b"\r\nHost: a\r\n" + b"".join(lines) + b"\r\n" + body
    check_request(data)


def test_what_follows_a_request_is_the_next_one_for_everybody() -> None:
    for original in REQUESTS:
        passed = check_sent_request(original + MARK)
        if passed.heads[-1].keep_alive:
            assert passed.seen[-1].start == (b"GET", b"/mark"), original


@pytest.mark.parametrize("field", [pytest.param(line, id=name) for name, line in spoilt_fields()])
def test_spoilt_fields_smuggle_nothing(field: bytes) -> None:
    """PortSwigger's generator: in every place of a head, beside each kind of framing."""
    body = b"5\r\nhello\r\n0\r\n\r\n" + MARK
    for framing in (b"", b"Content-Length: 15\r\n", b"Transfer-Encoding: chunked\r\n"):
        for lines in (field + b"Host: a\r\n" + framing, framing + b"Host: a\r\n" + field):
            check_request(b"POST /x HTTP/1.1\r\n" + lines + b"\r\n" + body)
