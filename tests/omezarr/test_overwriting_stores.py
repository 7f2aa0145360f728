"""What ``overwrite=True`` replaces: Zarr stores, and no folder in which other files lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from bfbridge.errors import TargetExists, WriteFailed

VALUES = (np.arange(30 * 40) + 1).reshape(30, 40).astype(np.uint16)
STORES = {
    "image": [".zattrs", ".zgroup", "0/.zarray", "0/0/0/0", "labels/n/.zattrs", "labels/n/0/0.0"],
    "array of version 2": [".zarray", ".zattrs", "0.0", "0.1", "10.2"],
    "nested array of version 2": [".zarray", "0/0/0", "0/0/12"],
    "array of version 3": ["zarr.json", "c/0/0", "c/0/1"],
    "array of version 3 with dots": ["zarr.json", "c.0.0", "c.0.1"],
    "plate without documents of rows": [".zattrs", "A/1/.zattrs", "A/1/0/.zattrs", "A/1/0/0/0.0"],
    "collection": ["zarr.json", "OME/METADATA.ome.xml", "0/zarr.json", "0/0/zarr.json", "0/0/c/0"],
    "with copies, and what desktops leave": [
        "zarr.json", ".zmetadata", ".DS_Store", "Thumbs.db", "._zarr.json", "0/zarr.json", "0/._c",
    ],
}  # fmt: skip
STRAY = [
    "thesis.pdf",
    ".bashrc",
    "raw/plate 1.tif",
    "a/b/c/notes.txt",
    "0/holiday.jpg",
    "other.zarr.txt",
]


def fill(folder: Path, files: list[str]) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("years of work")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write(path: Path) -> None:
    with BioWriter(
        path, backend="omezarr", shape=VALUES.shape, dtype="uint16", overwrite=True
    ) as w:
        w[...] = VALUES


@pytest.mark.parametrize("files", STORES.values(), ids=STORES)
def test_a_store_is_replaced(tmp_path: Path, files: list[str]) -> None:
    path = tmp_path / "a.zarr"
    fill(path, files)
    write(path)
    with BioReader(path) as reader:
        np.testing.assert_array_equal(reader[...], VALUES)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("stray", STRAY)
@pytest.mark.parametrize("mark", ["zarr.json", ".zattrs"])
def test_a_store_with_other_files_in_it_is_not(tmp_path: Path, stray: str, mark: str) -> None:
    path = tmp_path / "a.zarr"
    # Somebody opened a Zarr group in a folder that held other things.
    fill(path, [mark, f"image/{mark}", "image/0.0", stray])
    before = contents(tmp_path)
    with pytest.raises(WriteFailed, match="contains something other") as caught:
        write(path)
    assert stray in str(caught.value)
    with pytest.raises(TargetExists, match="contains something other"):
        BioWriter(path, shape=VALUES.shape, dtype="uint16")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["~", "~/.", "."])
def test_home_and_the_working_folder_are_not(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    fill(home, [".bashrc", "data/a.tif", "zarr.json"])
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(home)
    before = contents(home)
    with pytest.raises(WriteFailed, match="contains something other"):
        write(Path(name).expanduser())
    assert contents(home) == before
    (home / "zarr.json").unlink()
    with pytest.raises(WriteFailed, match="contains something other"):
        write(Path(name).expanduser())


def test_a_store_is_changed_in_place_whatever_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    write(path)
    fill(path, ["README.txt"])
    with BioWriter(path, append=True) as writer:
        writer[3:5, 4:9] = VALUES[:2, :5]
    expected = VALUES.copy()
    expected[3:5, 4:9] = VALUES[:2, :5]
    with BioReader(path) as reader:
        np.testing.assert_array_equal(reader[...], expected)
    assert (path / "README.txt").read_text() == "years of work"


def test_other_objects_below_a_url_are_not_removed() -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    base = "/strays/a.zarr"
    for name in ("zarr.json", "0/zarr.json", "0/c/0/0", "raw/a.tif"):
        memory.pipe(f"{base}/{name}", b"years of work")
    before = sorted(memory.find(base))
    try:
        with pytest.raises(WriteFailed, match=r"not belong to a Zarr store \(raw/a.tif\)"):
            BioWriter(f"memory:/{base}", shape=VALUES.shape, dtype="uint16", overwrite=True)
        assert sorted(memory.find(base)) == before
    finally:
        memory.rm("/strays", recursive=True)


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_a_tilde_is_the_home_folder(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with BioWriter(f"~/{name}", image=VALUES) as writer:
        writer[...] = VALUES
    with BioReader(f"~/{name}") as reader:
        np.testing.assert_array_equal(reader[...], VALUES)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
