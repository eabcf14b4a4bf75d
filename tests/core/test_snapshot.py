"""`txlb.core.snapshot`: bytes and back without loss, in small steps; differences by id."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from txlb.config.models import Configuration
from txlb.core import model
from txlb.core.model import (
    AlgorithmSpec,
    BackendSpec,
    ErrorResponseSpec,
    HealthCheckSpec,
    ListenerSpec,
    OwnCheckSpec,
    RuleSpec,
    Snapshot,
)
from txlb.core.scoreboard import Columns
from txlb.core.snapshot import SLICE, decode, decode_now, diff, encode, key_of

ids = st.text("abcdefgh._-XYZ0189", min_size=1, max_size=8)
texts = st.text(max_size=12)
seconds = st.floats(0, 1e6, allow_nan=False)
counts = st.integers(0, 2**40)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts | seconds

listener_specs = st.builds(
    ListenerSpec,
    id=ids,
    bind=st.lists(texts, max_size=3).map(tuple),
    trusted=st.lists(texts, max_size=2).map(tuple),
)
check_fields: dict[str, Any] = {
    "type": ids,
    "interval": seconds,
    "path": texts,
    "statuses": st.lists(st.tuples(st.integers(200, 599), st.integers(200, 599)), max_size=2).map(tuple),
    "options": st.lists(st.tuples(texts, scalars), max_size=2).map(tuple),
}
health_checks = st.builds(HealthCheckSpec, **check_fields)
own_checks = st.builds(OwnCheckSpec, **{name: st.none() | one for name, one in check_fields.items()})
backend_specs = st.builds(
    BackendSpec,
    id=ids,
    host=texts,
    port=counts,
    weight=counts,
    max_connections=st.none() | counts,
    address=texts,
    health_check=own_checks,
)
rule_specs = st.builds(
    RuleSpec,
    id=ids,
    backends=st.lists(ids, max_size=5).map(tuple),
    listeners=st.none() | st.lists(ids, max_size=2).map(tuple),
    host=st.none() | texts,
    path_prefix=st.none() | texts,
    algorithm=st.builds(
        AlgorithmSpec, name=ids, options=st.lists(st.tuples(texts, scalars), max_size=3).map(tuple)
    ),
)
snapshots = st.builds(
    Snapshot,
    generation=counts,
    node_id=texts,
    workers=st.none() | counts,
    admin=st.builds(
        model.AdminSpec,
        bind=st.none() | texts,
        token_file=st.none() | texts,
        tls=st.none() | st.builds(model.AdminTlsSpec, chain=texts, key=texts),
        allowed_hosts=st.lists(texts, max_size=2).map(tuple),
    ),
    admin_allowed_backends=st.lists(texts, max_size=2).map(tuple),
    metrics_bind=st.none() | texts,
    store=st.none() | texts,
    limits=st.builds(model.LimitsSpec, max_connections=st.none() | counts, body=st.none() | counts),
    timeouts=st.builds(model.TimeoutsSpec, connect=seconds, shutdown=seconds),
    health_check=health_checks,
    listeners=st.lists(listener_specs, max_size=3, unique_by=lambda one: one.id).map(tuple),
    backends=st.lists(backend_specs, max_size=6, unique_by=lambda one: one.id).map(tuple),
    rules=st.lists(rule_specs, max_size=4, unique_by=lambda one: one.id).map(tuple),
    error_responses=st.lists(st.builds(ErrorResponseSpec, status=counts, content_type=texts, body=texts)).map(
        tuple
    ),
)


@settings(max_examples=50)
@given(snapshots)
def test_decode_gives_back_what_was_encoded(snapshot: Snapshot):
    columns = Columns.for_snapshot(snapshot)
    assert decode_now(b"".join(encode(snapshot, columns))) == (snapshot, columns)


def test_every_field_of_a_snapshot_travels():
    odd = Snapshot(
        generation=7, node_id="n", workers=3, metrics_bind="m:1", store="/s", secret_file="/k", secret="ab",
        admin_allowed_backends=("10.0.0.0/8",),
        admin=model.AdminSpec(None, "/t", model.AdminTlsSpec("/c", "/k", "1.3"), ("h",)),
        limits=model.LimitsSpec(1, 2, 3, 4, 5),
        timeouts=model.TimeoutsSpec(*[float(n) for n in range(len(fields(model.TimeoutsSpec)))]),
        idle_connections=model.IdleConnectionsSpec(1, 2, 3.0),
        access_log=model.AccessLogSpec("/x", "common"),
        listeners=(ListenerSpec("l", ("a:1", "b:2"), "tcp", ("10.0.0.0/8",), "append", "off"),),
        health_check=HealthCheckSpec("off", 1.0, 2.0, 3, 4, 5.0, "/a", "h", ((200, 200),), (("k", 1.5),)),
        health_check_concurrency=5,
        backends=(BackendSpec("b", "h", 1, 2, 3, "10.0.0.1", "v2", model.BackendTlsSpec("/c"),
                              OwnCheckSpec("m:C", path="/b")),),
        rules=(RuleSpec("r", ("b",), ("l",), "*.x", "/p", AlgorithmSpec("m:C", (("k", 1.5), ("n", None))),
                        model.RetriesSpec(1, 0.5, 3.0, 4), 0.25, "lb"),),
        error_responses=(ErrorResponseSpec(503, "text/html", "<p>é"),),
    )  # fmt: skip
    default = Snapshot()
    assert [
        name for name in (one.name for one in fields(odd)) if getattr(odd, name) == getattr(default, name)
    ] == []
    assert decode_now(b"".join(encode(odd, Columns.for_snapshot(odd))))[0] == odd


def test_ten_thousand_backends_are_many_small_steps():
    names = tuple(f"b{number}" for number in range(10_000))
    snapshot = Snapshot(
        listeners=(ListenerSpec("l", ()),),
        backends=tuple(BackendSpec(name, "10.0.0.1", 80) for name in names),
        rules=(RuleSpec("r", names),),
    )
    data = b"".join(encode(snapshot, Columns.for_snapshot(snapshot)))
    assert max(map(len, data.split(b"\n"))) < 100 * SLICE
    assert sum(1 for _ in decode(data)) > 3 * 10_000 / SLICE
    assert decode_now(data)[0] == snapshot


def test_diff_names_what_came_went_and_changed_whatever_the_order():
    def of(*backends: BackendSpec) -> Snapshot:
        return Snapshot(backends=backends)

    a, b, c = (BackendSpec(name, "10.0.0.1", 80) for name in "abc")
    changes = diff(of(a, b), of(replace(b, weight=2), c)).backends
    assert (changes.added, changes.removed, changes.changed) == (("c",), ("a",), ("b",))
    assert not diff(of(a, b), of(b, a))


def test_diff_names_settings_but_not_the_generation():
    old = Snapshot(generation=1)
    assert not diff(old, replace(old, generation=2))
    new = replace(old, timeouts=model.TimeoutsSpec(connect=9.0), node_id="x")
    assert diff(old, new).settings == ("node", "timeouts")


def test_settings_go_by_their_keys_in_the_configuration():
    others = {"generation", "rules"}
    assert {key_of(field.name) for field in fields(Snapshot)} - others <= set(Configuration.model_fields)
    both = replace(
        Snapshot(), secret="x", secret_file="f", metrics_bind="unix:/m", health_check_concurrency=1
    )
    assert diff(Snapshot(), both).settings == ("metrics", "secret_file", "health_check")


def test_a_difference_reads_as_one_line():
    new = Snapshot(listeners=(ListenerSpec("l", ()),), node_id="x")
    assert (
        str(diff(Snapshot(), new)) == "listeners +1 -0 ~0, backends +0 -0 ~0, rules +0 -0 ~0, settings node"
    )
