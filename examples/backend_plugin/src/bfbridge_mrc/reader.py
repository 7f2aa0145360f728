"""Reading MRC files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from bfbridge.backend import Channel, Image, Level, OpenOptions, PixelSize, Quantity, Region
from bfbridge.errors import ReadFailed, UnreadableFile
from bfbridge.reader_base import FileReader
from bfbridge_mrc.header import HEADER_BYTES, Header

__all__ = ["MrcReader"]


class MrcReader(FileReader):
    """One open MRC file: one image with the axes Z, Y and X."""

    name: ClassVar[str] = "mrc"

    def read_structure(self, options: OpenOptions) -> list[Image]:
        """Read the header; raises `Unsupported` if the file is not MRC."""
        del options
        header = Header.parse(bytes(self.access.read_at(0, HEADER_BYTES)), self.source.name)
        if header.end > self.access.size:
            raise UnreadableFile(
                f"{self.source.name}: the file has {self.access.size:,} bytes where its header "
                f"needs {header.end:,}; it is truncated."
            )
        self._header = header
        shape = (1, 1, header.sections, header.rows, header.columns)
        # Pixels are not compressed, so a chunk may be any number of rows.
        rows = max(1, min(header.rows, (1 << 20) // (header.columns * header.dtype.itemsize)))
        sizes = [
            Quantity(length / count, "Å") if length > 0 else None
            for length, count in zip(
                header.lengths, (header.columns, header.rows, header.sections), strict=True
            )
        ]
        image = Image(
            name=None,
            levels=(Level(shape, (1, 1, 1, rows, header.columns)),),
            dtype=header.dtype.newbyteorder("="),
            byteorder=">" if header.dtype.byteorder == ">" else "<",
            pixel_size=PixelSize(*sizes),
            channels=(Channel(),),
        )
        return [image]

    def reads_parts(self, image: int, level: int) -> bool:
        """Any row can be read without the others."""
        del image, level
        return True

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` with whole rows of each section, cropped to the columns of the region.

        The first row in the file is the bottom one, as in Bio-Formats' MRCReader.
        """
        self.check_open()
        header = self._header
        _, _, z0, y0, x0 = region.start
        _, _, z1, y1, x1 = region.stop
        row = header.columns * header.dtype.itemsize
        for z in range(z0, z1):
            offset = header.offset + (z * header.rows + header.rows - y1) * row
            data = self.access.read_at(offset, (y1 - y0) * row)
            if len(data) < (y1 - y0) * row:
                raise ReadFailed(
                    f"{self.source.name}: {region}: the file ends before these pixels."
                )
            rows = np.frombuffer(data, header.dtype).reshape(y1 - y0, header.columns)
            out[0, 0, z - z0] = rows[::-1, x0:x1]

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
