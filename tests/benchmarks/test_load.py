"""The parsers, on what wrk 4.1.0 and h2load 1.52.0 really printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.load import (
    Request,
    browser_fields,
    h2load_command,
    parse_datagrams,
    parse_dnsperf,
    parse_h2load_log,
    parse_s_time,
    parse_wrk,
    percentile,
)
from benchmarks.procs import BenchmarkError

WRK = """\
Running 1s test @ http://127.0.0.1:7001/
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   127.47us  132.44us   2.87ms   98.84%
    Req/Sec    30.16k     2.38k   35.70k    72.73%
  32994 requests in 1.10s, 6.67MB read
Requests/sec:  29992.88
Transfer/sec:      6.06MB
RESULT {"requests": 32994, "microseconds": 1100061, "bytes": 6994728, "p50_us": 110, "p99_us": 297, \
"errors": {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}}
"""
H2LOAD = """\
1795406874914225\t200\t749
1795406874915004\t200\t52
1795406874925154\t200\t184
1795406874925153\t200\t222
1795406874934474\t200\t143
1795406874935717\t200\t98
"""


def test_wrk_result_is_read_from_the_line_of_the_script():
    result = parse_wrk(WRK, Request())
    assert (result.requests, result.seconds) == (32994, 1.100061)
    assert (result.p50_us, result.p99_us) == (110, 297)


@pytest.mark.parametrize("kind", ["connect", "read", "write", "status", "timeout"])
def test_any_error_that_wrk_met_makes_the_run_invalid(kind):
    with pytest.raises(BenchmarkError, match=f"{kind}.*3"):
        parse_wrk(WRK.replace(f'"{kind}": 0', f'"{kind}": 3'), Request())


def test_answers_shorter_than_expected_make_the_run_invalid():
    with pytest.raises(BenchmarkError, match="6994728 bytes for 32994 answers of 10240"):
        parse_wrk(WRK, Request(answer=10240))


def test_wrk_without_an_answer_or_without_a_result_is_invalid():
    with pytest.raises(BenchmarkError, match="not one request"):
        parse_wrk(WRK.replace("32994", "0"), Request())
    with pytest.raises(BenchmarkError, match="no result"):
        parse_wrk("unable to connect to 127.0.0.1:7001 Connection refused\n", Request())


def test_h2load_log_gives_exact_percentiles():
    result = parse_h2load_log(H2LOAD, skip=0.0)
    assert (result.requests, result.p50_us, result.p99_us) == (6, 143, 749)
    assert result.seconds == pytest.approx(0.021492)


def test_h2load_log_leaves_out_the_warm_up():
    result = parse_h2load_log(H2LOAD, skip=0.005)
    assert (result.requests, result.p99_us) == (4, 222)


def test_h2load_log_with_a_failed_request_is_invalid():
    with pytest.raises(BenchmarkError, match="-1"):
        parse_h2load_log(H2LOAD + "1795406874935999\t-1\t98\n", skip=0.0)
    with pytest.raises(BenchmarkError, match="nothing"):
        parse_h2load_log("", skip=0.0)
    with pytest.raises(BenchmarkError, match="warm-up"):
        parse_h2load_log(H2LOAD, skip=9.0)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_percentile_is_the_nearest_rank(share, expected):
    assert percentile(range(1, 101), share) == expected


def test_h2load_spreads_its_connections_over_the_ten_milliseconds_of_its_timer():
    command, requests = h2load_command(8080, 16000, 3.0, Path("log"))
    assert requests == 48000
    assert {"-c160", "-n48000", "--rps=100", "-r16", "--rate-period=1ms"} <= set(command)


def test_requests_carry_twelve_fields_with_those_that_the_tool_writes():
    fields = browser_fields()
    assert len(fields) + len(["Host", "Connection"]) == 12
    assert "sec-fetch-mode: navigate" in fields
    assert all(value and not value.endswith('"') for value in (field.partition(": ")[2] for field in fields))


S_TIME = """\
Collecting connection statistics for 2 seconds
***ttt

88 connections in 0.11s; 800.00 connections/user sec, bytes read 17248
152 connections in 3 real seconds, 196 bytes read per connection
"""
DATAGRAMS = (
    'RESULT {"requests": 19209, "microseconds": 1000040, "lost": 2, "wrong": 0, '
    '"p50_us": 940.1, "p99_us": 22030.0}'
)
DNSPERF = """\
Statistics:

  Queries sent:         21012
  Queries completed:    21012 (100.00%)
  Queries lost:         0 (0.00%)

  Run time (s):         1.000146
  Queries per second:   21008.937813

  Average Latency (s):  0.001320 (min 0.000019, max 0.003442)
"""


def test_s_time_counts_connections_over_real_seconds():
    result = parse_s_time(S_TIME)
    assert (result.requests, result.seconds) == (152, 3.0)
    with pytest.raises(BenchmarkError, match="no connection"):
        parse_s_time(S_TIME.replace("152", "0"))


def test_datagrams_lost_beyond_a_hundredth_or_mangled_make_the_run_invalid():
    result = parse_datagrams(DATAGRAMS)
    assert (result.requests, result.seconds, result.p99_us) == (19209, 1.00004, 22030.0)
    for good, bad in (('"lost": 2', '"lost": 193'), ('"wrong": 0', '"wrong": 1'), ("RESULT", "")):
        with pytest.raises(BenchmarkError):
            parse_datagrams(DATAGRAMS.replace(good, bad))


def test_dnsperf_says_how_many_were_completed_and_lost():
    result = parse_dnsperf(DNSPERF)
    assert (result.requests, result.seconds) == (21012, 1.000146)
    with pytest.raises(BenchmarkError):
        parse_dnsperf(DNSPERF.replace("lost:         0", "lost:         300"))
