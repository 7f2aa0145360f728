"""Encoded chunks that are copied as they are, from TIFF to TIFF and from Zarr to Zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bfbridge import BioReader, BioWriter, convert
from bfbridge.errors import BfbridgeError, ReadFailed
from tests.real.manifest import DATA

SHAPE = (300, 420, 2, 3)


def pixels(shape: tuple[int, ...] = SHAPE, dtype: Any = np.uint16) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype)


def write(path: Path, array: np.ndarray[Any, Any], **options: Any) -> Path:
    with BioWriter(path, image=array, **options) as bw:
        bw[:] = array
    return path


def stored(path: Path, level: int = 0, series: int = 0) -> list[bytes | None]:
    with BioReader(path, series=series, level=level) as br:
        y, x, z, c, t = (-(-n // k) for n, k in zip(br.sizes.values(), br.chunks, strict=True))
        return [br.read_stored(place) for place in np.ndindex(t, c, z, y, x)]


def levels(path: Path) -> list[np.ndarray[Any, Any]]:
    with BioReader(path) as br:
        return [level.read(keepdims=True) for level in br.levels]


def equal(ours: list[np.ndarray[Any, Any]], theirs: list[np.ndarray[Any, Any]]) -> bool:
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("compression", ["none", "deflate", "lzw", "zstd", "jpeg2000"])
@pytest.mark.parametrize("predictor", [False, True])
def test_tiff_tiles_keep_every_byte(tmp_path: Path, compression: str, predictor: bool) -> None:
    options: dict[str, Any] = {"compression": compression, "tile": 128, "pyramid": 2}
    if compression in ("deflate", "lzw", "zstd"):
        options["predictor"] = predictor
    source = write(tmp_path / "source.ome.tif", pixels(), **options)
    target = tmp_path / "target.ome.tif"
    convert(source, target)
    for level in range(3):
        assert stored(target, level) == stored(source, level)
    assert equal(levels(target), levels(source))
    expected = pixels().transpose(3, 2, 0, 1)
    assert np.array_equal(tifffile.imread(target), expected)


@pytest.mark.java
def test_jpeg_keeps_every_bit(tmp_path: Path) -> None:
    source = tmp_path / "tables.ome.tif"
    rgb = pixels((256, 320, 3), np.uint8)
    tifffile.imwrite(
        source,
        rgb,
        photometric="rgb",
        compression="jpeg",
        tile=(128, 128),
        metadata={"axes": "YXS"},
    )
    target = tmp_path / "target.ome.tif"
    convert(source, target, verify=True)
    assert stored(target) == stored(source)
    with tifffile.TiffFile(source) as old, tifffile.TiffFile(target) as new:
        assert new.pages[0].compression == old.pages[0].compression
        assert new.pages[0].photometric == old.pages[0].photometric
        assert np.array_equal(new.pages[0].asarray(), old.pages[0].asarray())
    with (
        BioReader(source, backend="bioformats") as old_java,
        BioReader(target, backend="bioformats") as new_java,
    ):
        assert np.array_equal(new_java[:], old_java[:])


def test_lower_levels_are_made_where_the_source_has_none(tmp_path: Path) -> None:
    array = pixels((1300, 1100, 1, 2))
    source = write(tmp_path / "flat.ome.tif", array, tile=256, compression="lzw")
    target = tmp_path / "target.ome.tif"
    convert(source, target)
    assert stored(target) == stored(source)
    assert equal(levels(target), levels(write(tmp_path / "new.ome.tif", array, pyramid=True)))


@pytest.mark.parametrize("extra", [{}, {"version": "0.4"}, {"shards": 256}], ids=str)
def test_zarr_chunks_keep_every_byte(tmp_path: Path, extra: dict[str, Any]) -> None:
    array = pixels()
    array[:128, 128:256, 0, 1] = 0  # a chunk that is not stored
    options = {"compression": ("blosc-lz4", 5), "chunks": 128, "pyramid": 2} | extra
    source = write(tmp_path / "source.ome.zarr", array, **options)
    target = tmp_path / "target.ome.zarr"
    convert(source, target)
    for level in range(3):
        assert stored(target, level) == stored(source, level)
    assert None in stored(target)
    assert equal(levels(target), levels(source))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "request_",
    [
        {"recompress": True},
        {"crop": (16, 32, 200, 100)},
        {"channels": [2, 0]},
        {"compression": "lzw"},
        {"tile": 64},
        {"dtype": "uint32"},
    ],
    ids=str,
)
def test_what_asks_for_other_chunks_gets_them(tmp_path: Path, request_: dict[str, Any]) -> None:
    source = write(tmp_path / "source.ome.tif", pixels(), compression="zstd", tile=128)
    target = tmp_path / "target.ome.tif"
    convert(source, target, **request_)
    assert stored(target) != stored(source)


def test_big_endian_tiles_are_decoded(tmp_path: Path) -> None:
    source = tmp_path / "big.ome.tif"
    plane = pixels((256, 384))
    tifffile.imwrite(source, plane, byteorder=">", tile=(128, 128), compression="zstd")
    with BioReader(source) as br:
        assert br.stored_as is None
    convert(source, tmp_path / "target.ome.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "target.ome.tif"), plane)


def test_places_in_a_palette_become_grey(tmp_path: Path) -> None:
    source, target = tmp_path / "source.ome.tif", tmp_path / "target.ome.tif"
    plane = pixels((128, 256), np.uint8)
    colors = np.arange(3 * 256, dtype=np.uint16).reshape(3, 256)
    options: dict[str, Any] = {"photometric": "palette", "colormap": colors}
    tifffile.imwrite(source, plane, tile=(128, 128), compression="zstd", **options)
    convert(source, target)
    assert stored(target) == stored(source)
    with tifffile.TiffFile(target) as file:
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.MINISBLACK
        assert np.array_equal(file.pages[0].asarray(), plane)


def test_a_plane_that_is_missing_is_named(tmp_path: Path) -> None:
    source = tmp_path / "source.ome.tif"
    array = pixels((128, 128, 1, 2))
    write(source, array, tile=128)
    data = source.read_bytes()
    with tifffile.TiffFile(source) as file:
        first, last = (page.offset for page in file.pages)
        place = data.index(last.to_bytes(4, "little"), first)
    source.write_bytes(data[:place] + bytes(4) + data[place + 4 :])
    with pytest.raises(ReadFailed, match="c 1, t 0 .*there is no directory 1"):
        convert(source, tmp_path / "target.ome.tif")
    with BioReader(source) as br, pytest.raises(ReadFailed, match="there is no directory 1"):
        br.read_stored((0, 1, 0, 0, 0))


@pytest.mark.java
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real files at {DATA}")
def test_a_slide_keeps_every_bit(tmp_path: Path) -> None:
    slide = DATA / "svs/small_HE.svs.d/small_HE.svs"
    target = tmp_path / "slide.ome.tif"
    convert(slide, target, verify=True)
    assert stored(target) == stored(slide)
    with BioReader(slide) as old, BioReader(target) as new:
        for before, after in zip(old.series, new.series, strict=True):
            assert np.array_equal(after[:], before[:])
    with (
        BioReader(slide, backend="bioformats") as old,
        BioReader(target, backend="bioformats") as new,
    ):
        assert np.array_equal(new[:], old[:])


def test_a_damaged_tile_is_an_error(tmp_path: Path) -> None:
    source = write(tmp_path / "source.ome.tif", pixels(), compression="zstd", tile=128)
    whole = source.read_bytes()
    with tifffile.TiffFile(source) as tif:
        offset = max(o for page in tif.pages for o in page.dataoffsets)
    broken = tmp_path / "broken.ome.tif"
    broken.write_bytes(whole[: offset + 5] + b"\xff" * 40 + whole[offset + 45 :])
    with pytest.raises(BfbridgeError):
        convert(broken, tmp_path / "target.ome.tif", verify=True)
