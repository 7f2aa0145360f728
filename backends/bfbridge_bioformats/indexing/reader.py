"""A reader that answers from the index, and opens the file with Java when that is needed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from bfbridge.backend import Image, OpenOptions, ReaderBackend, Region
from bfbridge.errors import BfbridgeError, Closed, FileChanged, Unsupported
from bfbridge.runtime import forking
from bfbridge.storage.stamp import changed
from bfbridge_bioformats.indexing.index import Index, identity_of, index_at
from bfbridge_bioformats.readers import document
from bfbridge_bioformats.readers.opening import check_file
from bfbridge_bioformats.readers.records import images_from

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from ome_types import OME

    from bfbridge.backend import Modulo
    from bfbridge.storage.source import Source
    from bfbridge_bioformats.indexing.entry import Entry
    from bfbridge_bioformats.readers.records import SeriesImage

__all__ = ["IndexedReader", "Opener", "open_indexed"]

log = logging.getLogger("bfbridge")

Opener = Callable[["Source", OpenOptions], Any]
"""Opens a file with Java: returns a `BioFormatsReader` or an `IsolatedReader`."""


def open_indexed(source: Source, path: Path, options: OpenOptions, opener: Opener) -> ReaderBackend:
    """Open a file from the index, or with Java; then add it to the index.

    Parameters
    ----------
    source, path
        A file on disk.
    options
        How to open it; `options.index` is the place of the index.
    opener
        Opens it with Java.

    Raises
    ------
    BfbridgeError
        As raised by `opener`.
    """
    check_file(path)
    index = index_at(options.index)
    identity = identity_of(path, options)
    entry = index.load(identity)
    why = "had no entry" if entry is None else _why_stale(entry)
    if entry is not None and not why:
        described = _described(entry, source, options)
        if described is not None:
            return IndexedReader(source, options, entry, described, index, opener)
        why = "had an entry that is not valid"
    begun = time.time_ns()
    reader: ReaderBackend = opener(source, options)
    reader.note = f"the index {why}: {_add(index, identity, path, reader, begun)}"
    return reader


def _why_stale(entry: Entry) -> str:
    path = entry.dependencies.difference()
    return "" if path is None else f"had an older entry, made before {path} changed"


def _described(entry: Entry, source: Source, options: OpenOptions) -> list[SeriesImage] | None:
    """Return the images of an entry, or None if its values are impossible."""
    try:
        return images_from(entry.facts.described, source.name, options.limits)
    except (BfbridgeError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        log.debug("%s: an entry of the index is not valid: %s", source.name, error)
        return None


def _add(index: Index, identity: Sequence[Any], path: Path, reader: Any, begun: int) -> str:
    try:
        facts = reader.facts()
    except BfbridgeError as error:
        # The file is open. Whoever asks for the metadata gets the error.
        log.debug("the index: %s", error)
        return "not added, because its metadata cannot be read"
    if facts is None:
        return "not added, because such files are not indexed"
    return index.save(identity, path, facts, begun)


class IndexedReader(ReaderBackend):
    """A file whose metadata is that of an earlier opening. See `bfbridge.backend.ReaderBackend`.

    Pixels, lookup tables and long original metadata need Java: it opens the file at the first such
    request, and what it says of the file is compared with the index before anything is returned.

    Attributes
    ----------
    series
        Bio-Formats' series number of each of `images`.
    format
        Name of the format.

    Parameters
    ----------
    source, options
        The file, and how to open it.
    entry, described
        Its entry in the index, and the images of the entry.
    index
        Where the entry is.
    opener
        Opens the file with Java.
    """

    name: ClassVar[str] = "bioformats"

    def __init__(
        self,
        source: Source,
        options: OpenOptions,
        entry: Entry,
        described: Sequence[SeriesImage],
        index: Index,
        opener: Opener,
    ) -> None:
        self._source = source
        self._options = options
        self._entry = entry
        self._index = index
        self._opener = opener
        self._images = tuple(each.image for each in described)
        self.series: Sequence[int] = [each.series for each in described]
        self.format = entry.facts.format
        self.note = (
            f"its metadata is from the index in {index.cache.folder}; Java opens it when pixels "
            "are read"
        )
        self._lock = forking.lock()
        self._java: ReaderBackend | None = None
        self._closed = False

    @classmethod
    def open(cls, source: Source, options: OpenOptions) -> ReaderBackend:
        """Not used: `open_indexed` decides whether there is an entry to read."""
        raise Unsupported(f"{source.name}: the index is used through the bioformats backend")

    @property
    def is_open(self) -> bool:
        """Whether Java has opened the file."""
        return self._java is not None

    def _opened(self) -> ReaderBackend:
        """Return the reader that Java has opened.

        Raises
        ------
        FileChanged
            The file is not the one that is described by the index.
        Closed
            After `close`.
        BfbridgeError
            The file cannot be opened.
        """
        with self._lock:
            if self._closed:
                raise Closed(f"{self._source.name}: read after close().")
            if self._java is None:
                reader = self._opener(self._source, replace(self._options, index=False))
                try:
                    self._compare(reader)
                except BaseException:
                    reader.close()
                    raise
                self._java = reader
            return self._java

    def _compare(self, reader: Any) -> None:
        """Raise if the file is another one than the index describes; the entry is then removed."""
        # Not the list of files: some readers open all of them again to make it.
        path = self._entry.dependencies.difference()
        # As text: numbers that are not a number differ from themselves.
        same = (
            path is None
            and repr(tuple(reader.images)) == repr(self._images)
            and list(reader.series) == self.series
            and reader.format == self.format
        )
        if same:
            return
        self._index.remove(self._entry.identity)
        if path is not None:
            raise changed(self._source.name, f"{path} is another file now")
        raise FileChanged(
            f"{self._source.name}: Bio-Formats describes this file in another way than the index "
            f"in {self._index.cache.folder}, so pixels would not belong to the metadata. The entry "
            "was removed. Open the file again."
        )

    @property
    def images(self) -> Sequence[Image]:
        """Every image; series in Bio-Formats' order, label, macro and thumbnails last."""
        return self._images

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` with a region. Thread-safe.

        Raises
        ------
        FileChanged
            The file is not the one that is described by the index.
        BfbridgeError
            As without the index, when opening the file and when reading.
        """
        reader = self._java
        (self._opened() if reader is None else reader).read(region, out)

    def ome_xml(self) -> str | None:
        """Return the OME-XML of Bio-Formats' metadata store; None if it has none."""
        return self._entry.facts.xml

    def ome(self) -> OME:
        """Return all images' metadata, in the order of `images`."""
        return document.ome_document(self.ome_xml(), self.images, self.series)

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """The format's own metadata; keys contain the series number if there are several series."""
        found = self._entry.facts.original
        return self._opened().original_metadata if found is None else found

    @property
    def used_files(self) -> Sequence[str]:
        """Every file of this data set; the opened file is first."""
        return self._entry.facts.used

    def modulo(self, image: int) -> Mapping[str, Modulo]:
        """Axes ("Z", "C", "T") of an image that contain another axis, with its description."""
        return self._entry.facts.modulo.get(image, {})

    def lookup_table(self, image: int, channel: int = 0) -> np.ndarray[Any, Any] | None:
        """Return the colours of an indexed image: 3 x 256 uint8 or 3 x 65536 uint16, or None."""
        return self._opened().lookup_table(image, channel)

    def close(self) -> None:
        """Close the file, if Java has opened it."""
        with self._lock:
            self._closed = True
            reader, self._java = self._java, None
        if reader is not None:
            reader.close()
