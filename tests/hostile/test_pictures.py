"""Pictures that were changed, or that lie: pixels or a BfbridgeError, soon, in little memory.

Some hundreds are opened in every run, tens of thousands with ``-m slow`` (some minutes).
"""

from __future__ import annotations

import io
import random
import struct
import time
from collections.abc import Callable, Iterator

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from bfbridge.backend import OpenOptions, Region
from bfbridge.errors import BfbridgeError, LimitExceeded, UnreadableFile
from bfbridge.storage.source import as_source
from bfbridge_pictures import PictureReader
from tests.real.manifest import entries
from tests.support import pictures
from tests.support.peak import peak_memory
from tests.support.pictures import BACKGROUND, PREVIOUS, Frame

SECONDS = 10
MEMORY = 512 << 20
REAL = ("bmp", "gif", "jpeg2000", "pgm", "tga")


def by_pillow(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def sound() -> Iterator[tuple[str, bytes]]:
    """One small file of each kind and way of packing, by name."""
    rng = np.random.default_rng(5)
    shape = (45, 67)
    grey = rng.integers(0, 256, shape).astype(np.uint8)
    color = np.kron(rng.integers(0, 256, (6, 9, 3)), np.ones((8, 8, 1)))[:45, :67].astype(np.uint8)
    alpha = rng.integers(0, 256, (*shape, 4)).astype(np.uint8)
    wide = rng.integers(0, 65536, (*shape, 3)).astype(np.uint16)
    palette = rng.integers(0, 256, (256, 3))
    frames = [
        Frame(grey),
        Frame(grey[:20, :30], 5, 6, PREVIOUS, transparent=3, palette=palette[::-1], over=True),
        Frame(grey[:9, :50], 1, 30, BACKGROUND, interlaced=True, over=True),
    ]
    yield "a.gif", pictures.gif(shape, frames, palette, clear=False)
    yield "grey.png", pictures.png(frames, pictures.GREY, 8, transparency=b"\0\x09")
    over = [Frame(alpha), Frame(alpha[:30, :40], 3, 4, PREVIOUS, over=True)]
    yield "alpha.png", pictures.png(over, pictures.RGBA, 8)
    yield "wide.png", pictures.png([Frame(wide)], pictures.RGB, 16, interlaced=True)
    small = [Frame(grey % 4)]
    yield "palette.png", pictures.png(small, pictures.INDEXED, 2, palette=palette[:4])
    rows = pictures.bmp_rows(color, 24)
    yield "color.bmp", pictures.bmp(rows, shape, 24)
    rows = pictures.bmp_rows(grey, 8)
    yield "palette.bmp", pictures.bmp(rows, shape, 8, palette=palette)
    runs = b"".join(bytes([67, value, 0, 0]) for value in range(45)) + b"\0\1"
    yield "runs.bmp", pictures.bmp(runs, shape, 8, compression=1, palette=palette)
    rows = pictures.bmp_rows(wide[..., 0].astype("<u2"), 16)
    yield "masks.bmp", pictures.bmp(rows, shape, 16, compression=3, masks=(0xF800, 0x7E0, 0x1F))
    yield "raw.tga", pictures.tga(color, 2, 24)
    packets = [(100, number % 2 == 0) for number in range(30)] + [(15, True)]
    yield "runs.tga", pictures.tga(alpha, 10, 32, packets=packets, flags=0x28)
    yield "palette.tga", pictures.tga(grey[..., np.newaxis], 1, 8, palette=palette)
    for name, options in (("baseline", {}), ("progressive", {"progressive": True})):
        tags = Image.Exif()
        tags.get_ifd(0x8769)[0x9003] = "2021:02:03 04:05:06"
        yield f"{name}.jpg", by_pillow(color, "JPEG", exif=tags.tobytes(), **options)
    yield "lossless.jp2", by_pillow(color, "JPEG2000", num_resolutions=3, mct=1)
    yield "lossy.jp2", by_pillow(color, "JPEG2000", irreversible=True, quality_layers=[20])
    yield "wide.j2k", imagecodecs.jpeg2k_encode(wide[..., 0], level=0, codecformat="j2k")
    yield "lossless.webp", imagecodecs.webp_encode(color, lossless=True)
    yield "lossy.webp", by_pillow(color, "WEBP", quality=60)
    out = io.BytesIO()
    steps = [Image.fromarray(np.roll(alpha, n, 0)) for n in range(3)]
    steps[0].save(out, "WEBP", save_all=True, append_images=steps[1:], lossless=True)
    yield "moving.webp", out.getvalue()
    yield "raw.ppm", b"P6\n67 45\n255\n" + color.tobytes()
    yield "text.pgm", b"P2\n67 45\n255\n" + b" ".join(b"%d" % value for value in grey.ravel())
    yield "bits.pbm", b"P4\n67 45\n" + np.packbits(grey > 99, axis=1).tobytes()
    header = b"P7\nWIDTH 67\nHEIGHT 45\nDEPTH 3\nMAXVAL 65535\nENDHDR\n"
    yield "a.pam", header + wide.astype(">u2").tobytes()


SOUND = dict(sound())
REAL_FILES = [entry.path for entry in entries() if entry.format in REAL]


def look(name: str, data: bytes) -> bool:
    """Open and read everything; return whether that could be done."""
    begun = time.monotonic()
    try:
        reader = PictureReader.open(as_source(data, name=name), OpenOptions(max_workers=2))
        try:
            image = reader.images[0]
            for number, level in enumerate(image.levels[:3]):
                for t in {0, level.shape[0] // 2, level.shape[0] - 1}:
                    start, stop = (t, 0, 0, 0, 0), (t + 1, *level.shape[1:])
                    out = np.empty((1, *level.shape[1:]), image.dtype)
                    reader.read(Region(0, number, start, stop), out)
            reader.ome()
            assert all(isinstance(key, str) for key in reader.original_metadata)
        finally:
            reader.close()
    except BfbridgeError:
        return False
    finally:
        assert time.monotonic() - begun < SECONDS, "that took too long"
    return True


def changed(data: bytes, rng: random.Random) -> bytes:
    """Change a few bytes, mostly near the beginning, where sizes are; or cut; or repeat a part."""
    made = bytearray(data)
    kind = rng.random()
    if kind < 0.1:
        return bytes(made[: rng.randrange(len(made))])
    if kind < 0.15:
        at = rng.randrange(len(made))
        return bytes(made[:at] + made[rng.randrange(len(made)) :])
    for _ in range(rng.choice((1, 1, 2, 5))):
        near = min(len(made), 300) if rng.random() < 0.6 else len(made)
        at = rng.randrange(near)
        made[at] = rng.choice((made[at] ^ 1 << rng.randrange(8), 0, 0xFF, 0x7F, rng.randrange(256)))
    return bytes(made)


def attack(name: str, data: bytes, count: int) -> None:
    rng = random.Random(name)
    with peak_memory() as peak:
        for _ in range(count):
            look(name, changed(data, rng))
    assert peak.nbytes < MEMORY, f"{peak.nbytes >> 20} MiB"


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_are_read(name: str) -> None:
    assert look(name, SOUND[name])


@pytest.mark.parametrize("name", SOUND)
def test_changed_files(name: str) -> None:
    attack(name, SOUND[name], 40)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", SOUND)
def test_many_changed_files(name: str) -> None:
    attack(name, SOUND[name], 2000)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.name)
def test_changed_real_files(path: object) -> None:
    attack(path.name, path.read_bytes(), 1000)


@pytest.mark.parametrize("name", SOUND)
def test_a_file_cut_anywhere_is_refused_or_whole(name: str) -> None:
    data = SOUND[name]
    last = range(len(data) - 9, len(data))
    for end in sorted({*range(0, len(data), max(len(data) // 40, 1)), *last}):
        try:
            reader = PictureReader.open(as_source(data[:end], name=name), OpenOptions())
        except BfbridgeError:
            continue
        whole = PictureReader.open(as_source(data, name=name), OpenOptions())
        level = whole.images[0].levels[0]
        assert reader.images[0].levels[0].shape == level.shape
        region = Region(0, 0, (0,) * 5, level.shape)
        found, truth = (np.empty(level.shape, whole.images[0].dtype) for _ in range(2))
        try:
            reader.read(region, found)
        except BfbridgeError:
            continue
        whole.read(region, truth)
        # A number at the end of a text may lose its last digits, which cannot be detected.
        if name != "text.pgm":
            np.testing.assert_array_equal(found, truth, f"cut at byte {end} of {len(data)}")


def big_png() -> bytes:
    header = pictures.chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + pictures.chunk(b"IDAT", bytes(999))
        + pictures.chunk(b"IEND", b"")
    )


def big_gif() -> bytes:
    data = SOUND["a.gif"]
    size = struct.pack("<HH", 67, 45)
    return data.replace(size, struct.pack("<HH", 65535, 65535))


def big_jpeg() -> bytes:
    data = SOUND["baseline.jpg"]
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", 65500, 65500) + data[at + 4 :]


def big_jpeg2000() -> bytes:
    data = SOUND["wide.j2k"]
    at = data.index(b"\xff\x51") + 6
    return data[:at] + struct.pack(">II", 1 << 30, 1 << 30) + data[at + 8 :]


def big_webp() -> bytes:
    body = b"VP8X" + struct.pack("<IB3x", 10, 0) + b"\xff\x3f\x00\xff\x3f\x00"
    body += b"VP8L" + struct.pack("<I", 16) + bytes(16)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def big_runs() -> bytes:
    return pictures.bmp(b"\xff\1" * 99, (30000, 30000), 8, compression=1)


def big_tga() -> bytes:
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, 65000, 65000, 32, 0)
    return header + b"\xff\1\2\3\4" * 999


BOMBS: dict[str, Callable[[], bytes]] = {
    "a.png": big_png,
    "a.gif": big_gif,
    "a.jpg": big_jpeg,
    "a.j2k": big_jpeg2000,
    "a.webp": big_webp,
    "a.bmp": big_runs,
    "a.tga": big_tga,
    "a.pgm": lambda: b"P5\n100000 100000\n255\n" + bytes(1000),
    "b.pgm": lambda: b"P2\n100000 100000\n255\n" + b"1 " * 1000,
}


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("name", BOMBS)
def test_sizes_that_are_not_there(name: str) -> None:
    data = BOMBS[name]()
    with peak_memory() as peak, pytest.raises((LimitExceeded, UnreadableFile)):
        PictureReader.open(as_source(data, name=name), OpenOptions())
    assert peak.nbytes < 64 << 20


def test_a_million_scans() -> None:
    data = SOUND["progressive.jpg"]
    scan = data.index(b"\xff\xda")
    with pytest.raises(UnreadableFile, match="scans"):
        PictureReader.open(
            as_source(data[:scan] + data[scan : scan + 40] * 1000 + data[scan:], name="a.jpg"),
            OpenOptions(),
        )
