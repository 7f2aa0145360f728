"""Ends a server when all its pages are closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Presence"]

GRACE: Final = 3.0
"""Seconds after the last page was closed, because a reloaded page opens again."""
SILENCE: Final = 600.0
"""Seconds without a message after which a page counts as closed: browsers slow down hidden
pages."""


class Presence:
    """Tracks which pages are open. For one event loop.

    Parameters
    ----------
    ended
        Called once when all pages were closed, after at least one was open.
    busy
        Whether there is work that has to be completed before the server ends.
    grace, silence
        Seconds; see `GRACE` and `SILENCE`.
    """

    def __init__(
        self,
        ended: Callable[[], object],
        grace: float = GRACE,
        silence: float = SILENCE,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ended = ended
        self._busy = busy
        self._grace = grace
        self._silence = silence
        self._seen: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, page: str, is_open: bool) -> None:
        """Record that a page is open or was closed."""
        if is_open:
            self._seen[page] = time.monotonic()
        else:
            self._seen.pop(page, None)
        self._check_in(self._silence if self._seen else self._grace)

    def _check_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._check)

    def _check(self) -> None:
        now = time.monotonic()
        self._seen = {p: at for p, at in self._seen.items() if now - at < self._silence}
        if self._seen:
            self._check_in(self._silence)
        elif self._busy():
            self._check_in(self._grace)
        else:
            self._timer = None
            self._ended()
