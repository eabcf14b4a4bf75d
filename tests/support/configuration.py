"""Configurations for tests: small texts, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import dedent

from txlb.config.load import Loaded, loads
from txlb.errors import ConfigError

VALID = """\
listeners:
  - {id: web, bind: "127.0.0.1:8080"}
backends:
  - {id: web-1, host: 10.0.0.1, port: 80}
routing_rules:
  - backends: [web-1]
"""


def loaded(text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    return loads(dedent(text).encode(), environ or {}, source="lb.yaml")


def problems(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Every line that refuses ``text``, without the name of the file; [] if it is accepted."""
    try:
        loaded(text, environ)
    except ConfigError as error:
        lines = str(error).splitlines()
        assert lines == error.problems
        return [line.removeprefix("lb.yaml:") for line in lines]
    return []


def problem(addition: str) -> str:
    """The one thing wrong with a valid configuration and ``addition``, without its place."""
    found = problems(dedent(addition) + VALID)
    assert len(found) == 1, found
    return found[0].split(": ", 1)[1]
