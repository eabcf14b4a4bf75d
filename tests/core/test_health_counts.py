from __future__ import annotations

from txlb.core import health_counts as h
from txlb.core.health_counts import HealthCounts


def test_every_result_has_a_name() -> None:
    codes = [
        h.SUCCESS,
        h.REFUSED,
        h.UNREACHABLE,
        h.TIMEOUT,
        h.CLOSED,
        h.MALFORMED,
        h.STATUS,
        h.FAILED,
        h.VOID,
    ]
    assert codes == list(range(len(h.RESULTS)))


def test_what_is_counted_and_a_copy_stays_as_it_is() -> None:
    counts = HealthCounts()
    counts.began(0.02)
    counts.ended(h.SUCCESS, 0.003)
    copy = counts.copy()
    counts.ended(h.REFUSED, 0.0)
    assert copy.results[h.SUCCESS] == 1 and copy.results[h.REFUSED] == 0
    assert (sum(copy.lateness), copy.lateness_us) == (1, 20_000)
    assert (sum(copy.duration), copy.duration_us) == (1, 3_000)
    assert counts.results[h.REFUSED] == 1
