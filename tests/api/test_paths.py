"""Paths and URLs as users write them, wherever they enter: one function reads them all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bfbridge
from bfbridge import BioReader, BioWriter
from bfbridge.errors import BadArgument, FileMissing
from bfbridge.patches import ImageStack
from bfbridge.storage.source import as_source, path_or_url
from tests.support.memory import distinct

PIXELS = distinct((30, 40), np.uint16)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home folder, with a name that URLs encode."""
    folder = tmp_path / "my home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder


def spellings(path: Path, home: Path) -> list[Any]:
    """Every way to name a file in the home folder."""
    name = path.relative_to(home).as_posix()
    return [
        str(path),
        path,
        f"~/{name}",
        Path(f"~/{name}"),
        path.as_uri(),
        path.as_uri().replace("file://", "file:"),
        path.as_uri().replace("file:///", "file://localhost/"),
        path.as_uri().replace("file:", "FILE:"),
        f"file://{path}",  # as fsspec has it: nothing is encoded
        f"local://{path}",
    ]


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_a_file_is_written_and_read_under_every_name(
    home: Path, suffix: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    path = home / f"a b{suffix}"
    spelled = spellings(path, home)[number]
    with BioWriter(spelled) as bw:
        bw[:] = PIXELS
    assert [entry.name for entry in home.iterdir()] == [path.name]
    with BioReader(spelled) as br:
        np.testing.assert_array_equal(br[:], PIXELS)
        assert br.used_files[0] == str(path)
    assert BioReader.image_size(spelled) == (40, 30)
    assert ImageStack(spelled).data_shape[-2:] == (30, 40)
    assert ImageStack(f"{spelled}@0").data_shape[-2:] == (30, 40)
    with BioReader([spelled, spelled]) as br:
        assert br.T == 2


@pytest.mark.parametrize("number", range(10))
def test_stores_are_written_further_under_every_name(home: Path, number: int) -> None:
    path = home / "a b.ome.zarr"
    spelled = spellings(path, home)[number]
    BioWriter.create(spelled, shape=(30, 40), dtype="uint16")
    with BioWriter.open(spelled) as bw:
        bw[:] = PIXELS
    BioWriter.finish(spelled)
    with BioWriter(spelled, append=True) as bw:
        bw[:5] = 7
    with BioWriter(spelled, append=True, T=2) as bw:
        bw[..., 1] = PIXELS
    got = BioReader(path)[..., 0, 0, :]
    np.testing.assert_array_equal(got[5:, :, 0, 0, 0], PIXELS[5:])
    np.testing.assert_array_equal(got[..., 0, 0, 1], PIXELS)
    assert (got[:5, ..., 0] == 7).all()


@pytest.mark.parametrize("number", range(10))
def test_patterns_are_found_under_every_name(home: Path, number: int) -> None:
    for t in range(3):
        with BioWriter(home / f"s {t}.ome.tif") as bw:
            bw[:] = PIXELS + t
    spelled = spellings(home / "s {t:d}.ome.tif", home)[number]
    with BioReader(spelled) as br:
        assert br.T == 3
        np.testing.assert_array_equal(br[..., 2], PIXELS + 2)


@pytest.mark.parametrize("number", range(10))
def test_conversion_takes_every_name(home: Path, number: int) -> None:
    source, target = home / "in put" / "a.ome.tif", home / "out put" / "b.ome.zarr"
    source.parent.mkdir()
    with BioWriter(source) as bw:
        bw[:] = PIXELS
    bfbridge.convert(spellings(source, home)[number], spellings(target, home)[number])
    np.testing.assert_array_equal(BioReader(target)[:], PIXELS)
    folder = home / "out" / "of folder"
    bfbridge.convert(
        spellings(source.parent, home)[number], spellings(folder, home)[number], suffix=".ome.zarr"
    )
    np.testing.assert_array_equal(BioReader(folder / "a.ome.zarr")[:], PIXELS)


def test_names_that_look_encoded_are_found(tmp_path: Path) -> None:
    literal = tmp_path / "a%20b.ome.tif"
    with BioWriter(literal) as bw:
        bw[:] = PIXELS
    assert path_or_url(f"file://{literal}") == literal
    assert path_or_url(literal) == literal
    assert path_or_url(literal.as_uri()) == literal
    decoded = tmp_path / "a b.ome.tif"
    decoded.write_bytes(b"")
    assert path_or_url(f"file://{literal}") == decoded


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "the path is empty"),
        ("a\0b", "NUL"),
        ("file:///a%00b", "NUL"),
        ("file://", "names no file"),
        ("file:///", "names no file"),
        (5, "cannot use int as a path"),
        (None, "cannot use NoneType"),
    ],
)
def test_what_is_no_path(name: Any, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        path_or_url(name)


def test_urls_stay_as_they_are() -> None:
    for url in (
        "s3://b/a b.zarr",
        "https://h/x%20y.tif?a=1",
        "zip://x::file:///a.zip",
        "memory://a",
    ):
        assert path_or_url(url) == url
        assert as_source(url).url == url


def test_a_tilde_that_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with BioWriter("~nobody-of-this-name.ome.tif") as bw:
        bw[:] = PIXELS
    assert os.listdir(tmp_path) == ["~nobody-of-this-name.ome.tif"]
    with pytest.raises(FileMissing):
        BioReader("~/no-such-file.ome.tif")
