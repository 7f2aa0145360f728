"""Small tiles, which are encoded and written together, and the directories of many planes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bfbridge import BioReader, BioWriter
from bfbridge.backend import ChunkGrid
from bfbridge.errors import BadArgument, BadDtype, WriteFailed
from bfbridge_ometiff.writer import TiffWriter
from tests.ometiff.test_ometiff_write import by_tifffile, prepare
from tests.support.tiffs import numbered, read_ours

Array = np.ndarray[Any, Any]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Offsets of all writes to files."""
    found: list[int] = []
    put = TiffWriter._put

    def counted(self: TiffWriter, offset: int, data: Any) -> None:
        found.append(offset)
        put(self, offset, data)

    monkeypatch.setattr(TiffWriter, "_put", counted)
    return found


@pytest.mark.parametrize(
    ("dtype", "samples", "options"),
    [
        ("u2", 1, {}),
        ("u1", 3, {"compression": "none", "bigtiff": True}),
        ("f4", 1, {"predictor": 3}),
        ("c8", 1, {"compression": "none"}),
        ("u1", 1, {"compression": "jpeg2000", "level": 0}),
        ("bool", 1, {"compression": "zstd"}),
    ],
)
def test_tiles_of_many_planes(
    tmp_path: Path, writes: list[int], dtype: str, samples: int, options: dict[str, Any]
) -> None:
    pixels = numbered((3, 2 * samples, 5, 37, 50), dtype)
    path = tmp_path / "made.ome.tif"
    levels = [pixels, pixels[..., ::2, ::2], pixels[..., ::4, ::4]]
    writer, specs = prepare(path, [levels], samples=samples, tile=16, **options)
    for level, array in enumerate(levels):
        unit = writer.write_unit(0, level)
        assert unit is not None
        joined = ChunkGrid(array.shape, unit)
        for index in joined:
            first = specs[0].image.levels[level].grid.index_at(joined.origin(index))
            writer.write_joined(0, level, first, array[joined.slices(index)])
    writer.finish()
    assert len(writes) < 10  # instead of 600
    stored = [array.astype("u1") if dtype == "bool" else array for array in levels]
    np.testing.assert_array_equal(read_ours(path), stored[0])
    for level, array in enumerate(stored):
        np.testing.assert_array_equal(by_tifffile(path, level=level), array)


def test_planes_of_one_tile(tmp_path: Path, writes: list[int]) -> None:
    pixels = numbered((1, 1, 9000, 16, 16), "u2")
    path = tmp_path / "made.ome.tif"
    with BioWriter(path, shape=(16, 16, 9000), dtype="u2", compression="none") as writer:
        writer[:, :, :8000] = pixels[0, 0, :8000].transpose(1, 2, 0)
        writer[3:5, :, 7998:] = pixels[0, 0, 7998:, 3:5].transpose(1, 2, 0) + 1
        writer[:, :, 7999:] = pixels[0, 0, 7999:].transpose(1, 2, 0)
    assert len(writes) < 1100
    pixels[0, 0, 7998, 3:5] += 1
    np.testing.assert_array_equal(by_tifffile(path), pixels)
    with BioReader(path) as reader:
        np.testing.assert_array_equal(reader[:, :, :].squeeze().transpose(2, 0, 1), pixels[0, 0])


def test_tiles_of_odd_length_start_at_even_offsets(tmp_path: Path) -> None:
    path = tmp_path / "made.ome.tif"
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 9, (16, 16, 300)).astype(np.uint8)
    with BioWriter(path, shape=pixels.shape, dtype="u1", compression="deflate") as writer:
        writer[:] = pixels
    with tifffile.TiffFile(path) as file:
        places = [(page.dataoffsets[0], page.databytecounts[0]) for page in file.pages]
        np.testing.assert_array_equal(file.asarray(), pixels.transpose(2, 0, 1))
    assert any(count % 2 for _, count in places)
    assert all(offset % 2 == 0 for offset, _ in places)


def test_blocks_that_are_not_whole_tiles_are_refused(tmp_path: Path) -> None:
    pixels = numbered((1, 1, 2, 40, 40), "u2")
    writer, _ = prepare(tmp_path / "made.ome.tif", [[pixels]], tile=16)
    assert writer.write_unit(0, 0) == (1, 1, 2, 48, 48)
    for index, block in [
        ((0, 0, 0, 0, 0), pixels[..., :20]),
        ((0, 0, 0, 0, 1), pixels[..., :32]),
        ((0, 0, 2, 0, 0), pixels),
        ((0, 0, -1, 0, 0), pixels[:, :, :1]),
    ]:
        with pytest.raises(BadArgument, match="is not one of whole chunks"):
            writer.write_joined(0, 0, index, block)
    with pytest.raises(BadDtype, match="int16 was given for an image of uint16"):
        writer.write_joined(0, 0, (0, 0, 0, 0, 0), pixels.astype("i2"))
    writer.write_joined(0, 0, (0, 0, 0, 0, 0), pixels)
    writer.finish()
    np.testing.assert_array_equal(by_tifffile(tmp_path / "made.ome.tif"), pixels)


def test_lossy_and_large_tiles_are_written_one_by_one(tmp_path: Path) -> None:
    for number, (dtype, side, options) in enumerate(
        [("u1", 64, {"compression": "jpeg"}), ("u2", 512, {})]
    ):
        pixels = numbered((1, 1, 2, side, side), dtype)
        writer, _ = prepare(tmp_path / f"{number}.ome.tif", [[pixels]], **options)
        assert writer.write_unit(0, 0) is None
        writer.abort()


def test_directories_beyond_four_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bfbridge_ometiff.writer.CLASSIC_END", 6000)
    pixels = numbered((1, 1, 20, 16, 16), "u1")
    writer = BioWriter(tmp_path / "made.ome.tif", image=pixels.T, compression="none", bigtiff=False)
    writer[:] = pixels.transpose(3, 4, 2, 1, 0)
    with pytest.raises(WriteFailed, match="beyond 4 GiB, which needs BigTIFF"):
        writer.close()
    assert not (tmp_path / "made.ome.tif").exists()
