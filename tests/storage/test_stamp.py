"""Files that change while a reader has them open: an error that says so, never mixed pixels."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from bfbridge.backend import OpenOptions, Region
from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.errors import FileChanged, ReadFailed
from bfbridge.files.open_file import OpenFile
from bfbridge.storage.source import as_source
from bfbridge.storage.stamp import FileStamp, Stamps
from bfbridge_ometiff.reading import files
from tests.support.tiffs import all_of, build, numbered, ome_xml, open_ours, page, saved

SHAPE = (1, 1, 3, 64, 48)


def set_time(path: Path, nanoseconds: int = 1_000_000_007) -> None:
    """Give a file another time, whatever the resolution of the file system's clock."""
    os.utime(path, ns=(nanoseconds, nanoseconds))


def tiff(array: np.ndarray[Any, Any], compression: int = 1) -> bytes:
    import imagecodecs

    encode = {1: bytes, 8: imagecodecs.zlib_encode}[compression]
    planes = array.reshape(-1, *array.shape[3:])
    return build(
        page(
            array.shape[4],
            array.shape[3],
            [
                encode(np.ascontiguousarray(plane[y : y + 16]).tobytes())
                for y in range(0, len(plane), 16)
            ],
            bits=array.itemsize * 8,
            compression=compression,
            rows=16,
            description=None if number else ome_xml(array.shape, array.dtype),
        )
        for number, plane in enumerate(planes)
    )


@pytest.mark.parametrize("shown_by", ["descriptor", "path"])
def test_a_stamp_tells_every_kind_of_change(tmp_path: Path, shown_by: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    set_time(path)
    with path.open("rb") as file:
        seen: Any = file.fileno() if shown_by == "descriptor" else path
        stamp = FileStamp.of(seen)
        stamp.check(seen, "a.bin")
        path.chmod(0o600)
        (tmp_path / "link").hardlink_to(path)
        stamp.check(seen, "a.bin")  # neither changes a byte
        path.write_bytes(b"123456")
        set_time(path)
        with pytest.raises(FileChanged, match=r"^a\.bin: .* size was 5 bytes and is 6") as caught:
            stamp.check(seen, "a.bin")
        assert "Open it again" in str(caught.value)
        assert isinstance(caught.value, ReadFailed)
        path.write_bytes(b"54321")
        set_time(path, 2_000_000_007)
        with pytest.raises(FileChanged, match="modification time differs"):
            stamp.check(seen, "a.bin")


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be replaced there")
def test_a_path_also_shows_that_the_file_was_replaced_or_removed(tmp_path: Path) -> None:
    path, other = tmp_path / "a.bin", tmp_path / "b.bin"
    for each in (path, other):
        each.write_bytes(b"12345")
        set_time(each)
    with path.open("rb") as file:
        stamp = FileStamp.of(path)
        other.replace(path)
        stamp.check(file.fileno(), "a.bin")
        with pytest.raises(FileChanged, match="another file has its name now"):
            stamp.check(path, "a.bin")
        path.unlink()
        with pytest.raises(FileChanged, match="cannot be found"):
            stamp.check(path, "a.bin")


def test_stamps_are_those_first_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    stamps = Stamps()
    stamps.check(str(path))  # never seen: nothing to compare with
    stamps.see(str(path), FileStamp.of(path))
    stamps.see(str(path), FileStamp.of(path))
    stamps.check(str(path))
    set_time(path)
    for look in (
        lambda: stamps.check(str(path)),
        lambda: stamps.see(str(path), FileStamp.of(path)),
    ):
        with pytest.raises(FileChanged, match=re.escape(str(path))):
            look()


def test_a_handle_checks_each_read(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    access = as_source(path).open()
    assert bytes(access.read_at(1, 2)) == b"23"
    path.write_bytes(b"123")
    with pytest.raises(FileChanged, match="size was 5"):
        access.read_at(1, 2)
    access.close()


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("how", ["pixels", "stored", "metadata", "damage"])
def test_a_tiff_written_to_in_place(tmp_path: Path, compression: int, how: str) -> None:
    old, new = tiff(numbered(SHAPE, "u2"), compression), tiff(numbered(SHAPE, "u2", 1), compression)
    path = saved(tmp_path, old)
    set_time(path)
    reader = open_ours(path)
    first = Region(0, 0, (0, 0, 0, 0, 0), (1, 1, 1, 16, 48))
    reader.read(first, np.empty(first.shape, "u2"))
    # The same file, as `cp` and rsync --inplace write it; damaged, it is still the change's fault.
    path.write_bytes(new if how != "damage" else bytes(len(old)))
    set_time(path, 2_000_000_007)
    read = {
        "stored": lambda: reader.read_stored(0, 0, (0, 0, 0, 1, 0)),
        "metadata": lambda: reader.original_metadata,
    }.get(how, lambda: all_of(reader))
    with pytest.raises(FileChanged, match=r"made\.ome\.tif: the file has changed"):
        read()
    reader.close()


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be replaced there")
def test_a_tiff_that_is_replaced_stays_the_one_that_was_opened(tmp_path: Path) -> None:
    array = numbered(SHAPE, "u2")
    path = saved(tmp_path, tiff(array))
    reader = open_ours(path)
    saved(tmp_path, tiff(numbered(SHAPE, "u2", 1)), "other").replace(path)
    np.testing.assert_array_equal(all_of(reader), array)
    reader.close()


def in_two_files(folder: Path, seed: int) -> tuple[Path, Path]:
    """A set of two planes, each in a file of its own."""
    array = numbered((2, 1, 1, 16, 16), "u1", seed)
    where = "".join(
        f'<TiffData IFD="0" FirstT="{t}" PlaneCount="1">'
        f'<UUID FileName="{t}.ome.tif">urn:uuid:{t}</UUID></TiffData>'
        for t in range(2)
    )
    paths = []
    for t in range(2):
        xml = ome_xml(array.shape, "u1", tiff_data=where, uuid=f"urn:uuid:{t}")
        data = build([page(16, 16, [array[t, 0, 0].tobytes()], description=xml)])
        paths.append(saved(folder, data, f"{t}.ome.tif"))
    return paths[0], paths[1]


@pytest.mark.parametrize("how", ["in place", "replaced"])
@pytest.mark.parametrize("read_before", [False, True])
def test_a_file_of_a_set_that_changes_after_the_set_was_opened(
    tmp_path: Path, how: str, read_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not it was open, and whether or not it was closed in between."""
    monkeypatch.setattr("bfbridge_ometiff.reading.files._MOST_OPEN", 0)
    path, second = in_two_files(tmp_path, 0)
    reader = open_ours(path)
    if read_before:
        all_of(reader)
    (tmp_path / "new").mkdir()
    other = in_two_files(tmp_path / "new", 1)[1]
    set_time(other)
    if how == "replaced":
        other.replace(second)
    else:
        second.write_bytes(other.read_bytes())
        set_time(second)
    with pytest.raises(FileChanged, match=r"1\.ome\.tif"):
        all_of(reader)
    reader.close()


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_file_copied_over_in_the_middle_of_a_read(
    tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the whole reader, with every chunk read once."""
    contents = []
    for value in (1, 2):
        made = tmp_path / f"{value}.ome.tif"
        with BioWriter(
            made, shape=(256, 256, 4), dtype="uint16", compression=compression
        ) as writer:
            writer[:] = np.full((256, 256, 4), value, "u2")
        contents.append(made.read_bytes())
    path = tmp_path / "a.ome.tif"
    reads = 0
    fill = files.fill_at

    def interrupted(*args: Any) -> int:
        nonlocal reads
        reads += 1
        if reads == 3:
            path.write_bytes(contents[1])
            set_time(path, 2_000_000_007)
        return fill(*args)

    monkeypatch.setattr(files, "fill_at", interrupted)
    path.write_bytes(contents[0])
    set_time(path)
    with BioReader(path, backend="ometiff", max_workers=1) as reader:
        with pytest.raises(FileChanged):
            _ = reader[:]
        assert reads >= 3
    with BioReader(path, backend="ometiff") as reader:
        assert (reader[:] == 2).all()


def test_a_shared_cache_never_gives_one_file_the_chunks_of_another(tmp_path: Path) -> None:
    """The file is replaced after it was opened and before its first chunk is read."""
    pixels = [np.full((32, 32), value, "u1") for value in (1, 2)]
    paths = [tmp_path / f"{n}.ome.tif" for n in range(2)]
    for path, plane in zip(paths, pixels, strict=True):
        path.write_bytes(tiff(plane[np.newaxis, np.newaxis, np.newaxis]))
    cache = ChunkCache()
    old = OpenFile(as_source(paths[0]), OpenOptions(), cache=cache, shared=True)
    _ = old.backend
    paths[1].replace(paths[0])
    new = OpenFile(as_source(paths[0]), OpenOptions(), cache=cache, shared=True)
    assert old.token != new.token
    old.close()
    new.close()
