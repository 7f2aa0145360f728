"""Stores in folders that other programs write to while a reader has them open."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from bfbridge.errors import FileChanged, ReadFailed
from bfbridge_omezarr.hierarchy.store import FolderStore

SHAPE = (150, 170, 2, 1, 3)
LAYOUTS: dict[str, dict[str, Any]] = {
    "0.4": {"version": "0.4", "chunks": 64},
    "0.5": {"chunks": 64},
    "sharded": {"chunks": 32, "shards": 64},
}
layouts = pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)


def pixels(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(1, 60_000, SHAPE).astype(np.uint16)


def made(path: Path, seed: int, options: dict[str, Any], t: int = SHAPE[4]) -> Path:
    array = pixels(seed)[..., :t]
    with BioWriter(path, image=array, pyramid=1, **options) as bw:
        bw[:] = array
    return path


def document(path: Path) -> Path:
    return next(iter([*path.glob("0/.zarray"), *path.glob("0/zarr.json")]))


def edit(path: Path, **changes: Any) -> None:
    file = document(path)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


class TestReplaced:
    @pytest.mark.slow(ci=True)
    @layouts
    @pytest.mark.parametrize("cache", [0, 1 << 26])
    def test_a_store_copied_over_in_place(
        self, tmp_path: Path, options: dict[str, Any], cache: int
    ) -> None:
        """Sizes, types and chunks are the same, so nothing else would show it."""
        old = made(tmp_path / "a.ome.zarr", 1, options)
        new = made(tmp_path / "b.ome.zarr", 2, options)
        with BioReader(old, cache=cache) as br:
            assert np.array_equal(br[:64, :64], pixels(1)[:64, :64, :, 0, :][:, :, :, None])
            shutil.copytree(new, old, dirs_exist_ok=True)
            for _ in range(2):
                with pytest.raises(FileChanged, match=r"a\.ome\.zarr.*(again|replaced)"):
                    br[64:]
            with pytest.raises(FileChanged):
                br.levels[1][:]
        with BioReader(old) as br:
            assert np.array_equal(br.read(keepdims=True), pixels(2))

    @layouts
    @pytest.mark.parametrize(
        "change",
        [{"shape": [3, 1, 2, 100, 170]}, {"fill_value": 9}, {"shape": [1]}, {"shape": "none"}],
        ids=str,
    )
    def test_an_array_that_is_another_one(
        self, tmp_path: Path, options: dict[str, Any], change: dict[str, Any]
    ) -> None:
        path = made(tmp_path / "a.ome.zarr", 1, options)
        with BioReader(path, cache=0) as br:
            edit(path, **change)
            with pytest.raises(FileChanged, match="the array was rewritten"):
                br[:10]

    @layouts
    @pytest.mark.parametrize("text", ["", '{"shape": [3, 1,'])
    def test_a_document_that_is_being_written(
        self, tmp_path: Path, options: dict[str, Any], text: str
    ) -> None:
        path = made(tmp_path / "a.ome.zarr", 1, options)
        with BioReader(path) as br:
            document(path).write_text(text)
            with pytest.raises(FileChanged, match="cannot be read any more"):
                br[:10]
            document(path).unlink()
            with pytest.raises(FileChanged, match="no longer there"):
                br[:10]

    def test_a_shard_alone(self, tmp_path: Path) -> None:
        path = made(tmp_path / "a.ome.zarr", 1, LAYOUTS["sharded"])
        other = made(tmp_path / "b.ome.zarr", 2, LAYOUTS["sharded"])
        key = "0/c/0/0/0/0/0"
        with BioReader(path, cache=0) as br:
            assert np.array_equal(br[:32, :32, 0, 0, 0], pixels(1)[:32, :32, 0, 0, 0])
            shutil.copyfile(other / key, path / key)
            with pytest.raises(FileChanged, match=r"0/c/0/0/0/0/0: this shard was replaced"):
                br[32:64, :32, 0, 0, 0]
            # One that was not read before is read as it is.
            shutil.copyfile(other / "0/c/0/0/0/0/1", path / "0/c/0/0/0/0/1")
            assert np.array_equal(br[:64, 64:128, 0, 0, 0], pixels(2)[:64, 64:128, 0, 0, 0])
            (path / key).unlink()
            with pytest.raises(FileChanged, match="replaced"):
                br[32:64, :32, 0, 0, 0]

    def test_a_chunk_that_is_written_to_while_it_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = {"chunks": 64, "compression": "none"}
        path = made(tmp_path / "a.ome.zarr", 1, options)
        chunk = path / "0/c/0/0/0/0/0"
        fill = FolderStore._fill

        def fill_slowly(fd: int, view: memoryview) -> int:
            half = fill(fd, view[: len(view) // 2])
            with chunk.open("r+b") as file:
                file.write(bytes(len(view)))
            os.utime(chunk, (2_000_000_000, 2_000_000_000))
            return half + fill(fd, view[half:])

        with BioReader(path, cache=0) as br:
            monkeypatch.setattr(FolderStore, "_fill", staticmethod(fill_slowly))
            with pytest.raises(ReadFailed, match=r"0/c/0/0/0/0/0: .*while it was read"):
                br[:64, :64, 0, 0, 0]


class TestContinued:
    """What other programs may do beside a reader."""

    @layouts
    def test_time_points_are_added(self, tmp_path: Path, options: dict[str, Any]) -> None:
        path = made(tmp_path / "a.ome.zarr", 1, options, t=2)
        with BioReader(path, cache=0) as br:
            with BioWriter(path, append=True, T=3) as bw:
                assert np.array_equal(br.read(keepdims=True), pixels(1)[..., :2])
                bw[..., 2] = pixels(1)[..., 2]
            assert np.array_equal(br.read(keepdims=True), pixels(1)[..., :2])
            assert br.T == 2
            with BioReader(path) as again:
                assert np.array_equal(again.read(keepdims=True), pixels(1))

    def test_attributes_are_edited(self, tmp_path: Path) -> None:
        path = made(tmp_path / "a.ome.zarr", 1, LAYOUTS["0.5"])
        with BioReader(path, cache=0) as br:
            for attributes in ({"stain": "DAPI"}, {"stain": "GFP"}):
                edit(path, attributes=attributes)
                assert np.array_equal(br.read(keepdims=True), pixels(1))
            root = path / "zarr.json"
            root.write_text(root.read_text().replace("FFFFFF", "00FF00"))
            assert np.array_equal(br.read(keepdims=True), pixels(1))

    def test_a_shard_is_written_later(self, tmp_path: Path) -> None:
        path = made(tmp_path / "a.ome.zarr", 1, LAYOUTS["sharded"])
        shard = path / "0/c/0/0/0/0/0"
        data = shard.read_bytes()
        shard.unlink()
        with BioReader(path, cache=0) as br:
            assert not br[:64, :64, 0, 0, 0].any()
            shard.write_bytes(data)
            assert np.array_equal(br[:64, :64, 0, 0, 0], pixels(1)[:64, :64, 0, 0, 0])
