"""Axes relabelled, projections, RGB and channels, and fields fused on their positions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, convert
from bfbridge.errors import BadArgument

ome_types = pytest.importorskip("ome_types")

PIXELS = np.random.default_rng(4).integers(0, 4000, (31, 42, 5, 3, 2)).astype(np.uint16)
TARGETS = (".ome.tif", ".ome.zarr")


def source(path: Path, pixels: np.ndarray[Any, Any] = PIXELS, **more: Any) -> Path:
    given = {"ps_x": (0.5, "µm"), "ps_y": (0.5, "µm"), "ps_z": (2, "µm"), **more}
    with BioWriter(path, shape=pixels.shape, dtype=pixels.dtype, **given) as bw:
        bw[:] = pixels
    return path


def converted(tmp_path: Path, made: Path, suffix: str = ".ome.tif", **options: Any) -> BioReader:
    target = tmp_path / f"made{suffix}"
    convert(made, target, verify=True, **options)
    return BioReader(target)


@pytest.mark.parametrize("suffix", TARGETS)
@pytest.mark.parametrize(
    ("pairs", "order"),
    [
        ("zt", (0, 1, 4, 3, 2)), ("zc", (0, 1, 3, 2, 4)), (["ct"], (0, 1, 2, 4, 3)),
        ("zt,zc", (0, 1, 3, 4, 2)),
    ],
)  # fmt: skip
def test_swap(tmp_path: Path, suffix: str, pairs: Any, order: tuple[int, ...]) -> None:
    made = source(tmp_path / "a.ome.tif", channel_names=["a", "b", "c"])
    with converted(tmp_path, made, suffix, swap=pairs) as br:
        assert np.array_equal(br[:], PIXELS.transpose(order))
        named = any(br.channel_names)
        assert named == ("c" not in str(pairs))
        assert (br.physical_pixel_size.z is None) == ("z" in str(pairs))


@pytest.mark.parametrize("suffix", TARGETS)
@pytest.mark.parametrize(
    ("method", "axis", "place"), [("max", "z", 2), ("min", "c", 3), ("mean", "t", 4)]
)
def test_project(tmp_path: Path, suffix: str, method: str, axis: str, place: int) -> None:
    exact = PIXELS.astype(float)
    wanted = getattr(exact, method)(axis=place, keepdims=True)
    with converted(tmp_path, source(tmp_path / "a.ome.tif"), suffix, project=(method, axis)) as br:
        found = br.read(keepdims=True)
        assert np.array_equal(found, np.floor(wanted + 0.5 if method == "mean" else wanted))
        assert br.sizes["ZCT"[place - 2]] == 1


def test_project_before_selection(tmp_path: Path) -> None:
    made = source(tmp_path / "a.ome.tif")
    with converted(tmp_path, made, project="max z", t=1, channels=[2, 0], crop="3,4,20,10") as br:
        assert np.array_equal(br[:], PIXELS.max(axis=2, keepdims=True)[4:14, 3:23, :, [2, 0], 1])


@pytest.mark.parametrize("suffix", TARGETS)
def test_merge_and_split_rgb(tmp_path: Path, suffix: str) -> None:
    made = source(tmp_path / "a.ome.tif", PIXELS.astype(np.uint8))
    convert(made, tmp_path / "rgb.ome.tif", merge_channels=True, verify=True)
    with BioReader(tmp_path / "rgb.ome.tif") as br:
        assert (br.samples_per_pixel, br.sizes["C"], len(br.channels)) == (3, 3, 1)
        assert np.array_equal(br[:], PIXELS.astype(np.uint8))
    with converted(tmp_path, tmp_path / "rgb.ome.tif", suffix, split_rgb=True) as br:
        assert (br.samples_per_pixel, len(br.channels)) == (1, 3)
        assert br.channel_names == ["R", "G", "B"]
        assert next(c.color for c in br.channels) == (255, 0, 0, 255)
        assert np.array_equal(br[:], PIXELS.astype(np.uint8))


def test_tifffile_sees_rgb(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    made = source(tmp_path / "a.ome.tif", PIXELS[:, :, :1, :, :1].astype(np.uint8))
    convert(made, tmp_path / "b.ome.tif", merge_channels=True)
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as tif:
        assert tif.pages[0].samplesperpixel == 3
        found = tif.asarray()
    found = found if found.shape[-1] == 3 else np.moveaxis(found, 0, -1)
    assert np.array_equal(found, PIXELS[:, :, 0, :, 0].astype(np.uint8))


# ---- stitching

PLACES = {"A1": [(0.0, 0.0), (0.0, 17.5), (12.0, 0.0)], "B3": [(100.0, 50.0), (110.0, 50.0)]}
WELLS = [(0, 0), (1, 2)]
RUNS = ("run 0", "run 1")


def plate(
    path: Path,
    positions: bool = True,
    unit: str = "µm",
    runs: Sequence[tuple[str, Sequence[int]]] = (("first", range(5)),),
) -> Path:
    """A plate: two wells with fields that overlap; positions in micrometres, pixels of 0.5."""
    from ome_types.model import (
        ImageRef,
        Plane,
        Plate,
        PlateAcquisition,
        Well,
        WellSample,
        WellSampleRef,
    )

    places = [place for fields in PLACES.values() for place in fields]
    base = BioReader(source(path.with_name("field.ome.tif"), PIXELS[:, :, :2]))
    ome = base.ome.model_copy(deep=True)
    first, images, samples = ome.images[0], [], []
    for number, (y, x) in enumerate(places):
        image = first.model_copy(deep=True)
        image.id, image.name = f"Image:{number}", f"field {number}"
        if positions:
            image.pixels.planes = [
                Plane(the_z=z, the_c=c, the_t=t, position_x=x, position_y=y,
                      position_x_unit=unit, position_y_unit=unit)
                for t in range(2) for c in range(3) for z in range(2)
            ]  # fmt: skip
        images.append(image)
        samples.append(
            WellSample(id=f"WellSample:{number}", index=number, image_ref=ImageRef(id=image.id))
        )
    ome.images = images
    wells, at = [], 0
    for number, ((row, column), fields) in enumerate(zip(WELLS, PLACES.values(), strict=True)):
        own = samples[at : at + len(fields)]
        wells.append(Well(id=f"Well:{number}", row=row, column=column, well_samples=own))
        at += len(fields)
    taken = [
        PlateAcquisition(
            id=f"PlateAcquisition:{number}", name=name, maximum_field_count=3,
            well_sample_refs=[WellSampleRef(id=samples[s].id) for s in fields],
        )
        for number, (name, fields) in enumerate(runs)
    ]  # fmt: skip
    ome.plates = [Plate(id="Plate:0", name="p", wells=wells, plate_acquisitions=taken)]
    with BioWriter(path, metadata=ome, series="all") as bw:
        for number, image in enumerate(bw.series):
            image[:] = field(number)
    return path


def field(number: int) -> np.ndarray[Any, Any]:
    return (PIXELS[:, :, :2] + 1000 * number).astype(np.uint16)


def fused(well: str, overlap: str, fill: int, down: int = 1) -> np.ndarray[Any, Any]:
    """The mosaic by numpy alone."""
    offset = 0 if well == "A1" else len(PLACES["A1"])
    places = np.array(PLACES[well]) / 0.5 * (down, 1)
    places = np.rint(places - places.min(axis=0)).astype(int)
    height, width = places.max(axis=0) + np.array((31, 42))
    layers = np.full((len(places), height, width, 2, 3, 2), np.nan)
    for number, (y, x) in enumerate(places):
        layers[number, y : y + 31, x : x + 42] = field(offset + number)
    empty = np.isnan(layers).all(axis=0)
    layers[:, empty] = fill
    if overlap == "mean":
        return np.floor(np.nanmean(layers, axis=0) + 0.5)
    if overlap == "max":
        return np.nanmax(layers, axis=0)
    found = layers[0]
    for layer in layers[1:]:
        found = np.where(np.isnan(layer), found, layer)
    return found


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("suffix", TARGETS)
@pytest.mark.parametrize("overlap", ["last", "mean", "max"])
def test_stitch_wells(tmp_path: Path, suffix: str, overlap: str) -> None:
    made = plate(tmp_path / "plate.ome.tif")
    with converted(
        tmp_path, made, suffix, stitch=overlap, fill_value=7, tile=16, memory="16M"
    ) as br:
        assert len(br.series) == 2
        for number, well in enumerate(PLACES):
            assert np.array_equal(br.series[number][:], fused(well, overlap, 7))
        assert [image.name for image in br.ome.images] == ["A1", "B3"]
        (found,) = br.ome.plates
        assert [len(well.well_samples) for well in found.wells] == [1, 1]
        assert len(found.plate_acquisitions[0].well_sample_refs) == 2
        plane = br.ome.images[1].pixels.planes[0]
        assert (plane.position_y, plane.position_x) == (100.0, 50.0)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("suffix", "runs", "names"),
    [(".ome.tif", ("day 1", "day 2"), ("day 1", "day 2")), (".ome.zarr", ("x", "x"), RUNS)],
)
def test_runs_of_a_well_are_images_of_their_own(
    tmp_path: Path, suffix: str, runs: tuple[str, str], names: tuple[str, str]
) -> None:
    taken = list(zip(runs, ([0, 1, 3], [2, 4]), strict=True))
    made = plate(tmp_path / "plate.ome.tif", runs=taken)
    with converted(tmp_path, made, suffix, stitch="max") as br:
        wanted = [f"{well} {name}" for well in ("A1", "B3") for name in names]
        assert [image.name for image in br.ome.images] == wanted
        upper = np.zeros((31, 77, *PIXELS.shape[2:]), np.uint16)[:, :, :2]
        upper[:, :42] = field(0)
        upper[:, 35:] = np.maximum(upper[:, 35:], field(1))
        assert np.array_equal(br.series[0][:], upper)
        for view, number in zip(br.series[1:], (2, 3, 4), strict=True):
            assert np.array_equal(view[:], field(number))
        (found,) = br.ome.plates
        assert [len(well.well_samples) for well in found.wells] == [2, 2]
        assert [len(run.well_sample_refs) for run in found.plate_acquisitions] == [2, 2]


def test_stitched_part(tmp_path: Path) -> None:
    made = plate(tmp_path / "plate.ome.tif")
    with converted(tmp_path, made, stitch=True, series=1, crop="5,20,30,25", channels=1, z=1) as br:
        assert np.array_equal(br[:], fused("B3", "last", 0)[20:45, 5:35, 1:, 1:2])
        plane = br.ome.images[0].pixels.planes[0]
        assert (plane.position_y, plane.position_x) == (110.0, 52.5)


def test_field_by_field_and_acquisitions(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    made = plate(tmp_path / "plate.ome.tif")
    with converted(tmp_path, made, ".ome.zarr") as br:
        assert [np.array_equal(v[:], field(i)) for i, v in enumerate(br.series)] == [True] * 5
    root = zarr.open_group(str(tmp_path / "made.ome.zarr"), mode="r")
    assert root.attrs["ome"]["plate"]["acquisitions"] == [
        {"id": 0, "name": "first", "maximumfieldcount": 3}
    ]
    well = root["A/1"].attrs["ome"]["well"]["images"]
    assert well == [{"path": str(i), "acquisition": 0} for i in range(3)]
    entry = root["A/1/1"].attrs["ome"]["multiscales"][0]["datasets"][0]
    assert entry["coordinateTransformations"][1]["translation"] == [0, 0, 0, 0, 17.5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"swap": "zx"}, "two of z, c and t"),
        ({"swap": "zz"}, "two of z, c and t"),
        ({"swap": 3}, "two of z, c and t"),
        ({"project": "max"}, "then z, c or t"),
        ({"project": ("sum", "z")}, "one of max, min, mean"),
        ({"project": ("max", "x")}, "then z, c or t"),
        ({"stitch": "first"}, "one of last, mean, max"),
        ({"stitch": True}, "nothing to stitch"),
        ({"merge_channels": True, "channels": "0,1,2"}, "need three"),
        ({"merge_channels": True, "split_rgb": True}, "exclude each other"),
        ({"fill_value": "a"}, "give a number"),
        ({"autostitch": True}, "autostitch"),
        ({"flip_stage": "z", "stitch": True}, "y, x or xy"),
        ({"flip_stage": "y"}, "give stitch="),
        ({"position_unit": "s"}, "no unit of length"),
    ],
)
def test_invalid_changes(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    made = source(tmp_path / "a.ome.tif", PIXELS[:, :, :, :2])
    with pytest.raises(BadArgument, match=message):
        convert(made, tmp_path / "b.ome.tif", **options)
    assert not (tmp_path / "b.ome.tif").exists()


def test_rgb_has_no_axes_to_swap_or_project(tmp_path: Path) -> None:
    made = source(tmp_path / "a.ome.tif", PIXELS.astype(np.uint8))
    convert(made, tmp_path / "rgb.ome.tif", merge_channels=True)
    for options in ({"swap": "zc"}, {"project": ("max", "c")}):
        with pytest.raises(BadArgument, match="--split-rgb"):
            convert(tmp_path / "rgb.ome.tif", tmp_path / "b.ome.tif", **options)
    with converted(tmp_path, tmp_path / "rgb.ome.tif", split_rgb=True, project=("max", "c")) as br:
        assert np.array_equal(br[:], PIXELS.astype(np.uint8).max(axis=3, keepdims=True))


def test_fields_without_position(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="image 0 has no position along y"):
        convert(plate(tmp_path / "p.ome.tif", False), tmp_path / "b.ome.tif", stitch=True)


def test_positions_in_a_reference_frame(tmp_path: Path) -> None:
    made = plate(tmp_path / "p.ome.tif", unit="reference frame")
    with pytest.raises(BadArgument, match="--position-unit"):
        convert(made, tmp_path / "b.ome.tif", stitch=True)
    with converted(tmp_path, made, stitch=True, position_unit="um", flip_stage="y") as br:
        for number, well in enumerate(PLACES):
            assert np.array_equal(br.series[number][:], fused(well, "last", 0, -1))
        plane = br.ome.images[1].pixels.planes[0]
        assert (plane.position_y, plane.position_y_unit.value) == (110.0, "µm")
    convert(made, tmp_path / "c.ome.tif", position_unit="µm")
    with BioReader(tmp_path / "c.ome.tif") as br:
        assert br.ome.images[1].pixels.planes[0].position_x_unit.value == "µm"
        assert np.array_equal(br.series[1][:], field(1))
