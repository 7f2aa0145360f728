"""Files of data sets at URLs: found by listing, or by name, or an error."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.errors import LimitExceeded, UnknownFormat, UnreadableFile
from bfbridge.storage.source import as_source
from bfbridge_bioformats.files.remote_siblings import remote_siblings
from tests.real.manifest import DATA
from tests.support.s3server import serve_s3
from tests.support.vsis import write_vsi
from tests.support.webserver import serve

pytestmark = pytest.mark.filterwarnings("default")

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
        # Files with known names are requested.
        (folder / "e.ids").write_bytes(b"x")
        assert names(f"{web.url}/e.ics", "c.tif", "none.tif") == ["c.tif", "e.ids"]


STACKS = [np.arange(20 * 37).reshape(20, 37) % 251, np.arange(33 * 18).reshape(33, 18) % 241]
MACRO = np.arange(5 * 7).reshape(5, 7)


@contextmanager
def web_of(kind: str, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the name or URL of a folder, and the arguments that open it."""
    if kind == "local":
        yield str(folder), {}
        return
    if kind == "http":
        with serve(folder, lists=True) as web:
            yield web.url, {}
        return
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server", reason="moto, a local S3, is not installed")
    with serve_s3(folder, "key-of-vsi") as (web, options):
        yield web.url, {"storage_options": options}


@pytest.mark.java
@pytest.mark.parametrize(
    "kind", ["local", "http", pytest.param("s3", marks=pytest.mark.slow(ci=True))]
)
def test_vsi_with_its_stacks_or_an_error(tmp_path: Path, kind: str) -> None:
    path = write_vsi(tmp_path / "a.vsi", STACKS, MACRO)
    with web_of(kind, tmp_path) as (url, more), BioReader(f"{url}/a.vsi", **more) as br:
        assert [view.role for view in br.series] == ["image", "image", "macro"]
        for view, expected in zip(br.series, [*STACKS, MACRO], strict=True):
            np.testing.assert_array_equal(view[:], expected)
    # CellSensReader takes the macro image for the second one where a stack is missing.
    shutil.rmtree(path.with_name("_a_") / "stack1")
    with (
        web_of(kind, tmp_path) as (url, more),
        pytest.raises(UnreadableFile, match=r"its 2 images are in \.ets files, of which 1 were"),
    ):
        BioReader(f"{url}/a.vsi", **more)
    shutil.rmtree(path.with_name("_a_"))
    with web_of(kind, tmp_path) as (url, more):
        with pytest.raises(UnreadableFile, match=r"of which 0 were found.*complete folder _a_"):
            BioReader(f"{url}/a.vsi", **more)
        options = {"cellsens.fail_on_missing_ets": False}
        with BioReader(f"{url}/a.vsi", backend="bioformats", options=options, **more) as br:
            np.testing.assert_array_equal(br[:], MACRO)


@pytest.mark.java
def test_vsi_without_stacks(tmp_path: Path) -> None:
    """Bio-Formats asks only the last image whether it has an ETS file."""
    path = write_vsi(tmp_path / "a.vsi", STACKS, MACRO, flags=[1, 0])
    shutil.rmtree(path.with_name("_a_"))
    with pytest.raises(UnreadableFile, match=r"its 1 images are in \.ets files, of which 0"):
        BioReader(path)
    alone = write_vsi(tmp_path / "b.vsi", STACKS, MACRO, flags=[0, 0])
    shutil.rmtree(alone.with_name("_b_"))
    with BioReader(alone) as br:
        np.testing.assert_array_equal(br[:], MACRO)


def test_a_data_folder_that_cannot_be_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder / "_a b_", folder / "_ab_")
    (folder / "ab.vsi").write_bytes(b"x")
    (folder / "ab.oif").write_bytes(b"x")
    with serve(folder, lists=True, hidden="_ab_/stack1") as web:
        with pytest.raises(UnreadableFile, match=r"ab\.vsi: \.vsi files .* does not list"):
            names(f"{web.url}/ab.vsi")
        # The pixels of an OIF are always in its folder.
        with pytest.raises(UnreadableFile, match=r"ab\.oif: \.oif files .* does not list"):
            names(f"{web.url}/ab.oif")
        monkeypatch.setattr("bfbridge_bioformats.files.remote_siblings._MOST_IN_SET", 3)
        (folder / "c.mlf").write_bytes(b"x")
        with pytest.raises(LimitExceeded, match=r"c\.mlf: .* there are \d+ files beside it"):
            names(f"{web.url}/c.mlf")


@pytest.mark.java
def test_files_of_a_plate_name_the_one_to_open(tmp_path: Path) -> None:
    (tmp_path / "MeasurementData.mlf").write_text("<?xml version='1.0'?><bts:MeasurementData/>")
    with pytest.raises(UnknownFormat, match=r"open the \.wpi file in its folder"):
        BioReader(tmp_path / "MeasurementData.mlf")


@pytest.mark.java
@pytest.mark.slow(ci=True)
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
    with web_of("s3", folders[0]) as (url, options), BioReader(f"{url}/{name}", **options) as br:
        assert len(br.series) == count
        np.testing.assert_array_equal(br.series[3][:64, :64, 1, 1], part)
