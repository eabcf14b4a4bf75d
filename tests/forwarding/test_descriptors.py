"""`txlb.forwarding.descriptors`: parts that do not overlap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.forwarding.descriptors import MOST_PIPES, RESERVED, Share, share


@pytest.mark.parametrize(
    ("protocols", "most", "parts"),
    [
        ((), None, Share(400, 400, 0, 0)),
        (("http", "tcp"), None, Share(375, 375, 0, 25)),
        (("http", "udp"), None, Share(275, 275, 200, 25)),
        (("udp",), None, Share(16, 16, 800, 0)),
        (("http",), 10, Share(10, 375, 0, 25)),
        (("http",), 5000, Share(750, 375, 0, 25)),  # whoever asks for it may starve backends, not the rest
        (("http", "udp"), 5000, Share(550, 275, 200, 25)),
    ],
)
def test_who_gets_what(protocols: tuple[str, ...], most: int | None, parts: Share) -> None:
    assert share(800 + RESERVED, protocols, most) == parts


@given(st.integers(0, 1 << 20), st.sets(st.sampled_from(["http", "tcp", "udp"])))
def test_without_a_limit_set_the_parts_fit_together(open_files: int, protocols: set[str]) -> None:
    parts = share(open_files, protocols, None)
    assert min(parts.clients, parts.backends) > 0
    assert (parts.flows > 0) == ("udp" in protocols)
    both = parts.clients + parts.backends + parts.flows + 2 * parts.pipes
    assert both <= max(50, open_files - RESERVED + 32)


def test_there_are_never_more_pipes_than_are_of_use() -> None:
    assert share(1 << 20, ("tcp",), None).pipes == MOST_PIPES
