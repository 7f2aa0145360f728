"""The TIFF files of one data set: which may be read; opened when needed, closed if there are many.

A file may name others (TiffData/UUID/@FileName, BinaryOnly/@MetadataFile). Only the folder of the
opened file is searched, unless the caller allows others: a name that points outside the folder, by
``..``, by an absolute path or by a symbolic link, is refused.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
from collections import OrderedDict
from typing import Any

import numpy as np

from bfbridge.errors import BfbridgeError, FileChanged, UnreadableFile
from bfbridge.limits import Limits
from bfbridge.runtime import forking
from bfbridge.runtime.descriptors import fill_at
from bfbridge.storage.source import RandomAccess, Source
from bfbridge.storage.stamp import FileStamp, Stamps
from bfbridge.tiff.directories import Directory, TiffFile
from bfbridge.tiff.tags import Tag
from bfbridge_ometiff.structure.segment_layout import SegmentLayout, layout_of

__all__ = ["FileSet", "OpenTiff", "companion", "inside_name"]

_MOST_OPEN = 64
_MOST_LAYOUTS = 4096
_LAYOUT_BYTES = 64 << 20
# Memory for the place of a directory, and for that of its plane.
_DIRECTORY_BYTES = 128
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")


def companion(source: Source, name: str, *, allow_outside: bool) -> Source:
    """Return the source of a file named by another.

    Parameters
    ----------
    source
        The file that names it.
    name
        As stored. Only the last part of an absolute path is used: old Bio-Formats writers stored
        the path at the time of writing (OMETiffReader.initFile does the same).
    allow_outside
        Whether it may be outside the folder of `source`.

    Raises
    ------
    UnreadableFile
        The name points outside the folder.
    """
    if allow_outside:
        return source.sibling(name)
    plain = inside_name(source, name)
    if source.path is None:
        return source.sibling(plain)
    found = source.path.parent / plain
    # A plain name points outside only if it is a link; a set may have 100 000 files.
    if "/" in plain or os.path.islink(found):
        folder = os.path.realpath(source.path.parent)
        if not os.path.realpath(found).startswith(folder.rstrip(os.sep) + os.sep):
            raise _outside(source, name)
    return Source(name=str(found), path=found)


def inside_name(source: Source, name: str) -> str:
    """Return the name to search in the folder of `source`; see `companion`."""
    plain = name.replace("\\", "/")
    if "\0" in plain or not plain.strip() or ".." in plain.split("/") or plain.startswith("~"):
        raise _outside(source, name)
    # In a URL, "::" would start another URL (fsspec chains them).
    if source.path is None and ("::" in plain or "://" in plain):
        raise _outside(source, name)
    if plain.startswith("/") or _SCHEME.match(plain):
        if "://" in plain or plain.lower().startswith("file:"):
            raise _outside(source, name)
        plain = posixpath.basename(plain)
        if not plain:
            raise _outside(source, name)
    return plain


def _outside(source: Source, name: str) -> UnreadableFile:
    return UnreadableFile(
        f"{source.name}: it names {name!r} as part of its data, which is outside its own folder "
        "and is not read. If you trust the file, open it with allow_outside=True."
    )


class OpenTiff:
    """One open TIFF file with the layouts of its directories.

    Parameters
    ----------
    source, limits
        The file to open, and limits on what it declares.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self.name = source.name
        self._access: RandomAccess = source.open()
        try:
            self.tiff = TiffFile(self._access, source.name, limits)
        except BaseException:
            self._access.close()
            raise
        self.size = self._access.size
        self.stamp: FileStamp | None = getattr(self._access, "stamp", None)
        self._fd = _descriptor(self._access)
        self._lock = forking.lock()
        self._layouts: OrderedDict[tuple[int, int], SegmentLayout] = OrderedDict()
        self._layout_bytes = 0
        self._last: tuple[int, Directory] | None = None

    @property
    def is_local(self) -> bool:
        """Whether a read takes microseconds, so that all directories can be read at once."""
        return self.source.url is None

    def directory(self, ifd: int) -> Directory:
        """Return directory `ifd` of the chain.

        Raises
        ------
        UnreadableFile
            The chain is shorter.
        """
        last = self._last
        if last is not None and last[0] == ifd:
            return last[1]
        directory = self.tiff.directory(ifd)
        if directory is None:
            raise UnreadableFile(
                f"{self.name}: there is no directory {ifd}, which its metadata names; it is "
                "truncated or its metadata is wrong."
            )
        # Its lower resolutions are needed next.
        self._last = ifd, directory
        return directory

    def layout(self, ifd: int, sub: int = -1) -> SegmentLayout:
        """Return the layout of directory `ifd`, or of its SubIFD `sub`, kept for the next call."""
        key = (ifd, sub)
        with self._lock:
            found = self._layouts.get(key)
            if found is not None:
                return found
        directory = self.directory(ifd)
        where = f"{self.name}: directory {ifd}"
        if sub >= 0:
            offsets = directory.numbers(Tag.SubIFDs)
            if sub >= len(offsets):
                raise UnreadableFile(
                    f"{where}: it has {len(offsets)} lower resolutions, not {sub + 1}."
                )
            directory = self.tiff.directory_at(offsets[sub])
            where = f"{where}, lower resolution {sub}"
        layout = layout_of(directory, self.tiff.header.byteorder, where)
        with self._lock:
            if key not in self._layouts:
                self._layouts[key] = layout
                self._layout_bytes += _places(layout)
            while len(self._layouts) > 1 and (
                len(self._layouts) > _MOST_LAYOUTS or self._layout_bytes > _LAYOUT_BYTES
            ):
                self._layout_bytes -= _places(self._layouts.popitem(last=False)[1])
        return layout

    def read(self, offset: int, length: int, memory: np.ndarray[Any, Any] | None) -> Any:
        """Return `length` bytes of pixels; in `memory` (at least as long) if that saves a copy.

        The caller calls `check_unchanged` after it has read everything.

        Raises
        ------
        UnreadableFile
            They are outside the file.
        FileChanged
            The file was written to after it was opened.
        """
        data: Any
        if memory is not None and self._fd >= 0:
            data = memory[:length]
            done = fill_at(self._fd, memoryview(data), offset)
        else:
            data = self._access.read_at(offset, length)
            done = len(data)
        if done != length:
            self.check_unchanged()
            raise UnreadableFile(
                f"{length:,} bytes at {offset:,} are wanted, but the file ends at {self.size:,}; "
                "it is truncated or damaged"
            )
        return data

    def check_unchanged(self) -> None:
        """Raise an error if the file may have changed since it was opened.

        Raises
        ------
        FileChanged
            A local file was written to since.
        """
        if self.stamp is not None and self._fd >= 0:
            self.stamp.check(self._fd, self.name)

    @property
    def structure_bytes(self) -> int:
        """About the bytes of memory for directories and segments."""
        return self._layout_bytes + _DIRECTORY_BYTES * self.tiff.walked

    def release(self) -> None:
        """Close the file until `resume`; its directories and layouts are kept."""
        self.close()
        self.tiff.reopened(None)

    def resume(self) -> bool:
        """Open the file again; return False if it is missing or was changed."""
        try:
            access = self.source.open()
        except BfbridgeError:
            return False
        if self.stamp is None or getattr(access, "stamp", None) != self.stamp:
            access.close()
            return False
        self._access = access
        self._fd = _descriptor(access)
        self.tiff.reopened(access)
        return True

    def close(self) -> None:
        """Release the file."""
        self._fd = -1
        self._access.close()


def _descriptor(access: RandomAccess) -> int:
    """Return the descriptor of a local file for reads without a copy; -1 without one."""
    fileno = getattr(access, "fileno", None)
    return fileno() if fileno is not None and hasattr(os, "preadv") else -1


class FileSet:
    """The files of a data set by number; 0 is the opened file.

    Parameters
    ----------
    main
        The opened file.
    anchor
        Source of the file in whose folder companions are: `main`, or its companion metadata file.
    limits, allow_outside
        From the caller.
    """

    def __init__(
        self, main: OpenTiff | None, anchor: Source, limits: Limits, *, allow_outside: bool
    ) -> None:
        self._anchor = anchor
        self._limits = limits
        self._allow_outside = allow_outside
        self._sources: list[Source] = []
        self._numbers: dict[str, int] = {}
        self._open: OrderedDict[int, OpenTiff] = OrderedDict()
        self._lock = forking.lock()
        self._stamps = Stamps()
        self._settled = False
        self._folders: dict[str, str] = {}
        self._main = main
        if main is not None:
            self._sources.append(main.source)
            self._numbers[self._key(main.source)] = 0

    @property
    def names(self) -> list[str]:
        """Names of the files, by number."""
        return [source.name for source in self._sources]

    def find(self, name: str) -> int:
        """Return the number of a file that the metadata names, whether or not it exists.

        Raises
        ------
        UnreadableFile
            The name points outside the folder.
        """
        source = companion(self._anchor, name, allow_outside=self._allow_outside)
        key = self._key(source)
        if key not in self._numbers:
            self._numbers[key] = len(self._sources)
            self._sources.append(source)
        return self._numbers[key]

    def _key(self, source: Source) -> str:
        """Return the canonical name of a file."""
        if source.path is None:
            return source.name
        parent = str(source.path.parent)
        if parent not in self._folders:
            self._folders[parent] = os.path.realpath(parent)
        found = os.path.join(self._folders[parent], source.path.name)
        return os.path.realpath(found) if os.path.islink(found) else found

    def exists(self, number: int) -> bool:
        """Whether a file exists.

        Raises
        ------
        FileChanged
            It exists, but is not the file of the first call.
        """
        if number == 0 and self._main is not None:
            return True
        source = self._sources[number]
        if source.path is None:
            return source.exists()
        try:
            stamp = FileStamp.of(source.path)
        except (OSError, ValueError):  # ValueError: the name cannot be one
            return False
        self._stamps.see(self._key(source), stamp)
        return True

    @contextlib.contextmanager
    def opened(self, number: int) -> Any:
        """Yield an open file for the duration of a ``with`` block.

        Raises
        ------
        UnreadableFile
            It is missing, or not a TIFF.
        FileChanged
            It is not the file that existed when the data set was opened.
        """
        if number == 0 and self._main is not None:
            yield self._main
            return
        with self._lock:
            tiff = self._open.pop(number, None)
        if tiff is None:
            tiff = self._open_one(self._sources[number])
        try:
            yield tiff
        finally:
            with self._lock:
                # Two threads may have opened the same file: one of the two is kept.
                spare = self._open.pop(number, None)
                self._open[number] = tiff
                old = self._open.popitem(last=False)[1] if len(self._open) > _MOST_OPEN else None
            for unused in (spare, old):
                if unused is not None:
                    unused.close()

    def _open_one(self, source: Source) -> OpenTiff:
        if not source.exists():
            raise UnreadableFile(
                f"{source.name}: this file belongs to the data set of {self._anchor.name}, but is "
                "missing. Put it in the same folder."
            )
        try:
            tiff = OpenTiff(source, self._limits)
        except FileChanged:
            raise
        except BfbridgeError as error:
            raise UnreadableFile(
                f"{source.name}: this file belongs to the data set of {self._anchor.name}, but "
                f"cannot be opened: {error}"
            ) from error
        if self._settled:
            tiff.tiff.settle()
        if tiff.stamp is not None:
            try:
                self._stamps.see(self._key(source), tiff.stamp)
            except BaseException:
                tiff.close()
                raise
        return tiff

    @property
    def is_single(self) -> bool:
        """Whether all was read from the opened file, a local one, and no other file was named."""
        return self._main is not None and self._main.stamp is not None and len(self._sources) == 1

    @property
    def structure_bytes(self) -> int:
        """About the bytes of memory for directories and segments of the opened file."""
        return 0 if self._main is None else self._main.structure_bytes

    def release(self) -> None:
        """Close the opened file, which `is_single`, until `resume`."""
        if self._main is not None:
            self._main.release()

    def resume(self) -> bool:
        """Open the file again; return False if it is missing or was changed."""
        return self._main is not None and self._main.resume()

    def settle(self) -> None:
        """Mark the data set as open; see `TiffFile.settle`."""
        with self._lock:
            self._settled = True
            held = [*self._open.values(), *([] if self._main is None else [self._main])]
        for tiff in held:
            tiff.tiff.settle()

    def close(self) -> None:
        """Release every file."""
        with self._lock:
            held = list(self._open.values())
            self._open.clear()
        for tiff in held:
            tiff.close()
        if self._main is not None:
            self._main.close()


def _places(layout: SegmentLayout) -> int:
    """Return the bytes of the offsets and lengths of a directory's segments."""
    return layout.offsets.nbytes + layout.counts.nbytes
