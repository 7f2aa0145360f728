"""Options for single files of a batch, from a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, convert
from bfbridge.errors import BadArgument, BfbridgeError, FileMissing, UnreadableFile

PIXELS = np.random.default_rng(6).integers(0, 4000, (31, 42, 3, 2, 2)).astype(np.uint16)
ROWS = [
    {"source": "a.ome.tif", "pixel-size": "0.5,0.5,2um", "channel-name": "DAPI,GFP", "z": "1:"},
    {"source": "b.ome.tif", "swap": "zt", "split_rgb": "false", "compression": "none"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    for name in "abc":
        with BioWriter(made / f"{name}.ome.tif", shape=PIXELS.shape, dtype="uint16") as bw:
            bw[:] = PIXELS
    return made


def write(folder: Path, kind: str) -> Any:
    if kind == "rows":
        return [{**row, "source": str(folder / row["source"])} for row in ROWS]
    path = folder.parent / f"table.{kind}"
    rows = [{**row, "source": f"in/{row['source']}"} for row in ROWS]
    if kind == "json":
        path.write_text(json.dumps(rows))
        return path
    names = list(dict.fromkeys(key for row in rows for key in row))
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    path.write_text("\n".join(",".join(f'"{cell}"' for cell in line) for line in lines))
    return path


def check(out: Path) -> None:
    with BioReader(out / "a.ome.zarr") as br:
        assert np.array_equal(br[:], PIXELS[:, :, 1:])
        assert br.channel_names == ["DAPI", "GFP"]
        assert br.pixel_size() == {"X": 0.5, "Y": 0.5, "Z": 2.0}
    with BioReader(out / "b.ome.zarr") as br:
        assert np.array_equal(br[:], PIXELS.transpose(0, 1, 4, 3, 2))
        assert br.pixel_size()["X"] is None


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("kind", ["csv", "json", "rows"])
def test_options_of_files(folder: Path, tmp_path: Path, kind: str) -> None:
    out, table = tmp_path / "out", write(folder, kind)
    convert(folder, out, table=table, suffix=".ome.zarr", verify=True)
    check(out)
    with BioReader(out / "c.ome.zarr") as br:
        assert np.array_equal(br[:], PIXELS)
    # The options of a file belong to its fingerprint: nothing is converted again, unless changed.
    again = convert(folder, out, table=table, suffix=".ome.zarr", resume=True)
    assert {record.status for record in again.files} == {"kept"}
    some = convert(folder, out, suffix=".ome.zarr", resume=True)
    assert sorted(record.status for record in some.files) == ["done", "done", "kept"]


def test_sources_of_the_table(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = convert([], out, table=write(folder, "csv"), suffix=".ome.zarr", jobs=2)
    assert len(done.files) == 2
    check(out)


def test_one_source(folder: Path, tmp_path: Path) -> None:
    row = {"source": str(folder / "a.ome.tif"), "t": 1}
    convert(folder / "a.ome.tif", tmp_path / "x.ome.tif", table=[row])
    with BioReader(tmp_path / "x.ome.tif") as br:
        assert np.array_equal(br[:], PIXELS[..., 1:].squeeze(-1))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ([{"source": "z.tif"}], BadArgument, "no source of this batch"),
        ([{"t": "1"}], BadArgument, "row 1: has no source"),
        ([{"source": "a.ome.tif", "zz": 1}], BadArgument, "zz: there is no such option"),
        ([{"source": "a.ome.tif", "split": "c"}], BadArgument, "no such option"),
        ([{"source": "a.ome.tif", "swap": "xy"}], BadArgument, "row 1: swap='xy'"),
        ([{"source": "a.ome.tif", "rgb": "maybe"}], BadArgument, "neither true nor false"),
        ([{"source": "a.ome.tif"}] * 2, BadArgument, "two rows"),
        ([3], BadArgument, "row 1: is 3"),
        (3, BadArgument, "path of a CSV"),
        ("none.csv", FileMissing, "no such file"),
        ("bad.json", UnreadableFile, "not valid JSON"),
        ("object.json", UnreadableFile, "not a list"),
        ("long.csv", UnreadableFile, "row 1: has 3 values for 2 names"),
        ("bytes.csv", UnreadableFile, "cannot be read as text"),
    ],
)
def test_invalid_tables(
    folder: Path, tmp_path: Path, table: Any, error: type[BfbridgeError], message: str
) -> None:
    (tmp_path / "bad.json").write_text("[{")
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "long.csv").write_text("source,t\na.ome.tif,1,2\n")
    (tmp_path / "bytes.csv").write_bytes(b"source,t\n\xff\xfe\x81")
    given = tmp_path / table if isinstance(table, str) else table
    with pytest.raises(error, match=message):
        convert(folder, tmp_path / "out", table=given)
    assert not list(tmp_path.glob("out/*.ome.tif"))
