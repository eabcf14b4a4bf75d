from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from txlb.config.changes import add_backend, patch_backend
from txlb.config.overlay import compose
from txlb.control.amendment import Amendment, matches
from txlb.control.configuration import Draft
from txlb.control.targets import Targets
from txlb.core.model import BackendSpec, ListenerSpec, Snapshot
from txlb.errors import ConfigError, RevisionMismatch

FILE = Snapshot(
    listeners=(ListenerSpec("web", ("127.0.0.1:8080",)),),
    backends=(BackendSpec("a", "169.254.1.1", 80, address="169.254.1.1"),),
)
TARGETS = Targets((), ())


def adding(**more: Any) -> Any:
    body = {"id": "n", "host": "10.0.0.1", "port": 80, **more}
    return lambda composed, leaving: add_backend(composed, body, leaving)


def draft() -> Draft:
    return Draft(compose(FILE, {}, Path()))


def test_it_changes_the_draft() -> None:
    here = draft()
    Amendment(adding()).apply(here, '"1-x"', TARGETS)
    assert [one.id for one in here.snapshot.backends] == ["a", "n"]


def test_another_revision_is_refused_before_anything_is_looked_at() -> None:
    here = draft()
    with pytest.raises(RevisionMismatch):
        Amendment(adding(), if_match='"2-x"').apply(here, '"1-x"', TARGETS)
    assert here.composed.overlay == {}


@pytest.mark.parametrize(
    ("field", "admitted"),
    [
        ('"1-x"', True),
        ("*", True),
        ('"0", "1-x"', True),
        ('W/"1-x"', False),
        ("1-x", False),
        ("", False),
        ('"0",', False),
    ],
)
def test_if_match(field: str, admitted: bool) -> None:
    assert matches(field, '"1-x"') is admitted
    assert matches(field, "") is (field == "*")  # changed by who came first: no tag fits any more


def test_an_address_is_judged_whatever_named_it() -> None:
    for edit, addresses in (
        (adding(host="169.254.169.254"), {}),
        (adding(host="metadata.test"), {"metadata.test": "169.254.169.254"}),
        (lambda composed, _: patch_backend(composed, "a", {"port": 81}), {}),
    ):
        with pytest.raises(ConfigError, match="link-local"):
            Amendment(edit, addresses=addresses).apply(draft(), "", TARGETS)


def test_the_files_own_address_is_not() -> None:
    here = draft()
    Amendment(lambda composed, _: patch_backend(composed, "a", {"weight": 2})).apply(here, "", TARGETS)
    assert here.snapshot.backends[0].weight == 2
