"""Reference files, read by fsspec and zarr without bfbridge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

zarr = pytest.importorskip("zarr")
fsspec = pytest.importorskip("fsspec")

from bfbridge import BioReader  # noqa: E402
from bfbridge.errors import BadArgument, Unsupported, WriteFailed  # noqa: E402
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr  # noqa: E402

Array = np.ndarray[Any, Any]
VALUES = (distinct((2, 2, 3, 70, 90), np.uint32) % 60_001).astype(np.uint16)
RGB = (distinct((1, 1, 2, 70, 90, 3), np.uint32) % 251).astype(np.uint8)

# In a process of its own, which imports neither bfbridge nor its backends.
SCRIPT = """
import asyncio, json, sys, warnings
warnings.simplefilter("ignore")
import fsspec, numpy as np, zarr
import imagecodecs.numcodecs
imagecodecs.numcodecs.register_codecs(verbose=False)
from zarr.storage import FsspecStore
fs = fsspec.filesystem("reference", fo=sys.argv[1], asynchronous=True, remote_protocol="file",
                       remote_options={"asynchronous": True})
root = zarr.open_group(FsspecStore(fs, read_only=True), mode="r")
found = {}
def walk(group, prefix):
    for name, member in group.members():
        if hasattr(member, "shape"):
            found[prefix + name] = member[...]
        else:
            walk(member, prefix + name + "/")
walk(root, "")
assert not any(name.startswith("bfbridge") for name in sys.modules)
np.savez(sys.argv[2], **found)
"""


def read_by_fsspec(path: Path) -> dict[str, Array]:
    out = path.with_suffix(".npz")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(out)], capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out) as found:
        return dict(found)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("options", "version"),
    [
        ({"tile": (32, 32)}, 2),
        ({"tile": (32, 32)}, 3),
        ({"tile": (32, 32), "compression": "zlib"}, 2),
        ({"tile": (32, 32), "compression": "zlib"}, 3),
        ({"tile": (32, 32), "compression": "zstd"}, 2),
        ({"tile": (32, 32), "compression": "zstd"}, 3),
        ({"tile": (32, 32), "compression": "lzw"}, 2),
        ({"tile": (32, 32), "compression": "packbits"}, 2),
        ({"tile": (32, 32), "compression": "zlib", "predictor": True}, 2),
        ({"tile": (32, 32), "compression": "lzw", "predictor": True}, 2),
        ({"tile": None, "rowsperstrip": 16}, 2),
        ({"tile": None, "rowsperstrip": 14, "compression": "zlib"}, 3),
        ({"tile": None, "rowsperstrip": 70, "compression": "zstd", "predictor": True}, 2),
    ],
)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiffs_are_read_by_range(
    tmp_path: Path, options: dict[str, Any], version: int, byteorder: str
) -> None:
    source = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        source, VALUES, byteorder=byteorder, ome=True, metadata={"axes": "TCZYX"},
        photometric="minisblack", **options,
    )  # fmt: skip
    target = tmp_path / "refs.json"
    with BioReader(source) as br:
        assert br.backend == "ometiff"
        told = br.to_references(target, version=version)  # type: ignore[arg-type]
        assert json.loads(target.read_text()) == told
    found = read_by_fsspec(target)
    assert list(found) == ["0"]
    np.testing.assert_array_equal(found["0"], VALUES)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("compression", [None, "zlib", "zstd"])
def test_rgb_is_read_by_range(tmp_path: Path, compression: str | None) -> None:
    source = write_ome_tiff(tmp_path / "a.ome.tif", RGB, tile=(32, 32), compression=compression)
    with BioReader(source) as br:
        with pytest.raises(Unsupported, match="interleaved.*use version=3"):
            br.to_references()
        br.to_references(tmp_path / "refs.json", version=3)
        wanted = br.read(keepdims=True).transpose(4, 3, 2, 0, 1)
    np.testing.assert_array_equal(read_by_fsspec(tmp_path / "refs.json")["0"], wanted)


@pytest.mark.slow(ci=True)
def test_planes_of_samples_and_levels(tmp_path: Path) -> None:
    source = tmp_path / "a.ome.tif"
    values = RGB[0, 0, 0].transpose(2, 0, 1)
    with tifffile.TiffWriter(source, ome=True) as writer:
        options: dict[str, Any] = {
            "photometric": "rgb", "planarconfig": "separate", "tile": (16, 16),
            "compression": "zlib",
        }  # fmt: skip
        writer.write(values, subifds=1, metadata={"axes": "CYX"}, **options)
        writer.write(values[:, ::2, ::2], subfiletype=1, **options)
    with BioReader(source) as br:
        br.to_references(tmp_path / "refs.json")
    found = read_by_fsspec(tmp_path / "refs.json")
    np.testing.assert_array_equal(found["0"][0, :, 0], values)
    np.testing.assert_array_equal(found["1"][0, :, 0], values[:, ::2, ::2])


@pytest.mark.slow(ci=True)
def test_several_images_and_documents(tmp_path: Path) -> None:
    source = tmp_path / "many.ome.tif"
    with tifffile.TiffWriter(source, ome=True) as writer:
        for t in range(2):
            writer.write(VALUES[t : t + 1], metadata={"axes": "TCZYX"}, tile=(16, 16))
    with BioReader(source) as br:
        told = br.to_references(tmp_path / "refs.json")
        refs = told["refs"]
        assert json.loads(refs[".zattrs"]) == {"bioformats2raw.layout": 3}
        assert json.loads(refs[".zmetadata"])["metadata"]["0/0/.zarray"]["dtype"] == "<u2"
        assert refs["OME/METADATA.ome.xml"].startswith("<")
        assert refs["0/0/0/0/0/0/0"][0] == f"file://{source}"
        one = br.series[1].to_references()["refs"]
        assert "multiscales" in json.loads(one[".zattrs"])
    found = read_by_fsspec(tmp_path / "refs.json")
    for t in range(2):
        np.testing.assert_array_equal(found[f"{t}/0"], VALUES[t : t + 1])


@pytest.mark.slow(ci=True)
def test_sparse_tiles_are_absent(tmp_path: Path) -> None:
    tile = VALUES[0, 0, 0, :32, :32]
    tiles = iter([tile, None, None, tile + 1])
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(tiles, shape=(64, 64), dtype=np.uint16, tile=(32, 32))
    with BioReader(tmp_path / "a.ome.tif") as br:
        assert br.backend == "ometiff"
        refs = br.to_references(tmp_path / "refs.json")["refs"]
        wanted = br.read(keepdims=True).transpose(4, 3, 2, 0, 1)
    chunks = [key for key, value in refs.items() if isinstance(value, list)]
    assert chunks == ["0/0/0/0/0/0", "0/0/0/0/1/1"]
    found = read_by_fsspec(tmp_path / "refs.json")["0"]
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(found[0, 0, 0, 32:, 32:], tile + 1)
    assert not found[0, 0, 0, :32, 32:].any()


def test_where_the_file_is(tmp_path: Path) -> None:
    source = write_ome_tiff(tmp_path / "a.ome.tif", VALUES)
    with BioReader(source) as br:
        for url, wanted in (
            ("s3://bucket/b.ome.tif", "s3://bucket/b.ome.tif"),
            ("https://example.org/data/", "https://example.org/data/a.ome.tif"),
        ):
            refs = br.to_references(url=url)["refs"]
            assert {value[0] for value in refs.values() if isinstance(value, list)} == {wanted}
        with pytest.raises(WriteFailed):
            br.to_references(tmp_path / "missing/refs.json")


@pytest.mark.slow(ci=True)
def test_several_files_need_a_folder(tmp_path: Path) -> None:
    names = []
    uuids = []
    for t in range(2):
        path = tmp_path / f"a_t{t}.ome.tif"
        tifffile.imwrite(path, VALUES[0, 0, 0] + t, tile=(16, 16))
        names.append(path.name)
        uuids.append(f"urn:uuid:0000000{t}-0000-0000-0000-000000000000")
    blocks = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="{name}">{uuid}</UUID>'
        "</TiffData>"
        for t, (name, uuid) in enumerate(zip(names, uuids, strict=True))
    )
    for name, uuid in zip(names, uuids, strict=True):
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuid}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            'Type="uint16" SizeX="90" SizeY="70" SizeZ="1" SizeC="1" SizeT="2">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{blocks}</Pixels></Image></OME>'
        )
        tifffile.tiffcomment(tmp_path / name, xml)
    with BioReader(tmp_path / names[0]) as br:
        assert br.sizes["T"] == 2
        with pytest.raises(BadArgument, match="has 2 files"):
            br.to_references(url="s3://bucket/a.tif")
        br.to_references(tmp_path / "refs.json")
        refs = br.to_references(url="s3://bucket/")["refs"]
        assert refs["0/1/0/0/0/0"][0] == "s3://bucket/a_t1.ome.tif"
        wanted = br.read(keepdims=True).transpose(4, 3, 2, 0, 1)
    np.testing.assert_array_equal(read_by_fsspec(tmp_path / "refs.json")["0"], wanted)


@pytest.mark.parametrize(
    ("options", "version", "reason"),
    [
        ({"tile": (16, 16), "compression": "jpeg"}, 2, "jpeg tiles are complete images"),
        ({"rowsperstrip": 16, "compression": "zlib"}, 2, "the last one has fewer"),
        ({"tile": (16, 16), "compression": "lzw"}, 3, "no codec for lzw"),
        ({"tile": (16, 16), "compression": "zlib", "predictor": True}, 3, "a predictor"),
        ({"photometric": "miniswhite"}, 2, "0 is white"),
    ],
)
def test_why_not(tmp_path: Path, options: dict[str, Any], version: int, reason: str) -> None:
    values = VALUES[0, 0, 0].astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", values, ome=True, **options)
    with (
        BioReader(tmp_path / "a.ome.tif", backend="ometiff") as br,
        pytest.raises(Unsupported, match=reason) as caught,
    ):
        br.to_references(version=version)  # type: ignore[arg-type]
    assert "a.ome.tif: image 0 cannot be read by byte ranges" in str(caught.value)
    assert "Use to_zarr()" in str(caught.value)


def test_other_formats(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [VALUES])
    with BioReader(path) as br, pytest.raises(Unsupported, match="omezarr backend does not know"):
        br.to_references()
    source = write_ome_tiff(tmp_path / "a.ome.tif", VALUES)
    with (
        BioReader(source.read_bytes(), name="a.ome.tif") as br,
        pytest.raises(Unsupported, match="have no path or URL"),
    ):
        br.to_references()
