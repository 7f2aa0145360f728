"""Segments as they lie in a file: at even places, and beyond the image's edge nothing of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from bfbridge import BioReader, BioWriter
from bfbridge.errors import ReadFailed
from bfbridge_ometiff.reading.files import OpenTiff

# One whole tile of 32 and three that reach over the edge.
SIDE = 36
TILES = [(0, 32), (32, 0), (32, 32), (0, 0)]


def write(path: Path, array: np.ndarray, **options: object) -> None:
    """Write tile by tile, those at the edge first, on one thread, whose memory they share."""
    with BioWriter(path, shape=array.shape, dtype=array.dtype, tile=32, **options) as bw:
        for y, x in TILES:
            box = (slice(y, y + 32), slice(x, x + 32))
            bw[box] = array[box]


@pytest.mark.parametrize("compression", ["deflate", "lzw", "zstd"])
def test_segments_begin_at_even_places(tmp_path, compression):
    """TIFF 6.0, section 2: values begin at word boundaries; some readers insist."""
    array = np.random.default_rng(1).integers(0, 255, (200, 300), np.uint8)
    array[:, 100:] //= 16  # tiles of many lengths
    path = tmp_path / "a.ome.tif"
    with BioWriter(
        path, shape=array.shape, dtype=array.dtype, tile=16, compression=compression
    ) as bw:
        bw[:] = array
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        assert any(count % 2 for count in page.databytecounts)
        assert not any(offset % 2 for offset in page.dataoffsets)
    with BioReader(path) as br:
        np.testing.assert_array_equal(br[:], array)


def test_what_pads_a_tile_is_zero(tmp_path):
    """Pixels of other tiles or images are not returned."""
    array = np.full((SIDE, SIDE), 0xABCD, np.uint16)
    path = tmp_path / "a.ome.tif"
    write(path, array, compression="none")
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        raw = path.read_bytes()
        stored = [
            np.frombuffer(raw[start : start + count], np.uint16).reshape(32, 32)
            for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
    beyond = SIDE - 32
    for tile, (rows, columns) in zip(
        stored, [(32, 32), (32, beyond), (beyond, 32), (beyond, beyond)], strict=True
    ):
        wanted = np.zeros((32, 32), np.uint16)
        wanted[:rows, :columns] = 0xABCD
        np.testing.assert_array_equal(tile, wanted)


def test_a_lossy_edge_does_not_ring(tmp_path):
    """What pads a tile repeats its last pixels: a step there would show inside the image."""
    array = np.full((SIDE, SIDE), 200, np.uint8)
    array[:32, 32:] = 0
    path = tmp_path / "a.ome.tif"
    write(path, array, compression="jpeg")
    with BioReader(path) as br:
        found = br[:].astype(int)
    assert np.abs(found - array).max() <= 1


def test_resolutions_of_a_level_are_those_of_its_own_sides(tmp_path):
    """33 columns become 17, so a pixel there is not twice as wide; 64 rows become 32."""
    path = tmp_path / "a.ome.tif"
    array = np.arange(64 * 33, dtype=np.uint16).reshape(64, 33)
    micrometre = (1.0, "µm")
    with BioWriter(path, shape=array.shape, ps_x=micrometre, ps_y=micrometre, pyramid=1) as bw:
        bw[:] = array
    with tifffile.TiffFile(path) as tif:
        (below,) = tif.pages[0].pages
        across, down = (
            np.divide(*below.tags[name].value) for name in ("XResolution", "YResolution")
        )
    assert across == pytest.approx(10_000 * 17 / 33)
    assert down == pytest.approx(5_000)


def test_uncompressed_segments_shorter_than_their_pixels_are_refused(tmp_path):
    """What follows them in the file are bytes of something else."""
    path = tmp_path / "a.ome.tif"
    write(path, np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE), compression="none")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        counts = list(tif.pages[0].databytecounts)
        counts[1] -= 2
        tif.pages[0].tags["TileByteCounts"].overwrite(counts)
    with BioReader(path) as br:
        np.testing.assert_array_equal(br[:32, :32], np.arange(36 * 32).reshape(32, 36)[:, :32])
        with pytest.raises(ReadFailed, match=r"tile 1, 0 .* has 2,046 bytes .* pixels need 2,048"):
            br[:]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("photometric", "planar", "shape"),
    [("minisblack", None, (100, 200)), ("miniswhite", None, (100, 200)),
     ("rgb", "contig", (100, 200, 3)), ("rgb", "separate", (3, 100, 200))],
)  # fmt: skip
def test_contiguous_uncompressed_tiles_are_read_with_one_call(
    tmp_path, monkeypatch, byteorder, photometric, planar, shape
):
    path = tmp_path / "a.tif"
    pixels = np.random.default_rng(3).integers(0, 60_000, shape, np.uint16)
    tifffile.imwrite(
        path, pixels, tile=(32, 48), byteorder=byteorder, photometric=photometric,
        planarconfig=planar,
    )  # fmt: skip
    stored = np.moveaxis(pixels, 0, -1) if planar == "separate" else pixels
    if photometric == "miniswhite":
        stored = np.invert(stored)
    lengths = []
    real = OpenTiff.read
    monkeypatch.setattr(
        OpenTiff, "read", lambda self, at, n, out: lengths.append(n) or real(self, at, n, out)
    )
    with BioReader(path, cache=0) as br:
        np.testing.assert_array_equal(np.squeeze(br[:]), stored)
        # Five tiles in each of four rows; the image is smaller than they are.
        tile = 32 * 48 * 2 * (3 if planar == "contig" else 1)
        assert lengths == [5 * tile] * (12 if planar == "separate" else 4)
        np.testing.assert_array_equal(np.squeeze(br[32:64, 48:144]), stored[32:64, 48:144])
        np.testing.assert_array_equal(np.squeeze(br[96:100, 0:96]), stored[96:100, 0:96])
        np.testing.assert_array_equal(np.squeeze(br[33:64, 48:144]), stored[33:64, 48:144])


def test_tiles_with_a_gap_between_them_are_read_one_by_one(tmp_path):
    path = tmp_path / "a.tif"
    pixels = np.arange(32 * 96, dtype=np.uint16).reshape(32, 96)
    tifffile.imwrite(path, pixels, tile=(32, 32))
    with tifffile.TiffFile(path, mode="r+b") as tif:
        page = tif.pages[0]
        offsets = list(page.dataoffsets)
        page.tags["TileOffsets"].overwrite(offsets[::-1])
    with BioReader(path) as br:
        expected = np.concatenate([pixels[:, 64:], pixels[:, 32:64], pixels[:, :32]], axis=1)
        np.testing.assert_array_equal(br[:], expected)
