"""What lies beside a plain TIFF: only what a reader of Bio-Formats looks for sends it to Java."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bfbridge.errors import Unsupported
from bfbridge_ometiff.reading.neighbours import COMPANIONS, companion_of
from tests.ometiff.test_ometiff_plain import plain
from tests.support.referees import needed
from tests.support.tiffs import numbered, open_ours, read_ours

PIXELS = numbered((1, 12, 21), "u1")

# (reader, the TIFF, what lies beside it and what that says)
PARTS = [
    ("MicromanagerReader", "d/img_0.tif", {"d/metadata.txt": '{"x": "Micro-Manager"}'}),
    ("MicromanagerReader", "d/a_b.ome.tif", {"d/a_b_metadata.txt": '{"x": "MicroManager"}'}),
    ("NRRDReader", "d/a.tif", {"d/a.nhdr": "NRRD0004"}),
    ("NRRDReader", "d/a.tif", {"d/a.tif.nhdr": "NRRD0004"}),
    ("APLReader", "plate/x/y/a.tif", {"plate/plate.apl": ""}),
    ("BDReader", "plate/Well A01/a.tif", {"plate/Experiment.exp": ""}),
    ("ColumbusReader", "d/a.tif", {"d/MeasurementIndex.ColumbusIDX.xml": ""}),
    ("ColumbusReader", "d/e/a.tif", {"d/MeasurementIndex.ColumbusIDX.xml": ""}),
    ("FV1000Reader", "d/s.oif.files/s_C001.tif", {"d/s.oif": ""}),
    ("FV1000Reader", "d/t.oif.files/s_C001.tif", {"d/t.oif": ""}),
    ("FV1000Reader", "d/e/s_C001.tif", {"d/s.OIF": ""}),
    ("HitachiReader", "d/a.tif", {"d/a.txt": "[SemImageFile]\r\nInstructName=S"}),
    ("InveonReader", "d/a.tif", {"d/a.tif.hdr": "#\n# Header file for data file a" + " " * 128}),
    ("L2DReader", "d/s_700.tif", {"d/s.scn": "", "d/s/x": ""}),
    ("LeicaReader", "d/e_series_z000_ch00.tif", {"d/e.lei": ""}),
    ("LeicaReader", "d/a.tif", {"d/a.LEI": ""}),
    ("MetamorphReader", "d/e_w1_s2.tif", {"d/e.nd": ""}),
    ("MetamorphReader", "d/e_w1_s2.tif", {"d/e_w1.SCAN": ""}),
    ("MetaxpressTiffReader", "d/p_A01_s1_w1.tif", {"d/p.HTD": ""}),
    ("NiftiReader", "d/a.tif", {"d/a.hdr": " " * 344 + "ni1\0"}),
    ("UnisokuReader", "d/a.tif", {"d/a.HDR": ":STM data\r\n"}),
    ("PerkinElmerReader", "d/e_1.tif", {"d/e.htm": ""}),
    ("PerkinElmerReader", "d/e.tif", {"d/e.HTM": ""}),
    ("PrairieReader", "d/T-001_Cycle001_Ch1.tif", {"d/T-001.xml": '<?xml?><PVScan version="1">'}),
    ("TillVisionReader", "d/a.tif", {"d/a.pst": ""}),
    ("VisitechReader", "d/a 2.tif", {"d/a 1.xys": ""}),
    ("CellVoyagerReader", "d/a.tif", {"d/MeasurementResult.xml": ""}),
    ("CellVoyagerReader", "d/Image/a.tif", {"d/MeasurementResult.xml": ""}),
]  # fmt: skip
# These look at the TIFF, or deeper into the companion, too: what is made here is not theirs.
BY_CONTENT_TOO = [
    ("ZeissTIFFReader", "d/a.tif", {"d/a.tif_meta.xml": ""}),
    ("ZeissTIFFReader", "d/a.tif", {"d/a.tif_Files/_meta.xml": ""}),
    ("ZeissTIFFReader", "d/a.tif", {"d/_meta.xml": ""}),
    ("OperettaReader", "d/a.tif", {"d/Index.idx.xml": ""}),
    ("ScanrReader", "d/data/a.tif", {"d/experiment_descriptor.xml": ""}),
    ("ScanrReader", "d/a.tif", {"d/experiment_descriptor.xml": ""}),
]

UNRELATED = [
    "analysis.py", "notes.txt", "LICENSE", "Thumbs.db", "results.csv", "a.ipynb", "a.report.json",
    "a.tif.report.json", "README.md", "desktop.ini", ".DS_Store", "a.txt", "a.xml", "a.csv",
    "a.json", "metadata.txt", "metadata.csv", "other.nd", "a.nd", "other.lei", "other.htm",
    "index.html", "b.tif", "b.ome.tif", "c.czi", "d.lif", "e.zarr/zarr.json", "model.onnx", "a.hdr",
    "Experiment.xml", "a_metadata.txt", "a.log", "a.roi", "RoiSet.zip", "a.tfw", "a.tif.aux.xml",
    "a.ovr", "a.npy", "data.h5", "run.sh", "movie.avi", "a.xlsx", "a.pdf", "a.qpdata", "x.oif",
]  # fmt: skip


def laid_out(folder: Path, name: str, beside: dict[str, str]) -> Path:
    for each, text in beside.items():
        path = folder / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plain(PIXELS))
    return path


@pytest.mark.parametrize(("reader", "name", "beside"), [*PARTS, *BY_CONTENT_TOO])
def test_a_part_of_another_formats_data_set(
    tmp_path: Path, reader: str, name: str, beside: dict[str, str]
) -> None:
    path = laid_out(tmp_path, name, beside)
    found = companion_of(path)
    assert found is not None
    assert found[1] == reader
    assert found[0] in [tmp_path / each for each in beside]
    if not name.endswith(".ome.tif"):
        with pytest.raises(Unsupported, match=f"a TIFF beside '{found[0].name}', as in {reader}'s"):
            open_ours(path)


def test_every_row_is_tried() -> None:
    assert {row.reader for row in COMPANIONS} == {row[0] for row in (*PARTS, *BY_CONTENT_TOO)}


@pytest.mark.parametrize("where", ["here", "above"])
def test_unrelated_neighbours(tmp_path: Path, where: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    for name in UNRELATED:
        path = (inside if where == "here" else tmp_path) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"something else")
    path = laid_out(inside, "a.tif", {})
    assert companion_of(path) is None
    np.testing.assert_array_equal(read_ours(path)[0, 0], PIXELS)


def test_many_neighbours_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are looked for one by one; no folder is listed."""

    def refuse(*_: object) -> None:
        raise AssertionError("a folder was listed")

    path = laid_out(tmp_path, "a_b_c.tif", {})
    for call in ("scandir", "listdir"):
        monkeypatch.setattr(os, call, refuse)
    assert companion_of(path) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    path = laid_out(tmp_path, "a.tif", {})
    os.mkfifo(tmp_path / "a.xml")
    assert companion_of(path) is None


@pytest.mark.java
def test_bioformats_looks_for_the_same(tmp_path: Path) -> None:
    """Each reader takes the TIFF with its companion, none without, and none the unrelated."""
    needed("bioformats")
    from bfbridge_bioformats.runtime.machine import machine

    with machine.attached():
        kinds = {row.reader: machine.type(f"loci.formats.in.{row.reader}")() for row in COMPANIONS}

        def taken_by(path: Path) -> set[str]:
            return {name for name, kind in kinds.items() if kind.isThisType(str(path), True)}

        for number, (reader, name, beside) in enumerate(PARTS):
            home = tmp_path / str(number)
            assert taken_by(laid_out(home / "alone", name, {})) == set(), (reader, name)
            assert reader in taken_by(laid_out(home / "part", name, beside)), (reader, name)
        for name in UNRELATED:
            (tmp_path / "unrelated" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "unrelated" / name).write_bytes(b"something else")
        path = laid_out(tmp_path / "unrelated", "a.tif", {})
        assert taken_by(path) == set()
        reader = machine.type("loci.formats.ImageReader")().getReader(str(path))
        assert str(reader.getClass().getSimpleName()) == "TiffDelegateReader"
