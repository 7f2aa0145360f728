"""Label images and slides' pictures in conversions: roles, places, and lower levels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, convert
from bfbridge.backend import Image, ImageSpec, Level
from bfbridge.convert.verification import levels
from bfbridge.convert.verification.levels import smaller
from bfbridge.engine.pyramid import METHODS, reduce_block
from bfbridge.errors import ReadFailed
from bfbridge.ngff.hierarchy import place_images
from bfbridge.ome import roles
from tests.support.samples import distinct, write_ome_zarr

TARGETS = (".ome.zarr", ".ome.tif")
SHAPE = (1, 2, 1, 700, 900)


def numbers(dtype: Any = np.uint16) -> Any:
    """Objects of 3 x 3 pixels, whose numbers have no means that are numbers of objects."""
    found = np.random.default_rng(3).permutation(300 * 300).reshape(300, 300) * 7 % 65000
    return np.kron(found, np.ones((3, 3), int))[:700, :900].astype(dtype)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with one label image."""
    path = tmp_path_factory.mktemp("labels") / "src.ome.zarr"
    return write_ome_zarr(
        path, [distinct(SHAPE, np.uint32)], (1, 1, 1, 256, 256),
        labels=numbers().reshape(1, 1, 1, 700, 900),
    )  # fmt: skip


def told(path: Path) -> list[tuple[str | None, str, bool, int | None]]:
    with BioReader(path) as br:
        records = [view._image for view in br.series]
        return [(image.name, image.role, image.is_mask, image.label_of) for image in records]


def check_mask(path: Path, index: int, values: Any, count: int = 2) -> None:
    known = set(np.unique(values).tolist())
    with BioReader(path) as br:
        view = br.series[index]
        assert len(view.levels) == count
        np.testing.assert_array_equal(view[:], values)
        for level in view.levels:
            assert set(np.unique(level[:]).tolist()) <= known


def attributes(path: Path) -> Any:
    return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("last", TARGETS)
@pytest.mark.parametrize("first", TARGETS)
def test_labels_stay_labels(store: Path, tmp_path: Path, first: str, last: str) -> None:
    convert(store, tmp_path / f"a{first}", verify=True)
    convert(tmp_path / f"a{first}", tmp_path / f"b{last}", verify=True, recompress=True)
    for path in (tmp_path / f"a{first}", tmp_path / f"b{last}"):
        assert told(path) == [("sample", "image", False, None), ("cells", "label", True, 0)]
        check_mask(path, 1, numbers())
    if last == ".ome.zarr":
        assert attributes(tmp_path / "b.ome.zarr/labels")["labels"] == ["cells"]
        label = attributes(tmp_path / "b.ome.zarr/labels/cells")
        assert label["image-label"]["source"] == {"image": "../../"}
        assert label["multiscales"][0]["type"] == "nearest"
        assert attributes(tmp_path / "b.ome.zarr")["multiscales"][0]["type"] == "mean"


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("inner", ["labels", "labels/cells"])
@pytest.mark.parametrize("suffix", TARGETS)
def test_a_label_group_opened_by_itself(
    store: Path, tmp_path: Path, suffix: str, inner: str
) -> None:
    name = "cells" if inner == "labels" else "sample"
    assert told(store / inner) == [(name, "label", True, None)]
    convert(store / inner, tmp_path / f"a{suffix}", verify=True)
    convert(tmp_path / f"a{suffix}", tmp_path / "b.ome.zarr", verify=True)
    for path in (tmp_path / f"a{suffix}", tmp_path / "b.ome.zarr"):
        assert told(path) == [(name, "label", True, None)]
        check_mask(path, 0, numbers())
    assert "image-label" in attributes(tmp_path / "b.ome.zarr")


def test_the_mode_is_taken_where_it_is_asked_for(store: Path, tmp_path: Path) -> None:
    convert(store, tmp_path / "a.ome.zarr", downsample="mode", verify=True)
    check_mask(tmp_path / "a.ome.zarr", 1, numbers())
    with BioReader(tmp_path / "a.ome.zarr") as br:
        expected = reduce_block(numbers(), 2, "mode")
        np.testing.assert_array_equal(br.series[1].levels[1][:], expected)


@pytest.mark.slow(ci=True)
def test_labels_of_several_images_stay_with_theirs(tmp_path: Path) -> None:
    """Each image of a collection has its own labels, also if the order of images is changed."""
    (tmp_path / "src.ome.zarr/OME").mkdir(parents=True)
    for number in range(2):
        write_ome_zarr(
            tmp_path / f"src.ome.zarr/{number}", [distinct(SHAPE, np.uint32, start=1 + number)],
            (1, 1, 1, 256, 256), labels=(numbers() + number).reshape(1, 1, 1, 700, 900),
        )  # fmt: skip
    for name, ome in (("", {"bioformats2raw.layout": 3}), ("OME", {"series": ["0", "1"]})):
        document = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
        (tmp_path / "src.ome.zarr" / name / "zarr.json").write_text(json.dumps(document))
    expected = [("0/cells", "label", True, 0), ("1/cells", "label", True, 1)]
    assert told(tmp_path / "src.ome.zarr")[2:] == expected
    convert(tmp_path / "src.ome.zarr", tmp_path / "a.ome.tif", verify=True)
    assert told(tmp_path / "a.ome.tif")[2:] == expected
    convert(tmp_path / "a.ome.tif", tmp_path / "b.ome.zarr", verify=True)
    assert told(tmp_path / "b.ome.zarr")[2:] == expected
    check_mask(tmp_path / "b.ome.zarr", 3, numbers() + 1)
    convert(tmp_path / "b.ome.zarr", tmp_path / "c.ome.zarr", series=[3, 1], verify=True)
    assert told(tmp_path / "c.ome.zarr")[1:] == [("cells", "label", True, 0)]
    check_mask(tmp_path / "c.ome.zarr", 1, numbers() + 1)
    # The image of these is not there.
    convert(tmp_path / "b.ome.zarr", tmp_path / "d.ome.zarr", series=[0, 3], verify=True)
    assert told(tmp_path / "d.ome.zarr")[1:] == [("cells", "label", True, 0)]


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("dtype", ["int64", "uint64", "int8"])
def test_types_that_ome_has_no_name_for(tmp_path: Path, dtype: str) -> None:
    values = (numbers() % 100).astype(dtype)
    write_ome_zarr(
        tmp_path / "src.ome.zarr", [distinct(SHAPE, np.uint32)], (1, 1, 1, 256, 256),
        labels=values.reshape(1, 1, 1, 700, 900),
    )  # fmt: skip
    convert(tmp_path / "src.ome.zarr", tmp_path / "a.ome.zarr", verify=True)
    assert told(tmp_path / "a.ome.zarr")[1] == ("cells", "label", True, 0)
    check_mask(tmp_path / "a.ome.zarr", 1, values)
    assert (tmp_path / "a.ome.zarr/OME/METADATA.ome.xml").exists()


def test_metadata_carry_the_roles_into_a_writer(store: Path, tmp_path: Path) -> None:
    with (
        BioReader(store) as br,
        BioWriter(
            tmp_path / "a.ome.zarr", metadata=br.metadata, series="all", pyramid=True
        ) as bw,
    ):  # fmt: skip
        for view, image in zip(br.series, bw.series, strict=True):
            image[:] = view[:]
    assert [entry[1:] for entry in told(tmp_path / "a.ome.zarr")] == [
        ("image", False, None), ("label", True, 0),
    ]  # fmt: skip
    check_mask(tmp_path / "a.ome.zarr", 1, numbers())


# ---- pictures of a slide


def write_slide(path: Path, grey: bool) -> Path:
    """An OME-TIFF as Bio-Formats makes it of a slide: its pictures are known by their names."""
    from ome_types import OME, model

    samples = 1 if grey else 3
    images = [
        model.Image(
            id=f"Image:{i}", name=name,
            pixels=model.Pixels(
                id=f"Pixels:{i}", dimension_order="XYCZT", type="uint8", size_x=30 + i, size_y=20,
                size_z=1, size_c=samples, size_t=1,
                channels=[model.Channel(id=f"Channel:{i}:0", samples_per_pixel=samples)],
            ),
        )
        for i, name in enumerate(("slide", "label image", "macro image"))
    ]  # fmt: skip
    with BioWriter(path, metadata=OME(images=images), series="all") as bw:
        for i, image in enumerate(bw.series):
            image[:] = np.arange(20 * (30 + i) * samples, dtype=np.uint16).reshape(
                20, 30 + i, 1, samples
            ).astype(np.uint8)  # fmt: skip
    return path


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("suffix", TARGETS)
def test_pictures_of_a_slide_keep_their_roles(tmp_path: Path, suffix: str, grey: bool) -> None:
    source = write_slide(tmp_path / "slide.ome.tif", grey)
    expected = [
        ("slide", "image", False, None), ("label image", "label", False, None),
        ("macro image", "macro", False, None),
    ]  # fmt: skip
    assert told(source) == expected
    convert(source, tmp_path / f"a{suffix}", verify=True)
    convert(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}", verify=True, recompress=True)
    for name in (f"a{suffix}", f"b{suffix}"):
        assert told(tmp_path / name) == expected
        with BioReader(tmp_path / name) as br:
            assert list(br.associated) == ["label", "macro"]
    assert not (tmp_path / "a.ome.zarr/labels").exists()


def test_roles_do_not_stay_behind_with_images_that_are_left_out(tmp_path: Path) -> None:
    source = write_slide(tmp_path / "slide.ome.tif", False)
    convert(source, tmp_path / "a.ome.tif", series=0)
    with BioReader(tmp_path / "a.ome.tif") as br:
        assert roles.NAMESPACE not in (br.ome_xml or "")
    convert(source, tmp_path / "b.ome.tif", series="macro image")
    assert [entry[:2] for entry in told(tmp_path / "b.ome.tif")] == [("macro image", "macro")]


def test_labels_of_fractions_are_images_with_a_role(tmp_path: Path) -> None:
    level = Level((1, 1, 1, 20, 30), (1, 1, 1, 20, 30))
    image = Image("sure", (level,), np.dtype(np.float32), role="label", label_of=0)
    whole = Image("cells", (level,), np.dtype(np.uint8))
    places = place_images([ImageSpec(whole), ImageSpec(image)], None, None)
    assert places.groups == ("0", "1")


def test_roles_in_a_document_are_read_as_text_and_as_a_model() -> None:
    from ome_types import to_xml

    from bfbridge.ome.metadata import new_document

    wanted = [
        roles.ImageRole("label", None, True), roles.ImageRole(), roles.ImageRole("label", 1),
        roles.ImageRole("macro"), roles.ImageRole("thumbnail"),
    ]  # fmt: skip
    document = new_document(5)
    for given in (wanted[::-1], wanted):
        roles.write_roles(document, given)
        assert roles.read_roles(document) == given
    ids = [image.id for image in document.images]
    assert roles.roles_in_xml(to_xml(document), ids) == wanted
    roles.write_roles(document, [roles.ImageRole()] * 5)
    assert roles.NAMESPACE not in to_xml(document)


# ---- lower levels are proved


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "u8", "f4", "f8", "c8"])
@pytest.mark.parametrize("factor", [2, 3, 5])
def test_levels_made_in_two_ways_are_equal(method: str, dtype: str, factor: int) -> None:
    random = np.random.default_rng(factor)
    values = random.integers(0, 9, (23, 31, 2)).astype(dtype)
    if method == "mean":
        values = random.integers(-(2**62), 2**62, (23, 31, 2), np.int64).astype(dtype)
    expected = np.moveaxis(reduce_block(np.moveaxis(values, 2, 0), factor, method), 0, 2)
    found, tolerance = smaller(values, factor, method)
    assert found.dtype == expected.dtype
    assert (tolerance is not None) == (method == "mean" and values.dtype.kind in "fc")
    if tolerance is None:
        np.testing.assert_array_equal(found, expected)
    else:
        assert (np.abs(found - expected) <= tolerance).all()
        assert (tolerance <= 1e-6 * np.abs(values).max()).all()


def test_levels_of_floats_may_hold_nan_and_infinities(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((700, 900)).astype(np.float32)
    values[3, 3], values[40, 40], values[50:52, 50:52] = np.nan, np.inf, np.nan
    values[60, 60], values[60, 61] = np.inf, -np.inf
    with BioWriter(tmp_path / "a.ome.tif", image=values) as bw:
        bw[:] = values
    convert(tmp_path / "a.ome.tif", tmp_path / "b.ome.zarr", pyramid=2, verify=True)


@pytest.mark.parametrize("suffix", TARGETS)
def test_a_wrong_level_is_found(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def averaged(block: Any, factor: int, method: str) -> Any:
        return reduce_block(block, factor, "mean")

    monkeypatch.setattr("bfbridge.engine.assembler.reduce_block", averaged)
    with pytest.raises(ReadFailed, match=r"image 1, level 1: the pixels are not those of level 0"):
        convert(store, tmp_path / f"a{suffix}", verify=True, recompress=True)

    def moved(block: Any, factor: int, method: str) -> Any:
        return np.roll(reduce_block(block, factor, method), 1, -1)

    monkeypatch.setattr("bfbridge.engine.assembler.reduce_block", moved)
    with pytest.raises(ReadFailed, match=r"image 0, level 1: .* made smaller \(mean\)"):
        convert(store, tmp_path / f"b{suffix}", verify=True, recompress=True)


def test_levels_that_were_copied_are_compared_with_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = distinct((1, 1, 1, 60, 70))
    # Levels that another program made in its own way.
    write_ome_zarr(tmp_path / "a.ome.zarr", [full, full[..., 1::2, 1::2]], (1, 1, 1, 16, 16))
    done = convert(tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr", verify=True)
    assert done.files[0].outputs[0].images[0]["copied"]["levels"] == 2
    kept = convert(tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr", resume=True)
    assert kept.files[0].outputs[0].verified
    plain = levels._read
    monkeypatch.setattr(
        levels, "_read",
        lambda view, key: plain(view, key) + (view.source_name.endswith("b.ome.zarr")),
    )  # fmt: skip
    with pytest.raises(ReadFailed, match="level 1: the pixels are not the source's"):
        convert(tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr", overwrite=True, verify=True)


def test_a_level_that_is_missing_is_found(store: Path, tmp_path: Path) -> None:
    convert(store, tmp_path / "a.ome.tif", pyramid=1)
    with pytest.raises(Exception, match=r"its levels are .* and should be"):
        convert(store, tmp_path / "a.ome.tif", pyramid=2, resume=True)
