"""Notices who opens a file: by inotify, on Linux."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

_IN_OPEN = 0x20
_NONBLOCK = os.O_NONBLOCK


class Opens:
    """How often each of some files was opened while the block ran.

    Parameters
    ----------
    files
        Files or folders that are watched; folders count when they are listed.
    """

    def __init__(self, *files: Path) -> None:
        if sys.platform != "linux":
            pytest.skip("inotify is Linux's")
        self._files = files
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1

    def __enter__(self) -> Self:
        self._fd = self._libc.inotify_init1(_NONBLOCK)
        for file in self._files:
            found = self._libc.inotify_add_watch(self._fd, os.fsencode(file), _IN_OPEN)
            assert found >= 0, os.strerror(ctypes.get_errno())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def count(self) -> int:
        """Return how many times any of them was opened since the last call."""
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return 0
        found = at = 0
        while at < len(data):
            _, _, _, length = struct.unpack_from("iIII", data, at)
            at += 16 + length
            found += 1
        return found
