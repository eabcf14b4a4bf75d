"""Fixtures of the tests that run a whole txlb as a process and look at it from outside.

A module whose tests share one txlb asks for ``balancer`` (with the module's ``SETTINGS``) and ``origin``,
its one backend; a test that needs a txlb of its own takes ``start_balancer``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.balancer import Balancer
from support.origins import Origin


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as one:
        yield one


@pytest.fixture(scope="module", params=[1], ids=lambda workers: f"workers-{workers}")
def balancer(
    request: pytest.FixtureRequest, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Balancer]:
    """One txlb for the module, in front of ``origin``."""
    settings = getattr(request.module, "SETTINGS", {})
    folder = tmp_path_factory.mktemp("txlb")
    with Balancer(folder, [origin.port], workers=request.param, **settings) as one:
        yield one


@pytest.fixture
def start_balancer(nothing_left: None, tmp_path: Path) -> Iterator[Callable[..., Balancer]]:
    """Starts a `Balancer`; the test may stop it, and it is ended in any case."""
    started: list[Balancer] = []

    def start(*arguments: Any, beside: dict[str, str] | None = None, **settings: Any) -> Balancer:
        folder = tmp_path / f"txlb-{len(started)}"
        folder.mkdir()
        for name, text in (beside or {}).items():  # files beside the configuration
            (folder / name).write_text(text, encoding="utf-8")
        started.append(Balancer(folder, *arguments, **settings))
        return started[-1]

    yield start
    with ExitStack() as ends:  # one that does not end well keeps none of the others
        for one in started:
            ends.callback(one.stop if one.program.returncode is None else one.kill)
