"""One conversion: which pixels, which values, which metadata; numpy is the referee."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ome_types import OME, from_xml, model

import bfbridge
from bfbridge import BioReader, BioWriter, convert
from bfbridge.convert.option_values import parse_positions, parse_size
from bfbridge.convert.plan.blocks import BlockGrid, plan_grid
from bfbridge.convert.plan.document import ORIGINAL_METADATA
from bfbridge.convert.plan.naming import base_name, suffix_of
from bfbridge.convert.plan.scaling import plan_scaling
from bfbridge.convert.verification.checksum import PixelChecksum
from bfbridge.errors import (
    BadArgument,
    BadSelection,
    BfbridgeError,
    FileMissing,
    ReadFailed,
    TargetExists,
)

SHAPE = (40, 50, 4, 3, 2)


def pixels(shape: tuple[int, ...] = SHAPE, dtype: str = "uint16", start: int = 0) -> Any:
    """Every pixel has another value, as far as the type has enough."""
    count = int(np.prod(shape))
    return (
        (np.arange(start, start + count) % (np.iinfo(dtype).max + 1)).astype(dtype).reshape(shape)
    )


def document(count: int = 1) -> OME:
    """A document that uses much of the model."""
    images = []
    for i in range(count):
        planes = [
            model.Plane(the_z=z, the_c=c, the_t=t, delta_t=100 * t + 10 * c + z, position_x=z)
            for t in range(2) for c in range(3) for z in range(4)
        ]  # fmt: skip
        channels = [
            model.Channel(
                id=f"Channel:{i}:{c}", name=f"ch{c}", samples_per_pixel=1, color=f"#00{c}0FF",
                emission_wavelength=500 + c,
            )
            for c in range(3)
        ]  # fmt: skip
        images.append(
            model.Image(
                id=f"Image:{i}", name=f"image {i}", description="of cells",
                instrument_ref=model.InstrumentRef(id="Instrument:0"),
                objective_settings=model.ObjectiveSettings(id="Objective:0:0"),
                roi_refs=[model.ROIRef(id=f"ROI:{i}")],
                pixels=model.Pixels(
                    id=f"Pixels:{i}", dimension_order="XYZCT", type="uint16", size_x=50, size_y=40,
                    size_z=4, size_c=3, size_t=2, physical_size_x=0.5, physical_size_y=0.25,
                    physical_size_z=2.0, time_increment=3.0, channels=channels, planes=planes,
                ),
            )
        )  # fmt: skip
    rois = [
        model.ROI(
            id=f"ROI:{i}",
            union=[
                model.Rectangle(id=f"Shape:{i}:0", x=10, y=12, width=5, height=6, the_z=2),
                model.Polygon(id=f"Shape:{i}:1", points="1,2 3,4 5,6"),
            ],
        )
        for i in range(count)
    ]
    return OME(
        images=images,
        rois=rois,
        instruments=[
            model.Instrument(
                id="Instrument:0", objectives=[model.Objective(id="Objective:0:0", lens_na=1.4)]
            )
        ],
        structured_annotations=model.StructuredAnnotations(
            map_annotations=[model.MapAnnotation(id="Annotation:0", value={"who": "me"})]
        ),
        datasets=[
            model.Dataset(
                id="Dataset:0", image_refs=[model.ImageRef(id=f"Image:{i}") for i in range(count)]
            )
        ],
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.ome.tif"
    with BioWriter(path, metadata=document()) as bw:
        bw[:] = pixels()
    return path


def read(path: Path | str, **options: Any) -> Any:
    with BioReader(path, **options) as br:
        return br[:]


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_everything(source: Path, tmp_path: Path, suffix: str) -> None:
    done = convert(source, tmp_path / f"t{suffix}", verify=True)
    np.testing.assert_array_equal(read(tmp_path / f"t{suffix}"), pixels())
    assert done.images == 1
    assert done.pixel_bytes == pixels().nbytes
    assert done.files[0].outputs[0].verified is True


def test_the_module_is_called_like_the_function(source: Path, tmp_path: Path) -> None:
    from bfbridge.convert import Conversion

    done = bfbridge.convert(source, tmp_path / "t.ome.zarr")
    assert isinstance(done, Conversion)


@pytest.mark.parametrize(
    ("chosen", "key"),
    [
        ({"z": 2}, np.s_[:, :, 2:3]),
        ({"z": "1:"}, np.s_[:, :, 1:]),
        ({"z": "0,3"}, np.s_[:, :, [0, 3]]),
        ({"t": "-1"}, np.s_[..., 1:]),
        ({"t": [1, 0]}, np.s_[..., [1, 0]]),
        ({"channels": "ch2,ch0"}, np.s_[:, :, :, [2, 0]]),
        ({"channels": [1]}, np.s_[:, :, :, 1:2]),
        ({"channels": "0:2"}, np.s_[:, :, :, :2]),
        ({"crop": "7,5,20,30"}, np.s_[5:35, 7:27]),
        ({"crop": (0, 1, 50, 2), "z": slice(0, 4, 2)}, np.s_[1:3, :, ::2]),
    ],
)
def test_selections(source: Path, tmp_path: Path, chosen: dict[str, Any], key: Any) -> None:
    convert(source, tmp_path / "t.ome.tif", verify=True, **chosen)
    expected = pixels()[key]
    np.testing.assert_array_equal(read(tmp_path / "t.ome.tif").reshape(expected.shape), expected)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"z": 4}, "index 4 is outside"),
        ({"z": "2:2"}, "chooses nothing"),
        ({"z": "1,1"}, "chooses a position twice"),
        ({"channels": "DAPI"}, "no one channel named 'DAPI'"),
        ({"crop": "0,0,51,1"}, "reaches outside image 0"),
        ({"series": 1}, "there is no series 1"),
        ({"source_level": 3}, "no image chosen has level 3"),
    ],
)
def test_what_is_not_there(
    source: Path, tmp_path: Path, chosen: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSelection, match=message):
        convert(source, tmp_path / "t.ome.tif", **chosen)
    assert not (tmp_path / "t.ome.tif").exists()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"split": "x"}, "files are split by"),
        ({"crop": "1,2,3"}, "x,y,width,height"),
        ({"z": "a"}, "give positions"),
        ({"memory": "1M"}, "at least 16M"),
        ({"level": "zstd"}, "compression= too"),
        ({"dtype": "uint8"}, "State how"),
        ({"dtype": "uint8", "scaling": "5:1"}, "low must be below high"),
        ({"dtype": "uint8", "scaling": "best"}, "low and high"),
        ({"colour": 3}, "colour"),
        ({"compression": "zstd:x"}, "a level is a number"),
    ],
)
def test_arguments_refused(
    source: Path, tmp_path: Path, wanted: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadArgument, match=message):
        convert(source, tmp_path / "t.ome.tif", **wanted)
    assert not (tmp_path / "t.ome.tif").exists()


def test_lower_level_is_read(tmp_path: Path) -> None:
    big = pixels((600, 700), "uint16")
    with BioWriter(tmp_path / "p.ome.tif", image=big, pyramid=2, physical_size_x=0.5) as bw:
        bw[:] = big
    with BioReader(tmp_path / "p.ome.tif") as br:
        smaller = br.levels[1][:]
    convert(tmp_path / "p.ome.tif", tmp_path / "t.ome.tif", source_level=1, verify=True)
    np.testing.assert_array_equal(read(tmp_path / "t.ome.tif"), smaller)
    with BioReader(tmp_path / "t.ome.tif") as br:
        assert br.physical_size_x == (1.0, "µm")


# ---- values


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("clip", lambda a: np.clip(a, 0, 255)),
        ("full", lambda a: np.rint(a / 257)),
        ("minmax", lambda a: np.rint(a * (255 / 23999))),
        ("100:1000", lambda a: np.rint(np.clip((a - 100.0) / 900, 0, 1) * 255)),
        ((100, 1000), lambda a: np.rint(np.clip((a - 100.0) / 900, 0, 1) * 255)),
    ],
)
def test_scaling(tmp_path: Path, scaling: Any, expected: Any) -> None:
    a = pixels((40, 30, 5, 2, 2))
    with BioWriter(tmp_path / "a.ome.tif", image=a) as bw:
        bw[:] = a
    target = tmp_path / "t.ome.tif"
    done = convert(tmp_path / "a.ome.tif", target, dtype="uint8", scaling=scaling, verify=True)
    made = read(target)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, expected(a.astype(float)).astype(np.uint8))
    told = done.files[0].outputs[0].images[0]["scaling"]
    assert (told["from"], told["to"]) == ("uint16", "uint8")


def test_the_least_and_greatest_value_are_finite_ones(tmp_path: Path) -> None:
    """Blocks without any, NaN and infinities among the others: none of them spoils the scale."""
    a = np.arange(2048 * 1040, dtype=np.float32).reshape(2048, 1040)
    a[:1024] = np.nan
    a[1500, :2] = np.inf, -np.inf
    with BioWriter(tmp_path / "a.ome.tif", image=a) as bw:
        bw[:] = a
    target = tmp_path / "t.ome.tif"
    convert(tmp_path / "a.ome.tif", target, scaling="minmax", verify=True)
    low, high = 1024.0 * 1040, 2048.0 * 1040 - 1
    with np.errstate(invalid="ignore"):
        expected = np.clip((a.astype(float) - low) * (1 / (high - low)), 0, 1).astype(np.float32)
    np.testing.assert_array_equal(read(target), expected)
    with BioWriter(tmp_path / "none.ome.tif", image=a[:30]) as bw:
        bw[:] = a[:30]
    with pytest.raises(BadArgument, match=r"none\.ome\.tif: .*image 0 has no finite value"):
        convert(tmp_path / "none.ome.tif", tmp_path / "u.ome.tif", scaling="minmax")


def test_lossless_changes_need_no_rule(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "t.ome.tif", dtype="float32", verify=True)
    made = read(tmp_path / "t.ome.tif")
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, pixels())


def test_the_change_of_values_is_in_the_metadata(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "t.ome.tif", dtype="uint8", scaling=(0, 1000))
    with BioReader(tmp_path / "t.ome.tif") as br:
        notes = {a.namespace: a.value for a in br.ome.structured_annotations.map_annotations}
    assert dict(notes["bfbridge/conversion"])["high"] == "1000.0"


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int32", "uint8"])
def test_values_beyond_a_type_become_its_ends(dtype: str) -> None:
    scaling = plan_scaling(np.dtype("float64"), dtype, "clip", None, lambda: (0, 0))
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    found = scaling(np.array([-np.inf, -1e300, 7.5, 1e300, np.inf])).tolist()
    assert found[:3] == [low, low, 8]
    # The largest 64-bit integers are no float64: the last one below them is taken.
    assert found[3:] == [high if high < 2**53 else int(np.nextafter(float(high), 0))] * 2


def test_significant_bits_set_the_full_range() -> None:
    scaling = plan_scaling(np.dtype("uint16"), "uint8", "full", 12, lambda: (0, 0))
    np.testing.assert_array_equal(
        scaling(np.array([0, 2048, 4095, 5000], np.uint16)), [0, 128, 255, 255]
    )


def test_signed_and_float_values() -> None:
    full = plan_scaling(np.dtype("int16"), "uint8", "full", None, lambda: (0, 0))
    np.testing.assert_array_equal(full(np.array([-32768, 32767], np.int16)), [0, 255])
    unit = plan_scaling(np.dtype("float32"), "float32", (10, 20), None, lambda: (0, 0))
    np.testing.assert_array_equal(unit(np.array([5, 10, 15, 30], np.float32)), [0, 0, 0.5, 1])
    clip = plan_scaling(np.dtype("float64"), "int8", "clip", None, lambda: (0, 0))
    np.testing.assert_array_equal(clip(np.array([-200, -1.6, 2.5, 200])), [-128, -2, 2, 127])
    with pytest.raises(ReadFailed, match="NaN"):
        clip(np.array([np.nan]))


# ---- splitting


def test_split_names_and_pixels(source: Path, tmp_path: Path) -> None:
    done = convert(source, tmp_path / "x.ome.tif", split="c,t", verify=True)
    names = [Path(output.target).name for output in done.files[0].outputs]
    assert names == [f"x_c{c}_t{t}.ome.tif" for c in range(3) for t in range(2)]
    for c in range(3):
        for t in range(2):
            with BioReader(tmp_path / f"x_c{c}_t{t}.ome.tif") as br:
                np.testing.assert_array_equal(br[:], pixels()[..., c, t])
                assert br.channel_names == [f"ch{c}"]
                assert [p.delta_t for p in br.metadata.images[0].pixels.planes] == [
                    100 * t + 10 * c + z for z in range(4)
                ]


def test_split_marks_only_what_is_longer_than_one(tmp_path: Path) -> None:
    a = pixels((20, 30, 1, 2, 1))
    with BioWriter(tmp_path / "a.ome.tif", image=a) as bw:
        bw[:] = a
    done = convert(tmp_path / "a.ome.tif", tmp_path / "o.ome.zarr", split="series,c,t,z")
    names = [Path(output.target).name for output in done.files[0].outputs]
    assert names == ["o_c0.ome.zarr", "o_c1.ome.zarr"]


def test_split_by_series(tmp_path: Path) -> None:
    with BioWriter(tmp_path / "two.ome.tif", metadata=document(2), series="all") as bw:
        bw.series[0][:] = pixels()
        bw.series[1][:] = pixels(start=5000)
    done = convert(tmp_path / "two.ome.tif", tmp_path / "o.ome.tif", split="s", z=0)
    names = [Path(output.target).name for output in done.files[0].outputs]
    assert names == ["o_s0.ome.tif", "o_s1.ome.tif"]
    made = read(tmp_path / "o_s1.ome.tif")
    np.testing.assert_array_equal(made, pixels(start=5000)[:, :, :1])
    with BioReader(tmp_path / "o_s1.ome.tif") as br:
        assert br.name == "image 1"
        assert len(br.ome.rois) == 1
    chosen = convert(tmp_path / "two.ome.tif", tmp_path / "both.ome.zarr", series=[1, 0])
    assert chosen.images == 2
    np.testing.assert_array_equal(read(tmp_path / "both.ome.zarr"), pixels(start=5000))


def test_channels_of_rgb_keep_their_samples(tmp_path: Path) -> None:
    a = pixels((20, 30, 1, 6, 1), "uint8")
    with BioWriter(tmp_path / "rgb.ome.tif", image=a, samples_per_pixel=3) as bw:
        bw[:] = a
    convert(tmp_path / "rgb.ome.tif", tmp_path / "t.ome.tif", channels=1, verify=True)
    with BioReader(tmp_path / "t.ome.tif") as br:
        assert br.samples_per_pixel == 3
        np.testing.assert_array_equal(br[:], a[:, :, :, 3:, 0])


# ---- metadata


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_the_whole_model_survives(source: Path, tmp_path: Path, suffix: str) -> None:
    convert(source, tmp_path / f"t{suffix}")
    with BioReader(source) as before, BioReader(tmp_path / f"t{suffix}") as after:
        old, new = before.ome, after.ome
        assert new.instruments == old.instruments
        assert new.rois == old.rois
        assert (
            new.structured_annotations.map_annotations == old.structured_annotations.map_annotations
        )
        assert new.datasets[0].model_dump() == old.datasets[0].model_dump()
        assert new.images[0].description == "of cells"
        assert new.images[0].objective_settings == old.images[0].objective_settings
        assert new.images[0].pixels.planes == old.images[0].pixels.planes
        assert new.images[0].pixels.channels == old.images[0].pixels.channels
        assert new.images[0].pixels.time_increment == 3.0


def test_metadata_follows_the_choice(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "t.ome.tif", crop="4,2,30,30", z="0:4:2", channels=[2, 0], t=1)
    with BioReader(tmp_path / "t.ome.tif") as br:
        image = br.ome.images[0]
        shapes = {type(shape).__name__: shape for shape in br.ome.rois[0].union}
    rectangle, polygon = shapes["Rectangle"], shapes["Polygon"]
    assert (image.pixels.size_x, image.pixels.size_c, image.pixels.size_z) == (30, 2, 2)
    assert [c.name for c in image.pixels.channels] == ["ch2", "ch0"]
    assert image.pixels.physical_size_z == 4.0
    told = {(p.the_z, p.the_c, p.the_t): p.delta_t for p in image.pixels.planes}
    assert told == {(0, 0, 0): 120, (1, 0, 0): 122, (0, 1, 0): 100, (1, 1, 0): 102}
    assert (rectangle.x, rectangle.y, rectangle.the_z) == (6, 10, 1)
    assert polygon.points == "-3,0 -1,2 1,4"


def test_regions_of_interest_on_slices_left_out_go(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "t.ome.tif", z=0)
    with BioReader(tmp_path / "t.ome.tif") as br:
        assert [type(shape).__name__ for shape in br.ome.rois[0].union] == ["Polygon"]


def test_original_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bfbridge.views import ImageView

    told = {"Gain <a>": "1.5", "Odd\x00key": "ü"}
    monkeypatch.setattr(ImageView, "original_metadata", property(lambda self: told))
    a = pixels((20, 30))
    with BioWriter(tmp_path / "a.ome.tif", image=a) as bw:
        bw[:] = a
    convert(tmp_path / "a.ome.tif", tmp_path / "t.ome.tif", original_metadata=True)
    with BioReader(tmp_path / "t.ome.tif") as br:
        annotations = from_xml(br.ome_xml or "").structured_annotations.xml_annotations
    kept = {}
    for annotation in annotations:
        assert annotation.namespace == ORIGINAL_METADATA
        key, value = annotation.value.any_elements[0].children
        kept[key.text] = value.text
    assert kept == {"Gain <a>": "1.5", "Oddkey": "ü"}


# ---- proof


def test_the_checksum_is_what_the_report_says_it_is(source: Path, tmp_path: Path) -> None:
    done = convert(source, tmp_path / "t.ome.tif", report=tmp_path / "r.json", recompress=True)
    told = json.loads((tmp_path / "r.json").read_text())["files"][0]["outputs"][0]
    a = pixels().astype("<u2")
    sums = [
        zlib.crc32(np.ascontiguousarray(a[:, :, z, c, t]))
        for t in range(2) for c in range(3) for z in range(4)
    ]  # fmt: skip
    expected = hashlib.sha256(np.array(sums, "<u4").tobytes()).hexdigest()
    assert told["images"][0]["checksum"]["value"] == expected
    assert told["file_bytes"] == os.stat(tmp_path / "t.ome.tif").st_size
    assert done.report == tmp_path / "r.json"


def test_checksums_do_not_depend_on_format_or_threads(tmp_path: Path) -> None:
    a = pixels((1500, 2100))
    with BioWriter(tmp_path / "a.ome.tif", image=a, tile=256) as bw:
        bw[:] = a
    found = set()
    for name, workers in (("t.ome.tif", 1), ("t.ome.zarr", 3)):
        done = convert(
            tmp_path / "a.ome.tif", tmp_path / name, max_workers=workers, recompress=True
        )
        found.add(json.dumps(done.files[0].outputs[0].images[0]["checksum"]))
    sums = [
        zlib.crc32(np.ascontiguousarray(a[y : y + 1024, x : x + 1024], "<u2"))
        for y in range(0, 1500, 1024) for x in range(0, 2100, 1024)
    ]  # fmt: skip
    expected = hashlib.sha256(np.array(sums, "<u4").tobytes()).hexdigest()
    assert [json.loads(told)["value"] for told in found] == [expected]


def test_a_block_may_hold_several_tiles_of_the_checksum() -> None:
    a = pixels((1500, 2100, 1, 1, 1))
    found = set()
    for step in ((1024, 1024), (2048, 1024), (1024, 2048), (1500, 2100)):
        grid = BlockGrid(a.shape, (*step, 1, 1, 1))
        checksum = PixelChecksum(grid)
        for key in grid:
            checksum.add(key, a[key])
        assert checksum.tile == (1024, 1024)
        found.add(checksum.describe()["value"])
    assert len(found) == 1


def test_verification_finds_a_wrong_pixel(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bfbridge.writer import ImageWriter

    plain = ImageWriter.__setitem__

    def wrong(self: Any, key: Any, value: Any) -> None:
        value = value.copy()
        value[3, 5, 0, 0, 0] += 1
        plain(self, key, value)

    monkeypatch.setattr(ImageWriter, "__setitem__", wrong)
    with pytest.raises(ReadFailed, match=r"differs is y 3, x 5, z 0, c 0, t 0; .* differ, by 1 at"):
        convert(source, tmp_path / "t.ome.tif", verify=True, recompress=True)


def test_verification_of_lossy_pixels_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 80), np.uint8)
    with BioWriter(tmp_path / "a.ome.tif", image=noise) as bw:
        bw[:] = noise
    with pytest.raises(ReadFailed, match="lossy"):
        convert(tmp_path / "a.ome.tif", tmp_path / "t.ome.tif", compression="jpeg", verify=True)


# ---- failures


def test_failures_leave_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        convert(tmp_path / "none.ome.tif", tmp_path / "t.ome.tif")
    with pytest.raises(TargetExists):
        convert(source, source)
    with pytest.raises(TargetExists, match="the source itself"):
        convert(source, source, overwrite=True)
    np.testing.assert_array_equal(read(source), pixels())

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "t.ome.tif", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["source.ome.tif"]


def test_a_failed_conversion_is_in_its_report(tmp_path: Path) -> None:
    (tmp_path / "bad.ome.tif").write_bytes(b"II*\0" + b"\xff" * 40)
    with pytest.raises(BfbridgeError):
        convert(tmp_path / "bad.ome.tif", tmp_path / "t.ome.tif", report=tmp_path / "r.json")
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["counts"] == {"done": 0, "kept": 0, "failed": 1}
    assert "bad.ome.tif" in told["files"][0]["error"]


def test_progress_ends_at_the_total(source: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert(source, tmp_path / "t.ome.tif", verify=True, progress=lambda d, n: seen.append((d, n)))
    assert seen[-1] == (3 * pixels().nbytes, 3 * pixels().nbytes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# ---- pure parts


@pytest.mark.parametrize(
    ("shape", "source", "target", "limit", "step"),
    [
        # strips: bands as high as the target's tiles
        (
            (16384, 16384, 1, 1, 1),
            (8, 16384, 1, 1, 1),
            (1024, 1024, 1, 1, 1),
            64 << 20,
            (1024, 16384),
        ),
        # small tiles: several together
        ((5000, 5000, 1, 1, 1), (256, 256, 1, 1, 1), (1024, 1024, 1, 1, 1), 64 << 20, (1024, 1024)),
        # a plane as one chunk, which fits
        (
            (3000, 3000, 9, 1, 1),
            (3000, 3000, 1, 1, 1),
            (1024, 1024, 1, 1, 1),
            64 << 20,
            (3000, 3000),
        ),
        # a plane as one chunk, which does not: bands
        (
            (9999, 9999, 1, 1, 1),
            (9999, 9999, 1, 1, 1),
            (1024, 1024, 1, 1, 1),
            20 << 20,
            (1048, 9999),
        ),
        # tiles larger than the target's
        (
            (9000, 9000, 1, 1, 1),
            (2048, 2048, 1, 1, 1),
            (1024, 1024, 1, 1, 1),
            64 << 20,
            (2048, 2048),
        ),
    ],
)
def test_blocks_follow_the_source(
    shape: Any, source: Any, target: Any, limit: int, step: tuple[int, int]
) -> None:
    grid = plan_grid(shape, source, target, 2, 1, limit)
    assert grid.step[:2] == step
    assert np.prod(grid.step) * 2 <= limit


def test_blocks_cover_every_pixel_once() -> None:
    shape = (7, 11, 3, 4, 2)
    for source in ((3, 4, 1, 1, 1), (7, 11, 3, 2, 1), (1, 11, 1, 4, 2), (7, 11, 1, 1, 1)):
        counts = np.zeros(shape, int)
        for key in plan_grid(shape, source, (5, 5, 2, 1, 1), 2, 2, 300):
            counts[key] += 1
        np.testing.assert_array_equal(counts, 1)


def test_names() -> None:
    assert base_name("/x/a.b.ome.tif") == "a.b"
    assert base_name("brain.nii.gz") == "brain"
    assert base_name("x/cells&sizeX=3.fake") == "cells"
    assert base_name("https://host/a/img.ome.zarr/?x=1") == "img"
    assert suffix_of("plain") == ""


def test_texts() -> None:
    assert parse_positions("3", "z") == [3]
    assert parse_positions("0:4:2,-1", "z") == [slice(0, 4, 2), -1]
    assert parse_size("1.5G") == 3 << 29
    assert parse_size("64MiB") == 64 << 20
    with pytest.raises(BadArgument):
        parse_size("much")


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_little_memory_changes_nothing(tmp_path: Path, suffix: str) -> None:
    a = pixels((2100, 3000), "uint16")
    with BioWriter(tmp_path / "a.ome.zarr", image=a, chunks=(700, 900)) as bw:
        bw[:] = a
    target = tmp_path / f"t{suffix}"
    convert(tmp_path / "a.ome.zarr", target, memory="16M", max_workers=3, tile=512, verify=True)
    convert(tmp_path / "a.ome.zarr", tmp_path / f"u{suffix}", tile=512)
    with BioReader(target) as small, BioReader(tmp_path / f"u{suffix}") as large:
        for one, other in zip(small.levels, large.levels, strict=True):
            np.testing.assert_array_equal(one[:], other[:])


MEASURED = """
import sys
from pathlib import Path
from bfbridge import convert
convert(sys.argv[1], sys.argv[2])
# Not ru_maxrss, which a process inherits from the one that started it.
(line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
print(int(line.split()[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("side", [16384, 32768])
def test_memory_does_not_grow_with_the_image(tmp_path: Path, suffix: str, side: int) -> None:
    fake = f"f&sizeX={side}&sizeY={side}&pixelType=uint16.fake"
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, fake, str(tmp_path / f"t{suffix}")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout.split()[-1]) < 700


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("recompress", [False, True])
def test_chunks_never_written_keep_their_fill_value(
    tmp_path: Path, suffix: str, recompress: bool
) -> None:
    expected = np.full((64, 96), 77, np.uint16)
    expected[:32, :32] = pixels((32, 32))
    source = tmp_path / f"s{suffix}"
    chunk = {"tile": 32} if suffix == ".ome.tif" else {"chunks": 32}
    with BioWriter(source, image=expected, fill_value=77, **chunk) as bw:
        bw[:32, :32] = expected[:32, :32]
    convert(source, tmp_path / f"t{suffix}", recompress=recompress)
    np.testing.assert_array_equal(read(tmp_path / f"t{suffix}"), expected)
