"""Served OME-Zarr, read by other programs' readers over HTTP: equal pixels."""

# ruff: noqa: E402 - packages that may be missing are looked for first

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

for module in ("aiohttp", "cmap", "fsspec", "imagecodecs", "tifffile", "zarr"):
    pytest.importorskip(module)

import tifffile
import zarr

from bfbridge import BioReader
from tests.support.liveserver import Live, live
from tests.support.virtual import expected_levels, same

OPTIONS = pytest.mark.parametrize(("route", "version"), [("zarr", 3), ("zarr2", 2)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    y, x = np.mgrid[:700, :1100]
    values = (y * 1000 + x)[None, None].repeat(2, 0).repeat(3, 1).astype(np.float32)
    values += np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1) * 0.25
    values[:, :, :512, :512] = 0
    tifffile.imwrite(
        folder / "a.ome.tif", values, ome=True, tile=(128, 128), metadata={"axes": "TCYX"}
    )
    rgb = np.stack([x // 5, y // 3, (x + y) // 8], -1).astype(np.uint8)
    tifffile.imwrite(folder / "rgb.tif", rgb, tile=(256, 256), photometric="rgb")
    with tifffile.TiffWriter(folder / "two.ome.tif", ome=True) as writer:
        for number in range(2):
            writer.write(np.full((40 + number, 50), number + 1, np.uint16))
    return folder


@pytest.fixture(scope="module", params=["none", "blosc-lz4", "zstd"])
def server(folder: Path, request: pytest.FixtureRequest) -> Iterator[Live]:
    with live(folder, compression=request.param) as running:
        yield running


@pytest.mark.slow(ci=True)
@OPTIONS
@pytest.mark.parametrize("name", ["a.ome.tif", "rgb.tif"])
def test_zarr_python_reads_equal_pixels(
    server: Live, folder: Path, name: str, route: str, version: int
) -> None:
    group = zarr.open_group(
        f"{server.url}/{route}/{name}.ome.zarr", mode="r", zarr_format=version,
        use_consolidated=True,
    )  # fmt: skip
    with BioReader(folder / name) as br:
        for level, expected in enumerate(expected_levels(br)):
            found = group[str(level)][...]
            assert same(found, expected), level


@OPTIONS
def test_several_images(server: Live, folder: Path, route: str, version: int) -> None:
    group = zarr.open_group(
        f"{server.url}/{route}/two.ome.tif.ome.zarr", mode="r", zarr_format=version
    )
    for number in range(2):
        assert (group[f"{number}/0"][...] == number + 1).all()
    xml = server.get(f"/{route}/two.ome.tif.ome.zarr/OME/METADATA.ome.xml")
    assert xml.headers["Content-Type"] == "application/xml"


@pytest.mark.slow(ci=True)
@OPTIONS
@pytest.mark.parametrize("name", ["a.ome.tif", "rgb.tif", "two.ome.tif"])
@pytest.mark.filterwarnings("ignore:Casting invalid:UserWarning")
def test_yaozarrs_finds_the_stores_valid(server: Live, name: str, route: str, version: int) -> None:
    yaozarrs = pytest.importorskip("yaozarrs")
    url = f"{server.url}/{route}/{name}.ome.zarr"
    found = yaozarrs.validate_zarr_store(url)
    assert found.zarr_format == version
    with pytest.raises(Exception, match="No zarr metadata"):
        yaozarrs.validate_zarr_store(f"{url}/absent")


@pytest.mark.slow(ci=True)
@OPTIONS
def test_tensorstore_reads_equal_pixels(
    server: Live, folder: Path, route: str, version: int
) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    found = tensorstore.open(
        {
            "driver": "zarr3" if version == 3 else "zarr",
            "kvstore": f"{server.url}/{route}/a.ome.tif.ome.zarr/0/",
        }
    ).result()
    with BioReader(folder / "a.ome.tif") as br:
        assert same(found.read().result(), expected_levels(br)[0])


def test_documents_and_absent_chunks(server: Live) -> None:
    base = "/zarr/a.ome.tif.ome.zarr"
    document = server.get(f"{base}/zarr.json")
    assert document.headers["Content-Type"] == "application/json"
    assert document.json["attributes"]["ome"]["version"] == "0.5"
    # All zeros: not stored.
    assert server.get(f"{base}/0/c/0/0/0/0/0").status == 404
    assert server.get(f"{base}/0/c/0/0/0/0/1").status == 200
    for key in ("", ".zgroup", "0/c/0/0/0", "0/c/0/0/0/0/0/0", "1/zarr.json/x", "0/.zarray"):
        assert server.get(f"{base}/{key}").status == 404
    attributes = json.loads(server.get("/zarr2/a.ome.tif.ome.zarr/.zattrs").body)
    assert attributes["multiscales"][0]["version"] == "0.4"


@pytest.mark.java
def test_stores_on_disk_are_files_like_others(folder: Path, tmp_path: Path) -> None:
    from bfbridge import BioWriter

    pixels = np.arange(300 * 200, dtype=np.uint16).reshape(300, 200)
    with BioWriter(tmp_path / "inner" / "b.ome.zarr", image=pixels) as bw:
        bw[:] = pixels
    with live(tmp_path) as server:
        assert server.get("/list/inner").json["images"] == ["b.ome.zarr"]
        group = zarr.open_group(f"{server.url}/zarr/inner/b.ome.zarr.ome.zarr", mode="r")
        np.testing.assert_array_equal(group["0"][0, 0, 0], pixels)
        # What is inside a store is no image of its own.
        assert server.get("/info/inner/b.ome.zarr/zarr.json").status in (404, 422)
