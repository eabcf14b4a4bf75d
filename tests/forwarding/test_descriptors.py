"""`txlb.forwarding.descriptors`: parts that do not overlap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.forwarding.descriptors import RESERVED, Share, share


@pytest.mark.parametrize(
    ("protocols", "most", "parts"),
    [
        ((), None, Share(400, 400, 0)),
        (("http", "tcp"), None, Share(400, 400, 0)),
        (("http", "udp"), None, Share(300, 300, 200)),
        (("udp",), None, Share(16, 16, 800)),
        (("http",), 10, Share(10, 400, 0)),
        (("http",), 5000, Share(800, 400, 0)),  # whoever asks for it may starve backends, not the rest
        (("http", "udp"), 5000, Share(600, 300, 200)),
    ],
)
def test_who_gets_what(protocols: tuple[str, ...], most: int | None, parts: Share) -> None:
    assert share(800 + RESERVED, protocols, most) == parts


@given(st.integers(0, 1 << 20), st.sets(st.sampled_from(["http", "tcp", "udp"])))
def test_without_a_limit_set_the_parts_fit_together(open_files: int, protocols: set[str]) -> None:
    parts = share(open_files, protocols, None)
    assert min(parts.clients, parts.backends) > 0
    assert (parts.flows > 0) == ("udp" in protocols)
    assert parts.clients + parts.backends + parts.flows <= max(48, open_files - RESERVED + 32)
