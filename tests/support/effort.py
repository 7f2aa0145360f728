"""How many random examples the tests try: 10 times as many with BFBRIDGE_EXAMPLES=10."""

from __future__ import annotations

import os

_FACTOR = int(os.environ.get("BFBRIDGE_EXAMPLES", "1"))


def examples(count: int) -> int:
    """Return the number of examples for a test that tries `count` in CI."""
    return count * _FACTOR
