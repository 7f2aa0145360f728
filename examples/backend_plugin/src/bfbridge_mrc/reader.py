"""Reading MRC files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bfbridge.backend import (
    Channel,
    Image,
    Level,
    OpenOptions,
    PixelSize,
    Quantity,
    ReaderBackend,
    Region,
)
from bfbridge.errors import BadArgument, Closed, FileMissing, ReadFailed, UnreadableFile
from bfbridge.ome import metadata
from bfbridge_mrc.header import HEADER_BYTES, Header

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.storage.source import RandomAccess, Source

__all__ = ["MrcReader"]


class MrcReader(ReaderBackend):
    """One open MRC file: one image with the axes Z, Y and X."""

    name: ClassVar[str] = "mrc"

    def __init__(self, access: RandomAccess, header: Header, name: str) -> None:
        self._access: RandomAccess | None = access
        self._header = header
        self._name = name
        shape = (1, 1, header.sections, header.rows, header.columns)
        # Pixels are not compressed, so a chunk may be any number of rows.
        rows = max(1, min(header.rows, (1 << 20) // (header.columns * header.dtype.itemsize)))
        sizes = [
            Quantity(length / count, "Å") if length > 0 else None
            for length, count in zip(
                header.lengths, (header.columns, header.rows, header.sections), strict=True
            )
        ]
        self._image = Image(
            name=None,
            levels=(Level(shape, (1, 1, 1, rows, header.columns)),),
            dtype=header.dtype.newbyteorder("="),
            byteorder=">" if header.dtype.byteorder == ">" else "<",
            pixel_size=PixelSize(*sizes),
            channels=(Channel(),),
        )

    @classmethod
    def open(cls, source: Source, options: OpenOptions) -> MrcReader:
        """Open a file; raises `Unsupported` if it is not MRC."""
        if options.backend_options:
            names = ", ".join(sorted(options.backend_options))
            raise BadArgument(f"the mrc backend has no option named {names}.")
        if not source.exists():
            raise FileMissing(f"{source.name}: no such file.")
        access = source.open()
        try:
            header = Header.parse(bytes(access.read_at(0, HEADER_BYTES)), source.name)
            if header.end > access.size:
                raise UnreadableFile(
                    f"{source.name}: the file has {access.size:,} bytes where its header needs "
                    f"{header.end:,}; it is truncated."
                )
        except BaseException:
            access.close()
            raise
        return cls(access, header, source.name)

    @property
    def images(self) -> Sequence[Image]:
        """The one image."""
        return (self._image,)

    def reads_parts(self, image: int, level: int) -> bool:
        """Any row can be read without the others."""
        del image, level
        return True

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` with whole rows of each section, cropped to the columns of the region.

        The first row in the file is the bottom one, as in Bio-Formats' MRCReader.
        """
        access, header = self._access, self._header
        if access is None:
            raise Closed(f"{self._name}: read after close().")
        _, _, z0, y0, x0 = region.start
        _, _, z1, y1, x1 = region.stop
        row = header.columns * header.dtype.itemsize
        for z in range(z0, z1):
            offset = header.offset + (z * header.rows + header.rows - y1) * row
            data = access.read_at(offset, (y1 - y0) * row)
            if len(data) < (y1 - y0) * row:
                raise ReadFailed(f"{self._name}: {region}: the file ends before these pixels.")
            rows = np.frombuffer(data, header.dtype).reshape(y1 - y0, header.columns)
            out[0, 0, z - z0] = rows[::-1, x0:x1]

    def ome(self) -> OME:
        """Return the image's metadata as an OME document."""
        ome = metadata.new_document(1)
        metadata.describe(ome.images[0], self._image)
        metadata.settle(ome)
        return ome

    def ome_xml(self) -> str | None:
        """Return the same as XML."""
        return self.ome().to_xml()

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """The header's fields, by the names of the format's definition."""
        header = self._header
        return {
            "nx": header.columns,
            "ny": header.rows,
            "nz": header.sections,
            "cella": header.lengths,
        }

    @property
    def used_files(self) -> Sequence[str]:
        """The file."""
        return (self._name,)

    def close(self) -> None:
        """Release the file."""
        access, self._access = self._access, None
        if access is not None:
            access.close()
