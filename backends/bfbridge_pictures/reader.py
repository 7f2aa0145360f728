"""The reader of pictures: the first bytes of a file select its format."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import zlib
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import PIL  # noqa: F401 - here, so that a missing package is reported when the backend is loaded

from bfbridge.backend import Image, OpenOptions, Region
from bfbridge.errors import (
    BfbridgeError,
    ReadFailed,
    UnreadableFile,
    Unsupported,
)
from bfbridge.limits import Limits, check
from bfbridge.reader_base import FileReader
from bfbridge.storage.source import as_source
from bfbridge_pictures.cursor import DamagedPicture
from bfbridge_pictures.picture import Picture, PictureFile

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.storage.source import RandomAccess, Source

__all__ = ["PictureReader"]

_MAGIC: Final = (
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"RIFF", "webp"),
    (b"BM", "bmp"),
    (b"P", "pnm"),
)


class PictureReader(FileReader):
    """One open picture. Made by `open`."""

    name: ClassVar[str] = "pictures"

    @classmethod
    def open_access(cls, source: Source, options: OpenOptions) -> RandomAccess:
        """Open the file; gzip and bzip2 files are decompressed into memory."""
        return _unpacked(source, options.limits) or source.open()

    def read_structure(self, options: OpenOptions) -> list[Image]:
        """Read everything but pixels; see `FileReader`. Frames of an animation are along T."""
        # One thread at a time decodes a plane, so further threads do not help at a URL.
        self.waits = False
        try:
            head = bytes(self.access.read_at(0, min(self.access.size, 132)))
            kind = importlib.import_module(f"bfbridge_pictures.formats.{_kind(self.source, head)}")
            file = PictureFile(self.source.filename, self.access, options)
            self._picture: Picture = kind.open_picture(file)
        except DamagedPicture as error:
            raise UnreadableFile(f"{self.source.name}: {error}.") from error
        return [self._picture.image]

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` with a region; see `ReaderBackend.read`.

        Raises
        ------
        ReadFailed
            A plane cannot be decoded.
        Closed
            After `close`.
        """
        self.check_open()
        (t0, c0, _, y0, x0), (t1, c1, _, y1, x1) = region.start, region.stop
        for t in range(t0, t1):
            try:
                rows = self._picture.rows(region.level, t, y0, y1)
            except DamagedPicture as error:
                raise ReadFailed(
                    f"{self.source.name}: {region}: the plane at t {t} cannot be decoded: {error}."
                ) from error
            out[t - t0, :, 0] = np.moveaxis(rows[:, x0:x1, c0:c1], -1, 0)

    def reads_parts(self, image: int, level: int) -> bool:
        """Whether rows are stored uncompressed."""
        del image, level
        return self._picture.reads_parts

    def lookup_table(self, image: int, channel: int = 0) -> np.ndarray[Any, Any] | None:
        """Return the colours of an indexed picture, 3 x values, or None."""
        del image, channel
        table = self._picture.table
        return None if table is None else table.copy()

    def make_xml(self) -> str:
        """Return the document of `ome` as XML."""
        from bfbridge.ome.documents.model import xml_from_model

        return xml_from_model(self.ome())

    def ome(self) -> OME:
        """Return the picture's metadata as an OME document."""
        from bfbridge.ome.documents.model import document_of, without_forbidden

        self.check_open()
        document = document_of(self._images)
        if self._picture.description is not None:
            document.images[0].description = without_forbidden(self._picture.description)
        document.images[0].acquisition_date = self._picture.acquired()
        return document

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """The format's own metadata."""
        self.check_open()
        return dict(self._picture.metadata())

    def close(self) -> None:
        """Close the file, and release the planes that are kept."""
        super().close()
        self._picture.forget()


def _unpacked(source: Source, limits: Limits) -> RandomAccess | None:
    """Return the content of a gzip or bzip2 file in memory, or None for any other.

    Raises
    ------
    UnreadableFile
        It is damaged.
    LimitExceeded
        It is larger than the limits allow.
    """
    openers: dict[bytes, Callable[[IO[bytes]], Any]] = {
        b"\x1f\x8b": lambda packed: gzip.GzipFile(fileobj=packed),
        b"BZ": bz2.BZ2File,
    }
    if not source.filename.lower().endswith((".gz", ".bz2")):
        return None
    opener = openers.get(source.head(2))
    if opener is None:
        return None
    most = min(limits.unpacked_bytes, limits.chunk_bytes)
    access = source.open()
    try:
        packed = io.BytesIO(bytes(access.read_at(0, access.size)))
        with opener(packed) as file:
            data = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, BfbridgeError):
            raise
        raise UnreadableFile(f"{source.name}: it cannot be decompressed ({error}).") from error
    finally:
        access.close()
    check(len(data), most, "decompressed size in bytes", source.name)
    return as_source(data, name=source.name).open()


def _kind(source: Source, head: bytes) -> str:
    """Return the name of the module that reads a file."""
    for magic, kind in _MAGIC:
        if head.startswith(magic) and head[128:132] != b"DICM":
            return kind
    if source.filename.lower().endswith((".tga", ".tga.gz", ".tga.bz2")):
        # Targa has no magic number at the start of the file.
        return "tga"
    raise Unsupported("not a supported picture format")
