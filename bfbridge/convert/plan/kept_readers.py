"""Readers that the search of a batch opened, kept for the conversions of the same files.

They have no open files, only what they read of the structure. A reader is used again if its file
still has the stamp with which it was opened; otherwise the file is opened anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bfbridge.convert.options import ConvertOptions
    from bfbridge.reader import BioReader

__all__ = ["KeptReaders"]

MOST: Final = 4096
"""Readers that are kept: one takes about 16 kB, and at most twice as much (`release`)."""


class KeptReaders:
    """Readers by the path that was opened. May be used from several threads.

    Parameters
    ----------
    options
        How the files are opened.
    most
        Number of readers that are kept; those that the search opens later are closed.
    """

    def __init__(self, options: ConvertOptions, most: int = MOST) -> None:
        self._opened_with = _opening(options)
        self._most = most
        self._readers: dict[str, BioReader] = {}

    def keep(self, path: str, br: BioReader) -> bool:
        """Keep a reader without its open files; return False if the caller has to close it."""
        full = len(self._readers) >= self._most
        if self._opened_with is None or full or path in self._readers or not br._file.release():
            return False
        self._readers[path] = br
        return True

    def take(self, source: Any, options: ConvertOptions) -> BioReader | None:
        """Return the open reader of a source, once; None if it has to be opened."""
        br = self._readers.pop(source, None) if isinstance(source, str) else None
        if br is None:
            return None
        if _opening(options) == self._opened_with and br._file.resume():
            return br
        br.close()
        return None

    def close(self) -> None:
        """Close the readers that were not taken."""
        while self._readers:
            self._readers.popitem()[1].close()


def _opening(options: ConvertOptions) -> tuple[Any, ...] | None:
    """Return the options with which sources are opened; None for a reader of another kind."""
    if options.crop is not None or options.changes:
        return None
    return options.backend, options.workers, options.reader_arguments
