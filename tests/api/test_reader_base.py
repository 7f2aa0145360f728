"""`FileReader`, the base class of readers of one file, and the planes of a region."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest

from bfbridge.backend import Channel, Image, Level, OpenOptions, Region
from bfbridge.errors import BadArgument, Closed, UnreadableFile, Unsupported
from bfbridge.reader_base import FileReader, plane_parts
from bfbridge.storage.source import Source, as_source

PIXELS = np.arange(30, dtype=np.uint8).reshape(5, 6)


class Raw(FileReader):
    """Thirty bytes as an image of 5 rows and 6 columns."""

    name: ClassVar[str] = "raw"

    def read_structure(self, options: OpenOptions) -> list[Image]:
        del options
        if self.access.size != PIXELS.size:
            raise UnreadableFile(f"{self.source.name}: wrong size.")
        shape = (1, 1, 1, *PIXELS.shape)
        return [Image("raw", (Level(shape, shape),), PIXELS.dtype, channels=(Channel(),))]

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        self.check_open()
        data = np.frombuffer(self.access.read_at(0, PIXELS.size), np.uint8).reshape(PIXELS.shape)
        for part in plane_parts(region, out):
            part.pixels[0] = data[
                region.start[3] : region.stop[3], region.start[4] : region.stop[4]
            ]

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        return {}


def source(data: bytes = PIXELS.tobytes()) -> Source:
    return as_source(data, name="a.raw")


def test_reads_pixels_and_makes_metadata() -> None:
    reader = Raw.open(source(), OpenOptions())
    out = np.zeros((1, 1, 1, 2, 3), np.uint8)
    reader.read(Region(0, 0, (0, 0, 0, 1, 2), (1, 1, 1, 3, 5)), out)
    np.testing.assert_array_equal(out[0, 0, 0], PIXELS[1:3, 2:5])
    pixels = reader.ome().images[0].pixels
    assert (pixels.size_x, pixels.size_y) == (6, 5)
    assert reader.ome_xml() is reader.ome_xml()
    assert list(reader.used_files) == ["a.raw"]
    reader.close()


def test_a_closed_reader_raises_closed() -> None:
    reader = Raw.open(source(), OpenOptions())
    reader.close()
    reader.close()
    with pytest.raises(Closed, match=r"^a\.raw: this reader is closed; open the file again\.$"):
        reader.read(Region(0, 0, (0,) * 5, (1,) * 5), np.zeros((1,) * 5, np.uint8))
    with pytest.raises(Closed, match="this reader is closed"):
        reader.ome_xml()


def test_a_failed_open_closes_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    bad = source(b"12")

    def close(access: Any) -> None:
        closed.append(access)

    monkeypatch.setattr(type(bad.open()), "close", close)
    with pytest.raises(UnreadableFile, match="wrong size"):
        Raw.open(bad, OpenOptions())
    assert len(closed) == 1


def test_backend_options_are_refused() -> None:
    options = OpenOptions(backend_options={"b": 1, "a": 2})
    with pytest.raises(BadArgument, match=r"^the raw backend has no option named a, b\.$"):
        Raw.open(source(), options)

    class Leaving(Raw):
        leaves_options = True

    with pytest.raises(Unsupported, match=r"^the raw backend has no option named a, b$"):
        Leaving.open(source(), options)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_plane_parts_cover_a_region_once(samples: int) -> None:
    shape = (3, 6, 4, 5, 7)
    image = np.arange(np.prod(shape)).reshape(shape)
    region = Region(0, 0, (1, 1, 1, 2, 3), (3, 6, 3, 5, 6))
    out = np.full(region.shape, -1)
    for t, channel, z, wanted, pixels in plane_parts(region, out, samples):
        assert (pixels == -1).all()
        plane = image[t, channel * samples : (channel + 1) * samples, z]
        pixels[...] = plane[wanted, 2:5, 3:6]
    np.testing.assert_array_equal(out, image[1:3, 1:6, 1:3, 2:5, 3:6])
