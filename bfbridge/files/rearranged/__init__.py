"""An open file whose images are rearranged: stitched, axes relabelled, channels merged, projected.

Each change is a reader backend around another one, so that everything that reads an image works on
the result, block by block. Imported by `bfbridge.reader` and `bfbridge.convert`.
"""

from __future__ import annotations

from typing import Any

from bfbridge.files.rearranged.changes import OVERLAPS, PROJECTIONS, Changes, Rearranged

__all__ = ["OVERLAPS", "PROJECTIONS", "READER", "WRITER", "Changes", "Rearranged"]


def __getattr__(name: str) -> Any:
    if name == "READER":
        from bfbridge.files.rearranged.reader import RearrangedReader

        return RearrangedReader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


WRITER = None
