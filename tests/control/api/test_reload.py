"""`txlb.control.api.reload`: what it takes, and what it says without a file."""

from __future__ import annotations

import pytest
import pytest_twisted
from support.admin import SNAPSHOT, Admin

from txlb.config.load import Loaded


@pytest.mark.parametrize("body", [b'{"force": true}', b"[]", b"1"])
@pytest_twisted.ensureDeferred
async def test_there_is_nothing_to_be_said(admin: Admin, body: bytes):
    assert (await admin.call("POST", "/reload", body=body)).status == 400


@pytest.mark.parametrize("body", [b"", b"{}"])
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_loaded_is_a_422(admin: Admin, body: bytes):
    answer = await admin.call("POST", "/reload", body=body)
    assert answer.status == 422
    assert "no configuration file" in answer.json["errors"][0]["detail"]


@pytest_twisted.ensureDeferred
async def test_while_txlb_stops_it_is_a_503_and_nothing_is_loaded(admin: Admin):
    admin.node.draining = True
    answer = await admin.call("POST", "/reload")
    assert (answer.status, answer.json["errors"]) == (503, [{"detail": "txlb is stopping"}])
    assert admin.node.reloads.failure == 0


@pytest_twisted.ensureDeferred
async def test_so_it_is_if_txlb_begins_to_stop_meanwhile(admin: Admin):
    def load() -> Loaded:
        admin.node._publisher.closed = True
        return Loaded(SNAPSHOT, ())

    admin.node._load = load
    answer = await admin.call("POST", "/reload")
    assert (answer.status, answer.json["errors"]) == (503, [{"detail": "txlb is stopping"}])
