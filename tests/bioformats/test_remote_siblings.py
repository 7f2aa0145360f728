"""Files of data sets at URLs: found by listing, or by name, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.errors import UnreadableFile
from bfbridge.storage.source import as_source
from bfbridge_bioformats.files.remote_siblings import remote_siblings
from tests.real.manifest import DATA
from tests.support.webserver import serve

NAMES = ["a b.vsi", "c.tif", "_a b_/stack1/frame_t.ets", "_a b_/stack10001/frame_t_0.ets"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*NAMES, "other/d.tif"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def names(url: str, *companions: str) -> list[str]:
    found = list(remote_siblings(as_source(url), companions))
    for source, _ in found:
        assert source.exists()
    return sorted(name for _, name in found)


def test_the_folder_of_the_data_is_listed(folder: Path) -> None:
    memory: Any = fsspec.filesystem("memory")
    memory.put(f"{folder}/", "/vsi/", recursive=True)
    expected = sorted(NAMES[1:])
    assert names("memory://vsi/a b.vsi") == expected
    with serve(folder, lists=True) as web:
        (folder / "a b.vsi").rename(folder / "ab.vsi")
        (folder / "_a b_").rename(folder / "_ab_")
        found = names(f"{web.url}/ab.vsi")
        assert found == sorted(name.replace("a b", "ab") for name in NAMES[1:])
    memory.rm("/vsi", recursive=True)


def test_a_server_that_does_not_list_gives_no_fewer_images(folder: Path) -> None:
    (folder / "a.vsi").write_bytes(b"x")
    with serve(folder) as web:
        with pytest.raises(UnreadableFile, match=r"a\.vsi: \.vsi files belong to a set of files"):
            names(f"{web.url}/a.vsi")
        # What is known by its name is asked for.
        (folder / "e.ids").write_bytes(b"x")
        assert names(f"{web.url}/e.ics", "c.tif", "none.tif") == ["c.tif", "e.ids"]


@pytest.mark.java
def test_a_plate_at_a_server_that_lists() -> None:
    folders = list((DATA / "cv7000").glob("CV8000*"))
    if not folders:
        pytest.skip(f"no real files at {DATA}")
    name = next(folders[0].glob("*.wpi")).name
    with BioReader(folders[0] / name) as br:
        count, part = len(br.series), br.series[3][:64, :64, 1, 1]
    with serve(folders[0], lists=True) as web, BioReader(f"{web.url}/{name}") as br:
        assert len(br.series) == count == 12
        np.testing.assert_array_equal(br.series[3][:64, :64, 1, 1], part)
    with serve(folders[0]) as web, pytest.raises(UnreadableFile, match="set of files"):
        BioReader(f"{web.url}/{name}")
