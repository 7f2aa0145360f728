"""Files as OME-Zarr stores: read by zarr-python, dask and xarray, judged by yaozarrs."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import threading
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

zarr = pytest.importorskip("zarr")

from zarr.abc.store import (  # noqa: E402
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import default_buffer_prototype  # noqa: E402

from bfbridge import BioReader, BioWriter, convert  # noqa: E402
from bfbridge.errors import BadArgument, MissingExtra, ReadFailed  # noqa: E402
from bfbridge.ngff.compression import parse_compression  # noqa: E402
from bfbridge.virtual.chunks import encode_chunk, is_zero  # noqa: E402
from bfbridge.virtual.hierarchy import VirtualHierarchy  # noqa: E402
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr  # noqa: E402
from tests.support.virtual import (  # noqa: E402
    assert_store_holds,
    check_valid,
    expected_levels,
)

Array = np.ndarray[Any, Any]
versions = pytest.mark.parametrize("version", [3, 2])
SIZES = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2, "Name": "cells",
         "Channel": {"Name": ["DAPI", "GFP", "Cy5"]}}  # fmt: skip


@pytest.fixture(scope="module")
def tiff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = (np.arange(2 * 3 * 2 * 600 * 700) % 60_013).reshape(2, 3, 2, 600, 700)
    path = tmp_path_factory.mktemp("virtual") / "a.ome.tif"
    return write_ome_tiff(path, values.astype(np.uint16), tile=(256, 256), metadata=SIZES)


def keys_of(store: Any) -> list[str]:
    async def collect() -> list[str]:
        return [key async for key in store.list()]

    return asyncio.run(collect())


# ---- what is in a store


@versions
def test_an_image_as_a_store(tiff: Path, version: int) -> None:
    with BioReader(tiff) as br:
        store = br.to_zarr(version, chunk=512)
        assert isinstance(store, Store)
        assert_store_holds(store, br)
        root = store.root
        assert root.store == store
        array = root["0"]
        assert array.metadata.zarr_format == version
        assert array.chunks == (1, 1, 1, 512, 512)
        assert root["1"].chunks == (1, 1, 1, 300, 350)
        ome = root.attrs["ome"] if version == 3 else dict(root.attrs)
        (multiscale,) = ome["multiscales"]
        assert [axis["name"] for axis in multiscale["axes"]] == list("tczyx")
        assert [axis.get("unit") for axis in multiscale["axes"]] == [
            None, None, "micrometer", "micrometer", "micrometer"
        ]  # fmt: skip
        assert multiscale["name"] == "cells"
        assert [d["coordinateTransformations"][0]["scale"] for d in multiscale["datasets"]] == [
            [1, 1, 2, 0.5, 0.25], [1, 1, 2, 1, 0.5]
        ]  # fmt: skip
        assert multiscale["datasets"][1]["coordinateTransformations"][1]["translation"] == [
            0, 0, 0, 0.25, 0.125
        ]  # fmt: skip
        assert multiscale["type"] == "mean"
        channels = ome["omero"]["channels"]
        assert [channel["label"] for channel in channels] == ["DAPI", "GFP", "Cy5"]
        for channel in channels:
            window = channel["window"]
            assert window["min"] == 0 <= window["start"] < window["end"] <= window["max"] == 65535
        if version == 3:
            assert array.metadata.dimension_names == tuple("tczyx")
        else:
            assert array.attrs["_ARRAY_DIMENSIONS"] == list("tczyx")
        check_valid(store, "0.5" if version == 3 else "0.4")


@versions
def test_documents_are_those_that_the_writer_makes(
    tiff: Path, tmp_path: Path, version: int
) -> None:
    ngff = "0.5" if version == 3 else "0.4"
    with BioReader(tiff) as br:
        store = br.to_zarr(version, chunk=512, compression="blosc-zstd")
        levels = expected_levels(br)
        with BioWriter(
            tmp_path / "a.ome.zarr", metadata=br.metadata, version=ngff, chunks=512,
            pyramid=True, X=br.X, Y=br.Y, Z=br.Z, C=br.C, T=br.T, dtype=br.dtype,
        ) as bw:  # fmt: skip
            bw[:] = br[:]
        hierarchy = store.hierarchy
        assert len(levels) == 2
        for path in sorted((tmp_path / "a.ome.zarr").rglob("*")):
            key = path.relative_to(tmp_path / "a.ome.zarr").as_posix()
            if path.is_dir():
                continue
            if path.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup"):
                written = json.loads(path.read_bytes())
                made = json.loads(bytes(hierarchy.get(key)))
                made.pop("consolidated_metadata", None)
                for document in (written, made):
                    # What a sample of every block saw is not what some planes hold.
                    (document.get("attributes", {}).get("ome") or document).pop("omero", None)
                assert made == written, key
            elif path.name != "METADATA.ome.xml":
                assert bytes(hierarchy.get(key)) == path.read_bytes(), key
        with BioReader(tmp_path / "a.ome.zarr") as written_reader:
            assert hierarchy.get("OME/METADATA.ome.xml").decode() == written_reader.ome_xml


@versions
def test_positions_and_times_are_those_that_the_writer_makes(tmp_path: Path, version: int) -> None:
    pixels = np.zeros((1, 2, 3, 600, 520), np.uint16)
    stage = {"PositionX": [1.5] * 6, "PositionXUnit": ["mm"] * 6, "PositionY": [-20.0] * 6,
             "PositionYUnit": ["\u00b5m"] * 6, "PositionZ": [7.0, 9.0, 11.0] * 2,
             "PositionZUnit": ["\u00b5m"] * 6}  # fmt: skip
    metadata = {**SIZES, "Channel": {"Name": ["a", "b"]}, "TimeIncrement": 2.5, "Plane": stage}
    source = write_ome_tiff(tmp_path / "a.ome.tif", pixels, tile=(256, 256), metadata=metadata)
    ngff = "0.5" if version == 3 else "0.4"
    convert(source, tmp_path / "b.ome.zarr", version=ngff)
    written = multiscale(tmp_path / "b.ome.zarr")
    assert len(written["datasets"]) == 2
    moves = [each["coordinateTransformations"][1]["translation"] for each in written["datasets"]]
    # The centre of a pixel of half the size is half a pixel further.
    assert moves == [[0, 0, 7.0, -20.0, 1500.0], [0, 0, 7.0, -20.0 + 0.25, 1500.0 + 0.125]]
    assert written["datasets"][0]["coordinateTransformations"][0]["scale"][0] == 2.5
    # A file, the store made of it, and another file of the store.
    for path in (source, tmp_path / "b.ome.zarr"):
        with BioReader(path) as br:
            hierarchy = br.to_zarr(version).hierarchy
            name = "zarr.json" if version == 3 else ".zattrs"
            made = json.loads(bytes(hierarchy.get(name)))
            check_valid(br.to_zarr(version), ngff)
        (found,) = (made if version == 2 else made["attributes"]["ome"])["multiscales"]
        assert (found["axes"], found["datasets"]) == (written["axes"], written["datasets"])


def multiscale(path: Path) -> Any:
    if (path / ".zattrs").exists():
        attributes = json.loads((path / ".zattrs").read_text())
    else:
        attributes = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    (found,) = attributes["multiscales"]
    return found


@versions
def test_several_images(tmp_path: Path, version: int) -> None:
    path = tmp_path / "many.ome.tif"
    parts = [distinct((1, c, 1, 30 + c, 40)) for c in (1, 2, 3)]
    with tifffile.TiffWriter(path, ome=True) as writer:
        for part in parts:
            writer.write(part, metadata={"axes": "TCZYX"}, tile=(16, 16))
    with BioReader(path) as br:
        store = br.to_zarr(version)
        assert_store_holds(store, br)
        root = store.root
        ome = root.attrs["ome"] if version == 3 else root.attrs
        assert ome["bioformats2raw.layout"] == 3
        listed = root["OME"].attrs["ome"] if version == 3 else root["OME"].attrs
        assert listed["series"] == ["0", "1", "2"]
        check_valid(store, "0.5" if version == 3 else "0.4")
        for one in (br.series[1].to_zarr(version), br.to_zarr(version, whole_file=False)):
            assert one.root["0"].ndim == 5
        np.testing.assert_array_equal(br.series[1].to_zarr(version).root["0"][:], parts[1])
        assert "0/0" in br.series[1].to_zarr(version, whole_file=True).root
    with BioReader(path, series=2) as br:
        np.testing.assert_array_equal(br.to_zarr(version).root["0"][:], parts[2])


@versions
def test_labels(tmp_path: Path, version: int) -> None:
    image = (distinct((1, 2, 2, 60, 70), np.uint32) % 50_000).astype(np.uint16)
    labels = (image[:, :1] % 7).astype(np.uint16)
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [image], labels=labels)
    with BioReader(path) as br:
        store = br.to_zarr(version)
        assert_store_holds(store, br)
        check_valid(store, "0.5" if version == 3 else "0.4")
        root = store.root
        np.testing.assert_array_equal(root["labels/cells/0"][:], labels)
        ome = root["labels/cells"].attrs
        ome = ome["ome"] if version == 3 else ome
        assert ome["image-label"]["source"] == {"image": "../../"}
        assert "omero" not in ome
        # Alone it is a store of its own, without an image that it belongs to.
        alone = br.series[1].to_zarr(version)
        np.testing.assert_array_equal(alone.root["0"][:], labels)
        attributes = alone.root.attrs["ome"] if version == 3 else alone.root.attrs
        assert "source" not in attributes["image-label"]
        check_valid(alone, "0.5" if version == 3 else "0.4")


@versions
def test_plates(tmp_path: Path, version: int) -> None:
    parts = [distinct((1, 1, 1, 30, 40)) + i for i in range(4)]
    source = tmp_path / "plate.ome.zarr"
    many = tmp_path / "many.ome.tif"
    with tifffile.TiffWriter(many, ome=True) as writer:
        for part in parts:
            writer.write(part, metadata={"axes": "TCZYX"}, tile=(16, 16))
    with BioReader(many) as br:
        metadata = br.metadata
    wells = ["B3", "A1", "B3", "C2"]
    with BioWriter(source, metadata=metadata, series="all", wells=wells) as bw:
        for view, part in zip(bw.series, parts, strict=True):
            view[:] = part[0, 0, 0]
    with BioReader(source) as br:
        assert br.ome.plates
        store = br.to_zarr(version)
        assert_store_holds(store, br)
        check_valid(store, "0.5" if version == 3 else "0.4")
        plate = store.root.attrs["ome"]["plate"] if version == 3 else store.root.attrs["plate"]
        assert {well["path"] for well in plate["wells"]} == {"A/1", "B/3", "C/2"}
        # Wells with the same channels have the same display window.
        windows = set()
        for group in store.hierarchy.places.groups:
            attributes = store.root[group].attrs
            omero = (attributes["ome"] if version == 3 else attributes)["omero"]
            windows.add(json.dumps(omero["channels"][0]["window"]))
        assert len(windows) == 1


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64",
                                   "int64", "float16", "float32", "float64", "complex64",
                                   "complex128", "bool"])  # fmt: skip
@pytest.mark.parametrize("compression", [None, "zstd", ("blosc-lz4", 3)])
@versions
def test_dtypes_and_compressions(
    tmp_path: Path, dtype: str, compression: Any, version: int
) -> None:
    values = (np.arange(1, 1 + 2 * 530 * 40).reshape(1, 2, 1, 530, 40) % 127).astype(dtype)
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [values], (1, 1, 1, 100, 40))
    with BioReader(path) as br:
        store = br.to_zarr(version, compression=compression)
        np.testing.assert_array_equal(store.root["0"][:], values)
        assert store.root["0"].dtype == br.dtype


def test_bad_arguments(tiff: Path) -> None:
    with BioReader(tiff) as br:
        for version in (1, "3", True, None):
            with pytest.raises(BadArgument, match="versions 3 and 2"):
                br.to_zarr(version)
        with pytest.raises(BadArgument, match="compression='lzma'"):
            br.to_zarr(compression="lzma")
        with pytest.raises(BadArgument, match="512 or 1024"):
            br.to_zarr(chunk=100)


def test_without_zarr(tiff: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("zarr.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "zarr", None)
    monkeypatch.delitem(sys.modules, "bfbridge.virtual.store", raising=False)
    # An attribute of the package is found before `sys.modules` is searched.
    monkeypatch.delattr("bfbridge.virtual.store", raising=False)
    with BioReader(tiff) as br:
        with pytest.raises(MissingExtra, match="needs zarr, which is not installed"):
            br.to_zarr()
        # A server needs no zarr-python.
        assert VirtualHierarchy([br]).get("0/c/0/0/0/0/0") is not None


# ---- chunks


def test_chunks_of_zeros_are_absent(tmp_path: Path) -> None:
    values = np.zeros((1, 1, 1, 1000, 600), np.float32)
    values[..., 700, 3] = 5
    values[..., 600, 550] = -0.0
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [values], (1, 1, 1, 100, 100))
    with BioReader(path) as br:
        store = br.to_zarr(chunk=512)
        stored = [store.get_sync(f"0/c/0/0/0/{y}/{x}") for y, x in product(range(2), repeat=2)]
        # One bit of -0.0 is not 0.
        assert [data is None for data in stored] == [True, True, False, False]
        assert asyncio.run(store.exists("0/c/0/0/0/0/0"))
        found = store.root["0"][:]
    np.testing.assert_array_equal(found, values)
    assert np.signbit(found[..., 600, 550])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "complex128"])
def test_encoding(dtype: str) -> None:
    values = np.arange(30).reshape(5, 6).astype(dtype)
    none = parse_compression(None)
    assert bytes(encode_chunk(values, (5, 6), none)) == values.tobytes()
    padded = np.zeros((8, 8), dtype)
    padded[:5, :6] = values
    assert bytes(encode_chunk(values, (8, 8), none)) == padded.tobytes()
    assert encode_chunk(values * 0, (8, 8), none) is None
    assert is_zero(np.empty((0, 3), dtype))


def test_keys(tiff: Path) -> None:
    with BioReader(tiff) as br:
        for version, mark in ((3, "0/c/"), (2, "0/")):
            hierarchy = VirtualHierarchy([br], version, side=512)  # type: ignore[arg-type]
            good = f"{mark}1/2/1/1/1"
            assert hierarchy.chunk_name(good) == ((0, 0), (1, 2, 1, 1, 1))
            assert hierarchy.exists(good)
            for bad in (
                "", "/", "0", "x", "0/", f"{mark}0/0/0/0", f"{mark}0/0/0/0/2", f"{mark}0/0/0/0/01",
                f"{mark}0/0/0/0/+1", f"{mark}0/0/0/0/-1", f"{mark}0/0/0/0/1_0",
                f"{mark}0/0/0/0/0/0",
                f"{mark}0/0/0/0/\u0661", f"{mark}2/0/0/0/0", f"2/{mark[2:]}0/0/0/0/0", "../0",
                f"{mark}0/0/0/0/{'9' * 5000}", "0/c", "OME", "labels", "0/c/0/0/0/0/zarr.json",
                "zarr.json/zarr.json", "METADATA.ome.xml", "OME/OME", "\0",
            ):  # fmt: skip
                assert not hierarchy.exists(bad), bad
                assert hierarchy.get(bad) is None, bad


@versions
def test_listing(tiff: Path, version: int) -> None:
    with BioReader(tiff) as br:
        store = br.to_zarr(version, chunk=512)
        keys = keys_of(store)
        assert len(keys) == len(set(keys))
        chunks = [key for key in keys if store.hierarchy.chunk_name(key)]
        assert len(chunks) == 2 * 3 * 2 * (2 * 2 + 1)
        documents = set(keys) - set(chunks)
        if version == 3:
            assert documents == {
                "zarr.json", "0/zarr.json", "1/zarr.json", "OME/zarr.json", "OME/METADATA.ome.xml"
            }  # fmt: skip
        for key in keys:
            assert store.hierarchy.exists(key)
            assert store.hierarchy.get(key)

        async def collect(iterator: Any) -> list[str]:
            return [name async for name in iterator]

        prefix = "0/c/1/2" if version == 3 else "0/1/2"
        assert asyncio.run(collect(store.list_dir(prefix))) == ["0", "1"]
        assert asyncio.run(collect(store.list_dir(prefix + "/"))) == ["0", "1"]
        assert asyncio.run(collect(store.list_dir("nowhere"))) == []
        assert asyncio.run(collect(store.list_dir(prefix + "/5"))) == []
        found = asyncio.run(collect(store.list_prefix(prefix)))
        assert sorted(found) == sorted(key for key in keys if key.startswith(prefix))
        assert asyncio.run(store.getsize(chunks[0])) == 512 * 512 * 2
        assert not asyncio.run(store.is_empty(""))


@pytest.mark.java
def test_listing_a_folder_does_not_walk_what_is_below(tmp_path: Path) -> None:
    with BioReader("big&sizeX=60000&sizeY=60000&sizeZ=1000&sizeT=1000.fake") as br:
        hierarchy = VirtualHierarchy([br])
        assert len(list(hierarchy.list_dir("0/c"))) == 1000
        assert len(list(hierarchy.list_dir("0/c/3/0/5"))) == -(-60000 // 1024)
        keys = hierarchy.list_keys("0/c/7")
        assert next(keys) == "0/c/7/0/0/0/0"


def test_parts_of_chunks(tiff: Path) -> None:
    with BioReader(tiff) as br:
        store = br.to_zarr(chunk=512)
        whole = store.get_sync("0/c/0/0/0/0/0").to_bytes()
        for part, wanted in (
            (RangeByteRequest(10, 30), whole[10:30]),
            (OffsetByteRequest(1000), whole[1000:]),
            (SuffixByteRequest(12), whole[-12:]),
            (SuffixByteRequest(10**9), whole),
        ):
            assert store.get_sync("0/c/0/0/0/0/0", byte_range=part).to_bytes() == wanted
        prototype = default_buffer_prototype()
        requests = [("zarr.json", RangeByteRequest(0, 1)), ("missing", None)]
        found = asyncio.run(store.get_partial_values(prototype, requests))
        assert found[0].to_bytes() == b"{"
        assert found[1] is None
        with pytest.raises(BadArgument, match="not a byte range"):
            store.get_sync("zarr.json", byte_range="all")


def test_nothing_is_written(tiff: Path) -> None:
    with BioReader(tiff) as br:
        store = br.to_zarr()
        buffer = default_buffer_prototype().buffer.from_bytes(b"x")
        for attempt in (
            lambda: asyncio.run(store.set("zarr.json", buffer)),
            lambda: store.set_sync("zarr.json", buffer),
            lambda: asyncio.run(store.delete("zarr.json")),
            lambda: store.delete_sync("zarr.json"),
            lambda: asyncio.run(store.set_partial_values([])),
            lambda: store.with_read_only(False),
        ):
            with pytest.raises(BadArgument, match="is read-only"):
                attempt()
        assert store.read_only
        assert store.with_read_only(True) is store
        with pytest.raises((ValueError, BadArgument)):
            store.root["0"][:1] = 0


# ---- processes, threads, lifetime


@pytest.mark.slow(ci=True)
def test_a_store_is_pickled_as_a_recipe(tiff: Path) -> None:
    with BioReader(tiff) as br:
        store = br.to_zarr(2, compression="zstd")
        data = pickle.dumps(store)
        wanted = br.read(T=1, keepdims=True).transpose(4, 3, 2, 0, 1)
    assert len(data) < 5000
    code = (
        "import pickle, sys; store = pickle.loads(sys.stdin.buffer.read());"
        "sys.stdout.buffer.write(store.root['0'][1:2].tobytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, check=True, timeout=100
    )
    assert done.stdout == wanted.tobytes()
    # The reader is closed, and the store is not.
    np.testing.assert_array_equal(store.root["0"][1:2], wanted)
    assert pickle.loads(data) == store
    assert store != 7


def test_a_changed_file_is_no_longer_the_store(tmp_path: Path) -> None:
    path = write_ome_tiff(tmp_path / "a.ome.tif", distinct((1, 1, 1, 30, 40)))
    with BioReader(path) as br:
        data = pickle.dumps(br.to_zarr())
    write_ome_tiff(path, distinct((1, 1, 1, 31, 40)))
    with pytest.raises(ReadFailed, match="has changed since this store"):
        pickle.loads(data)


def test_the_event_loop_is_not_held_up(tiff: Path) -> None:
    with BioReader(tiff) as br:
        store = br.to_zarr(chunk=512)
        started, go_on = threading.Event(), threading.Event()
        image = store.hierarchy.image(0)
        chunk = image.chunk

        def slow(number: int, index: Any) -> Array:
            started.set()
            assert go_on.wait(20)
            return chunk(number, index)

        image.chunk = slow  # type: ignore[method-assign]

        async def main() -> int:
            reading = asyncio.create_task(store.get("0/c/0/0/0/0/0"))
            while not started.is_set():
                await asyncio.sleep(0.01)
            # Other tasks run while the chunk is decoded.
            assert await store.exists("0/c/0/0/0/0/1")
            go_on.set()
            return len(await reading)

        assert asyncio.run(main()) == 512 * 512 * 2


@pytest.mark.slow(ci=True)
@versions
def test_dask_and_xarray(tiff: Path, version: int) -> None:
    dask_array = pytest.importorskip("dask.array")
    xarray = pytest.importorskip("xarray")
    with BioReader(tiff) as br:
        wanted = br.read(keepdims=True).transpose(4, 3, 2, 0, 1)
        store = br.to_zarr(version)
        array = dask_array.from_zarr(store.root["0"])
        for scheduler in ("sync", "threads"):
            np.testing.assert_array_equal(array.compute(scheduler=scheduler), wanted)
        np.testing.assert_array_equal(
            dask_array.from_zarr(zarr.open_array(store, path="1", mode="r")).compute(),
            store.root["1"][:],
        )
        # xarray takes the fill value of a version 2 array for "missing".
        with xarray.open_zarr(
            store, drop_variables=["1"], chunks=None, mask_and_scale=False
        ) as opened:
            assert opened["0"].dims == tuple("tczyx")
            np.testing.assert_array_equal(opened["0"].values, wanted)


def test_errors_reach_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    values = np.random.default_rng(0).integers(0, 60_000, (600, 700)).astype(np.uint16)
    tifffile.imwrite(path, values, tile=(256, 256), compression="zlib", ome=True)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[4]
    data[offset : offset + 40] = b"\xff" * 40
    path.write_bytes(data)
    with BioReader(path) as br:
        array = br.to_zarr().root["0"]
        with pytest.raises(ReadFailed, match="tile 1, 1"):
            array[:]
