"""Writing MRC files."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bfbridge.backend import Image, ImageSpec, Quantity, Shape5, WriterBackend
from bfbridge.errors import BadArgument, Unsupported
from bfbridge.ome.metadata import convert_length
from bfbridge_mrc.header import DTYPES, Header

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["MrcWriter"]


class MrcWriter(WriterBackend):
    """A new MRC file. Sections are the chunks, so each block has one place in the file."""

    name: ClassVar[str] = "mrc"

    def __init__(self, target: Path, spec: ImageSpec) -> None:
        image = spec.image
        shape = image.levels[0].shape
        size = image.pixel_size
        counts = (shape[4], shape[3], shape[2])
        lengths = [
            _angstroms(one) * count
            for one, count in zip((size.x, size.y, size.z), counts, strict=True)
        ]
        dtype = image.dtype.newbyteorder("<")
        self._header = Header(*counts, dtype, lengths=(lengths[0], lengths[1], lengths[2]))
        self._fill = np.full(shape[3:], spec.fill_value, dtype).tobytes()
        self._lock = threading.Lock()
        self._written: set[int] = set()
        self._file = target.open("x+b")
        self._file.write(self._header.to_bytes())

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """There are no options."""
        if options:
            raise BadArgument(f"{', '.join(sorted(options))}: MRC files have no such option.")

    @classmethod
    def default_chunk(cls, image: Image, options: Mapping[str, Any]) -> Shape5:
        """Return one section."""
        del options
        t, c, _, y, x = image.levels[0].shape
        if image.dtype not in DTYPES.values():
            raise Unsupported(f"MRC files hold int8, int16, uint16 and float32, not {image.dtype}.")
        if t > 1 or c > 1:
            raise Unsupported("MRC files hold one channel and one time point.")
        return 1, 1, 1, y, x

    @classmethod
    def prepare(
        cls, target: Path, images: Sequence[ImageSpec], ome: OME | None, options: Mapping[str, Any]
    ) -> MrcWriter:
        """Start a file."""
        del ome, options
        if len(images) > 1 or len(images[0].image.levels) > 1:
            raise Unsupported("MRC files hold one image without lower levels.")
        return cls(target, images[0])

    def write_block(
        self, image: int, level: int, index: Shape5, block: np.ndarray[Any, Any]
    ) -> None:
        """Write one section, the bottom row first."""
        del image, level
        data = block[..., ::-1, :].astype(self._header.dtype, copy=False).tobytes()
        with self._lock:
            self._file.seek(self._offset(index[2]))
            self._file.write(data)
            self._written.add(index[2])

    def read_block(self, image: int, level: int, index: Shape5) -> np.ndarray[Any, Any] | None:
        """Return one section, or None if it was not written."""
        del image, level
        with self._lock:
            if index[2] not in self._written:
                return None
            self._file.seek(self._offset(index[2]))
            data = self._file.read(len(self._fill))
        pixels = np.frombuffer(data, self._header.dtype)
        shape = (1, 1, 1, self._header.rows, self._header.columns)
        return pixels.reshape(shape)[..., ::-1, :].astype(self._header.dtype.newbyteorder("="))

    def finish(self) -> None:
        """Write the sections that are missing."""
        for z in sorted(set(range(self._header.sections)) - self._written):
            self._file.seek(self._offset(z))
            self._file.write(self._fill)
        self._file.close()

    def abort(self) -> None:
        """Close the file; the caller removes it."""
        self._file.close()

    def _offset(self, z: int) -> int:
        return self._header.offset + z * len(self._fill)


def _angstroms(size: Quantity | None) -> float:
    return 0.0 if size is None else convert_length(size, "Å")
