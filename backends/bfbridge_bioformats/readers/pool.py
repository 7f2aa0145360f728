"""A pool of Java readers of one file; each reader is used by one thread at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from bfbridge.errors import Closed, OutOfMemory
from bfbridge.runtime import forking
from bfbridge_bioformats.readers.buffers import LARGEST_KEPT, Buffers
from bfbridge_bioformats.runtime.calls import Call, check_wanted, current_call
from bfbridge_bioformats.runtime.machine import machine

__all__ = ["JavaReader", "ReaderPool"]

log = logging.getLogger("bfbridge")

# A reader that opened faster than this (seconds) is opened again without waiting for a free one.
_INSTANT = 0.05
# Interval in seconds at which a waiting thread tests whether its caller has stopped waiting.
_LOOK = 0.5
# A further reader is opened only while this share of Java's heap is free.
_SPARE_HEAP = 0.25
_KEPT_BUFFERS = 2
# Readers of formats that store the length of each block, and readers that read each plane from the
# file again, so that a plane without any read access is missing.
_COUNTED = (
    "loci.formats.in.MinimalTiffReader",
    "loci.formats.in.OMETiffReader",
    "loci.formats.in.TiffDelegateReader",
    "loci.formats.in.ZeissCZIReader",
    "loci.formats.in.DicomReader",
    "loci.formats.in.PSDReader",
)
_RAW = (
    "loci.formats.in.AIMReader",
    "loci.formats.in.BioRadGelReader",
    "loci.formats.in.DeltavisionReader",
    "loci.formats.in.DicomReader",
    "loci.formats.in.I2IReader",
    "loci.formats.in.LIFReader",
    "loci.formats.in.LOFReader",
    "loci.formats.in.MRCReader",
    "loci.formats.in.SPEReader",
)


class JavaReader:
    """One IFormatReader after setId, with its buffers and its current series and resolution.

    Attributes
    ----------
    java
        The IFormatReader.
    table
        The FileMap it reads through, or None for files on disk.
    """

    __slots__ = ("_buffers", "_counted", "_level", "_raw", "_series", "java", "table")

    def __init__(self, java: Any, table: Any = None) -> None:
        self.java = java
        self.table = table
        self._counted = _is_any(java, _COUNTED)
        self._raw = _is_any(java, _RAW)
        self._series = -1
        self._level = -1
        self._buffers: dict[int, Buffers] = {}

    def go_to(self, series: int, level: int) -> None:
        """Select a series and a resolution."""
        if series != self._series:
            self._series = -1
            self.java.setSeries(series)
            self._series, self._level = series, -1
        if level != self._level:
            self.java.setResolution(level)
            self._level = level

    def open_bytes(
        self, plane: int, x: int, y: int, width: int, height: int, length: int
    ) -> np.ndarray[Any, Any]:
        """Return a block of a plane of the current series as `length` bytes (uint8).

        The result is overwritten by the next call. The Java array is reused as well, and cleared
        first: some readers skip missing data and expect a new array.
        """
        buffers = self._take_buffers(length)
        machine.zero(buffers.java)
        if self.table is not None:
            self.table.watch(buffers.java)
        filled = self.java.openBytes(plane, buffers.java, x, y, width, height)
        if len(filled) < length:
            raise ValueError(f"Java returned {len(filled)} bytes where {length} were requested")
        buffers.fill(filled)
        if self._ended_early(buffers.raw, width):
            raise ValueError("the file ends before these pixels do")
        return buffers.raw

    def _ended_early(self, raw: np.ndarray[Any, Any], tail: int) -> bool:
        """Return whether a file ended while these pixels were read, so that they are incomplete.

        Bio-Formats leaves missing pixels at zero. Some codecs read past the end of the file even if
        it is complete; formats that store the length of a block do not.
        """
        if self.table is None:
            return False
        if self.table.timesCutShort():
            return True
        if not self.table.timesRunOut():
            return self._raw and not self.table.timesRead() and not raw.any()
        return self._counted and not raw[-tail:].any()

    def _take_buffers(self, length: int) -> Buffers:
        buffers = self._buffers.pop(length, None)
        while len(self._buffers) >= _KEPT_BUFFERS:
            self._buffers.pop(next(iter(self._buffers))).release()
        if buffers is None:
            buffers = Buffers(length)
        if length <= LARGEST_KEPT:
            self._buffers[length] = buffers
        return buffers

    def close(self) -> None:
        """Release the file."""
        while self._buffers:
            self._buffers.popitem()[1].release()
        try:
            self.java.close()
        except Exception as error:  # noqa: BLE001 - of Java; nothing was written, so nothing is lost
            log.debug("closing a reader: %s", error)
        if self.table is not None:
            self.table.close()


class Closable(Protocol):
    """The interface of the objects in a pool."""

    def close(self) -> None:
        """Release the file."""


R = TypeVar("R", bound=Closable)


class ReaderPool(Generic[R]):
    """A pool with a maximum size, which opens a further reader when that saves time.

    A further reader costs another setId. Threads wait for a free reader until their total waiting
    time reaches the time that opening takes; then a reader is opened. A file that opens in
    milliseconds is therefore read in parallel at once, and a file that opened in a minute is opened
    again only if that saves minutes.

    Parameters
    ----------
    make
        Opens a further reader; called without any lock held.
    first
        The reader that opened the file; None to open it on first use.
    cost
        Seconds that setId took.
    most
        Maximum number of readers.
    name
        Name of the file, for messages.
    has_room
        Whether there is memory for a further reader. Default: whether Java's heap has space.
    """

    def __init__(
        self,
        make: Callable[[], R],
        first: R | None,
        cost: float,
        most: int,
        name: str,
        has_room: Callable[[], bool] | None = None,
    ) -> None:
        self._make = make
        self._cost = cost
        self._most = max(most, 1)
        self._name = name
        self._has_room = _heap_is_spare if has_room is None else has_room
        self._idle = [] if first is None else [first]
        self._alive = len(self._idle)
        # Readers in use, and the calls that use them, if known.
        self._users: dict[int, Call[Any] | None] = {}
        self._waited = 0.0
        self._closed = False
        self._changed = forking.condition()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def size(self) -> int:
        """Current number of readers."""
        return self._alive

    def take(self) -> R:
        """Return a reader for this thread alone; call `give` or `discard` afterwards.

        Raises
        ------
        Closed
            The file was closed.
        """
        with self._changed:
            while True:
                self.check_open()
                check_wanted()
                if self._idle:
                    return self._mark_used(self._idle.pop())
                if self._in_use() < self._most and self._may_grow():
                    self._alive += 1
                    self._waited = 0.0
                    break
                self._wait()
        reader = self._grow()
        with self._changed:
            return self._mark_used(reader)

    def give(self, reader: R) -> None:
        """Put a working reader back."""
        with self._changed:
            self._users.pop(id(reader), None)
            # There may be one too many, if another reader has replaced an abandoned one.
            if not self._closed and self._alive <= self._most:
                self._idle.append(reader)
                self._changed.notify()
                return
            self._alive -= 1
        reader.close()

    def discard(self, reader: R) -> None:
        """Remove a reader after an error: its state is unknown."""
        with self._changed:
            self._users.pop(id(reader), None)
            self._alive -= 1
            self._changed.notify()
        reader.close()

    def close(self) -> None:
        """Close all idle readers now, and each reader in use when it is put back."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._alive -= len(idle)
            self._changed.notify_all()
        for reader in idle:
            reader.close()

    def check_open(self) -> None:
        """Raise `Closed` after `close`."""
        if self._closed:
            raise Closed(f"{self._name}: read after close().")

    def _mark_used(self, reader: R) -> R:
        self._users[id(reader)] = current_call()
        return reader

    def _in_use(self) -> int:
        """Number of readers in use that will be put back; an abandoned one may not be."""
        return self._alive - sum(
            call is not None and call.abandoned for call in self._users.values()
        )

    def _may_grow(self) -> bool:
        if self._in_use() == 0:
            return True
        return self._cost < _INSTANT or self._waited >= self._cost

    def _wait(self) -> None:
        patience = _LOOK
        if self._in_use() < self._most:
            patience = min(max(self._cost - self._waited, 0.001), _LOOK)
        begun = time.monotonic()
        self._changed.wait(patience)
        self._waited += time.monotonic() - begun

    def _grow(self) -> R:
        try:
            if self._alive > 1 and not self._has_room():
                raise OutOfMemory("Java's heap is nearly full")
            return self._make()
        except OutOfMemory:
            with self._changed:
                self._alive -= 1
                self._most = max(self._alive, 1)
                self._changed.notify()
                if self._alive == 0:
                    raise
            return self.take()
        except BaseException:
            with self._changed:
                self._alive -= 1
                self._changed.notify()
            raise


def _is_any(java: Any, classes: tuple[str, ...]) -> bool:
    # Compared by name: using a Java class would load it into Python first.
    return any(kind.__name__ in classes for kind in type(java).__mro__)


def _heap_is_spare() -> bool:
    wanted = machine.max_memory() * _SPARE_HEAP
    if machine.free_memory() >= wanted:
        return True
    machine.type("java.lang.System").gc()
    return machine.free_memory() >= wanted
