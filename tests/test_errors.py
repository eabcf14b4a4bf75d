from __future__ import annotations

import pickle

from txlb.errors import AlgorithmError, ConfigError, ListenError, TxlbError, WorkerError


def test_every_error_is_a_txlb_error() -> None:
    for kind in (AlgorithmError, ConfigError, ListenError, WorkerError):
        assert issubclass(kind, TxlbError)


def test_config_error_reads_as_one_line_per_problem() -> None:
    error = ConfigError(["a.yaml:1:1: workers: no", "a.yaml:2:1: admin: no"])
    assert str(error) == "a.yaml:1:1: workers: no\na.yaml:2:1: admin: no"
    assert error.problems == ["a.yaml:1:1: workers: no", "a.yaml:2:1: admin: no"]


def test_config_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ConfigError(["one", "two"])))
    assert error.problems == ["one", "two"]
