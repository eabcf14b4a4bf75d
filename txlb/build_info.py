"""Which txlb this is: whether its hot parts are compiled."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec


def is_compiled() -> bool:
    """True when the pool is a compiled module, and with it everything on the data path."""
    spec = find_spec("txlb.core.pool")
    return bool(spec and spec.origin and spec.origin.endswith(tuple(EXTENSION_SUFFIXES)))


def build_kind() -> str:
    """``compiled`` or ``pure``."""
    return "compiled" if is_compiled() else "pure"
