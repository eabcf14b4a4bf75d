from __future__ import annotations

import pytest

from benchmarks.procs import BenchmarkError
from benchmarks.scenarios.loop_stalls import stalls


def test_the_lag_of_every_worker_is_read():
    text = (
        "# HELP txlb_loop_lag_seconds The longest\n"
        'txlb_loop_lag_seconds{worker="worker-1"} 0.0012\n'
        'txlb_loop_lag_seconds{worker="worker-2"} 3e-05\n'
        "txlb_worker_restarts_total 0.0\n"
    )
    assert stalls(text) == [0.0012, 0.00003]
    with pytest.raises(BenchmarkError):
        stalls("txlb_worker_restarts_total 0.0\n")
