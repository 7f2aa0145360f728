"""CZI files: mosaics, scenes, pyramids, codecs, pictures in attachments, and what is left alone."""

from __future__ import annotations

import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.aics import AICSImage
from bfbridge.backend import OpenOptions, Placement, Region
from bfbridge.errors import BadArgument, Closed, ReadFailed, UnreadableFile, Unsupported
from bfbridge.patches import ImageStack
from bfbridge.storage.source import as_source
from bfbridge_bioformats import BioFormatsReader
from bfbridge_czi import CziReader
from tests.real.manifest import DATA
from tests.support.agreement import all_of, differences, opened
from tests.support.counting import Counting
from tests.support.czis import Block, czi_bytes, metadata_xml, write_czi

Array = np.ndarray[Any, Any]
CHANNEL = metadata_xml(
    "<Information><Image><SizeC>1</SizeC><Dimensions><Channels>"
    '<Channel Id="Channel:0" Name="DAPI"><EmissionWavelength>465</EmissionWavelength></Channel>'
    "</Channels></Dimensions></Image></Information>"
    '<Scaling><Items><Distance Id="X"><Value>2.5e-7</Value></Distance>'
    '<Distance Id="Y"><Value>5e-7</Value></Distance></Items></Scaling>'
    '<DisplaySetting><Channels><Channel Name="DAPI"><Color>#FF3366CC</Color></Channel></Channels>'
    "</DisplaySetting>"
)


def noise(shape: Sequence[int], dtype: str = "u2", seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


def mosaic(
    rows: int, columns: int, side: int = 20, step: int = 16, **more: Any
) -> tuple[list[Block], Array]:
    """Tiles that overlap, and what they show: later tiles lie over earlier ones."""
    tiles = noise((rows, columns, side, side))
    shown = np.zeros((step * (rows - 1) + side, step * (columns - 1) + side), tiles.dtype)
    blocks = []
    for m, (i, j) in enumerate(np.ndindex(rows, columns)):
        shown[i * step : i * step + side, j * step : j * step + side] = tiles[i, j]
        blocks.append(Block(tiles[i, j], x=j * step, y=i * step, at={"C": 0, "M": m}, **more))
    return blocks, shown


def read(data: Any, image: int = 0, level: int = 0) -> Array:
    with opened(CziReader, data) as reader:
        return all_of(reader, image, level)


@pytest.mark.parametrize("compression", ["none", "zstd0", "zstd1", "zstd1hilo", "jpegxr"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("samples", [1, 3])
def test_every_codec(compression: str, dtype: str, samples: int) -> None:
    if compression == "zstd1hilo" and dtype == "u1":
        compression = "zstd1"
    pixels = noise((13, 17) if samples == 1 else (13, 17, 3), dtype)
    found = read(czi_bytes([Block(pixels, compression=compression)]))
    wanted = pixels[None] if samples == 1 else np.moveaxis(pixels, -1, 0)
    np.testing.assert_array_equal(found[0, :, 0], wanted)


@pytest.mark.parametrize("dtype", ["f4", "u4", "f8"])
def test_other_types(dtype: str) -> None:
    pixels = (noise((13, 17), "f8") - 40.5).astype(dtype)
    found = read(czi_bytes([Block(pixels, compression="zstd0")]))
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found[0, 0, 0], pixels)


@pytest.mark.java
def test_later_tiles_lie_over_earlier_ones(tmp_path: Path) -> None:
    blocks, shown = mosaic(3, 4)
    path = write_czi(tmp_path / "mosaic.czi", blocks)
    np.testing.assert_array_equal(read(path)[0, 0, 0], shown)
    with opened(CziReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        assert differences(ours, theirs) == []


@pytest.mark.java
def test_order_of_tiles_is_that_of_the_file_as_in_bioformats(tmp_path: Path) -> None:
    # libCZI draws tiles by their number M instead; writers store them in that order.
    blocks, _ = mosaic(2, 3)
    path = write_czi(tmp_path / "mosaic.czi", blocks[::-1])
    np.testing.assert_array_equal(read(path)[0, 0, 0, :20, :20], blocks[0].pixels)
    with opened(CziReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        assert differences(ours, theirs) == []


def test_gaps_are_black(tmp_path: Path) -> None:
    blocks, shown = mosaic(2, 2, side=20, step=24)
    path = write_czi(tmp_path / "gaps.czi", blocks)
    found = read(path)[0, 0, 0]
    np.testing.assert_array_equal(found, shown)
    assert not found[20:24].any()


@pytest.mark.java
def test_gaps_of_slides_in_colour_are_white(tmp_path: Path) -> None:
    tiles = noise((2, 16, 16, 3), "u1")
    blocks = [Block(tile, x=24 * m, at={"M": m}) for m, tile in enumerate(tiles)]
    blocks.append(Block(noise((8, 20, 3), "u1", 5), scale=2, at={}))
    path = write_czi(tmp_path / "slide.czi", blocks)
    found = read(path)
    assert (found[0, :, 0, :, 16:24] == 255).all()
    with opened(CziReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        assert differences(ours, theirs) == []


@pytest.mark.java
def test_scenes_are_images_and_pyramids_levels(tmp_path: Path) -> None:
    planes = noise((2, 2, 32, 48))
    halves = noise((2, 2, 16, 24), seed=1)
    blocks = []
    for s, c in np.ndindex(2, 2):
        at = {"C": c, "S": s}
        blocks += [Block(planes[s, c], x=100 * s, at=at)]
        blocks += [Block(halves[s, c], x=100 * s, at=at, scale=2)]
    path = write_czi(tmp_path / "scenes.czi", blocks, CHANNEL)
    with opened(CziReader, path) as ours:
        assert [image.name for image in ours.images] == ["Scene #1", "Scene #2"]
        for s in range(2):
            np.testing.assert_array_equal(all_of(ours, s, 0)[0, :, 0], planes[s])
            np.testing.assert_array_equal(all_of(ours, s, 1)[0, :, 0], halves[s])
        with opened(BioFormatsReader, path) as theirs:
            assert differences(ours, theirs) == []


@pytest.mark.java
def test_as_many_scenes_as_tiles_are_stitched_too(tmp_path: Path) -> None:
    # Bio-Formats hands out the first tile of each scene.
    tiles = noise((2, 2, 20, 20))
    blocks = [
        Block(tiles[s, m], x=1000 * s + 16 * m, at={"S": s, "M": m}) for s, m in np.ndindex(2, 2)
    ]
    path = write_czi(tmp_path / "scenes.czi", blocks)
    for s in range(2):
        found = read(path, s)[0, 0, 0]
        assert found.shape == (20, 36)
        np.testing.assert_array_equal(found[:, 16:], tiles[s, 1])
        np.testing.assert_array_equal(found[:, :16], tiles[s, 0, :, :16])
    with opened(BioFormatsReader, path) as theirs:
        assert [image.levels[0].shape[3:] for image in theirs.images] == [(20, 20)] * 2


@pytest.mark.java
def test_rotations_illuminations_and_phases_are_folded_in(tmp_path: Path) -> None:
    planes = noise((2, 3, 2, 9, 8))
    blocks = [Block(planes[at], at=dict(zip("HIR", at, strict=True))) for at in np.ndindex(2, 3, 2)]
    path = write_czi(tmp_path / "folded.czi", blocks)
    with opened(CziReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        assert differences(ours, theirs) == []
        assert set(ours.modulo(0)) == {"T", "C", "Z"}
        np.testing.assert_array_equal(all_of(ours)[:, :, :], planes)


@pytest.mark.java
def test_metadata_of_channels_and_sizes(tmp_path: Path) -> None:
    path = write_czi(tmp_path / "channel.czi", [Block(noise((9, 8)), at={"C": 0})], CHANNEL)
    with BioReader(path) as br:
        assert br.backend == "czi"
        assert br.channel_names == ["DAPI"]
        assert br.channels[0].color == (0x33, 0x66, 0xCC, 0xFF)
        assert br.channels[0].emission == (465.0, "nm")
        assert br.physical_pixel_size.x == (0.25, "µm")
        assert br.physical_pixel_size.y == (0.5, "µm")
    with opened(CziReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        assert differences(ours, theirs) == []
        np.testing.assert_array_equal(ours.lookup_table(0), theirs.lookup_table(0))


@pytest.mark.java
def test_label_and_macro_images(tmp_path: Path) -> None:
    pictures = {"Label": noise((7, 9, 3), "u1", 1), "SlidePreview": noise((11, 6, 3), "u1", 2)}
    attachments = [(name, "CZI", czi_bytes([Block(pixels)])) for name, pixels in pictures.items()]
    path = write_czi(
        tmp_path / "slide.czi", [Block(noise((9, 8)))], CHANNEL, attachments=attachments
    )
    with opened(CziReader, path) as ours:
        assert [image.role for image in ours.images] == ["image", "label", "macro"]
        for number, pixels in enumerate(pictures.values(), 1):
            found = all_of(ours, number)[0, :, 0]
            np.testing.assert_array_equal(np.moveaxis(found, 0, -1), pixels)
        with opened(BioFormatsReader, path) as theirs:
            assert differences(ours, theirs) == []


def test_samples_alone(tmp_path: Path) -> None:
    pixels = noise((9, 8, 3), "u1")
    path = write_czi(tmp_path / "rgb.czi", [Block(pixels, compression="zstd0")])
    with opened(CziReader, path) as ours:
        for sample in range(3):
            out = np.empty((1, 1, 1, 5, 4), np.uint8)
            ours.read(Region(0, 0, (0, sample, 0, 2, 3), (1, sample + 1, 1, 7, 7)), out)
            np.testing.assert_array_equal(out[0, 0, 0], pixels[2:7, 3:7, sample])


def test_opening_reads_no_pixels_and_crops_only_what_they_meet() -> None:
    blocks, shown = mosaic(6, 6, side=120, step=100)
    data = czi_bytes(blocks, CHANNEL)
    each = blocks[0].pixels.nbytes
    file = Counting(data)
    with opened(CziReader, file) as ours:
        assert file.count < 80_000
        assert file.count < len(data) // 10
        file.count = 0
        out = np.empty((1, 1, 1, 50, 50), np.uint16)
        # Within the tile in row 2, column 3 alone.
        ours.read(Region(0, 0, (0, 0, 0, 230, 330), (1, 1, 1, 280, 380)), out)
        np.testing.assert_array_equal(out[0, 0, 0], shown[230:280, 330:380])
        assert 0 < file.count <= each + 2048


def test_a_compressed_tile_is_read_once_for_crops_beside_each_other() -> None:
    blocks, shown = mosaic(2, 2, side=120, step=100, compression="zstd1")
    file = Counting(czi_bytes(blocks))
    out = np.empty((1, 1, 1, 20, 20), np.uint16)
    with opened(CziReader, file) as ours:
        for x in range(0, 100, 20):
            ours.read(Region(0, 0, (0, 0, 0, 0, x), (1, 1, 1, 20, x + 20)), out)
            np.testing.assert_array_equal(out[0, 0, 0], shown[:20, x : x + 20])
            if x == 0:
                first = file.count
        assert file.count - first < 4096


@pytest.mark.slow(ci=True)
def test_many_subblocks_open_fast_enough_to_be_counted() -> None:
    # A directory of 30,000 subblocks whose pixels are never read: all use the same data.
    tile = Block(np.zeros((1, 1), np.uint8))
    blocks = [Block(tile.pixels, x=n % 200, y=n // 200, at={"C": 0, "M": n}) for n in range(30_000)]
    file = Counting(czi_bytes(blocks))
    directory = 30_000 * (32 + 20 * 4)
    with opened(CziReader, file) as ours:
        assert ours.images[0].levels[0].shape == (1, 1, 1, 150, 200)
        assert file.count < 2 * directory


def test_threads_read_one_file() -> None:
    from concurrent.futures import ThreadPoolExecutor

    blocks, shown = mosaic(5, 5, side=40, step=30, compression="zstd1hilo")
    with opened(CziReader, czi_bytes(blocks)) as ours, ThreadPoolExecutor(8) as pool:

        def crop(seed: int) -> bool:
            y, x = np.random.default_rng(seed).integers(0, 100, 2).tolist()
            out = np.empty((1, 1, 1, 50, 60), np.uint16)
            ours.read(Region(0, 0, (0, 0, 0, y, x), (1, 1, 1, y + 50, x + 60)), out)
            return bool(np.array_equal(out[0, 0, 0], shown[y : y + 50, x : x + 60]))

        assert all(pool.map(crop, range(200)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_reads_while_the_parent_was_reading() -> None:
    blocks, shown = mosaic(2, 2, side=40, step=30, compression="zstd1")
    with opened(CziReader, czi_bytes(blocks)) as ours:
        cache = ours._readers[0][0]._cache  # type: ignore[attr-defined]
        out = np.empty((1, 1, 1, 10, 10), np.uint16)
        region = Region(0, 0, (0, 0, 0, 0, 0), (1, 1, 1, 10, 10))
        with cache._lock:
            # As a thread in the middle of a change would leave it.
            cache._busy[0] = threading.Lock()
            cache._busy[0].acquire()
            child = os.fork()
            if not child:
                ours.read(region, out)
                os._exit(0 if np.array_equal(out[0, 0, 0], shown[:10, :10]) else 1)
            cache._busy.clear()
        for _ in range(500):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.01)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child waits for ever")
        assert status == 0


def with_code(data: bytes, offset: int, code: int) -> bytes:
    """Change a 32-bit field of every directory entry and subblock."""
    out = bytearray(data)
    at = out.find(b"DV")
    while at >= 0:
        struct.pack_into("<i", out, at + offset, code)
        at = out.find(b"DV", at + 2)
    return bytes(out)


def two(first: dict[str, int], second: dict[str, int]) -> list[Block]:
    return [Block(noise((8, 8)), at=first), Block(noise((8, 8)), at=second)]


LEFT_ALONE: dict[str, tuple[Callable[[], bytes], str]] = {
    "no CZI": (lambda: b"ZISRAWOTHER".ljust(2000, b"\0"), "not a CZI file"),
    "LZW": (
        lambda: czi_bytes([Block(noise((8, 8)), compression="lzw")]), "with compression 2",
    ),
    "type": (lambda: with_code(czi_bytes([Block(noise((8, 8)))]), 2, 10), "pixels of type 10"),
    "types": (
        lambda: czi_bytes(
            [Block(noise((8, 8), dtype), at={"C": c}) for c, dtype in enumerate(("u2", "u1"))]
        ),
        "pixels of several types",
    ),
    "no pixels": (lambda: czi_bytes([]), "without pixels"),
    "empty scene": (
        lambda: czi_bytes(two({"S": 0}, {"S": 2})), "scene",
    ),
    "stored at another size": (
        lambda: czi_bytes([Block(noise((8, 8)), size=(9, 9))]), "stored at another size",
    ),
    "uneven factors": (
        lambda: czi_bytes([Block(noise((24, 24))), Block(noise((8, 8)), scale=3),
                           Block(noise((6, 6)), scale=4)]),
        "uneven factors",
    ),
    "pyramid without its full size": (
        lambda: czi_bytes([Block(noise((8, 8)), scale=2)]), "without its full size",
    ),
    "illuminations in colour": (
        lambda: czi_bytes([Block(noise((8, 8, 3), "u1"), at={"I": i}) for i in range(2)]),
        "several illuminations in colour",
    ),
    "mosaics of several views": (
        lambda: czi_bytes([Block(noise((8, 8)), x=6 * m, at={"V": v, "M": m})
                           for v in range(2) for m in range(2)]),
        "several acquisitions or views",
    ),
    "one plane twice": (
        lambda: czi_bytes(two({"C": 0}, {"C": 0})), "several subblocks for one",
    ),
    "planes of several sizes": (
        lambda: czi_bytes([Block(noise((8, 8)), at={"C": 0}), Block(noise((9, 9)), at={"C": 1})]),
        "planes of several sizes",
    ),
    "axis": (lambda: czi_bytes([Block(noise((8, 8)), at={"Q": 0})]), "with the axes 'XYQ'"),
    "negative position": (
        lambda: czi_bytes([Block(noise((8, 8)), at={"Z": -1})]), "negative positions along Z",
    ),
    "another picture": (
        lambda: czi_bytes([Block(noise((8, 8)))], attachments=[("Label", "JPG", b"\xff\xd8")]),
        "whose Label is no CZI file",
    ),
    "version": (
        lambda: _patched(czi_bytes([Block(noise((8, 8)))]), 32, 2), "of version 2",
    ),
    "part": (
        lambda: _patched(czi_bytes([Block(noise((8, 8)))]), 32 + 48, 1), "a part of a CZI file",
    ),
}  # fmt: skip


def _patched(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + struct.pack("<i", value) + data[at + 4 :]


@pytest.mark.parametrize("make", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_left_to_bioformats(make: tuple[Callable[[], bytes], str]) -> None:
    data, reason = make
    with pytest.raises(Unsupported, match=reason):
        read(data())


def test_a_file_that_is_split_is_left_to_bioformats(tmp_path: Path) -> None:
    blocks = [Block(noise((8, 8)))]
    for name in ("name.czi", "name (1).czi", "other.czi"):
        write_czi(tmp_path / name, blocks)
    read(tmp_path / "other.czi")
    with pytest.raises(Unsupported, match=r"name \(1\)\.czi is beside it"):
        read(tmp_path / "name.czi")
    with pytest.raises(Unsupported, match=r"a part of name\.czi"):
        read(tmp_path / "name (1).czi")


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks, shown = mosaic(1, 2)
    path = write_czi(tmp_path / "name.czi", blocks)

    def refuse(folder: object) -> list[str]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("bfbridge_czi.reader.os.listdir", refuse)
    np.testing.assert_array_equal(read(path)[0, 0, 0], shown)


@pytest.mark.java
def test_options_of_bioformats_choose_bioformats(tmp_path: Path) -> None:
    blocks, shown = mosaic(1, 2)
    path = write_czi(tmp_path / "mosaic.czi", blocks)
    with BioReader(path, options={"zeissczi.attachments": "true"}) as br:
        assert br.backend == "bioformats"
        assert "the czi backend has no option named zeissczi.attachments" in br.backend_reason
        np.testing.assert_array_equal(br[:], shown)


@pytest.mark.java
def test_tiles_of_a_mosaic_are_those_of_bioformats(tmp_path: Path) -> None:
    """Where every scene has as many tiles, the images are the series of Bio-Formats."""
    blocks, _ = mosaic(2, 3)
    path = write_czi(tmp_path / "mosaic.czi", blocks, CHANNEL)
    options = {"zeissczi.autostitch": False}
    with (
        opened(CziReader, path, backend_options=options) as ours,
        opened(BioFormatsReader, path, backend_options=options) as theirs,
    ):
        assert len(ours.images) == len(theirs.images) == 6
        for image in range(6):
            np.testing.assert_array_equal(all_of(ours, image), all_of(theirs, image))


def scenes_of_tiles() -> list[Block]:
    """Three scenes of 4, 1 and 2 tiles, placed like those of real mosaics."""
    corners = [[(145, -3), (203, -3), (203, 55), (145, 55)], [(0, 213)], [(293, 277), (351, 277)]]
    return [
        Block(noise((64, 64), seed=100 * s + 10 * m + c), x=x, y=y, at={"C": c, "S": s, "M": m})
        for s, tiles in enumerate(corners)
        for m, (x, y) in enumerate(tiles)
        for c in range(2)
    ]


def test_tiles_that_a_scene_lacks_are_no_images() -> None:
    blocks = scenes_of_tiles()
    data = czi_bytes(blocks)
    with opened(CziReader, data, backend_options={"zeissczi.autostitch": "false"}) as ours:
        assert [image.placement for image in ours.images] == [
            (0, -3, 145), (0, -3, 203), (0, 55, 203), (0, 55, 145), (1, 213, 0), (2, 277, 293),
            (2, 277, 351),
        ]  # fmt: skip
        for image in range(7):
            expected = np.stack([blocks[2 * image + c].pixels for c in range(2)])
            np.testing.assert_array_equal(all_of(ours, image)[0, :, 0], expected)
        planes = [image.pixels.planes[0] for image in ours.ome().images]
        assert [(plane.position_x, plane.position_y) for plane in planes][:2] == [
            (145, -3), (203, -3)
        ]  # fmt: skip
    with opened(CziReader, data) as ours:
        assert [image.placement for image in ours.images] == [
            (0, -3, 145), (1, 213, 0), (2, 277, 293),
        ]  # fmt: skip
    with pytest.raises(Unsupported, match="neither true nor false"):
        all_of(CziReader.open(as_source(data), OpenOptions(
            backend_options={"zeissczi.autostitch": "perhaps"})))  # fmt: skip


def test_scenes_lie_where_their_tiles_are(tmp_path: Path) -> None:
    """Stage positions are those of the middle of a scene, in a frame of the microscope's own."""
    path = write_czi(tmp_path / "scenes.czi", scenes_of_tiles(), CHANNEL)
    assert ImageStack.get_bounding_rectangles(path) == {
        0: (145, -3, 122, 122), 1: (0, 213, 64, 64), 2: (293, 277, 122, 64),
    }  # fmt: skip
    with BioReader(path) as br:
        for number, (x, y, w, h) in ImageStack.get_bounding_rectangles(br).items():
            view = br.series[number]
            assert view.placement == Placement(number, y, x)
            assert (view.sizes["X"], view.sizes["Y"]) == (w, h)


def test_aicsimageio_reads_tiles_scene_by_scene(tmp_path: Path) -> None:
    blocks = scenes_of_tiles()
    path = write_czi(tmp_path / "scenes.czi", blocks, CHANNEL)
    with AICSImage(path, reconstruct_mosaic=False) as tiles, AICSImage(path) as stitched:
        assert len(tiles.scenes) == len(stitched.scenes) == 3
        for scene, (first, count) in enumerate([(0, 4), (4, 1), (5, 2)]):
            tiles.set_scene(scene)
            stitched.set_scene(scene)
            assert (tiles.dims.order, stitched.dims.order) == ("MTCZYX", "TCZYX")
            positions = [
                (block.y, block.x) for block in blocks[2 * first : 2 * (first + count) : 2]
            ]
            assert tiles.get_mosaic_tile_positions() == positions
            assert stitched.get_mosaic_tile_positions() == positions
            assert stitched.mosaic_tile_dims.shape == tiles.mosaic_tile_dims.shape == (64, 64)
            for m in range(count):
                expected = blocks[2 * (first + m) + 1].pixels
                np.testing.assert_array_equal(tiles.get_image_data("YX", M=m, C=1), expected)
        with pytest.raises(BadArgument, match="cannot be stacked"):
            tiles.get_stack()
        assert tiles.get_stack(drop_non_matching_scenes=True).shape == (1, 4, 1, 2, 1, 64, 64)
    with (
        AICSImage(path, reconstruct_mosaic=False, mosaic="stitch") as ours,
        AICSImage(path) as stitched,
    ):
        for scene in range(3):
            ours.set_scene(scene)
            stitched.set_scene(scene)
            np.testing.assert_array_equal(ours.data, stitched.data)


def test_label_and_macro_are_no_tiles(tmp_path: Path) -> None:
    blocks, shown = mosaic(2, 2)
    attachments = [
        (name, "CZI", czi_bytes([Block(noise((7, 9, 3), "u1"))]))
        for name in ("Label", "SlidePreview")
    ]
    path = write_czi(tmp_path / "slide.czi", blocks, CHANNEL, attachments=attachments)
    with AICSImage(path, reconstruct_mosaic=False) as image:
        assert image.shape == (4, 1, 1, 1, 20, 20)
    with AICSImage(path, reconstruct_mosaic=False, mosaic="stitch") as image:
        np.testing.assert_array_equal(image.data[0, 0, 0], shown)


def test_scenes_of_single_tiles_are_no_mosaic(tmp_path: Path) -> None:
    path = write_czi(tmp_path / "two.czi", two({"S": 0, "M": 0}, {"S": 1, "M": 0}))
    with AICSImage(path, reconstruct_mosaic=False) as image:
        assert (len(image.scenes), image.dims.order) == (2, "TCZYX")
        with pytest.raises(BadArgument, match="mosaic='stitch'"):
            image.get_mosaic_tile_positions()


# Shapes and sums of `AICSImage(path, reconstruct_mosaic=True).data` and `(..., False).data`, and
# `get_mosaic_tile_positions()`, by AICSImageIO 4.14.0 with aicspylibczi 4.0.1.
MOSAICS = {
    "tiles_z.czi": (
        (1, 2, 2, 512, 510), 195, (4, 1, 2, 2, 256, 256), 196,
        [(-128, -127), (-128, 127), (128, -127), (128, 127)],
    ),
    "mosaic_test.czi": (
        (1, 1, 1, 624, 1756), 7101695274, (2, 1, 1, 1, 624, 924), 7618166265, [(0, 0), (0, 832)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MOSAICS)
def test_real_mosaics_are_those_of_aicsimageio(name: str) -> None:
    path = DATA / "czi" / f"{name}.d" / name
    if not path.exists():
        pytest.skip(f"no real files at {DATA}")
    whole, total, tiles, total_of_tiles, positions = MOSAICS[name]
    with AICSImage(path) as image:
        assert (image.shape, int(image.data.sum(dtype="u8"))) == (whole, total)
        assert image.get_mosaic_tile_positions() == positions
    with AICSImage(path, reconstruct_mosaic=False) as image:
        assert (image.shape, int(image.data.sum(dtype="u8"))) == (tiles, total_of_tiles)
        assert image.get_mosaic_tile_positions() == positions


@pytest.mark.java
def test_lzw_is_read_by_bioformats(tmp_path: Path) -> None:
    pixels = noise((8, 8))
    path = write_czi(tmp_path / "lzw.czi", [Block(pixels, compression="lzw")])
    with BioReader(path) as br:
        assert br.backend == "bioformats"
        assert "compression 2" in br.backend_reason
        np.testing.assert_array_equal(br[:].squeeze(), pixels)


def broken(change: Callable[[bytearray, int], None], compression: str = "zstd0") -> bytes:
    """Change the data of the only subblock."""
    block = Block(noise((40, 40)), compression=compression)
    data = bytearray(czi_bytes([block]))
    change(data, block.position + 32 + 256)
    return bytes(data)


def _spoil(data: bytearray, at: int) -> None:
    data[at + 4 : at + 60] = b"\xff" * 56


@pytest.mark.parametrize("compression", ["zstd0", "zstd1", "zstd1hilo", "jpegxr"])
def test_damaged_tiles_are_named(compression: str) -> None:
    data = broken(_spoil, compression)
    with opened(CziReader, data) as ours, pytest.raises(ReadFailed) as caught:
        all_of(ours)
    assert "image 0, level 0, plane z 0, c 0, t 0" in str(caught.value)
    assert "subblock" in str(caught.value)


def test_a_directory_of_jpegxr_that_is_too_long_is_not_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The decoder writes a line to stderr for every entry that it does not know."""

    def lengthen(data: bytearray, at: int) -> None:
        (directory,) = struct.unpack_from("<I", data, at + 4)
        struct.pack_into("<H", data, at + directory, 65535)

    data = broken(lengthen, "jpegxr")
    with opened(CziReader, data) as ours, pytest.raises(ReadFailed, match="JPEG-XR headers"):
        all_of(ours)
    assert capfd.readouterr().err == ""


def test_a_tile_that_decodes_to_another_size_is_an_error() -> None:
    small = bytes(imagecodecs.zstd_encode(bytes(40 * 39 * 2), level=1))
    block = Block(noise((40, 40)), compression="zstd0")
    data = czi_bytes([block])
    begin = block.position + 32 + 256
    size = struct.unpack_from("<q", data, block.position + 32 + 8)[0]
    assert len(small) <= size
    spoiled = bytearray(data)
    spoiled[begin : begin + size] = small.ljust(size, b"\0")
    with opened(CziReader, bytes(spoiled)) as ours, pytest.raises(ReadFailed):
        all_of(ours)


def test_truncated_files() -> None:
    data = czi_bytes([Block(noise((40, 40)))], CHANNEL)
    for share in (0.001, 0.1, 0.5, 0.9, 0.99):
        with pytest.raises((UnreadableFile, Unsupported)):
            read(data[: int(len(data) * share)])


def test_closed() -> None:
    with opened(CziReader, czi_bytes([Block(noise((8, 8)))])) as ours:
        ours.close()
        with pytest.raises(Closed):
            all_of(ours)
        with pytest.raises(Closed):
            ours.ome_xml()
