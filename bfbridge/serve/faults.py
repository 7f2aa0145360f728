"""What errors are to a client: a status and a short text without paths of this machine."""

from __future__ import annotations

import re
from typing import Final

from bfbridge.errors import (
    BadArgument,
    BadSelection,
    BfbridgeError,
    FileChanged,
    FileMissing,
    JarNotFound,
    JavaNotFound,
    LimitExceeded,
    MissingExtra,
    OutOfMemory,
    ReadFailed,
    TookTooLong,
    UnreadableFile,
    Unsupported,
)
from bfbridge.serve.replies import Refused

__all__ = ["as_refused", "without_paths"]

_STATUSES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (FileMissing, 404),
    (FileChanged, 503),
    (BadSelection, 404),
    (LimitExceeded, 422),
    (MissingExtra, 501),
    (JavaNotFound, 501),
    (JarNotFound, 501),
    (Unsupported, 422),
    (UnreadableFile, 422),
    (ReadFailed, 422),
    (BadArgument, 400),
    (OutOfMemory, 503),
    (TookTooLong, 504),
)
_LONGEST: Final = 600
# A path of this machine, or a URL, which may hold credentials.
_PATH: Final = re.compile(
    r"[a-z0-9+]+://[^\s'\";,]+|(?<![\w.])(?:[A-Za-z]:)?(?:[/\\]+[^\s/\\'\":;,()]+)+", re.IGNORECASE
)


def as_refused(error: BaseException, path: str | None, name: str) -> Refused | None:
    """Return what a client is told of an error; None for a fault of the server.

    Parameters
    ----------
    error
        What was raised.
    path
        Of the file, which its messages begin with, or None.
    name
        What the file is called here.
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, MemoryError):
        return Refused(503, "memory ran out; try again, or ask for less", retry_after=5)
    if isinstance(error, TimeoutError) and not isinstance(error, TookTooLong):
        return Refused(504, "the file took too long to read", retry_after=10)
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            if status == 404 and isinstance(error, FileMissing):
                return Refused(404, "not found")
            retry = 1 if status == 503 else None
            return Refused(status, without_paths(str(error), path, name), retry)
    if isinstance(error, BfbridgeError):
        return Refused(422, without_paths(str(error), path, name))
    return None


def without_paths(text: str, path: str | None, name: str) -> str:
    """Return a message with the file's path replaced by its name here, and other paths left out."""
    if path:
        text = text.replace(path, "\0")
    text = _PATH.sub("[path]", text).replace("\0", name)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
