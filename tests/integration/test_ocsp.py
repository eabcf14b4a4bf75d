"""OCSP stapling through a running txlb, looked at with OpenSSL's own client."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.balancer import Balancer
from support.ocsp import HOUR, Responder, stapled, tampered, with_issuer
from support.origins import eventually
from support.processes import twistd
from support.tls import Authority

pytestmark = pytest.mark.integration(needs="openssl")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def listening(*certificates: dict[str, str]) -> list[dict[str, Any]]:
    return [{"id": "web", "bind": "127.0.0.1:0", "tls": {"certificates": certificates}}]


def s_client(port: int, name: str, version: str, *more: str) -> str:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name]
    command += ["-tls" + version.replace(".", "_"), *more]
    done = subprocess.run(command, input="Q\n", capture_output=True, timeout=60, text=True, check=False)
    return done.stdout + done.stderr


def status(port: int, name: str, version: str = "1.3") -> str:
    """What OpenSSL is told of the certificate: "good", "none", or what else it says."""
    said = s_client(port, name, version, "-status")
    if "OCSP response: no response sent" in said:
        return "none"
    found = re.search(r"OCSP Response Status: successful .*Cert Status: (\w+)", said, re.DOTALL)
    return found[1] if found else said


def left(txlb: Balancer, pair: dict[str, str]) -> float:
    return txlb.metrics()["txlb_ocsp_expiry_seconds", (("name", pair["ocsp"]),)]


def test_the_name_that_has_a_response_staples_it(authority: Authority, tmp_path: Path) -> None:
    one = stapled(with_issuer(authority.certificate("one.example"), authority), authority)
    two = with_issuer(authority.certificate("two.example"), authority)
    for certificates in ((one, two), (two, one)):
        with Balancer(tmp_path, [1], listeners=listening(*certificates)) as txlb:
            for version in ("1.2", "1.3"):
                assert status(txlb.port, "one.example", version) == "good"
                assert status(txlb.port, "two.example", version) == "none"
                said = s_client(txlb.port, "one.example", version)
                assert "BEGIN CERTIFICATE" in said
                assert "OCSP" not in said
            assert 23 * 3600 < left(txlb, one) <= 24 * 3600


@pytest.mark.timeout(150)
def test_responses_come_and_end(authority: Authority, tmp_path: Path) -> None:
    pair = stapled(with_issuer(authority.certificate("a.example"), authority), authority)
    other = with_issuer(authority.certificate("b.example"), authority)
    responder = Responder(authority)
    with Balancer(tmp_path, [1], workers=2, listeners=listening(other, pair)) as txlb:

        def everywhere(wanted: str) -> bool:
            """Asked often enough that both workers were, almost certainly."""
            return all(status(txlb.port, "a.example", version) == wanted for version in ("1.2", "1.3") * 4)

        for bad, why in (
            (b"<html>503</html>", "holds no OCSP response"),
            (tampered(responder.response(pair)), "is not signed by the issuer"),
        ):
            stapled(pair, authority, bad)
            told = f"{pair['ocsp']} {why}"
            eventually(lambda: told in txlb.program.output, "it is told", 20)  # noqa: B023
        assert txlb.program.output.count("; what was read before stays in force") == 2
        assert everywhere("good")

        stapled(pair, authority, responder.response(pair, ends=48 * HOUR))
        eventually(lambda: left(txlb, pair) > 30 * 3600, "the new one is in force", 20)
        assert everywhere("good")

        stapled(pair, authority, responder.response(pair, begins=-9 * HOUR, ends=-5 * HOUR))
        eventually(lambda: left(txlb, pair) < 0, "one that has expired is in force", 20)
        assert everywhere("none")
        eventually(
            lambda: "expired 5.0 hours ago: nothing is stapled" in txlb.program.output, "it is told", 20
        )

        stapled(pair, authority, responder.response(pair, ends=timedelta(seconds=20)))
        txlb.program.send_signal(signal.SIGHUP)
        eventually(lambda: left(txlb, pair) > 0, "a reload reads it", 20)
        assert status(txlb.port, "a.example") == "good" or left(txlb, pair) <= 0
        eventually(lambda: everywhere("none"), "it ends while nobody does anything", 40)
        assert left(txlb, pair) <= 0

        stapled(pair, authority, responder.response(other))
        txlb.program.send_signal(signal.SIGHUP)
        eventually(
            lambda: txlb.metric("txlb_config_reloads_total", result="failure") == 1, "it is refused", 20
        )
        assert f"tls.certificates[1].ocsp: {pair['ocsp']} is for another certificate" in txlb.program.output


def test_check_finds_what_cannot_be_stapled(authority: Authority, tmp_path: Path) -> None:
    pair = with_issuer(authority.certificate("a.example", label="a"), authority)
    other = with_issuer(authority.certificate("b.example", label="b"), authority)
    pair = stapled(pair, authority, Responder(authority).response(other))
    path = tmp_path / "lb.yaml"
    config = {
        "listeners": listening(pair),
        "backends": [{"id": "b", "host": "127.0.0.1", "port": 1}],
        "routing_rules": [{"backends": ["b"]}],
    }
    path.write_text(json.dumps(config))

    def check() -> tuple[int, str]:
        command = twistd("txlb", f"--config={path}", "--check")
        done = subprocess.run(command, capture_output=True, timeout=60, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    code, said = check()
    assert code == 1
    assert f".ocsp: {pair['ocsp']} is for another certificate than the first one in {pair['chain']}" in said
    stapled(pair, authority, Responder(authority).response(pair, ends=-HOUR / 2))
    code, said = check()
    assert code == 0
    assert "nothing is stapled" in said
    stapled(pair, authority)
    code, said = check()
    assert (code, "ocsp" in said) == (0, False)
