"""What a batch does once for each file: opening it, reading its metadata, comparing them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, convert
from bfbridge.convert import convert_many, plan_conversion
from bfbridge.convert.copy import source as conversions
from bfbridge.convert.execute.run import Watcher
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan import kept_readers
from bfbridge.convert.plan.kept_readers import KeptReaders
from bfbridge.convert.reports.writer import REPORT_NAME
from bfbridge.ome.checks.compare import compare_documents
from bfbridge.ome.documents import repair
from bfbridge_ometiff.reader import OmeTiffReader

COUNT = 5


def pixels(number: int) -> Any:
    return (np.arange(20 * 30, dtype=np.uint16) + 100 * number).reshape(20, 30)


def write(path: Path, number: int) -> Path:
    with BioWriter(path, image=pixels(number), overwrite=True) as bw:
        bw[:] = pixels(number)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(COUNT):
        write(tmp_path / f"in/{number}.ome.tif", number)
    return tmp_path / "in"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count openings by file, documents that are parsed, and comparisons of documents as XML."""
    found: Counter[str] = Counter()

    def counted(owner: Any, name: str, key: Callable[..., str]) -> None:
        function = getattr(owner, name)

        def call(*given: Any) -> Any:
            found[key(*given)] += 1
            return function(*given)

        monkeypatch.setattr(owner, name, call)

    counted(OmeTiffReader, "open", lambda source, options: f"open {source.path.name}")
    counted(repair, "parse_quickly", lambda xml: "parse")
    counted(conversions, "compare_documents", lambda before, after: "compare")
    return found


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_a_file_is_opened_and_its_document_parsed_once(
    folder: Path, calls: Counter[str], suffix: str
) -> None:
    out = folder.parent / "out"
    done = convert_many(folder, out, suffix=suffix)
    assert not done.failed
    assert calls == {**{f"open {n}.ome.tif": 1 for n in range(COUNT)}, "parse": COUNT}
    for number, record in enumerate(done.files):
        assert record.outputs[0].lost == []
        with (
            BioReader(folder / f"{number}.ome.tif") as old,
            BioReader(record.outputs[0].target) as new,
        ):
            np.testing.assert_array_equal(new[:].squeeze(), pixels(number))
            assert compare_documents(old.ome, new.ome) == []
    assert len(json.loads((out / REPORT_NAME).read_text())["files"]) == COUNT


def test_a_plan_opens_a_file_once(folder: Path, calls: Counter[str]) -> None:
    plan = plan_conversion(folder, folder.parent / "out")
    assert plan.counts["convert"] == COUNT
    assert {calls[f"open {n}.ome.tif"] for n in range(COUNT)} == {1}


class After(Watcher):
    """Does something between the search and the first conversion."""

    def __init__(self, change: Callable[[], object]) -> None:
        self._change = change

    def begin(self, count: int) -> None:
        self._change()


def replaced(path: Path) -> None:
    write(path, 9)


def overwritten(path: Path) -> None:
    """Write other pixels of the same size into the same file."""
    twin = write(path.with_name("twin.tmp.ome.tif"), 9)
    data = twin.read_bytes()
    twin.unlink()
    assert len(data) == path.stat().st_size
    with open(path, "r+b") as file:
        file.write(data)


@pytest.mark.parametrize("change", [replaced, overwritten])
def test_a_file_that_changes_after_the_search_is_opened_again(
    folder: Path, calls: Counter[str], change: Callable[[Path], None]
) -> None:
    path = folder / "1.ome.tif"
    os.utime(path, ns=(0, 0))
    watcher = After(lambda: change(path))
    done = convert_many(folder, folder.parent / "out", suffix=".ome.zarr", watcher=watcher)
    assert not done.failed
    assert (calls["open 1.ome.tif"], calls["open 2.ome.tif"]) == (2, 1)
    with BioReader(done.files[1].outputs[0].target) as br:
        np.testing.assert_array_equal(br[:].squeeze(), pixels(9))
    assert done.files[1].inputs[0]["mtime_ns"] == path.stat().st_mtime_ns


def test_a_file_that_is_removed_after_the_search_fails(folder: Path) -> None:
    watcher = After((folder / "1.ome.tif").unlink)
    done = convert_many(folder, folder.parent / "out", watcher=watcher)
    assert [Path(record.source).name for record in done.failed] == ["1.ome.tif"]
    assert done.failed[0].error_type == "FileMissing"


@pytest.mark.parametrize("options", [{"crop": "0,0,10,10"}, {"swap": "zt"}])
def test_files_that_are_opened_in_another_way_are_not_kept(
    folder: Path, calls: Counter[str], options: dict[str, Any]
) -> None:
    assert not convert_many(folder, folder.parent / "out", **options).failed
    assert calls["open 1.ome.tif"] == 2


def test_few_readers_are_kept_without_open_files(
    folder: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_readers, "MOST", 2)
    monkeypatch.setattr(KeptReaders.__init__, "__defaults__", (2,))
    descriptors: list[int] = []
    watcher = After(lambda: descriptors.append(len(os.listdir("/proc/self/fd"))))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    if before is None:
        pytest.skip("descriptors are not listed on this system")
    assert not convert_many(folder, folder.parent / "out", watcher=watcher).failed
    assert descriptors[0] == before
    assert Counter(calls[f"open {n}.ome.tif"] for n in range(COUNT)) == {1: 2, 2: COUNT - 2}


def test_readers_of_plain_and_large_files_are_not_kept(folder: Path, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, pixels(0))
    options = ConvertOptions()
    kept = KeptReaders(options)
    with BioReader(plain, max_workers=options.workers) as br:
        assert not kept.keep(str(plain), br)
    deep = tmp_path / "deep.ome.tif"
    with BioWriter(deep, X=16, Y=16, Z=150, dtype=np.uint8) as bw:
        bw[:] = np.zeros((16, 16, 150), np.uint8)
    with BioReader(deep, max_workers=options.workers) as br:
        assert not kept.keep(str(deep), br)
    path = str(folder / "0.ome.tif")
    br = BioReader(path, max_workers=options.workers)
    assert kept.keep(path, br)
    with BioReader(path) as second:
        assert not kept.keep(path, second)
    assert kept.take(path, ConvertOptions(backend="ometiff")) is None
    assert br.closed
    br = BioReader(path, max_workers=options.workers)
    assert kept.keep(path, br)
    assert kept.take(path, options) is br
    np.testing.assert_array_equal(br[:].squeeze(), pixels(0))
    assert kept.take(path, options) is None
    br.close()
    other = BioReader(path, max_workers=options.workers)
    assert kept.keep(path, other)
    kept.close()
    assert other.closed


XML = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Instrument ID="Instrument:0">'
    '<Objective ID="Objective:0" NominalMagnification="40"/></Instrument>{}</OME>'
)
IMAGE = (
    '<Image ID="Image:0" {image}><InstrumentRef ID="Instrument:0"/><ObjectiveSettings '
    'ID="Objective:0" RefractiveIndex="1.5"/><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
    'Type="uint16" SizeX="30" SizeY="20" SizeZ="1" SizeC="2" SizeT="2" {pixels}>{channels}'
    '<TiffData IFD="0" PlaneCount="4"/>{planes}</Pixels>{refs}</Image>{rest}'
)
CHANNELS = '<Channel ID="Channel:0:0" {}/><Channel ID="Channel:0:1" {}/>'
PLANE = '<Plane TheZ="0" TheC="0" TheT="{}" DeltaT="{}" PositionX="{}" PositionXUnit="{}"/>'
NOTES = (
    '<StructuredAnnotations><MapAnnotation ID="Annotation:0" Namespace="n"><Value><M K="a">b</M>'
    "</Value></MapAnnotation>{}</StructuredAnnotations>"
)
XML_NOTE = '<XMLAnnotation ID="Annotation:1"><Value><a b="c">d</a></Value></XMLAnnotation>'
SIZE = 'PhysicalSizeX="{}" PhysicalSizeXUnit="{}"'
DOCUMENTS: dict[str, dict[str, str]] = {
    "plain": {},
    "names": {"image": 'Name="a"', "channels": CHANNELS.format('Name="Channel 0"', 'Name="GFP"')},
    "colours": {"channels": CHANNELS.format('Color="-16776961"', 'Color="16711808"')},
    "waves": {"channels": CHANNELS.format('EmissionWavelength="520.5"', 'PinholeSize="2"')},
    "inch": {"pixels": SIZE.format("0.1", "in")},
    "pixel": {"pixels": SIZE.format("2", "pixel") + ' PhysicalSizeY="3"'},
    "frame": {"pixels": SIZE.format("2", "reference frame") + ' TimeIncrement="3"'},
    "light years": {"pixels": SIZE.format("1e-12", "ly") + ' TimeIncrement="1" '
                    'TimeIncrementUnit="h"'},
    "times": {"planes": PLANE.format(0, 0, 1, "mm") + PLANE.format(1, 2.5, 1, "mm")},
    "positions": {"planes": PLANE.format(0, 0, -5, "reference frame")},
    "notes": {"refs": '<AnnotationRef ID="Annotation:0"/>', "rest": NOTES.format("")},
    "XML notes": {"rest": NOTES.format(XML_NOTE)},
    "regions": {"refs": '<ROIRef ID="ROI:0"/>', "rest": '<ROI ID="ROI:0"><Union><Point '
                'ID="Shape:0" X="1" Y="2" TheT="1"/></Union></ROI>'},
    "plate": {"rest": '<Plate ID="Plate:0"><Well ID="Well:0" Row="1" Column="2"><WellSample '
              'ID="WellSample:0" Index="0"><ImageRef ID="Image:0"/></WellSample></Well></Plate>'},
    "left out": {"image": 'Name="b"', "planes": '<Plane TheZ="0" TheC="7" TheT="0"/>'},
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_lost_is_what_the_new_file_lacks(
    tmp_path: Path, name: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile = pytest.importorskip("tifffile")
    parts = dict.fromkeys(("image", "pixels", "planes", "refs", "rest"), "")
    parts = {**parts, "channels": CHANNELS.format("", ""), **DOCUMENTS[name]}
    stack = np.arange(4 * 600, dtype=np.uint16).reshape(4, 20, 30)
    xml = XML.format(IMAGE.format(**parts)).encode()
    options = {"metadata": None, "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, description=xml, **options)
    found = {}
    for certain in (True, False):
        if not certain:
            monkeypatch.setattr(conversions, "keeps_values", lambda before, after: False)
        target = tmp_path / f"{certain}{suffix}"
        report = tmp_path / f"{certain}.json"
        done = convert(tmp_path / "a.ome.tif", target, report=report, recompress=True)
        found[certain] = done.files[0].outputs[0].lost
    assert found[True] == found[False]
    assert bool(found[True]) == (name == "left out")
