from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from support.configuration import VALID, loaded

from txlb.config.effective import data_of, effective
from txlb.config.load import load, loads, parse
from txlb.core.model import AccessLogSpec, ErrorResponseSpec

EXAMPLE = Path(__file__).parents[2] / "examples" / "http.yaml"


def test_the_effective_configuration_gives_the_snapshot_again() -> None:
    for snapshot in (loaded(VALID).snapshot, load(EXAMPLE, {}).snapshot):
        assert loads(effective(snapshot).encode(), {}).snapshot == snapshot


def test_a_rule_that_has_lost_its_last_backend_is_still_one() -> None:
    snapshot = loaded(VALID).snapshot
    bereft = replace(snapshot, backends=(), rules=tuple(replace(r, backends=()) for r in snapshot.rules))
    assert loads(effective(bereft).encode(), {}).snapshot == bereft
    assert parse(data_of(bereft)).snapshot == bereft


def test_it_is_plain_data_too() -> None:
    snapshot = load(EXAMPLE, {}).snapshot
    assert parse(data_of(snapshot)).snapshot == snapshot


def test_generation_and_resolved_addresses_are_not_configuration() -> None:
    snapshot = load(EXAMPLE, {}).snapshot
    resolved = tuple(replace(backend, address=backend.address or "10.9.9.9") for backend in snapshot.backends)
    assert effective(replace(snapshot, generation=7, backends=resolved)) == effective(snapshot)


@given(
    st.text(max_size=50),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
)
def test_any_text_survives(body: str, name: str) -> None:
    snapshot = replace(
        loaded(VALID).snapshot,
        access_log=AccessLogSpec(f"/var/log/{name}", "off"),
        error_responses=(ErrorResponseSpec(503, "text/plain", body),),
    )
    again = loads(effective(snapshot).encode(), {}).snapshot
    assert again.error_responses == snapshot.error_responses
    assert Path(again.access_log.path) == Path(snapshot.access_log.path)


def test_ids_that_look_like_other_things_are_quoted() -> None:
    snapshot = loaded(VALID.replace("web-1", '"012"').replace("id: web,", 'id: "on",')).snapshot
    text = effective(snapshot)
    assert 'id: "012"' in text
    assert 'id: "on"' in text
    assert loads(text.encode(), {}).snapshot == snapshot
