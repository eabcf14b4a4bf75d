from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from benchmarks import starters
from benchmarks.contenders import Contender, Programs, addresses, fill
from benchmarks.procs import BenchmarkError


def test_every_backend_has_an_address_of_its_own():
    found = list(addresses(70_000))
    assert len(set(found)) == 70_000
    assert all(ipaddress.IPv4Address(address) in ipaddress.IPv4Network("127.0.0.0/8") for address in found)


def test_configuration_is_complete_or_refused():
    values = {
        "PORT": "8080",
        "LOG": "access.log",
        "SERVERS": "  - {id: b0}",
        "IDS": "b0",
        "TLS": "",
        "ALGORITHM": "random",
    }
    text = fill("txlb.yaml", values)
    assert 'bind: "127.0.0.1:8080"' in text
    assert "@" not in text
    with pytest.raises(KeyError, match="IDS"):
        fill("txlb.yaml", {name: value for name, value in values.items() if name != "IDS"})


def test_log_lines_are_counted_and_the_file_starts_over(tmp_path: Path):
    log = tmp_path / "access.log"
    contender = Contender("nginx", "nginx", 80, None, log)
    contender.drain_log()
    log.write_text("one\ntwo\n")
    contender.drain_log()
    assert log.read_text() == ""
    with log.open("a") as lines:
        lines.write("three\n")
    contender.drain_log()
    assert contender.logged == 3


def test_a_proxy_that_is_not_there_says_why():
    programs = Programs()
    assert starters.missing("txlb-pure", programs) == "no --txlb-pure-python"
    assert starters.missing("envoy", programs) == "no --envoy"
    assert starters.missing("envoy", Programs(envoy="/bin/envoy")) is None


def test_an_interpreter_without_txlb_is_refused(tmp_path: Path):
    with pytest.raises(BenchmarkError, match="no txlb installed"):
        starters.is_compiled("false", tmp_path)
