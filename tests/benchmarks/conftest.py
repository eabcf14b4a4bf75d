"""``benchmarks`` is not installed with txlb: it is imported from the checkout, which goes to the end of the
path, so that ``txlb`` itself is still the installed one.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = str(Path(__file__).resolve().parents[2])
if CHECKOUT not in sys.path:
    sys.path.append(CHECKOUT)
