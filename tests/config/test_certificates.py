"""`txlb.config.certificates`: every mistake is told with its file and line; nothing of a key is ever told."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from support.configuration import loaded, problems
from support.tls import Authority, spec_of

from txlb.config.certificates import DAY, expiry_warning
from txlb.config.effective import effective
from txlb.config.load import loads
from txlb.core.model import Snapshot
from txlb.core.scoreboard import Columns
from txlb.core.snapshot import decode_now, encode

CONFIG = """\
listeners:
  - id: web
    bind: "127.0.0.1:8443"
    tls:
      certificates:
        - {chain: %(chain)s, key: %(key)s}
backends:
  - {id: web-1, host: 10.0.0.1, port: 80}
routing_rules:
  - backends: [web-1]
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_what_is_read_is_in_the_spec_and_travels(authority: Authority) -> None:
    pair = authority.certificate("a.example", "*.b.example")
    text = f"""\
        listeners:
          - {{id: web, bind: "127.0.0.1:8443", tls: {{
              certificates: [{{chain: {pair["chain"]}, key: {pair["key"]}}}],
              client_ca: {authority.path}, client_auth: optional, min_version: "1.3", unknown_name: refuse}}}}
        backends:
          - {{id: a, host: a.example, port: 80, tls: {{
              ca: {authority.path}, server_name: x.example, verify: false,
              client_certificate: {{chain: {pair["chain"]}, key: {pair["key"]}}}}}}}
          - {{id: b, host: b.example, port: 80, tls: {{}}}}
          - {{id: c, host: b.example, port: 80}}
        routing_rules:
          - backends: [a, b, c]
    """
    snapshot = loaded(text).snapshot
    tls = snapshot.listeners[0].tls
    assert tls is not None
    (one,) = tls.certificates
    assert (one.names, one.kind) == (("a.example", "*.b.example"), "ec")
    assert one.not_after > time.time()
    assert (tls.client_auth, tls.min_version, tls.unknown_name) == ("optional", "1.3", "refuse")
    assert "BEGIN CERTIFICATE" in tls.client_ca_pem
    mine = snapshot.backends[0].tls
    assert mine is not None
    assert (mine.server_name, mine.verify, mine.client_certificate) == ("x.example", False, one)
    assert snapshot.backends[2].tls is None
    assert decode_now(b"".join(encode(snapshot, Columns.for_snapshot(snapshot))))[0] == snapshot
    assert replace(loads(effective(snapshot).encode(), {}).snapshot, generation=0) == snapshot


def test_no_key_is_ever_shown(authority: Authority) -> None:
    pair = authority.certificate("a.example")
    snapshot = loaded(CONFIG % pair).snapshot
    secret = Path(pair["key"]).read_text().splitlines()[1]
    assert secret in b"".join(encode(snapshot, Columns.for_snapshot(snapshot))).decode()
    assert secret not in effective(snapshot)
    assert secret not in repr(snapshot)
    assert "PRIVATE" not in repr(snapshot)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda chain, key: key.unlink(), "6:50: {at}.key: {key} cannot be read: No such file or directory"),
        (lambda chain, key: chain.unlink(), "{at}.chain: {chain} cannot be read: No such file or directory"),
        (lambda chain, key: key.write_text("junk"), "{at}.key: {key} holds no private key, or a broken one"),
        (
            lambda chain, key: chain.write_text("junk"),
            "{at}.chain: {chain} holds no certificate, or a broken one",
        ),
        (
            lambda chain, key: key.write_bytes(other_key()),
            "{at}.key: {key} is not the key of the first certificate",
        ),
        (lambda chain, key: key.write_bytes(other_key(b"pw")), "{at}.key: {key} is encrypted"),
        (lambda chain, key: chain.write_bytes(b"x" * (2 << 20)), "{at}.chain: {chain} is longer than 1MiB"),
        (lambda chain, key: (chain.unlink(), os.mkfifo(chain)), "{at}.chain: {chain} is not a file"),
        (lambda chain, key: (key.unlink(), key.mkdir()), "{at}.key: {key} is not a file"),
    ],
)
def test_mistakes_are_told_with_file_and_line(authority: Authority, break_it: object, said: str) -> None:
    pair = authority.certificate("a.example", label="a")
    chain, key = Path(pair["chain"]), Path(pair["key"])
    break_it(chain, key)  # type: ignore[operator]
    (line,) = problems(CONFIG % pair)
    at = "listeners[0].tls.certificates[0]"
    wanted = said.format(at=at, chain=chain, key=key).removeprefix("6:50: ")
    assert line.startswith("6:")
    assert wanted in line


def other_key(password: bytes = b"") -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def test_one_name_cannot_have_two_rules(authority: Authority, tmp_path: Path) -> None:
    one, two = authority.certificate("a.example"), authority.certificate("a.example", kind="rsa")
    text = CONFIG % one + "\n"
    text = text.replace("backends:\n  - {id", f"        - {{chain: {two['chain']}, key: {two['key']},"
                        f" client_ca: {authority.path}}}\nbackends:\n  - {{id", 1)  # fmt: skip
    (line,) = problems(text)
    assert "a.example is in certificates[0] too, with another client_ca" in line


def test_what_is_odd_is_a_warning(authority: Authority) -> None:
    pair = authority.certificate("a.example")
    os.chmod(pair["key"], 0o644)
    (warning,) = loaded(CONFIG % pair).warnings
    assert "can be read by every user" in warning


def test_ends_are_told_in_time(authority: Authority) -> None:
    (one,) = spec_of(authority.certificate("a.example")).certificates
    assert expiry_warning(one, one.not_after - 15 * DAY) == ""
    assert "expires in 3 days" in expiry_warning(one, one.not_after - 3 * DAY)
    assert "expired 2 days ago" in expiry_warning(one, one.not_after + 2 * DAY)


def test_a_snapshot_without_tls_is_as_before() -> None:
    assert Snapshot().listeners == ()
