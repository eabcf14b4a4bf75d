"""Builds txlb; everything static is in setup.cfg.

The modules on the data path are compiled by mypyc. Without a C compiler, or with ``TXLB_PURE=1``, the very
same files are installed as plain Python. ``TXLB_REQUIRE_COMPILED=1`` turns that fallback into an error.
"""

from __future__ import annotations

import os
import sys
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

#: What is compiled: the packages on the data path …
COMPILED = (
    "txlb/core/**/*.py",
    "txlb/net/*.py",
    "txlb/forwarding/**/*.py",
)
#: … without what runs at control speed, or is tied to foreign classes.
NOT_COMPILED = (
    "txlb/**/__init__.py",
    "txlb/core/model.py",
    "txlb/core/scoreboard.py",
    "txlb/core/snapshot.py",
    "txlb/core/standing.py",
    "txlb/net/activation.py",
    "txlb/net/hosting.py",
    "txlb/net/link.py",
    "txlb/net/loop_reactor.py",
    "txlb/net/reactor_time.py",
    "txlb/net/scheduling.py",
    "txlb/net/shared_memory.py",
    "txlb/net/slices.py",
    "txlb/net/sockets.py",
    "txlb/net/steering.py",
    "txlb/forwarding/log_writer.py",
    "txlb/forwarding/plane.py",
    "txlb/forwarding/rules.py",
    "txlb/forwarding/rebuilds.py",
    "txlb/forwarding/siblings.py",
)
#: ``--config-file=``: not setup.cfg's [mypy], whose plugin is absent from the build environment.
MYPY_FLAGS = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
#: Commands that need the extensions; for the others (metadata, sdist) mypyc would be a minute for nothing.
BUILDS = {"bdist_wheel", "build", "build_ext", "develop", "editable_wheel", "install"}


def matching(patterns: tuple[str, ...]) -> set[str]:
    return {path for pattern in patterns for path in glob(pattern, recursive=True)}


def fall_back(why: BaseException) -> None:
    """Give up compiling: say so once, or fail if compiled modules are required."""
    if os.environ.get("TXLB_REQUIRE_COMPILED"):
        raise why
    print(
        "WARNING: txlb is being installed WITHOUT compiled modules: it works the same, but costs about twice "
        "the CPU. A C compiler and Python's headers (Debian: gcc python3-dev) make it fast. "
        f"Reason: {why!r:.300}",
        file=sys.stderr,
    )


class AllOrNothing(build_ext):
    """Compiled as a whole or not at all: a half-built group would not even import."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as why:  # no compiler, no headers, a compiler that dislikes the code
            fall_back(why)
            for path in self.get_outputs():
                if os.path.exists(path):
                    os.remove(path)
            self.extensions = []


def extensions() -> list[Extension]:
    if os.environ.get("TXLB_PURE") or not BUILDS.intersection(sys.argv):
        return []
    paths = sorted(matching(COMPILED) - matching(NOT_COMPILED))
    if not paths:
        return []
    try:
        from mypyc.build import mypycify

        built: list[Extension] = mypycify(
            [*MYPY_FLAGS, *paths], opt_level="3", debug_level="0", group_name="txlb"
        )
    except (Exception, SystemExit) as why:  # mypyc absent, or a type error (which it reports, then exits)
        fall_back(RuntimeError(f"mypyc: {why!r}"))
        return []
    for extension in built:  # a newer compiler's new warning is no reason to be slow
        extension.extra_compile_args = [flag for flag in extension.extra_compile_args if flag != "-Werror"]
    return built


setup(ext_modules=extensions(), cmdclass={"build_ext": AllOrNothing})
