"""Label images added to stores, and regions of interest drawn as labels."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import yaozarrs
import zarr
from ome_types import from_xml

from bfbridge import BioReader, BioWriter, imwrite, recover
from bfbridge.curation import add_labels, labels_from_rois, validate
from bfbridge.errors import (
    BadArgument,
    BadDtype,
    BfbridgeError,
    FileMissing,
    IncompleteImage,
    TargetExists,
    UnreadableFile,
    Unsupported,
)
from bfbridge.storage.journal import Journal
from tests.support.commands import Run
from tests.support.samples import distinct, write_ome_zarr, write_plate
from tests.support.webserver import serve

PIXELS = distinct((2, 3, 2, 40, 50))
OBJECTS = np.arange(2 * 2 * 40 * 50).reshape(40, 50, 2, 1, 2) // 37 % 90


@pytest.fixture(params=["0.4", "0.5"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "a.ome.zarr"
    imwrite(path, PIXELS, axes="TCZYX", pixel_size=0.5, pyramid=2, chunks=16,
            version=request.param)  # fmt: skip
    return path


def content(path: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """Hash the files of these names, or all: not while a thread writes temporary ones."""
    if names is None:
        names = [str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()]
    return {name: hashlib.md5((path / name).read_bytes()).hexdigest() for name in sorted(names)}


def test_added_by_a_writer(store: Path) -> None:
    before = content(store)
    with BioWriter(store, labels="nuclei", dtype="uint16") as bw:
        assert (bw.shape, bw.dtype) == ((40, 50, 2, 1, 2), np.uint16)
        bw[:] = OBJECTS.astype(np.uint16)
        assert content(store, before) == before
        with BioReader(store) as br:
            assert br.labels == {}
    assert {k: v for k, v in content(store).items() if not k.startswith("labels/")} == before
    with BioReader(store) as br:
        view = br.labels["nuclei"]
        assert (view.role, view.dtype, len(view.levels)) == ("label", np.uint16, 3)
        np.testing.assert_array_equal(view[:], OBJECTS)
        np.testing.assert_array_equal(view.levels[2][:], OBJECTS[::4, ::4])
        assert view.physical_pixel_size == br.physical_pixel_size
        np.testing.assert_array_equal(br.asarray("TCZYX"), PIXELS)
    yaozarrs.validate_zarr_store(str(store))
    assert validate(store, pixels=True).findings == ()
    group = zarr.open_group(store / "labels/nuclei", mode="r")
    np.testing.assert_array_equal(group["0"][...], OBJECTS.transpose(4, 3, 2, 0, 1))


def test_several_labels_with_colors_and_properties(store: Path, tmp_path: Path) -> None:
    imwrite(tmp_path / "mask.tif", OBJECTS[..., 0, 0, 0].astype(np.uint8), axes="YX")
    colors = {1: "#ff8000", "2": (1, 2, 3), 3: "red"}
    properties = {1: {"class": "a", "area": 3.5}}
    add_labels(store, OBJECTS, "cells", colors=colors, properties=properties, downsample="mode")
    (tmp_path / "c.csv").write_text("label,color\n7,#00ff0080\n")
    (tmp_path / "p.csv").write_text("label,class,area\n7,b,12\n8,c,1.5\n")
    add_labels(store, tmp_path / "mask.tif", "flat", colors=tmp_path / "c.csv",
               properties=tmp_path / "p.csv")  # fmt: skip
    yaozarrs.validate_zarr_store(str(store))
    with BioReader(store) as br:
        assert list(br.labels) == ["cells", "flat"]
        flat = br.labels["flat"]
        assert flat.sizes == {"Y": 40, "X": 50, "Z": 1, "C": 1, "T": 1}
        np.testing.assert_array_equal(flat[:], OBJECTS[..., 0, 0, 0])
    found = {}
    for name in ("cells", "flat"):
        attributes = dict(zarr.open_group(store / "labels" / name, mode="r").attrs)
        found[name] = attributes.get("ome", attributes)["image-label"]
    assert found["cells"]["colors"] == [
        {"label-value": 1, "rgba": [255, 128, 0, 255]},
        {"label-value": 2, "rgba": [1, 2, 3, 255]},
        {"label-value": 3, "rgba": [255, 0, 0, 255]},
    ]
    assert found["cells"]["properties"] == [{"label-value": 1, "class": "a", "area": 3.5}]
    assert found["flat"]["colors"] == [{"label-value": 7, "rgba": [0, 255, 0, 128]}]
    assert found["flat"]["properties"][1] == {"label-value": 8, "class": "c", "area": 1.5}
    assert found["flat"]["source"] == {"image": "../../"}


def test_stores_of_others_and_plates(tmp_path: Path) -> None:
    cells = (PIXELS[:, :1] % 5).astype(np.int32)
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [PIXELS, PIXELS[..., ::2, ::2]], labels=cells)
    add_labels(path, OBJECTS[..., 0], "new")
    with BioReader(path) as br:
        assert list(br.labels) == ["cells", "new"]
        assert len(br.labels["new"].levels) == 2
        np.testing.assert_array_equal(br.labels["cells"].asarray("TCZYX"), cells)
    plate = write_plate(tmp_path / "p.ome.zarr", {(0, 1): [PIXELS], (1, 0): [PIXELS]}, 2, 2)
    with BioWriter(plate, labels="cells", series=1, T=1, Z=1) as bw:
        bw[:] = OBJECTS[..., 0, 0, 0]
    assert (plate / "B/1/0/labels/cells").is_dir()
    with BioReader(plate) as br:
        assert (br.series[0].labels, list(br.series[1].labels)) == ({}, ["cells"])


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("place", ["memory", "http", "a.ozx", "a.zarr.zip", "zip::memory"])
def test_labels_are_read_where_none_can_be_added(store: Path, place: str, tmp_path: Path) -> None:
    add_labels(store, OBJECTS.astype(np.uint16), "nuclei", colors={1: "red"})
    memory = fsspec.filesystem("memory")
    with ExitStack() as stack:
        stack.callback(lambda: memory.exists("/labelled") and memory.rm("/labelled", True))
        if place == "memory":
            memory.put(str(store), "/labelled/a.ome.zarr", recursive=True)
            where = "memory://labelled/a.ome.zarr"
        elif place == "http":
            where = f"{stack.enter_context(serve(tmp_path)).url}/a.ome.zarr"
        else:
            name = "a.zarr.zip" if place.startswith("zip") else place
            with zipfile.ZipFile(tmp_path / name, "w") as archive:
                for file in sorted(file for file in store.rglob("*") if file.is_file()):
                    archive.write(file, file.relative_to(store).as_posix())
            where = str(tmp_path / name)
            if place.startswith("zip"):
                memory.put(where, "/labelled/a.zarr.zip")
                where = "memory://labelled/a.zarr.zip"
        with BioReader(where) as br:
            assert list(br.labels) == ["nuclei"]
            np.testing.assert_array_equal(br.labels["nuclei"][:], OBJECTS)
            np.testing.assert_array_equal(br.labels["nuclei"].levels[1][:], OBJECTS[::2, ::2])
        before = content(store)
        for change in (
            lambda: add_labels(where, OBJECTS, "more"),
            lambda: BioWriter(where, labels="more"),
            lambda: add_labels(where, OBJECTS, "nuclei", overwrite=True),
        ):
            with pytest.raises(
                Unsupported,
                match=f"{re.escape(where)}: .*(Copy the store to a disk|those named|ZIP files)",
            ):
                change()
        assert content(store) == before
        with BioReader(where) as br:
            assert list(br.labels) == ["nuclei"]


def test_replaced(store: Path) -> None:
    add_labels(store, OBJECTS, "a")
    add_labels(store, OBJECTS, "b")
    with pytest.raises(TargetExists, match="there is a label image 'a' already"):
        add_labels(store, OBJECTS, "a")
    add_labels(store, OBJECTS[..., 0, 0, 0] * 0 + 5, "a", overwrite=True)
    with BioReader(store) as br:
        assert list(br.labels) == ["a", "b"]
        assert (br.labels["a"][:] == 5).all()
    assert not (store / ".bfbridge-journal").exists()
    assert validate(store).findings == ()


# ---- completely or not at all


def test_after_an_abort_the_store_is_unchanged(store: Path) -> None:
    before = content(store)
    bw = BioWriter(store, labels="a")
    bw[:20] = OBJECTS[:20]
    bw.abort()
    assert content(store) == before
    with pytest.raises(IncompleteImage):
        BioWriter(store, labels="a").close()
    assert content(store) == before


@pytest.mark.slow(ci=True)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill(store: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(store)
    pid = os.fork()
    if not pid:
        method = "commit" if moment == "before" else "_settle"
        writer = BioWriter(store, labels="a")
        monkeypatch.setattr(Journal, method, lambda *_: os._exit(9))
        writer[:] = OBJECTS
        writer.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 9 << 8
    assert before.items() <= content(store).items()
    with BioReader(store) as br:
        assert list(br.labels) == ([] if moment == "before" else ["a"])
    assert recover(store) is not None
    if moment == "before":
        assert content(store) == before
    else:
        with BioReader(store) as br:
            np.testing.assert_array_equal(br.labels["a"][:], OBJECTS)
    assert not (store / ".bfbridge-journal").exists()


# ---- wrong arguments


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("labels", "options", "error", "text"),
    [
        (OBJECTS[:39], {}, BadArgument, "Y=39 do not fit"),
        (np.repeat(OBJECTS, 2, 3), {}, BadArgument, "C=2 do not fit"),
        (OBJECTS / 2, {}, BadDtype, "integers, not float64"),
        (OBJECTS[0, 0, 0, 0], {}, BadArgument, "2 to 5 axes"),
        (OBJECTS, {"name": "../a"}, BadArgument, "name of a label image"),
        (OBJECTS, {"image": 1}, BadArgument, "there is no image 1; it has 1"),
        (OBJECTS, {"downsample": "mean"}, BadArgument, "'nearest' or 'mode'"),
        (OBJECTS, {"colors": {1: "#12"}}, BadArgument, "is not a colour"),
        (OBJECTS, {"colors": {"x": "red"}}, BadArgument, "'x' is not a label"),
        (OBJECTS, {"colors": [1]}, BadArgument, "give a mapping"),
        (OBJECTS, {"properties": {1: 3}}, BadArgument, "label 1: 3 is not a mapping"),
        (OBJECTS, {"properties": {1: {"a": {1}}}}, BadArgument, "stored as JSON"),
        (OBJECTS, {"properties": "none.csv"}, FileMissing, "none.csv: no such file"),
        ("none.tif", {}, FileMissing, "none.tif"),
    ],
)
def test_wrong_arguments(
    store: Path, labels: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    before = content(store)
    with pytest.raises(error, match=text):
        add_labels(store, labels, **{"name": "a", **options})
    assert content(store) == before


def test_wrong_targets(tmp_path: Path) -> None:
    imwrite(tmp_path / "a.ome.tif", PIXELS, axes="TCZYX")
    imwrite(tmp_path / "a.ozx", PIXELS, axes="TCZYX")
    for name in ("a.ome.tif", "a.ozx"):
        with pytest.raises(Unsupported, match=r"cannot be given labels; those named \.zarr can"):
            add_labels(tmp_path / name, OBJECTS, "a")
    with pytest.raises(FileMissing, match="Write the image first"):
        add_labels(tmp_path / "none.ome.zarr", OBJECTS, "a")
    imwrite(tmp_path / "a.ome.zarr", PIXELS, axes="TCZYX")
    for wrong in ({"append": True}, {"pyramid": 2}, {"cnames": ["a"]}):
        with pytest.raises(BadArgument):
            BioWriter(tmp_path / "a.ome.zarr", labels="a", **wrong)


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [("a.csv", "label\n1\n", "first row of names"), ("b.csv", "label,a\n1\n", "row 2 has 1 cells"),
     ("c.csv", "label,a\n1,2\n1,3\n", "occurs twice"), ("d.json", "{", "not valid JSON"),
     ("e.json", "[1]", "give a mapping")],
)  # fmt: skip
def test_wrong_tables(tmp_path: Path, name: str, text: str, error: str) -> None:
    imwrite(tmp_path / "a.ome.zarr", PIXELS, axes="TCZYX")
    (tmp_path / name).write_text(text)
    with pytest.raises(BfbridgeError, match=error):
        add_labels(tmp_path / "a.ome.zarr", OBJECTS, "a", properties=tmp_path / name)


# ---- regions of interest

SHAPES = """
<ROI ID="ROI:0" Name="cell"><Union><Polygon ID="Shape:0" Points="3.2,4.1 20.7,6.3 15.5,30.9 9,12"
 Text="a" FillColor="-16776961"/></Union></ROI>
<ROI ID="ROI:1"><Union><Rectangle ID="Shape:1" X="22" Y="3" Width="6" Height="5" TheZ="1"/>
 <Ellipse ID="Shape:2" X="35" Y="20" RadiusX="9.5" RadiusY="6" TheT="1"/></Union></ROI>
<ROI ID="ROI:2"><Union><Line ID="Shape:3" X1="1.5" Y1="35.5" X2="9.5" Y2="37.5"/>
 <Polyline ID="Shape:4" Points="12.5,33.5 18.5,33.5 18.5,36.5"/>
 <Point ID="Shape:5" X="48.7" Y="38.2"/><Label ID="Shape:6" X="45" Y="2" Text="b"/></Union></ROI>
<ROI ID="ROI:3"><Union><Mask ID="Shape:7" X="40" Y="5" Width="5" Height="3">
 <BinData Compression="none" BigEndian="false" Length="2">qqg=</BinData></Mask></Union></ROI>
<ROI ID="ROI:4"><Union><Polygon ID="Shape:8" Points="0,0 4,0 4,4 0,4">
 <Transform A00="0" A10="1" A01="-1" A11="0" A02="30" A12="34"/></Polygon></Union></ROI>
<ROI ID="ROI:5"><Union><Polygon ID="Shape:9" Points="0,0 9,0 9,9"/></Union></ROI>
"""


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    refs = "".join(f'<ROIRef ID="ROI:{i}"/>' for i in range(5))
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="50" SizeY="40" SizeZ="2"'
        ' SizeC="3" SizeT="2"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        '<Channel ID="Channel:0:1" SamplesPerPixel="1"/><Channel ID="Channel:0:2" '
        f'SamplesPerPixel="1"/><MetadataOnly/></Pixels>{refs}</Image>{SHAPES}</OME>'
    )
    path = tmp_path / "slide.ome.zarr"
    with BioWriter(path, metadata=from_xml(xml), pyramid=1) as bw:
        bw[:] = PIXELS.transpose(3, 4, 2, 1, 0)
    return path


def inside(points: np.ndarray, y: float, x: float) -> bool:
    """Ray casting, one point at a time."""
    found = False
    for (y0, x0), (y1, x1) in zip(points, np.roll(points, -1, 0), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            found = not found
    return found


def test_regions_of_interest(slide: Path) -> None:
    with BioReader(slide) as br:
        rois = br.rois
    assert [roi.id for roi in rois] == [f"ROI:{i}" for i in range(5)]
    assert sorted(s.kind for roi in rois for s in roi.shapes) == [
        "ellipse", "label", "line", "mask", "point", "polygon", "polygon", "polyline", "rectangle",
    ]  # fmt: skip
    shape = rois[0].shapes[0]
    np.testing.assert_array_equal(shape.points[0], [4.1, 3.2])
    assert (rois[0].name, shape.text, shape.color) == ("cell", "a", (255, 0, 0, 255))
    assert {s.kind: (s.z, s.t) for s in rois[1].shapes} == {
        "rectangle": (1, None), "ellipse": (None, 1),
    }  # fmt: skip
    assert [len(roi.polygons) for roi in rois] == [1, 2, 0, 1, 1]
    # 0b10101010_1010100: columns 0, 2, 4 of the first row, 1 and 3 of the second.
    assert rois[3].shapes[0].mask.tolist() == [[True, False] * 2 + [True], [False, True] * 2 +
                                               [False], [True, False] * 2 + [False]]  # fmt: skip
    np.testing.assert_array_equal(
        rois[4].shapes[0].points, [[34, 30], [38, 30], [38, 26], [34, 26]]
    )


def test_regions_of_interest_as_labels(slide: Path, run: Run) -> None:
    done = run("labels", "from-rois", slide, "--name", "shapes")
    assert (done.code, done.out) == (0, f"{slide}: added the labels shapes of 5 regions\n")
    with BioReader(slide) as br:
        view = br.labels["shapes"]
        found = view[:][:, :, :, 0]
        rois = br.rois
    expected = np.zeros((40, 50, 2, 2), np.uint16)
    for y, x in np.ndindex(40, 50):
        for number, roi in enumerate(rois, 1):
            for shape in roi.shapes:
                planes = np.s_[slice(None) if shape.z is None else shape.z,
                               slice(None) if shape.t is None else shape.t]  # fmt: skip
                if shape.kind == "ellipse":
                    hit = ((x + 0.5 - 35) / 9.5) ** 2 + ((y + 0.5 - 20) / 6) ** 2 < 1
                elif shape.kind in ("polygon", "rectangle"):
                    hit = inside(shape.points, y + 0.5, x + 0.5)
                else:
                    continue
                if hit:
                    expected[(y, x, *planes)] = number
    expected[5:8, 40:45][np.array(rois[3].shapes[0].mask)] = 4
    areas = np.where(found == 3, 0, found)
    np.testing.assert_array_equal(areas, expected)
    line = np.argwhere(found[..., 0, 0] == 3).tolist()
    assert [35, 1] in line
    assert [37, 9] in line
    assert [38, 48] in line
    assert {tuple(p) for p in line} >= {(33, x) for x in range(12, 19)} | {(34, 18), (36, 18)}
    assert len(line) == 9 + 7 + 3 + 1
    attributes = zarr.open_group(slide / "labels/shapes", mode="r").attrs["ome"]["image-label"]
    assert attributes["properties"][0] == {
        "label-value": 1, "id": "ROI:0", "name": "cell", "text": "a",
    }  # fmt: skip
    assert attributes["colors"] == [{"label-value": 1, "rgba": [255, 0, 0, 255]}]


def test_regions_that_are_missing_or_damaged(slide: Path, store: Path) -> None:
    with pytest.raises(BadArgument, match="has no regions of interest"):
        labels_from_rois(store)
    document = slide / "OME/METADATA.ome.xml"
    text = document.read_text()
    for old, new, why in (
        ("qqg=", "qqgA", "3 bytes are not the bits"),
        ("3.2,4.1 20.7", "3.2,4.1 x", "could not convert"),
        ('A00="0.0"', 'A00="NaN"', "is not a number"),
    ):
        assert old in text
        document.write_text(text.replace(old, new))
        with pytest.raises(UnreadableFile, match=why):
            labels_from_rois(slide)


def test_command(store: Path, run: Run, tmp_path: Path) -> None:
    imwrite(tmp_path / "mask.ome.tif", OBJECTS[..., 0, 0, 0].astype(np.uint8), axes="YX")
    (tmp_path / "c.json").write_text(json.dumps({"1": "#ff0000"}))
    done = run("labels", "add", store, tmp_path / "mask.ome.tif", "--name", "nuclei",
               "--colors", tmp_path / "c.json")  # fmt: skip
    assert (done.code, done.out, done.err) == (0, f"{store}: added the labels nuclei\n", "")
    done = run("labels", "add", store, tmp_path / "mask.ome.tif", "--name", "nuclei")
    assert done.code == 1
    assert "overwrite" in done.err
    done = run("labels", "add", store, tmp_path / "mask.ome.tif", "--overwrite", "--name", "nuclei")
    assert done.code == 0
