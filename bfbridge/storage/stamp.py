"""Stamps that identify the content of a local file while it is open, to detect changes.

Reading a file takes many steps: header, index, chunks, with several handles and threads. If another
program writes to the file in between, the parts no longer belong together, although each may
decode without an error. Every step therefore compares the file with its state when it was opened.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from bfbridge.errors import FileChanged
from bfbridge.runtime import forking

__all__ = ["FileStamp", "Stamps", "changed"]


class FileStamp(NamedTuple):
    """Size, time of modification and identity of a file.

    Not detected: a write that keeps the size, in the same tick of the file system's clock as the
    last write before the file was opened (from nanoseconds to 10 ms on Linux, 2 s on FAT); a write
    after which the size is the same and the time was set back; a call of write(2) that was active
    when the file was opened; a write through a memory map that the kernel has not recorded yet; on
    network file systems, changes hidden by the attribute cache of the client.

    Some FUSE file systems give a file a new inode number when no process has it open: when it is
    opened again, it appears to be replaced.

    Attributes
    ----------
    size
        Size in bytes.
    modified_ns
        Time of the last modification, in nanoseconds since 1970.
    device, inode
        Identity of the file. 0 on Windows, where an open file cannot be replaced.
    """

    size: int
    modified_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, file: int | str | os.PathLike[str]) -> FileStamp:
        """Return the stamp of an open descriptor or a path.

        Raises
        ------
        OSError
            There is no such file.
        """
        return cls.of_status(os.stat(file))

    @classmethod
    def of_status(cls, status: os.stat_result) -> FileStamp:
        """Return the stamp for a result of `os.stat` or `os.fstat`."""
        known = os.name == "posix"
        return cls(
            status.st_size,
            status.st_mtime_ns,
            status.st_dev if known else 0,
            status.st_ino if known else 0,
        )

    def check(self, file: int | str | os.PathLike[str], name: str) -> None:
        """Raise if a file is no longer the one for which this stamp was taken.

        A check after bytes were read shows that they belong to the content that was opened: a write
        sets the modification time before it changes the first byte. A check before the read shows
        nothing.

        Parameters
        ----------
        file
            An open descriptor, which shows writes but not that another file has the name now; or
            the path, which shows both.
        name
            Name of the file, for the message.

        Raises
        ------
        FileChanged
            The file was written to, replaced or removed.
        """
        try:
            status = os.stat(file)
        except OSError as error:
            raise changed(name, f"it cannot be found ({error.strerror})") from error
        # This runs after each chunk. A descriptor always refers to the same file, so two numbers
        # are enough.
        if (
            status.st_mtime_ns == self.modified_ns
            and status.st_size == self.size
            and isinstance(file, int)
        ):
            return
        now = FileStamp.of_status(status)
        if now != self:
            raise changed(name, self._difference(now))

    def _difference(self, now: FileStamp) -> str:
        if (now.device, now.inode) != (self.device, self.inode):
            return "another file has its name now"
        if now.size != self.size:
            return f"its size was {self.size:,} bytes and is {now.size:,}"
        return "its modification time differs"


class Stamps:
    """The stamps of a data set's files by path, as first seen. Thread-safe.

    For files that are opened and closed several times while the data set is open.
    """

    def __init__(self) -> None:
        self._seen: dict[str, FileStamp] = {}
        self._lock = forking.lock()

    def see(self, path: str, stamp: FileStamp) -> None:
        """Store the stamp of a file, or compare it with the one stored.

        Raises
        ------
        FileChanged
            The stamps differ.
        """
        with self._lock:
            first = self._seen.setdefault(path, stamp)
        if first != stamp:
            raise changed(path, first._difference(stamp))

    def check(self, path: str) -> None:
        """Compare a file's current state, by its path, with the stored stamp, if there is one.

        Raises
        ------
        FileChanged
            The stamps differ, or the file does not exist.
        """
        with self._lock:
            first = self._seen.get(path)
        if first is not None:
            first.check(path, path)


def changed(name: str, what: str) -> FileChanged:
    """Return the error for a file that changed while it was open; `what` is a short clause."""
    return FileChanged(
        f"{name}: the file has changed since it was opened ({what}), so its parts may not belong "
        "together. Open it again when it is complete."
    )
