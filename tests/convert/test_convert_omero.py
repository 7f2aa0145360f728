"""The mapping for ``omero import --bulk``, read as OMERO reads it."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bfbridge import BioReader, convert
from bfbridge.errors import BadArgument, BatchFailed, TargetExists
from tests.convert.test_convert_plates import write as write_plate
from tests.support.commands import process
from tests.support.samples import distinct, write_ome_tiff

PIXELS = distinct((1, 1, 1, 20, 30))


def imported(settings: Path) -> list[dict[str, Any]]:
    """What OMERO imports: options and path of each line, as its `parse_bulk` reads them."""
    bulk = yaml.safe_load(settings.read_text(encoding="utf-8"))
    columns = bulk.pop("columns")
    assert columns == ["target", "name", "path"], "the order of OMERO's page on bulk imports"
    listed = settings.parent / bulk.pop("path")
    assert listed.suffix == ".csv", "OMERO splits other files as a shell does"
    assert bulk == {"transfer": "ln_s", "continue": "true"}
    with open(listed, encoding="utf-8") as lines:
        rows = [dict(zip(columns, row, strict=True)) for row in csv.reader(lines)]
    return [row | {"path": settings.parent / row["path"]} for row in rows]


@pytest.mark.java
def test_a_batch_is_mapped_by_folders(tmp_path: Path) -> None:
    names = ['a, "b".ome.tif', "-c.ome.tif", "día 1/e.ome.tif"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        write_ome_tiff(tmp_path / "in" / name, PIXELS)
    write_plate(tmp_path / "in" / "plate.ome.tif", [(0, 0), (1, 2)])
    damaged = tmp_path / "in" / "damaged.ome.tif"
    whole = write_ome_tiff(tmp_path / "whole.ome.tif", distinct((1, 1, 1, 200, 30)))
    damaged.write_bytes(whole.read_bytes()[:5000])
    out = tmp_path / "out"
    with pytest.raises(BatchFailed):
        convert(tmp_path / "in", out, omero_csv=out / "omero.csv")
    rows = {row["name"]: row for row in imported(out / "omero.yml")}
    assert {name: row["target"] for name, row in rows.items()} == {
        'a, "b"': "Dataset:name:out",
        "-c": "Dataset:name:out",
        "e": "Dataset:name:out/día 1",
        "plate": "Screen:name:out",
    }
    for row in rows.values():
        with BioReader(row["path"]) as br:
            assert br.shape[:2] == (20, 30)
    assert "\n./-c.ome.tif" not in (out / "omero.csv").read_text(encoding="utf-8")
    assert ",./-c.ome.tif\n" in (out / "omero.csv").read_text(encoding="utf-8")
    # An interrupted batch that is continued lists what it kept.
    damaged.unlink()
    before = (out / "omero.csv").read_bytes()
    convert(tmp_path / "in", out, omero_csv=out / "omero.csv", resume=True)
    assert (out / "omero.csv").read_bytes() == before


@pytest.mark.slow(ci=True)
def test_one_file_is_mapped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_ome_tiff(tmp_path / "a.ome.tif", PIXELS)
    (tmp_path / "exp").mkdir()
    monkeypatch.chdir(tmp_path)
    done = process("convert", source, "exp/b.ome.zarr", "--omero-csv", "lists.csv")
    assert done.code == 0, done
    assert (tmp_path / "lists.csv").read_text() == "Dataset:name:exp,b,exp/b.ome.zarr\n"
    convert(source, "exp/c.ome.tif", omero_csv=tmp_path / "exp" / "deep.csv")
    assert (tmp_path / "exp" / "deep.csv").read_text() == "Dataset:name:exp,c,c.ome.tif\n"
    (tmp_path / "far").mkdir()
    convert(source, "exp/d.ome.tif", omero_csv="far/x.csv")
    (row,) = imported(tmp_path / "far" / "x.yml")
    assert row["path"] == tmp_path / "exp" / "d.ome.tif"


def test_each_file_of_a_split_is_listed(tmp_path: Path) -> None:
    source = write_ome_tiff(tmp_path / "a.ome.tif", distinct((1, 2, 1, 20, 30)))
    convert(source, tmp_path / "b.ome.tif", split="c", omero_csv=tmp_path / "o.csv")
    assert [row["name"] for row in imported(tmp_path / "o.yml")] == ["b_c0", "b_c1"]


def test_what_could_not_be_mapped_is_refused_before(tmp_path: Path) -> None:
    source = write_ome_tiff(tmp_path / "a.ome.tif", PIXELS)
    target = tmp_path / "b.ome.tif"
    for wrong in ("omero.txt", "s3://bucket/omero.csv", 5):
        with pytest.raises(BadArgument, match=r"omero_csv=.*such as omero\.csv"):
            convert(source, target, omero_csv=wrong)
    with pytest.raises(BadArgument, match="OMERO imports no URLs"):
        convert(source, "memory://bfbridge-omero/b.ome.zarr", omero_csv=tmp_path / "o.csv")
    for taken in ("o.csv", "o.yml"):
        (tmp_path / taken).write_text("mine")
        with pytest.raises(TargetExists, match=rf"{taken}: the file exists"):
            convert(source, target, omero_csv=tmp_path / "o.csv")
        assert (tmp_path / taken).read_text() == "mine"
        assert not target.exists()
        (tmp_path / taken).unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux only")
def test_names_that_are_not_utf8_keep_their_bytes(tmp_path: Path) -> None:
    source = write_ome_tiff(tmp_path / "a.ome.tif", PIXELS)
    target = os.path.join(os.fsencode(tmp_path), b"\xff.ome.tif")
    convert(source, os.fsdecode(target), omero_csv=tmp_path / "o.csv")
    assert (tmp_path / "o.csv").read_bytes().endswith(b",\xff,\xff.ome.tif\n")
    assert np.array_equal(BioReader(os.fsdecode(target))[:], PIXELS[0, 0, 0])
