"""`txlb.build_info` agrees with what is imported."""

from __future__ import annotations

import txlb.core.pool
from txlb.build_info import build_kind, is_compiled


def test_compiled_is_what_the_pool_is():
    assert is_compiled() == (not str(txlb.core.pool.__file__).endswith(".py"))
    assert build_kind() == ("compiled" if is_compiled() else "pure")
