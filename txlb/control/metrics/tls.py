"""Metrics of TLS: handshakes of listeners that have it, how long certificates and OCSP responses hold."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from txlb.control.certificates import certificates_in, stapled_in
from txlb.control.metrics.picture import Picture
from txlb.core.scoreboard import LISTENER


def tls(picture: Picture) -> Iterator[Metric]:
    handshakes = CounterMetricFamily(
        "txlb_tls_handshakes", "TLS handshakes completed by clients", labels=["listener", "result"]
    )
    secure = {listener.id for listener in picture.snapshot.listeners if listener.tls is not None}
    for listener, base in picture.columns.listeners.items():
        if listener in secure:
            handshakes.add_metric([listener, "full"], picture.at(base, LISTENER, "tls_full"))
            handshakes.add_metric([listener, "resumed"], picture.at(base, LISTENER, "tls_resumed"))
    expiry = GaugeMetricFamily(
        "txlb_certificate_expiry_seconds", "Until the certificate in this file ends", labels=["name"]
    )
    now = time.time()
    ends = {one.chain: one.not_after for one in certificates_in(picture.snapshot)}
    for name, end in {**picture.own_certificates, **ends}.items():
        expiry.add_metric([name], end - now)
    responses = GaugeMetricFamily(
        "txlb_ocsp_expiry_seconds", "Until the OCSP response in this file ends", labels=["name"]
    )
    left: dict[str, float] = {}
    for one in stapled_in(picture.snapshot):
        if one.ocsp is not None:
            end = one.ocsp.ends - now if one.ocsp.der else 0.0
            left[one.ocsp.path] = min(end, left.get(one.ocsp.path, end))
    for name, seconds in left.items():
        responses.add_metric([name], seconds)
    yield from (handshakes, expiry, responses)
