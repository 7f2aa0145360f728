"""Our backends meet the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import rasterio

from bfbridge.testing import BackendSuite
from bfbridge_bioformats import BioFormatsReader, BioFormatsWriter
from bfbridge_czi import CziReader
from bfbridge_geotiff import GeoReader
from bfbridge_lif import LifReader
from bfbridge_nd2 import Nd2Reader
from bfbridge_ndpi import NdpiReader
from bfbridge_ometiff import OmeTiffReader, OmeTiffWriter
from bfbridge_omezarr import OmeZarrReader, OmeZarrWriter
from bfbridge_pictures import PictureReader
from tests.support import pictures
from tests.support.czis import Block, write_czi
from tests.support.lifs import image_of, write_lif
from tests.support.nd2s import Nd2Channel, Nd2Loop, write_nd2
from tests.support.ndpis import Page, Slide, write_ndpi


class TestOmeTiff(BackendSuite):
    reader = OmeTiffReader
    writer = OmeTiffWriter
    suffix = ".ome.tif"
    dtypes = (*BackendSuite.dtypes, "complex64", "complex128")
    options: ClassVar = {"tile": 16}


class TestOmeZarr(BackendSuite):
    reader = OmeZarrReader
    writer = OmeZarrWriter
    suffix = ".ome.zarr"
    dtypes = (*BackendSuite.dtypes, "int64", "uint64")
    options: ClassVar = {"chunks": (1, 2, 3, 16, 32)}
    unknown_file = b"not a folder"


class TestOmeZarrSharded(TestOmeZarr):
    options: ClassVar = {"chunks": 16, "shards": 32}


class TestOmeZarrVersion2(TestOmeZarr):
    options: ClassVar = {"chunks": 16, "version": "0.4"}


@pytest.mark.java
class TestBioFormats(BackendSuite):
    reader = BioFormatsReader
    writer = BioFormatsWriter
    suffix = ".ome.tif"


class TestBioFormatsReadingOurs(TestBioFormats):
    writer = None

    def write_sample(self, path: Path, pixels: np.ndarray[Any, Any]) -> None:
        TestOmeTiff().write(path, [[pixels]])


class TestCzi(BackendSuite):
    reader = CziReader
    suffix = ".czi"
    compression = "none"

    def write_sample(self, path: Path, pixels: np.ndarray[Any, Any]) -> None:
        blocks = []
        for (t, c, z), plane in _planes(pixels):
            # Tiles that overlap by four columns.
            at = {"C": c, "Z": z, "T": t}
            for m, x in enumerate((0, 26)):
                tile = np.ascontiguousarray(plane[:, x : x + 30 - 3 * m])
                blocks.append(Block(tile, x=x, at={**at, "M": m}, compression=self.compression))
        write_czi(path, blocks)


class TestCziCompressed(TestCzi):
    compression = "zstd1hilo"


class TestLif(BackendSuite):
    reader = LifReader
    suffix = ".lif"

    def write_sample(self, path: Path, pixels: np.ndarray[Any, Any]) -> None:
        write_lif(path, [image_of(pixels)])


class TestNd2(BackendSuite):
    reader = Nd2Reader
    suffix = ".nd2"
    compress = False

    def write_sample(self, path: Path, pixels: np.ndarray[Any, Any]) -> None:
        t, c, z, y, x = pixels.shape
        frames = pixels.transpose(0, 2, 3, 4, 1).reshape(t * z, y, x, c)
        channels = [Nd2Channel(f"channel {n}") for n in range(c)]
        loops = [Nd2Loop("T", t), Nd2Loop("Z", z)]
        write_nd2(path, frames, loops, channels, compress=self.compress)


class TestNd2Compressed(TestNd2):
    compress = True


class TestNdpi(BackendSuite):
    reader = NdpiReader
    suffix = ".ndpi"
    shape = (1, 1, 4, 37, 53)
    compression = "jpegxr"

    def write_sample(self, path: Path, pixels: np.ndarray[Any, Any]) -> None:
        compression = self.compression
        pages = [Page(plane, compression=compression, strip=8) for plane in pixels[0, 0]]
        write_ndpi(path, Slide(pages, mode=17))


class TestNdpiUncompressed(TestNdpi):
    compression = "none"


def _planes(
    pixels: np.ndarray[Any, Any],
) -> Iterator[tuple[tuple[int, ...], np.ndarray[Any, Any]]]:
    for place in np.ndindex(pixels.shape[:3]):
        yield place, pixels[place]


class TestGeo(BackendSuite):
    reader = GeoReader
    suffix = ".tif"
    shape = (1, 3, 1, 37, 53)

    def write_sample(self, path: Path, pixels: np.ndarray[Any, Any]) -> None:
        _, bands, _, height, width = pixels.shape
        with rasterio.open(
            path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=pixels.dtype,
            crs="EPSG:32633", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), interleave="band",
        ) as made:  # fmt: skip
            made.write(pixels[0, :, 0])


class TestPictures(BackendSuite):
    reader = PictureReader
    suffix = ".png"
    shape = (2, 3, 1, 37, 53)

    def write_sample(self, path: Path, pixels: np.ndarray[Any, Any]) -> None:
        frames = [pictures.Frame(frame[:, 0].transpose(1, 2, 0)) for frame in pixels]
        path.write_bytes(pictures.png(frames, pictures.RGB, 16))


class TestRawPictures(TestPictures):
    """Pixels that are stored as they are, and read in bands of rows."""

    suffix = ".pam"
    shape = (1, 3, 1, 37, 53)

    def write_sample(self, path: Path, pixels: np.ndarray[Any, Any]) -> None:
        header = b"P7\nWIDTH 53\nHEIGHT 37\nDEPTH 3\nMAXVAL 65535\nENDHDR\n"
        path.write_bytes(header + pixels[0, :, 0].transpose(1, 2, 0).astype(">u2").tobytes())
