"""Small Zarr chunks, which are read several at a time."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")
pytest.importorskip("imagecodecs")

from bfbridge import BioReader, BioWriter  # noqa: E402
from bfbridge.backend import Image, ImageSpec, Level  # noqa: E402
from bfbridge.backend.chunk_grid import ChunkGrid  # noqa: E402
from bfbridge.engine.tiles import plan, plan_joined  # noqa: E402
from bfbridge.errors import BadArgument, BadDtype, Closed, FileChanged, ReadFailed  # noqa: E402
from bfbridge.storage.source import as_source  # noqa: E402
from bfbridge_omezarr.chunked import chunks as chunk_reader  # noqa: E402
from bfbridge_omezarr.chunked import joined  # noqa: E402
from bfbridge_omezarr.chunked.codecs import crc32c  # noqa: E402
from bfbridge_omezarr.chunked.shards import Shards  # noqa: E402
from bfbridge_omezarr.writer import StoreWriter  # noqa: E402

PIXELS = np.random.default_rng(3).poisson(400, (2, 3, 100, 130)).astype("u2")
KEYS: tuple[Any, ...] = (
    (slice(None), slice(None)),
    (slice(3, 97), slice(16, 128)),
    (slice(16, 48), slice(32, 33)),
    (slice(None, None, 3), slice(90, 5, -2)),
    ([5, 99, 5, 16], slice(None)),
    (7, [0, 129]),
)


def store(path: Path, shards: Any = None, chunks: Any = (1, 1, 16, 16), **more: Any) -> Any:
    """A bare array with axes c, z, y, x, written by zarr-python."""
    array = zarr.create_array(
        str(path), shape=PIXELS.shape, dtype="u2", chunks=chunks, shards=shards, **more
    )
    array[...] = PIXELS
    return array


def opened(path: Path, **options: Any) -> BioReader:
    return BioReader(path, options={"axes": "czyx"}, **options)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("shards", [None, (1, 3, 48, 64), (2, 1, 16, 160)])
@pytest.mark.parametrize("workers", [1, 2])
def test_every_selection_equals_numpy(tmp_path: Path, shards: Any, workers: int) -> None:
    store(tmp_path / "a.zarr", shards)
    expected = PIXELS.transpose(2, 3, 1, 0)
    with opened(tmp_path / "a.zarr", max_workers=workers) as br:
        assert br._file.backend.read_unit(0, 0) != (1, 1, 1, 16, 16)
        for y, x in KEYS:
            rows = expected[y] if isinstance(y, (slice, list)) else expected[y : y + 1]
            np.testing.assert_array_equal(
                np.squeeze(br[y, x, :, :]), np.squeeze(rows[:, x]), err_msg=str((y, x))
            )


def test_chunks_are_joined_only_if_selected_whole() -> None:
    grid = ChunkGrid((1, 1, 4, 50, 70), (1, 1, 1, 16, 16))
    random.seed(1)
    for _ in range(200):
        unit = tuple(n * random.randint(1, 5) for n in grid.chunk)
        axes: list[Any] = []
        for size in grid.shape:
            a, b = sorted(random.sample(range(size + 1), 2))
            kinds = [range(size), range(a, b), range(b - 1, a - 1, -1), range(a, b, 2)]
            axes.append(random.choice([*kinds, np.array([a % size, a % size, b - 1])]))
        single = {(b.index, b.start, b.stop) for b in plan(axes, grid.chunk)}
        found = []
        for block in plan_joined(axes, grid, unit):  # type: ignore[arg-type]
            if not block.is_joined:
                found.append((block.index, block.start, block.stop))
                continue
            inside = grid.overlapping(block.start, block.stop)
            numbers = list(inside)
            assert len(numbers) > 1
            for start, stop, most in zip(block.start, block.stop, unit, strict=True):
                assert stop - start <= most
            found += [(number, *grid.box(number)) for number in numbers]
        assert sorted(found) == sorted(single)
        assert len(found) == len(set(found))


def positions(shard: Path, count: int) -> np.ndarray[Any, Any]:
    raw = shard.read_bytes()[-16 * count - 4 : -4]
    return np.frombuffer(raw, "<u8").reshape(count, 2).copy()


def with_index(data: bytes, table: np.ndarray[Any, Any]) -> bytes:
    raw = table.astype("<u8").tobytes()
    return data + raw + crc32c(raw).to_bytes(4, "little")


def test_chunks_of_a_shard_in_any_order_and_with_gaps(tmp_path: Path) -> None:
    """Positions are free in the format: other orders, gaps, and one place for several chunks."""
    path = tmp_path / "a.zarr"
    store(path, (1, 1, 112, 144))
    for plane in product(range(2), range(3)):
        shard = path / "c" / "/".join(map(str, (*plane, 0, 0)))
        data, table = shard.read_bytes(), positions(shard, 63)
        body, order = bytearray(b"\xff" * 7), list(range(63))
        random.Random(plane[1]).shuffle(order)
        for number in order:
            begin, length = map(int, table[number])
            if length > 1 << 40:
                continue
            table[number, 0] = len(body)
            body += data[begin : begin + length] + b"\xee" * (5000 * (number % 7 == 0))
        # The chunk at (0, 1) has the bytes of the one at (0, 0).
        table[1] = table[0]
        shard.write_bytes(with_index(bytes(body), table))
    expected = PIXELS.transpose(2, 3, 1, 0).copy()
    expected[:16, 16:32] = expected[:16, :16]
    with opened(path) as br:
        np.testing.assert_array_equal(br[:, :, :, :].reshape(expected.shape), expected)
        np.testing.assert_array_equal(br[2:99, 5:30, :, :].squeeze(), expected[2:99, 5:30])


def test_damaged_and_truncated_chunks_are_named(tmp_path: Path) -> None:
    plain = tmp_path / "a.zarr"
    store(plain)
    (plain / "c/1/2/3/4").write_bytes(b"damaged")
    with opened(plain) as br, pytest.raises(ReadFailed, match=r"c/1/2/3/4.*\(1, 2, 3, 4\)"):
        br[:]
    sharded = tmp_path / "b.zarr"
    store(sharded, (1, 1, 112, 144))
    shard = sharded / "c/1/1/0/0"
    table = positions(shard, 63)
    table[10, 0] = shard.stat().st_size
    shard.write_bytes(with_index(shard.read_bytes(), table))
    with opened(sharded) as br, pytest.raises(ReadFailed, match=r"\(1, 1, 1, 1\) is (cut|damaged)"):
        br[:]


def test_a_shard_that_was_replaced_is_an_error(tmp_path: Path) -> None:
    store(tmp_path / "a.zarr", (1, 1, 112, 144))
    with opened(tmp_path / "a.zarr", cache=0) as br:
        br[:]
        shard = tmp_path / "a.zarr/c/0/0/0/0"
        data = shard.read_bytes()
        shard.unlink()
        shard.write_bytes(data)
        with pytest.raises(FileChanged, match="replaced"):
            br[:]


@pytest.mark.parametrize("shards", [None, 64])
def test_small_chunks_written_are_read_by_zarr_python(tmp_path: Path, shards: Any) -> None:
    path, pixels = tmp_path / "a.ome.zarr", PIXELS.transpose(2, 3, 1, 0)
    options = {"chunks": (16, 16)} | ({"shards": shards} if shards else {})
    with BioWriter(path, Y=100, X=130, Z=3, C=2, dtype="u2", **options) as bw:
        bw[:] = pixels
    found = zarr.open_array(f"{path}/0", mode="r")[0]
    np.testing.assert_array_equal(found, PIXELS)


@pytest.mark.parametrize("pyramid", [False, 2])
def test_chunks_of_a_shard_are_written_together(
    tmp_path: Path, pyramid: int | bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays and documents are those of chunks that are written one by one."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(1, 4000, (150, 210, 2, 2, 1)).astype(np.uint16)
    pixels[:40, :70, 1] = 0  # fill values, which are not stored
    pixels[100, 203, 0, 1] = 60_000
    calls: list[str] = []
    one, many = Shards.write, Shards.write_many

    def counted_one(self: Shards, *args: Any) -> None:
        calls.append("one")
        one(self, *args)

    def counted_many(self: Shards, *args: Any) -> None:
        calls.append("many")
        many(self, *args)

    monkeypatch.setattr(Shards, "write", counted_one)
    monkeypatch.setattr(Shards, "write_many", counted_many)

    def write(name: str) -> Path:
        calls.clear()
        path = tmp_path / name
        with BioWriter(
            path, shape=pixels.shape, dtype=pixels.dtype, chunks=(16, 32), shards=(64, 96),
            pyramid=pyramid, max_workers=2,
        ) as writer:  # fmt: skip
            writer[5:30, 5:40, 0] = 7
            writer[:] = pixels
            writer[32:64, 64:128, 1] = 9
            writer[32:64, 64:96, 1] = 0
        return path

    together = write("together.ome.zarr")
    assert calls.count("many") > 4
    joined = len(calls)
    monkeypatch.setattr(StoreWriter, "write_unit", lambda *_: None)
    single = write("single.ome.zarr")
    assert set(calls) == {"one"}
    assert len(calls) > 1.5 * joined
    documents = [path.relative_to(single) for path in single.rglob("zarr.json")]
    assert len(documents) > 2
    for name in documents:
        assert (together / name).read_text() == (single / name).read_text()
    found = {path.relative_to(single) for path in single.rglob("*") if path.is_file()}
    assert found == {path.relative_to(together) for path in together.rglob("*") if path.is_file()}
    expected = pixels.copy()
    expected[32:64, 64:128, 1] = 9
    expected[32:64, 64:96, 1] = 0
    array = zarr.open_array(together / "0", mode="r")
    np.testing.assert_array_equal(array[:], expected.transpose(4, 3, 2, 0, 1))
    for level in range(3 if pyramid else 1):
        both = [zarr.open_array(path / str(level), mode="r")[:] for path in (together, single)]
        np.testing.assert_array_equal(*both)


def test_joined_blocks_that_are_not_whole_chunks_are_refused(tmp_path: Path) -> None:
    level = Level((1, 1, 1, 50, 70), (1, 1, 1, 16, 32))
    spec = ImageSpec(Image("a", (level,), np.dtype("u2")))
    options = {"chunks": (16, 32), "shards": (48, 64)}
    writer = StoreWriter.prepare(tmp_path / "a.zarr", [spec], None, options)
    unit = writer.write_unit(0, 0)
    assert unit == (1, 1, 1, 48, 64)
    pixels = np.zeros((1, 1, 1, 50, 70), np.uint16)
    with pytest.raises(BadArgument, match="has not whole chunks"):
        writer.write_joined(0, 0, (0, 0, 0, 0, 0), pixels[..., :40])
    with pytest.raises(BadArgument, match="has not whole chunks"):
        writer.write_joined(0, 0, (0, 0, 0, 0, 1), pixels)
    with pytest.raises(BadDtype, match="the block is int16, the image uint16"):
        writer.write_joined(0, 0, (0, 0, 0, 0, 0), pixels.astype("i2"))
    writer.abort()
    with pytest.raises(Closed, match="after finish or abort"):
        writer.write_joined(0, 0, (0, 0, 0, 0, 0), pixels)


COMPRESSORS: dict[str, Any] = {
    "blosc": zarr.codecs.BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
    "bits": zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
    "lz4": zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
    "zstd": zarr.codecs.ZstdCodec(level=3),
    "zstd with checksum": zarr.codecs.ZstdCodec(level=1, checksum=True),
}


def mixed_pixels() -> np.ndarray[Any, Any]:
    """Pixels in which some chunks are noise, which is stored as it is, and some are missing."""
    pixels = PIXELS[:1, :, :52, :70].copy()
    pixels[0, 1, 16:48, :40] = np.random.default_rng(4).integers(0, 65536, (32, 40))
    pixels[0, :, 32:48, 16:48] = 0
    return pixels


def small_store(path: Path, compressor: Any) -> None:
    array = zarr.create_array(
        str(path), shape=(1, 3, 40, 64), dtype="u2", chunks=(1, 1, 16, 16), compressors=compressor
    )
    array[...] = PIXELS[:1, :, :40, :64]


def count_calls(monkeypatch: pytest.MonkeyPatch, codec: str) -> list[int]:
    """Record the decoded size of each joined decoding."""
    sizes: list[int] = []
    found = joined.CODECS[codec]

    def decode(data: Any, out: Any) -> Any:
        sizes.append(out.nbytes)
        return found.decode(data, out)

    changed = {**joined.CODECS, codec: found._replace(decode=decode)}
    monkeypatch.setattr(chunk_reader, "CODECS", changed)
    return sizes


@pytest.mark.parametrize(
    ("name", "order", "endian"),
    [(name, None, "little") for name in COMPRESSORS] + [("blosc", (3, 0, 2, 1), "big")],
)
def test_joined_chunks_equal_those_of_zarr(
    tmp_path: Path, name: str, order: Any, endian: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = mixed_pixels()
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=pixels.shape, dtype="u2", chunks=(1, 1, 16, 16),
        compressors=COMPRESSORS[name], serializer=zarr.codecs.BytesCodec(endian=endian),
        filters=[zarr.codecs.TransposeCodec(order=order)] if order else None, fill_value=0,
    )  # fmt: skip
    array[...] = pixels
    sizes = count_calls(monkeypatch, name.split(maxsplit=1)[0] if "zstd" in name else "blosc")
    with opened(tmp_path / "a.zarr", cache=0) as br:
        for key in ((slice(None), slice(None)), (slice(16, 48), slice(32, 64)), (slice(5, 50),)):
            expected = array[...].transpose(2, 3, 1, 0)[key]
            np.testing.assert_array_equal(br[key].reshape(expected.shape), expected)
    # LZ4 splits a block into parts, which this does not join.
    assert (max(sizes, default=0) > 512) == (name != "lz4")


def test_a_damaged_chunk_among_joined_ones_is_named(tmp_path: Path) -> None:
    for name, compressor in COMPRESSORS.items():
        path = tmp_path / f"{name}.zarr"
        small_store(path, compressor)
        file = path / "c/0/2/1/3"
        data = bytearray(file.read_bytes())
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
        file.write_bytes(data)
        with opened(path) as br, pytest.raises(ReadFailed, match=r"c/0/2/1/3.*\(0, 2, 1, 3\)"):
            br[:]


def test_a_block_that_reaches_into_the_next_chunk_is_an_error(tmp_path: Path) -> None:
    """Blosc's header is valid, but the length in its block is that of this and the next chunk."""
    path = tmp_path / "a.zarr"
    small_store(path, COMPRESSORS["blosc"])
    file = path / "c/0/0/1/1"
    data = bytearray(file.read_bytes())
    data[20:24] = (512).to_bytes(4, "little")
    assert len(data) < 512
    file.write_bytes(data)
    with opened(path) as br, pytest.raises(ReadFailed, match=r"c/0/0/1/1"):
        br[:]


def test_chunks_of_other_sizes_are_errors(tmp_path: Path) -> None:
    small = np.zeros(100, "u2") + 3
    for name, compressor in COMPRESSORS.items():
        path, other = tmp_path / f"{name}.zarr", tmp_path / f"{name}-other.zarr"
        small_store(path, compressor)
        array = zarr.create_array(
            str(other), shape=(100,), dtype="u2", chunks=(100,), compressors=compressor
        )
        array[...] = small
        (path / "c/0/0/1/1").write_bytes((other / "c/0").read_bytes())
        with opened(path) as br, pytest.raises(ReadFailed, match=r"c/0/0/1/1.*damaged"):
            br[:]


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("u1", (52, 70)), ("u2", (48, 64)), ("f4", (48, 64)), ("f8", (52, 70)), ("c16", (48, 70))],
)
@pytest.mark.parametrize("shards", [(48, 64), None])
def test_joined_writes_equal_single_ones(
    tmp_path: Path, dtype: str, size: Any, shards: Any
) -> None:
    y, x = size
    pixels = PIXELS[0, :, :y, :x].astype(dtype).transpose(1, 2, 0)[:, :, :, None, None]
    options: dict[str, Any] = {"chunks": (16, 16), "shards": shards}
    pixels[16:32, :32] = 0
    for name, rows in (("joined", y), ("single", 1)):
        with BioWriter(
            tmp_path / f"{name}.ome.zarr", X=x, Y=y, Z=3, dtype=pixels.dtype, **options
        ) as bw:
            for start in range(0, y, rows):
                bw[start : start + rows] = pixels[start : start + rows]
    both = [zarr.open_array(tmp_path / f"{n}.ome.zarr/0", mode="r") for n in ("joined", "single")]
    for array in both:
        np.testing.assert_array_equal(array[0, 0], pixels.squeeze().transpose(2, 0, 1))
    documents = [(tmp_path / f"{n}.ome.zarr/zarr.json").read_text() for n in ("joined", "single")]
    assert documents[0].replace("joined", "single") == documents[1]
    # The stored chunks are equal, although those of one store were encoded together.
    sizes = [
        sum(f.stat().st_size for f in (tmp_path / f"{n}.ome.zarr/0").rglob("*") if f.is_file())
        for n in ("joined", "single")
    ]
    assert abs(sizes[0] - sizes[1]) <= 16 * 200


def test_plain_chunks_at_a_url_are_not_joined(tmp_path: Path) -> None:
    """Each is a request, and requests are sent in parallel."""
    level = Level((1, 1, 1, 50, 70), (1, 1, 1, 16, 32))
    spec = ImageSpec(Image("a", (level,), np.dtype("u2")))
    place = as_source(f"memory://{tmp_path.name}/a.zarr")
    for shards, unit in ((None, None), ((48, 64), (1, 1, 1, 48, 64))):
        writer = StoreWriter.prepare(place, [spec], None, {"chunks": (16, 32), "shards": shards})
        assert writer.write_unit(0, 0) == unit
        writer.abort()


@pytest.mark.parametrize("shards", [(48, 64), None])
def test_a_repeated_index_writes_its_own_chunks_only(tmp_path: Path, shards: Any) -> None:
    """Chunks of one plane: the last value of a repeated index is kept, as in numpy."""
    expected = np.zeros((32, 40, 3, 1, 1), np.uint16)
    values = np.arange(2 * 32 * 40, dtype=np.uint16).reshape(32, 40, 2, 1, 1) + 1
    options: dict[str, Any] = {"chunks": (16, 16), "shards": shards}
    with BioWriter(tmp_path / "a.ome.zarr", shape=expected.shape, dtype="u2", **options) as bw:
        bw[:, :, [1, 1]] = values
    expected[:, :, [1, 1]] = values
    with BioReader(tmp_path / "a.ome.zarr") as br:
        np.testing.assert_array_equal(br[:].reshape(expected.shape), expected)
        again = br[:, :, [1, 1, 0]].reshape(expected.shape)
        np.testing.assert_array_equal(again, expected[:, :, [1, 1, 0]])
