"""`txlb.control.metrics.tls`: handshakes of listeners that have TLS, until when certificates are good."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.metrics import Rows
from support.ocsp import stapled
from support.tls import Authority, spec_of

from txlb.control.metrics.tls import tls
from txlb.core.model import ListenerSpec, OcspSpec
from txlb.core.scoreboard import LISTENER, Columns


@pytest.fixture
def samples(tmp_path: Path) -> dict[tuple[Any, ...], float]:
    """What two workers that have resumed one handshake and done three and four anew come to."""
    pair = Authority(tmp_path).certificate("a.example", label="a")
    rows = Rows()
    plain = rows.picture()
    authority = Authority(tmp_path, "other")
    with_response = stapled(authority.certificate("b.example", label="b"), authority)
    misfit = stapled(authority.certificate("c.example", label="c"), authority)
    tls_of = spec_of(pair, with_response, misfit)
    *others, last = tls_of.certificates
    without = replace(last, ocsp=OcspSpec(misfit["ocsp"]))
    shared = replace(others[0], ocsp=OcspSpec(with_response["ocsp"], "x", 0.0, time.time() + 60.0))
    secure = ListenerSpec("secure", (), tls=replace(tls_of, certificates=(shared, *others, without)))
    snapshot = replace(plain.snapshot, listeners=(*plain.snapshot.listeners, secure))
    columns = Columns.for_snapshot(snapshot)
    base = columns.listeners["secure"]
    filled = []
    for full in (3, 4):
        row = memoryview(bytearray(columns.used * 8)).cast("q")
        row[base + LISTENER.index("tls_full")] = full
        row[base + LISTENER.index("tls_resumed")] = 1
        filled.append(row.tobytes())
    picture = replace(plain, snapshot=snapshot, columns=columns, rows=filled, own_certificates={"admin": 4e9})
    picture.add_up()
    return {(one.name, *one.labels.values()): one.value for family in tls(picture) for one in family.samples}


def test_handshakes_of_listeners_with_tls_only(samples: dict[tuple[Any, ...], float]) -> None:
    found = {key[1:]: value for key, value in samples.items() if key[0] == "txlb_tls_handshakes_total"}
    assert found == {("secure", "full"): 7, ("secure", "resumed"): 2}


def test_how_long_responses_hold(samples: dict[tuple[Any, ...], float], tmp_path: Path) -> None:
    found = {key[1]: value for key, value in samples.items() if key[0] == "txlb_ocsp_expiry_seconds"}
    assert found.pop(str(tmp_path / "b.ocsp")) <= 60.0  # two certificates have it, and it ends sooner for one
    assert found == {str(tmp_path / "c.ocsp"): 0.0}  # it does not fit


def test_how_long_certificates_are_good_for(samples: dict[tuple[Any, ...], float], tmp_path: Path) -> None:
    assert samples["txlb_certificate_expiry_seconds", str(tmp_path / "a.pem")] > 3600
    assert samples["txlb_certificate_expiry_seconds", "admin"] > 3600
