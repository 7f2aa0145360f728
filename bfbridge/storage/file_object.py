"""Random access to an open binary file that belongs to the caller."""

from __future__ import annotations

import contextlib
import io
import os
from typing import IO, Any, cast

from bfbridge.errors import UnreadableFile
from bfbridge.runtime import forking

__all__ = ["FileObject"]


class FileObject:
    """An open binary file of the caller, which is not closed. Implements `RandomAccess`.

    Parameters
    ----------
    file
        Opened in binary mode, seekable.
    name
        Name of the file, for messages.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name
        self._lock = forking.lock()
        self._pid = os.getpid()
        self._positioned = hasattr(os, "pread") and _is_plain(file)
        if isinstance(cast("object", file), io.TextIOBase):
            raise UnreadableFile(f"{name}: opened as text; open it with mode 'rb'.")
        try:
            self.size = file.seek(0, io.SEEK_END)
        except (OSError, ValueError, AttributeError) as error:
            raise UnreadableFile(
                f"{name}: this open file cannot seek ({error}); read it into bytes first."
            ) from error

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`; fewer only at the end of the file."""
        parts, missing = [], length
        try:
            with contextlib.nullcontext() if self._positioned else self._lock:
                self._seek(offset)
                # An unbuffered file may return fewer bytes than requested.
                while missing > 0:
                    part = self._read_some(offset + length - missing, missing)
                    if part == b"":
                        break
                    if part is None:
                        raise UnreadableFile(
                            f"{self._name}: this open file is in non-blocking mode and has no "
                            "bytes ready; open it in blocking mode."
                        )
                    if not isinstance(part, bytes):
                        raise UnreadableFile(f"{self._name}: opened as text; open it with 'rb'.")
                    parts.append(part)
                    missing -= len(part)
        except (OSError, ValueError) as error:
            if isinstance(error, UnreadableFile):
                raise
            raise UnreadableFile(f"{self._name}: cannot be read ({error}).") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _seek(self, offset: int) -> None:
        if self._positioned:
            return
        if os.getpid() != self._pid and not isinstance(self._file, io.BytesIO):
            raise UnreadableFile(
                f"{self._name}: this open file is shared with the parent of this forked process, "
                "and both would move its position. Open the image by its path."
            )
        self._file.seek(offset)

    def _read_some(self, offset: int, length: int) -> Any:
        if self._positioned:
            return os.pread(self._file.fileno(), length, offset)
        return self._file.read(length)

    def close(self) -> None:
        """Do nothing: the file belongs to the caller."""


def _is_plain(file: Any) -> bool:
    """Return whether an open file has the bytes of its descriptor, so no position is needed.

    Forked processes share one position.
    """
    raw = file.raw if type(file) is io.BufferedReader else file
    return type(raw) is io.FileIO
