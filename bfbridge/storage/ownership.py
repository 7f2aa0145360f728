"""Unfinished targets: their names, and the process that owns each, not its forked children."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Final

from bfbridge.errors import WriteFailed

__all__ = ["PARTIAL", "OwnedTarget", "is_partial"]

PARTIAL: Final = ".bfbridge-partial"
"""End of the names of unfinished files and folders."""


def is_partial(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is, or is inside, the unfinished work of a writer."""
    return PARTIAL in os.fspath(path) and any(
        part.startswith(".") and part.endswith(PARTIAL) for part in Path(path).parts
    )


class OwnedTarget:
    """Base class of targets, with the process that made them.

    Attributes
    ----------
    path
        The target, for messages.
    """

    path: Any
    _refusal: ClassVar[str] = (
        "which owns this writer. Only the owner can write: pass the pixels to it."
    )

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def owned(self) -> bool:
        """Whether this process made the target. False in a forked child of it."""
        return os.getpid() == self._pid

    def check_owner(self) -> None:
        """Raise `WriteFailed` in a forked child, whose writes would collide with its parent's."""
        if not self.owned:
            raise WriteFailed(
                f"{self.path}: process {os.getpid()} is a forked copy of process {self._pid}, "
                f"{self._refusal}"
            )
