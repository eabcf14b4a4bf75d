"""What other parsers got wrong, byte for byte: each test is named after the report."""

from __future__ import annotations

import pytest
from support.http_oracles import head_of, through_request, through_response

from txlb.core.http.refusals import Refusals

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def stopped(data: bytes, status: int = 400) -> None:
    """Nothing is made of it, nothing is sent on."""
    passed = through_request(data)
    assert passed.refusal.startswith(f"{status} "), passed
    assert (passed.heads, passed.out) == ([], b"")


def chunked(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def test_h11_cve_2025_43859_any_two_bytes_ended_a_chunk() -> None:
    stopped(chunked(b"5\r\nhelloXX0\r\n\r\n" + SMUGGLED))
    stopped(chunked(b"5\r\nAAAAAXX2\r\n45\r\n0\r\n\r\n" + SMUGGLED))


def test_go_cve_2025_22871_bare_lf_ended_a_chunk_line() -> None:
    stopped(chunked(b"5;ext\nhello\r\n0\r\n\r\n" + SMUGGLED))
    stopped(chunked(b"5\nhello\r\n0\r\n\r\n"))
    stopped(chunked(b"0\n\r\n"))


def test_kestrel_cve_2025_55315_line_ends_in_chunk_extensions() -> None:
    for end in (b"\n", b"\r"):
        stopped(chunked(b"2;" + end + b"xx\r\nxy\r\n0\r\n\r\n" + SMUGGLED))
        stopped(chunked(b"2;a" + end + b"b\r\nxy\r\n0\r\n\r\n" + SMUGGLED))


@pytest.mark.parametrize("value", [b"+5", b"-5", b"0_5", b"5_0", b"0x5", b"", b" 5 5", b"\xd9\xa5", b"5\x0b"])
def test_aiohttp_cve_2023_47627_python_numbers_as_content_length(value: bytes) -> None:
    stopped(post(b"Content-Length: " + value, body=b"hello"))
    assert through_response(b"HTTP/1.1 200 OK\r\nContent-Length: " + value + b"\r\n\r\nhello").refusal


@pytest.mark.parametrize(
    "line", [b"Foo\0: bar", b"F\xc3\xb6o: bar", b"Foo : bar", b"Foo: b\0r", b"Foo: b\nr", b"Foo: b\rr"]
)
def test_aiohttp_cve_2023_47627_loose_field_names_and_values(line: bytes) -> None:
    stopped(post(line))


def test_aiohttp_cve_2023_47627_python_numbers_as_chunk_size_and_version() -> None:
    for size in (b"0x5", b"+5", b"0_5", b"5_"):
        stopped(chunked(size + b"\r\nhello\r\n0\r\n\r\n"))
    for version in (b"1._1", b"+1.1", b"1.1_", "1.١".encode()):
        stopped(b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n")


def test_gunicorn_cve_2024_1135_codings_besides_chunked_were_not_looked_at() -> None:
    for field in (b"xchunked", b"chunked, identity", b"identity", b"chunked,", b"x"):
        stopped(post(b"Transfer-Encoding: " + field, body=b"0\r\n\r\n" + SMUGGLED))
        stopped(post(b"Transfer-Encoding: " + field, b"Content-Length: 6", body=b"0\r\n\r\n" + SMUGGLED))
    stopped(post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"))
    stopped(post(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 501)


def test_haproxy_cve_2019_18277_vertical_tab_before_chunked() -> None:
    stopped(post(b"Content-Length: 6", b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\nX"))
    stopped(post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\nX"))


def test_haproxy_cve_2021_40346_length_of_a_long_name_overflowed() -> None:
    """The name of 270 bytes became an empty one with a value that began with Content-Length."""
    long = b"Content-Length0" + b"a" * 255
    passed = through_request(post(long + b":", b"Content-Length: 23", body=b"x" * 23))
    assert [len(seen.body) for seen in passed.seen] == [23]
    assert dict(passed.seen[0].fields)[long.lower()] == b""
    for length in (255, 256, 257, 270, 511, 512, 4096):
        name = (b"Content-Length0" + b"a" * length)[:length]
        assert head_of(post(name + b": 5")).fields.content_length == -1


def test_haproxy_cve_2023_25725_fields_after_an_empty_name_were_dropped() -> None:
    stopped(post(b":", b"Content-Length: 5", body=b"hello"))
    stopped(post(b": x", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"))
    stopped(post(b"Content-Length: 5", b":x", body=b"hello"))


def test_haproxy_cve_2023_40225_an_empty_content_length_was_passed_on() -> None:
    stopped(post(b"Content-Length:", body=SMUGGLED))
    stopped(post(b"Content-Length: ", b"Content-Length: 5", body=b"hello"))
    stopped(post(b"Content-Length: 5", b"Content-Length:", body=b"hello"))
    stopped(post(b"Content-Length: ,5", body=b"hello"))


def test_haproxy_cve_2023_45539_a_fragment_in_the_target_misled_routing() -> None:
    for target in (b"/index.html#.png", b"#", b"/#/admin", b"http://a/x#y", b"http://a#/x"):
        stopped(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")


def test_apache_cve_2022_31813_connection_took_out_what_the_proxy_had_written() -> None:
    for names in (b"X-Forwarded-For", b"close, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto"):
        passed = through_request(post(b"Connection: " + names, b"X-Forwarded-For: 127.0.0.1"))
        assert dict(passed.seen[0].fields)[b"x-forwarded-for"] == b"192.0.2.1"


def test_valve_cve_2025_48865_connection_took_out_host_and_framing() -> None:
    passed = through_request(
        post(b"Connection: Host, Content-Length, close", b"Content-Length: 5", body=b"hello" + SMUGGLED)
    )
    fields = dict(passed.seen[0].fields)
    assert (fields[b"host"], fields[b"content-length"], passed.seen[0].body) == (b"a", b"5", b"hello")


def test_go_cve_2023_39326_chunk_extensions_without_end() -> None:
    stopped(chunked(b"1;" + b"a" * 100_000))
    stopped(chunked(b"1;a\r\nX\r\n" * 10_000))


def test_twisted_cve_2019_12387_line_ends_in_method_and_target() -> None:
    for line in (b"GET\nX / HTTP/1.1", b"GET\r / HTTP/1.1", b"GET /\nX HTTP/1.1", b"GET /\rX HTTP/1.1"):
        stopped(line + b"\r\nHost: a\r\n\r\n")
    stopped(b"GET\r\n / HTTP/1.1\r\nHost: a\r\n\r\n")


def test_twisted_cve_2020_10108_two_content_lengths() -> None:
    for second in (b"5", b"0", b"6"):
        stopped(post(b"Content-Length: 5", b"Content-Length: " + second, body=b"hello"))


def test_twisted_cve_2020_10109_content_length_and_chunked() -> None:
    for fields in (
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    ):
        stopped(post(*fields, body=b"0\r\n\r\n" + SMUGGLED))


def test_twisted_cve_2022_24801_signs_prefixes_and_bare_lf() -> None:
    stopped(post(b"Content-Length: +5", body=b"hello"))
    for size in (b"0x5", b"+5", b"-5"):
        stopped(chunked(size + b"\r\nhello\r\n0\r\n\r\n"))
    stopped(chunked(b"5;a=b\nc\r\nhello\r\n0\r\n\r\n"))
    stopped(post(b"Content-Length: 5\n", body=b"hello"))
    stopped(b"POST / HTTP/1.1\r\nHost: a\r\nX:\x0by\r\n\r\n")


def test_twisted_cve_2022_39348_nothing_of_the_request_is_echoed() -> None:
    """Answers of ours are made of status and configuration alone; and such a Host is refused anyway."""
    assert head_of(b"GET / HTTP/1.1\r\nHost: <script>alert(1)</script>\r\n\r\n").status == 400
    assert b"<" not in Refusals({}).answer(400, False, 1, False)


def test_twisted_identity_beside_chunked() -> None:
    stopped(post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"), 501)
    stopped(post(b"Transfer-Encoding: identity", b"Content-Length: 5", body=b"hello"))


def test_lines_in_trailers_that_nobody_looked_at() -> None:
    """A field that is taken out must not hide what follows it."""
    stopped(chunked(b"0\r\nContent-Length: x\r\nA: b\nGET / HTTP/1.1\r\n\r\n"))
    stopped(chunked(b"0\r\nHost : a\r\n\r\n" + SMUGGLED))
    stopped(chunked(b"0\r\nA: b\n\r\n\r\n" + SMUGGLED))


def test_python_numbers_of_other_scripts_and_widths() -> None:
    for digits in ("５", "٥", "²"):
        stopped(post(b"Content-Length: " + digits.encode(), body=b"hello"))
        stopped(chunked(digits.encode() + b"\r\nhello\r\n0\r\n\r\n"))
