"""Chained URLs of fsspec: archives and caches before a web server that lists nothing."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bfbridge import BioReader, BioWriter
from bfbridge.errors import FileMissing
from bfbridge.storage.source import Source
from tests.support.samples import distinct
from tests.support.webserver import serve

STACK = distinct((3, 40, 50), np.uint16)
FACE = STACK.transpose(1, 2, 0)
BYTES = (STACK % 251).astype(np.uint8)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    tifffile.imwrite(folder / "a.ome.tif", STACK, metadata={"axes": "ZYX"})
    (folder / "b.ids").write_bytes(BYTES.tobytes())
    (folder / "b.ics").write_text(
        "\t\nics_version\t1.0\nfilename\tb\nlayout\tparameters\t4\nlayout\torder\tbits\tx\ty\tz\n"
        "layout\tsizes\t8\t50\t40\t3\nlayout\tcoordinates\tvideo\n"
        "layout\tsignificant_bits\t8\nrepresentation\tformat\tinteger\n"
        "representation\tsign\tunsigned\nrepresentation\tcompression\tuncompressed\n"
        "representation\tbyte_order\t1\n"
    )
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        for name in ("a.ome.tif", "b.ics", "b.ids"):
            archive.write(folder / name, f"sub/{name}")
    with BioWriter(folder / "s.ome.zarr", image=FACE) as writer:
        writer[:] = FACE
    with serve(folder) as web:
        yield web.url


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "url",
    [
        "zip://sub/a.ome.tif::{}/z.zip",
        "simplecache::{}/a.ome.tif",
        "filecache::{}/a.ome.tif",
        "simplecache::zip://sub/a.ome.tif::{}/z.zip",
        "zip://sub/a.ome.tif::simplecache::{}/z.zip",
        "simplecache::{}/s.ome.zarr",
        "filecache::{}/s.ome.zarr",
    ],
)
# Older versions of fsspec leave the copy of an archive open until it is garbage.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_images_are_read(site: str, url: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {}
    cache = url.partition("::")[0]
    if cache == "filecache":
        options = {cache: {"cache_storage": str(tmp_path)}}
    with BioReader(url.format(site), storage_options=options) as br:
        assert br.backend in ("ometiff", "omezarr")
        np.testing.assert_array_equal(br[:], FACE)


@pytest.mark.java
@pytest.mark.parametrize("url", ["zip://sub/b.ics::{}/z.zip", "simplecache::{}/b.ics"])
def test_companions_are_found(site: str, url: str) -> None:
    with BioReader(url.format(site)) as br:
        assert br.backend == "bioformats"
        np.testing.assert_array_equal(br[:], BYTES.transpose(1, 2, 0))


@pytest.mark.parametrize(
    "url", ["zip://sub/none.tif::{}/z.zip", "simplecache::{}/none.tif", "filecache::{}/none.tif"]
)
def test_what_is_missing_is_said(site: str, url: str) -> None:
    with pytest.raises(FileMissing, match=r"none\.tif"):
        BioReader(url.format(site))


@pytest.mark.parametrize(
    ("url", "filename", "sibling", "child"),
    [
        ("s3://b/f/a.ics", "a.ics", "s3://b/f/x", "s3://b/f/a.ics/x"),
        ("https://h/a.ics?q=1/2", "a.ics", "https://h/x?q=1/2", "https://h/a.ics/x?q=1/2"),
        ("zip://f/a.ics::s3://b/z.zip", "a.ics", "zip://f/x::s3://b/z.zip",
         "zip://f/a.ics/x::s3://b/z.zip"),
        ("zip://a.ics::s3://b/z.zip", "a.ics", "zip://x::s3://b/z.zip",
         "zip://a.ics/x::s3://b/z.zip"),
        ("filecache::https://h/f/a.ics", "a.ics", "filecache::https://h/f/x",
         "filecache::https://h/f/a.ics/x"),
        ("simplecache::zip://f/a.ics::/tmp/z.zip", "a.ics", "simplecache::zip://f/x::/tmp/z.zip",
         "simplecache::zip://f/a.ics/x::/tmp/z.zip"),
    ],
)  # fmt: skip
def test_names_beside_and_inside(url: str, filename: str, sibling: str, child: str) -> None:
    source = Source(name=url, url=url)
    assert source.filename == filename
    assert source.sibling("x").url == sibling
    assert source.child("x").url == child
