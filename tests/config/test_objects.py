"""`txlb.config.objects`. What the overlay makes of them is in ``test_overlay.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from txlb.config.load import load
from txlb.config.objects import BACKEND, RULE, data_of_object, digest, spec_of
from txlb.errors import ConfigError

EXAMPLE = load(Path(__file__).parents[2] / "examples" / "http.yaml", {}).snapshot


def test_an_object_as_data_gives_itself_again() -> None:
    for backend in EXAMPLE.backends:
        assert spec_of(BACKEND, data_of_object(BACKEND, backend, EXAMPLE), EXAMPLE, Path()) == backend
    for rule in EXAMPLE.rules:
        assert spec_of(RULE, data_of_object(RULE, rule, EXAMPLE), EXAMPLE, Path()) == rule


def test_every_error_is_told_with_its_path() -> None:
    with pytest.raises(ConfigError) as raised:
        spec_of(BACKEND, {"id": "a", "host": "x", "port": 0, "health_check": {"rise": -1}}, EXAMPLE, Path())
    assert [problem.split(":")[0] for problem in raised.value.problems] == ["port", "health_check.rise"]


def test_digests_differ_as_objects_do() -> None:
    assert digest(BACKEND, None, EXAMPLE) == ""
    digests = [digest(BACKEND, one, EXAMPLE) for one in EXAMPLE.backends]
    assert len(set(digests)) == len(digests)


def test_classes_are_looked_for_before_anything_is_imported() -> None:
    for kind, data in (
        (RULE, {"backends": ["a"], "algorithm": "no.such.module:Thing"}),
        (RULE, {"backends": ["a"], "algorithm": {"name": "no.such.module:Thing"}}),
        (BACKEND, {"id": "a", "host": "x", "port": 1, "health_check": {"type": "no.such.module:Thing"}}),
    ):
        with pytest.raises(ConfigError) as raised:
            spec_of(kind, data, EXAMPLE, Path())
        [problem] = raised.value.problems
        assert "classes are for the file to name" in problem
