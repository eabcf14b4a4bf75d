from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import arguments, chosen_proxies, main
from benchmarks.contenders import Programs
from benchmarks.procs import BenchmarkError


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        arguments(["http-fast"])
    assert "no such scenario: http-fast" in capsys.readouterr().err
    with pytest.raises(BenchmarkError, match="squid: no such proxy"):
        chosen_proxies("squid", Programs())


def test_a_named_proxy_must_be_there_and_unnamed_ones_take_part_if_they_are():
    with pytest.raises(BenchmarkError, match="txlb-pure: no --txlb-pure-python"):
        chosen_proxies("txlb-pure", Programs())
    assert "txlb-pure" not in chosen_proxies(None, Programs())
    assert chosen_proxies(None, Programs(txlb_pure_python="python"))[:2] == ["txlb", "txlb-pure"]


@pytest.mark.integration(needs="nginx,haproxy,wrk,openssl,dnsperf,nsd,gcc")
@pytest.mark.timeout(120)
def test_streams_and_datagrams_are_measured_too(capsys: pytest.CaptureFixture[str]):
    scenarios = ["tcp-close", "udp-echo", "udp-dns", "https-keepalive", "https-handshake"]
    assert main([*scenarios, "--quick", "--proxies", "haproxy,nginx"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("best peer: ") == 6


@pytest.mark.integration(needs="nginx,haproxy,wrk,h2load")
def test_a_quick_run_measures_real_peers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = tmp_path / "found.json"
    scenarios = ["http-close", "http-latency", "idle-memory", "slow-clients"]
    assert main([*scenarios, "--quick", "--proxies", "haproxy,nginx", "--json", str(found)]) == 0
    tables = json.loads(found.read_text())["tables"]
    assert len(tables) == 4
    for table in tables:
        assert {"haproxy", "nginx"} <= {row["proxy"] for row in table["rows"]}
    assert "CPU ÷ best peer" in capsys.readouterr().out
