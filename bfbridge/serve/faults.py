"""Errors as a client receives them: a status, and a short text without paths of this machine."""

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
# A path of this machine, or a URL, which may contain credentials.
_PATH: Final = re.compile(
    r"[a-z0-9+]+://[^\s'\";,]+|(?<![\w.])(?:[A-Za-z]:)?(?:[/\\]+[^\s/\\'\":;,()]+)+", re.IGNORECASE
)


def as_refused(error: BaseException, path: str | None, name: str) -> Refused | None:
    """Return the refusal that a client receives for an error; None for a defect of the server.

    Parameters
    ----------
    error
        The error.
    path
        Path of the file, with which messages begin, or None.
    name
        Name of the file on this server.
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, MemoryError):
        return Refused(503, "memory ran out; try again, or request less", retry_after=5)
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
    """Return a message with the path of the file replaced by its name, and without other paths."""
    if path:
        text = text.replace(path, "\0")
    text = _PATH.sub("[path]", text).replace("\0", name)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
