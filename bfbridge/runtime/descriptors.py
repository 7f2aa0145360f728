"""Complete reads and writes of file descriptors, also where a system call transfers fewer bytes.

The functions raise the system's ``OSError``; the caller knows the file and builds the message.
"""

from __future__ import annotations

import errno
import os

__all__ = ["fill_at", "read_all", "write_all"]


def read_all(fd: int, length: int, offset: int | None = None) -> bytes:
    """Read `length` bytes, also if one system call returns fewer.

    Linux returns at most 2 GiB - 4 KiB at once, network file systems possibly less. Python repeats
    a call that a signal interrupts (PEP 475).

    Parameters
    ----------
    fd, length
        File descriptor, and number of bytes.
    offset
        Position in the file; None for the current position. Without `os.pread` (Windows) the
        current position is moved, so the caller must exclude other threads.

    Returns
    -------
    bytes
        Fewer than `length` only at the end of the file.
    """
    if offset is not None and not hasattr(os, "pread"):
        os.lseek(fd, offset, os.SEEK_SET)
        offset = None
    parts: list[bytes] = []
    missing = length
    while missing > 0:
        if offset is None:
            part = os.read(fd, missing)
        else:
            part = os.pread(fd, missing, offset + length - missing)
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def fill_at(fd: int, memory: memoryview, offset: int) -> int:
    """Fill memory from `offset` of a file, as `read_all` does; only where `os.preadv` exists.

    Returns
    -------
    int
        Number of bytes filled: less than the length of `memory` only at the end of the file.
    """
    done = os.preadv(fd, [memory], offset)
    while 0 < done < len(memory):
        part = os.preadv(fd, [memory[done:]], offset + done)
        if not part:
            break
        done += part
    return done


def write_all(fd: int, data: bytes | bytearray | memoryview, offset: int | None = None) -> None:
    """Write all of `data`, also if one system call takes less; see `read_all` for `offset`.

    Raises
    ------
    OSError
        The file system refuses, or writes nothing.
    """
    rest = memoryview(data).cast("B")
    if offset is not None and not hasattr(os, "pwrite"):
        os.lseek(fd, offset, os.SEEK_SET)
        offset = None
    while rest:
        done = os.write(fd, rest) if offset is None else os.pwrite(fd, rest, offset)
        if not done:
            raise OSError(errno.EIO, "the system writes nothing and reports no reason")
        rest = rest[done:]
        if offset is not None:
            offset += done
