"""Made levels of large images, kept in the user's cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile

from bfbridge import BioReader
from bfbridge.engine.pyramid import reduce_block
from bfbridge.errors import BadArgument
from bfbridge.runtime.systems import cache_folder
from bfbridge.storage.cache_folder import CacheFolder
from bfbridge.virtual import pyramid_cache
from bfbridge.virtual.pyramid import VirtualImage
from bfbridge.virtual.pyramid_cache import ChunkFiles, default_cache

Array = np.ndarray[Any, Any]
FIRST = (0, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, and images that count as large from 1 megapixel on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(pyramid_cache.VARIABLE, raising=False)
    monkeypatch.setattr(pyramid_cache, "LARGE", 1 << 20)
    return tmp_path


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    values = (np.add.outer(np.arange(4100) * 7, np.arange(4300) * 3) % 60_000).astype(np.uint16)
    path = folder / "a.ome.tif"
    tifffile.imwrite(path, values, tile=(256, 256))
    return path


def halved(values: Array, times: int) -> Array:
    for _ in range(times):
        values = reduce_block(values, 2, "mean")
    return values


def kept() -> list[Path]:
    return sorted(p for p in default_cache().folder.rglob("*.*.*.*.*") if p.is_file())


class Reads:
    """Counts what a reader reads."""

    def __init__(self, br: BioReader) -> None:
        self.count = 0
        backend = br._file.backend
        self._read = backend.read
        backend.read = self.read  # type: ignore[method-assign]

    def read(self, region: Any, out: Array) -> None:
        self.count += 1
        self._read(region, out)


@pytest.mark.slow(ci=True)
def test_made_levels_are_kept_between_readers(tiff: Path) -> None:
    values = tifffile.imread(tiff)
    with BioReader(tiff) as br:
        image = VirtualImage(br, 512)
        np.testing.assert_array_equal(image.chunk(4, FIRST)[0, 0, 0], halved(values, 4))
    # Level 1 is made of stored pixels at once, and not worth its room.
    levels = {path.parent.name for path in kept()}
    assert levels == {"512-2", "512-3", "512-4"}
    assert os.listdir(tiff.parent) == ["a.ome.tif"]
    assert default_cache().folder == cache_folder() / "pyramids"
    assert default_cache().nbytes < values.nbytes / 8
    with BioReader(tiff) as br:
        reads = Reads(br)
        image = VirtualImage(br, 512)
        assert image.boxes_to_read(4, FIRST) == 0
        np.testing.assert_array_equal(image.chunk(4, FIRST)[0, 0, 0], halved(values, 4))
        np.testing.assert_array_equal(
            image.chunk(2, (0, 0, 0, 1, 1))[0, 0, 0], halved(values, 2)[512:1024, 512:1024]
        )
        assert reads.count == 0
        image.chunk(1, FIRST)
        assert reads.count > 0


def test_a_changed_file_has_other_levels(tiff: Path) -> None:
    with BioReader(tiff) as br:
        VirtualImage(br, 512).chunk(4, FIRST)
    values = tifffile.imread(tiff)
    tifffile.imwrite(tiff, values[::-1], tile=(256, 256))
    os.utime(tiff, ns=(1, 1))
    with BioReader(tiff) as br:
        found = VirtualImage(br, 512).chunk(4, FIRST)[0, 0, 0]
    np.testing.assert_array_equal(found, halved(values[::-1], 4))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "zeros"])
def test_damaged_files_are_made_again(tiff: Path, damage: str) -> None:
    with BioReader(tiff) as br:
        wanted = VirtualImage(br, 512).chunk(3, FIRST).copy()
    for path in kept():
        data = bytearray(path.read_bytes())
        if damage == "cut":
            del data[len(data) // 2 :]
        elif damage == "bit":
            data[len(data) // 2] ^= 4
        elif damage == "empty":
            data.clear()
        else:
            data[:] = bytes(len(data))
        path.write_bytes(data)
    with BioReader(tiff) as br:
        np.testing.assert_array_equal(VirtualImage(br, 512).chunk(3, FIRST), wanted)


@pytest.mark.slow(ci=True)
def test_small_complete_and_remote_images_are_not_kept(
    tmp_path: Path, tiff: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BioReader(tiff.read_bytes(), name="a.ome.tif") as br:
        VirtualImage(br, 512).chunk(4, FIRST)
    fsspec.filesystem("memory").pipe_file("/virtual-cache/a.ome.tif", tiff.read_bytes())
    with BioReader("memory://virtual-cache/a.ome.tif") as br:
        VirtualImage(br, 512).chunk(4, FIRST)
    monkeypatch.setattr(pyramid_cache, "LARGE", 1 << 28)
    with BioReader(tiff) as br:
        VirtualImage(br, 512).chunk(4, FIRST)
    assert kept() == []
    assert not default_cache().folder.exists()


def test_the_variable_bounds_or_forbids_it(tiff: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, wanted in (("", 8 << 30), ("0", 0), ("20g", 20 << 30), ("500M", 500 << 20),
                         ("123", 123)):  # fmt: skip
        monkeypatch.setenv(pyramid_cache.VARIABLE, text)
        assert default_cache().max_bytes == wanted
    for text in ("many", "-1", "1.5g", "g"):
        monkeypatch.setenv(pyramid_cache.VARIABLE, text)
        with pytest.raises(BadArgument, match="such as 20g"):
            default_cache()
    monkeypatch.setenv(pyramid_cache.VARIABLE, "0")
    with BioReader(tiff) as br:
        VirtualImage(br, 512).chunk(4, FIRST)
    assert kept() == []


def test_what_was_unused_for_longest_goes_first(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path / "bounded", 110_000)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60_000, (1, 1, 1, 100, 100)).astype(np.uint16)  # about 20 kB
    images = [ChunkFiles(cache, f"image{i}") for i in range(3)]
    for i, files in enumerate(images):
        files.save("512-2", FIRST, pixels + i)
        os.utime(cache.folder / f"image{i}" / "used", (i + 1, i + 1))
    assert cache.nbytes < 110_000
    newest = ChunkFiles(cache, "newest")
    for x in range(3):
        newest.save("512-2", (0, 0, 0, 0, x), pixels)
    assert sorted(os.listdir(cache.folder)) == ["image1", "image2", "newest"]
    # One image never takes more than the bound: what it has stays, and no more is written.
    for x in range(3, 20):
        newest.save("512-2", (0, 0, 0, 0, x), pixels)
    assert cache.nbytes <= 110_000
    assert os.listdir(cache.folder) == ["newest"]
    found = newest.load("512-2", FIRST, pixels.shape, pixels.dtype)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, pixels)
    assert cache.clear() > 50_000
    assert os.listdir(cache.folder) == []


def test_files_of_another_shape_or_dtype_are_not_taken(tmp_path: Path) -> None:
    files = ChunkFiles(CacheFolder(tmp_path / "c", 1 << 30), "a")
    pixels = np.arange(12, dtype=np.uint16).reshape(1, 1, 1, 3, 4)
    files.save("n", FIRST, pixels)
    assert files.load("n", FIRST, (1, 1, 1, 3, 5), np.dtype("u2")) is None
    assert files.load("n", FIRST, (1, 1, 1, 3, 4), np.dtype("u4")) is None
    assert files.load("m", FIRST, (1, 1, 1, 3, 4), np.dtype("u2")) is None
    np.testing.assert_array_equal(files.load("n", FIRST, (1, 1, 1, 3, 4), np.dtype("u2")), pixels)


def test_a_full_or_forbidden_disk_does_no_harm(tiff: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        real(path, data[:10])
        raise OSError(28, "No space left on device")

    # A context of its own: undoing everything would also undo the fixture "home", and the user's
    # cache folder, which other processes use, would be listed here and cleared afterwards.
    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_bytes", full)
        with BioReader(tiff) as br:
            found = VirtualImage(br, 512).chunk(4, FIRST)
    np.testing.assert_array_equal(found[0, 0, 0], halved(tifffile.imread(tiff), 4))
    assert default_cache().folder.is_relative_to(tiff.parents[1])
    left = [path for path in default_cache().folder.rglob("*") if path.is_file()]
    assert left
    assert [path.name for path in left if path.name != "used"] == []


def test_a_plane_is_built_in_the_background_and_grows(tiff: Path) -> None:
    values = tifffile.imread(tiff)
    with BioReader(tiff) as br:
        image = VirtualImage(br, 512)
        steps = image.build()
        assert next(steps) == (1, 9)
        assert image.boxes_to_read(2, FIRST) == 0
        assert image.boxes_to_read(2, (0, 0, 0, 1, 1)) > 0
        steps.close()
    with BioReader(tiff) as br:
        reads = Reads(br)
        image = VirtualImage(br, 512)
        progress: list[tuple[int, int]] = []
        thread = threading.Thread(target=lambda: progress.extend(image.build()))
        thread.start()
        thread.join()
        assert progress == [(i, 9) for i in range(1, 10)]
        # What was built before is not built again.
        built = reads.count
        assert built < 17 * 17
        np.testing.assert_array_equal(image.chunk(4, FIRST)[0, 0, 0], halved(values, 4))
        assert reads.count == built
        assert list(image.build())[-1] == (9, 9)
        assert reads.count == built


@pytest.mark.slow(ci=True)
def test_several_processes_share_it(tiff: Path) -> None:
    code = (
        "import sys; from bfbridge import BioReader; from bfbridge.virtual import pyramid_cache;"
        "pyramid_cache.LARGE = 1 << 20; from bfbridge.virtual.pyramid import VirtualImage;"
        "image = VirtualImage(BioReader(sys.argv[1]), 512);"
        "sys.stdout.buffer.write(image.chunk(4, (0, 0, 0, 0, 0)).tobytes())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tiff)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    wanted = halved(tifffile.imread(tiff), 4).tobytes()
    for process in running:
        out, _ = process.communicate(timeout=100)
        assert out == wanted
    assert [path for path in kept() if path.name.startswith(".")] == []


def test_the_folder_is_the_users_own(tiff: Path) -> None:
    with BioReader(tiff) as br:
        VirtualImage(br, 512).chunk(4, FIRST)
    if sys.platform != "win32":
        assert default_cache().folder.stat().st_mode & 0o077 == 0


def test_cache_commands(
    tiff: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bfbridge.cli import main

    with BioReader(tiff) as br:
        VirtualImage(br, 512).chunk(4, FIRST)
    assert kept()
    for command, wanted in (("info", str(default_cache().folder)), ("clear", "MB removed")):
        monkeypatch.setattr(sys, "argv", ["bfbridge", "cache", command])
        with pytest.raises(SystemExit) as caught:
            main()
        assert not caught.value.code
        assert wanted in capsys.readouterr().out
    assert kept() == []


def test_use_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CacheFolder(tmp_path / "c", 1 << 30)
    pixels = np.ones((1, 1, 1, 8, 8), np.uint8)
    ChunkFiles(cache, "a").save("n", FIRST, pixels)
    os.utime(cache.folder / "a" / "used", (1, 1))
    ChunkFiles(cache, "a").load("n", FIRST, (1, 1, 1, 8, 8), np.dtype("u1"))
    assert time.time() - (cache.folder / "a" / "used").stat().st_mtime < 60
