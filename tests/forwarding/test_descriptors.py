"""`txlb.forwarding.descriptors`: parts that do not overlap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.forwarding.descriptors import MOST_PIPES, RESERVED, Share, share


@pytest.mark.parametrize(
    ("protocols", "most", "parts"),
    [
        ((), None, Share(400, 400, 0, 0, 800)),
        (("http", "tcp"), None, Share(375, 375, 0, 25, 750)),
        (("http", "udp"), None, Share(275, 275, 200, 25, 550)),
        (("udp",), None, Share(16, 16, 800, 0, 0)),
        (("http",), 10, Share(10, 375, 0, 25, 750)),
        (
            ("http",),
            5000,
            Share(750, 375, 0, 25, 750),
        ),  # may starve backends, not the rest
        (("http", "udp"), 5000, Share(550, 275, 200, 25, 550)),
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


@pytest.mark.parametrize(
    ("clients", "idle"), [(0, 657), (1, 655), (100, 457), (141, 375), (142, 375), (375, 375)]
)
def test_what_clients_leave_unused_may_hold_idle_connections(clients: int, idle: int) -> None:
    assert share(800 + RESERVED, ("http",), None).idle(clients) == idle


@given(st.integers(RESERVED + 1000, 1 << 20), st.integers(0, 1 << 20))
def test_beyond_their_own_part_they_leave_room_for_twice_the_clients(open_files: int, clients: int) -> None:
    parts = share(open_files, ("http",), None)
    if parts.idle(clients) > parts.backends:
        assert parts.idle(clients) + 2 * clients <= parts.streams
