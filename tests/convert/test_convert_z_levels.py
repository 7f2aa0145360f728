"""Pyramids that are reduced along Z, and their scales and translations in OME-Zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, convert
from bfbridge.backend import PixelSize, Quantity
from bfbridge.engine.pyramid import LevelPlan, reduce_block
from bfbridge.errors import BadArgument, Unsupported

zarr = pytest.importorskip("zarr")

PIXELS = np.random.default_rng(5).integers(0, 60000, (45, 70, 21, 2, 1)).astype(np.uint16)
SIZES = {"physical_size_x": (0.5, "µm"), "physical_size_y": (0.5, "µm")}


def source(path: Path, z: float | None = 2.0, **more: Any) -> Path:
    size = {} if z is None else {"physical_size_z": (z, "µm")}
    with BioWriter(path, shape=PIXELS.shape, dtype="uint16", **SIZES, **size, **more) as bw:
        bw[:] = PIXELS
    return path


def expected(below: np.ndarray[Any, Any], step: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    """Means of windows, rounded half up; axes T, C, Z, Y, X."""
    pads = [(0, 0), (0, 0)] + [(0, -n % f) for n, f in zip(below.shape[2:], step, strict=True)]
    padded = np.pad(below.astype(float), pads, constant_values=np.nan)
    t, c, *sizes = padded.shape
    split = [n for size, f in zip(sizes, step, strict=True) for n in (size // f, f)]
    return np.floor(np.nanmean(padded.reshape(t, c, *split), axis=(3, 5, 7)) + 0.5).astype("u2")


@pytest.mark.parametrize(
    ("z", "xy", "depth", "rule", "count", "wanted"),
    [
        (2.0, 0.5, 64, "auto", 4, [(1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)]),
        (1.5, 0.5, 64, "auto", 3, [(1, 2, 2), (1, 2, 2), (2, 2, 2)]),
        (0.5, 0.5, 64, "auto", 2, [(2, 2, 2), (2, 2, 2)]),
        (0.25, 0.5, 64, "auto", 2, [(2, 1, 1), (2, 2, 2)]),
        (0.5, 0.5, 3, "auto", 3, [(2, 2, 2), (2, 2, 2), (1, 2, 2)]),
        (None, 0.5, 64, "auto", 2, [(1, 2, 2), (1, 2, 2)]),
        (2.0, 0.5, 64, "2", 2, [(2, 2, 2), (2, 2, 2)]),
        (2.0, 0.5, 64, "none", 1, [(1, 2, 2)]),
    ],
)
def test_steps_are_isotropic_first(
    z: float | None, xy: float, depth: int, rule: str, count: int, wanted: list[Any]
) -> None:
    um = Quantity(xy, "µm")
    size = PixelSize(x=um, y=um, z=None if z is None else Quantity(z * 1000, "nm"))
    assert LevelPlan(count, rule).steps((depth, 4096, 4096), size) == wanted


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_levels_scales_and_translations(tmp_path: Path, version: str) -> None:
    made = tmp_path / "b.ome.zarr"
    convert(
        source(tmp_path / "a.ome.tif"), made, downsample_z="auto", smallest=10, version=version,
        verify=True,
    )  # fmt: skip
    group = zarr.open_group(str(made), mode="r")
    attributes = group.attrs.get("ome", group.attrs)
    datasets = attributes["multiscales"][0]["datasets"]
    steps = [(1, 2, 2), (1, 2, 2), (2, 2, 2)]
    level = PIXELS.transpose(4, 3, 2, 0, 1)
    factor = np.ones(3)
    for number, step in enumerate([(1, 1, 1), *steps]):
        factor *= step
        level = expected(level, step)
        array = group[str(number)]
        assert np.array_equal(array[:], level)
        transforms = datasets[number]["coordinateTransformations"]
        spacing = np.array([2.0, 0.5, 0.5])
        assert transforms[0]["scale"][2:] == list(spacing * factor)
        shift = transforms[1]["translation"][2:] if len(transforms) > 1 else [0, 0, 0]
        assert shift == list(spacing * (factor - 1) / 2)
    assert len(datasets) == 4
    with BioReader(made) as br:
        last = br.series[0].levels[3]
        assert last.sizes["Z"] == 11
        assert last.physical_pixel_size.z == pytest.approx(Quantity(2.0 * 21 / 11, "µm"))
        assert np.array_equal(last[:], level.transpose(3, 4, 2, 1, 0)[..., 0])
        convert(made, tmp_path / "c.ome.zarr", source_level=3, pyramid=False)
    with BioReader(tmp_path / "c.ome.zarr") as br:
        assert np.array_equal(br[:], level.transpose(3, 4, 2, 1, 0)[..., 0])
        assert br.physical_pixel_size.z == pytest.approx(Quantity(2.0 * 21 / 11, "µm"))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("method", ["mean", "nearest", "mode"])
def test_factors_of_each_level(tmp_path: Path, method: str) -> None:
    convert(
        source(tmp_path / "a.ome.tif"), tmp_path / "b.ome.zarr", factors="1x2x4,3x4x4",
        downsample=method, verify=True, chunks=(6, 16, 16),
    )  # fmt: skip
    with BioReader(tmp_path / "b.ome.zarr") as br:
        assert [level.shape[:3] for level in br.levels] == [(45, 70, 21), (23, 18, 21), (12, 18, 7)]
        assert br.levels[0].chunks == (16, 16, 6, 1, 1)
        if method == "nearest":
            assert np.array_equal(br.levels[2][:], PIXELS[::4, ::4, ::3, :, 0])


def test_writer_reduces_z_in_any_order(tmp_path: Path) -> None:
    with BioWriter(
        tmp_path / "a.ome.zarr", shape=PIXELS.shape, dtype="uint16", pyramid=1, downsample_z=2
    ) as bw:
        for z in np.random.default_rng(1).permutation(21):
            bw[:, :, z : z + 1] = PIXELS[:, :, z : z + 1]
    with BioReader(tmp_path / "a.ome.zarr") as br:
        found = br.levels[1][:].transpose(3, 2, 0, 1)[None]
    assert np.array_equal(found, expected(PIXELS.transpose(4, 3, 2, 0, 1), (2, 2, 2)))
    with BioWriter(tmp_path / "a.ome.zarr", append=True) as bw:
        bw[:5, :6, 3, 0, 0] = 7
    changed = PIXELS.copy()
    changed[:5, :6, 3, 0, 0] = 7
    with BioReader(tmp_path / "a.ome.zarr") as br:
        found = br.levels[1][:].transpose(3, 2, 0, 1)[None]
    assert np.array_equal(found, expected(changed.transpose(4, 3, 2, 0, 1), (2, 2, 2)))


def test_long_integers_are_exact() -> None:
    block = np.full((1, 1, 3, 2, 3), np.iinfo("i8").max - 1, np.int64)
    block[0, 0, 0] += 1
    assert reduce_block(block, (2, 2, 2), "mean").max() == np.iinfo("i8").max
    assert reduce_block(block, (2, 2, 2), "mean").shape == (1, 1, 2, 1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"downsample_z": "3"}, "use one of none, 2, auto"),
        ({"factors": "2,3"}, "multiple of the one before"),
        ({"factors": "2x2"}, "multiple of the one before"),
        ({"factors": "a"}, "give factors such as"),
        ({"factors": []}, "a list of factors"),
        ({"factors": [2], "downsample_z": "2"}, "Leave out"),
        ({"factors": [2], "pyramid": True}, "leave out one"),
        ({"smallest": 0}, "1 or more"),
        ({"smallest": 5, "pyramid": False}, "none are written"),
        ({"downsample_z": "2", "smallest": 20, "chunks": (3, 16, 16)}, "multiples of them"),
    ],
)
def test_invalid_levels(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    made = source(tmp_path / "a.ome.tif")
    with pytest.raises(BadArgument, match=message):
        convert(made, tmp_path / "b.ome.zarr", **options)
    assert not (tmp_path / "b.ome.zarr").exists()


def test_formats_without_such_levels(tmp_path: Path) -> None:
    made = source(tmp_path / "a.ome.tif")
    with pytest.raises(Unsupported, match="reduced along Z"):
        convert(made, tmp_path / "b.ome.tif", downsample_z="2", smallest=20)


@pytest.mark.java
def test_formats_without_levels(tmp_path: Path) -> None:
    made = source(tmp_path / "a.ome.tif")
    with pytest.raises(Unsupported, match="no lower levels"):
        convert(made, tmp_path / "b.png", smallest=20, z=0, channels=0)
