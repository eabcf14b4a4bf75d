"""Power of two choices: of two backends drawn by weight, the one with the lower active/weight.

Nearly as even as least_connections, at a cost that does not depend on the number of backends; and several
balancers that know only their own counts do not all rush to the same idle backend. Source: Mitzenmacher, and
Envoy's ``least_request``. Cost: see `txlb.core.algorithms.two_choices`; a rebuild is O(n).
"""

from __future__ import annotations

from typing import Any, final

from txlb.core.algorithms.two_choices import TwoChoices


@final
class PowerOfTwo(TwoChoices):
    """See the module."""

    def __init__(self) -> None:
        TwoChoices.__init__(self, True)

    def load(self, index: int, context: Any) -> float:
        backend = self._backends[index]
        return (backend.active_connections + backend.elsewhere) / (backend.weight or 1)
