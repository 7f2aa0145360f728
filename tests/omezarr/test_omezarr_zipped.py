"""Stores written as one ZIP file: ``.zarr.zip`` and ``.ozx``."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr

from bfbridge import BioReader, BioWriter, convert, imwrite
from bfbridge.curation import validate
from bfbridge.errors import BadArgument, BfbridgeError, TargetExists, Unsupported
from tests.support.samples import distinct

PIXELS = distinct((2, 3, 2, 40, 50))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("name", ["a.ome.zarr.zip", "b.zarr.zip", "c.ozx"])
def test_a_store_in_one_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    imwrite(path, PIXELS, axes="TCZYX", chunks=32, pyramid=1, channel_names=["a", "b", "c"])
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    assert names[0] == "zarr.json"
    with BioReader(path) as br:
        assert (br.backend, br.channel_names, len(br.levels)) == ("omezarr", ["a", "b", "c"], 2)
        np.testing.assert_array_equal(br.asarray("TCZYX"), PIXELS)
    store = zarr.storage.ZipStore(path, mode="r")
    group = zarr.open_group(store, mode="r")
    found = group[group.attrs["ome"]["multiscales"][0]["datasets"][0]["path"]]
    np.testing.assert_array_equal(found[...], PIXELS)
    store.close()


def test_an_existing_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    imwrite(path, PIXELS, axes="TCZYX")
    with pytest.raises(TargetExists):
        imwrite(path, PIXELS, axes="TCZYX")

    bw = BioWriter(path, image=PIXELS[0, 0, 0], overwrite=True)
    bw[:10] = PIXELS[0, 0, 0, :10]
    with pytest.raises(BfbridgeError):
        bw.close(require_complete=True)
    with BioReader(path) as br:
        np.testing.assert_array_equal(br.asarray("TCZYX"), PIXELS)
    imwrite(path, PIXELS[0, 0], axes="ZYX", overwrite=True)
    with BioReader(path) as br:
        np.testing.assert_array_equal(br.asarray("ZYX"), PIXELS[0, 0])
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr.zip"]


def test_conversion_to_a_zipped_store(tmp_path: Path) -> None:
    imwrite(tmp_path / "a.ome.tif", PIXELS, axes="TCZYX")
    convert(tmp_path / "a.ome.tif", tmp_path / "a.ome.zarr.zip", verify=True)
    with BioReader(tmp_path / "a.ome.zarr.zip") as br:
        np.testing.assert_array_equal(br.asarray("TCZYX"), PIXELS)


def test_zipped_stores_are_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    imwrite(path, PIXELS, axes="TCZYX")
    with pytest.raises((Unsupported, BadArgument)):
        BioWriter(path, append=True)
    with pytest.raises(Unsupported):
        BioWriter.create(tmp_path / "b.zarr.zip", shape=(4, 5), dtype="u1")
    with pytest.raises(Unsupported, match="written to disks only"):
        BioWriter("memory://b.zarr.zip", image=PIXELS[0, 0, 0])


def test_ozx_follows_rfc_9(tmp_path: Path) -> None:
    path = tmp_path / "a.ozx"
    labels = (PIXELS[0, 0, 0] % 7).astype(np.uint8)
    store = tmp_path / "a.ome.zarr"
    imwrite(store, PIXELS, axes="TCZYX", chunks=32, pyramid=1)
    with BioWriter(store, labels="cells", Z=1, T=1, dtype="uint8") as bw:
        bw[:] = labels
    convert(store, path, verify=True)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert json.loads(archive.comment) == {
            "ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}
        }
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            # Local headers of ZIP64 have an extra field with both sizes.
            archive.fp.seek(info.header_offset + 26)
            assert int.from_bytes(archive.fp.read(4)[2:], "little") >= 20
    documents = [name for name in names if name.endswith("zarr.json")]
    assert names[: len(documents)] == documents
    assert documents[0] == "zarr.json"
    depths = [name.count("/") for name in documents]
    assert depths == sorted(depths)
    with BioReader(path) as br:
        np.testing.assert_array_equal(br.labels["cells"][:], labels)
    assert validate(path, pixels=True).findings == ()


def test_ozx_needs_a_zarr_json(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match=r"a\.ozx: an \.ozx file .* version='0\.5'"):
        imwrite(tmp_path / "a.ozx", PIXELS, axes="TCZYX", version="0.4")
    assert list(tmp_path.iterdir()) == []
    imwrite(tmp_path / "a.zarr.zip", PIXELS, axes="TCZYX", version="0.4")
    with zipfile.ZipFile(tmp_path / "a.zarr.zip") as archive:
        assert archive.comment == b""
