"""`txlb.control.worker_process`: the environment of workers; their lives are in `test_supervisor`."""

from __future__ import annotations

import sys

from txlb.control.worker_process import default_command, worker_environment


def test_workers_find_the_txlb_that_control_runs_first():
    assert worker_environment({"A": "1", "PYTHONPATH": "/x"}, "/here", False) == {
        "A": "1",
        "PYTHONPATH": "/here:/x",
    }
    assert worker_environment({}, "/here", False) == {"PYTHONPATH": "/here"}


def test_what_every_interpreter_finds_is_not_put_before_the_standard_library():
    assert worker_environment({"PYTHONPATH": "/x"}, "/site-packages", True) == {"PYTHONPATH": "/x"}


def test_the_current_directory_is_not_on_the_path_of_workers():
    assert default_command()[:2] == [sys.executable, "-P"]
