"""Repetition of requests after errors that are expected to pass.

These are the statuses 408, 425, 429, 500, 502, 503 and 504 (RFC 9110, section 15; RFC 6585, section
4), connections that end early, and timeouts. A refused connection, an unknown host and all other
statuses are final. s3fs repeats the requests of S3 itself, within each attempt.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, TypeVar

__all__ = ["ATTEMPTS", "is_transient", "pauses", "retried"]

ATTEMPTS: Final = 5
"""Requests at most, the first one included."""
FIRST_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 20.0
"""Longest pause, also if the server requests a longer one."""
STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_DEEPEST_CAUSE: Final = 8

log = logging.getLogger("bfbridge")
T = TypeVar("T")


def retried(call: Callable[[], T], name: str) -> T:
    """Return the result of a request, which is repeated after transient errors.

    Parameters
    ----------
    call
        Sends the request. It must be safe to send it twice.
    name
        What is requested, for the log.
    """
    waits = pauses()
    while True:
        try:
            return call()
        except Exception as error:
            pause = next(waits, None) if is_transient(error) else None
            if pause is None:
                raise
            pause = max(pause, _requested_pause(error))
            log.info("%s: %s; trying again in %.1f s", name, error, pause)
        time.sleep(pause)


def pauses() -> Iterator[float]:
    """Yield the pause before each further attempt, in seconds: doubled each time, and random.

    Clients that fail at the same time therefore do not return at the same time.
    """
    import random

    for attempt in range(ATTEMPTS - 1):
        yield FIRST_SECONDS * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311 - no secret


def is_transient(error: BaseException) -> bool:
    """Return whether a request that raised an error may succeed when it is sent again."""
    for cause in _causes(error):
        status = getattr(cause, "status", None)
        if isinstance(status, int):
            return status in STATUSES
        if isinstance(cause, ConnectionRefusedError) or _is_aiohttp(cause, "ClientConnectorError"):
            return False
        if isinstance(cause, (ConnectionError, TimeoutError)):
            return True
        if _is_aiohttp(cause, "ClientConnectionError", "ClientPayloadError"):
            return True
    return False


def _is_aiohttp(error: BaseException, *names: str) -> bool:
    # Without aiohttp, none of its errors exist.
    aiohttp = sys.modules.get("aiohttp")
    return aiohttp is not None and isinstance(
        error, tuple(getattr(aiohttp, name) for name in names)
    )


def _requested_pause(error: BaseException) -> float:
    """Return the seconds of a ``Retry-After`` header, within limits; 0 if there is none."""
    for cause in _causes(error):
        headers: Any = getattr(cause, "headers", None)
        with suppress(ValueError, TypeError, AttributeError):
            return min(LONGEST_SECONDS, max(0.0, float(headers.get("Retry-After"))))
    return 0.0


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(_DEEPEST_CAUSE):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__
