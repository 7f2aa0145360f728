"""Pictures made in random combinations: the native reader describes them as Bio-Formats does."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jpype", reason="JPype is not installed")
pytest.importorskip("imagecodecs")

import imagecodecs

from bfbridge.backend import OpenOptions, ReaderBackend, Region
from bfbridge.errors import BfbridgeError
from bfbridge.storage.source import as_source
from bfbridge_bioformats import BioFormatsReader
from bfbridge_pictures import PictureReader
from tests.support import pictures
from tests.support.pictures import Frame

pytestmark = pytest.mark.java

Rng = np.random.Generator
Made = tuple[str, bytes, bool]
"""Name, content, and whether Bio-Formats' pixels are right."""


def pixels(rng: Rng, samples: int, dtype: Any = np.uint8) -> np.ndarray:
    shape = (int(rng.integers(8, 50)), int(rng.integers(8, 50)), samples)
    made = rng.integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)
    return made[..., 0] if samples == 1 else made


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(rng: Rng) -> Made:
    dtype = rng.choice([np.uint8, np.uint16])
    samples = int(rng.integers(1, 5))
    return "a.png", imagecodecs.png_encode(pixels(rng, samples, dtype)), True


def indexed_png(rng: Rng) -> Made:
    image = Image.fromarray(pixels(rng, 3)).quantize(int(rng.integers(20, 256)))
    return "a.png", saved(image, "PNG"), True


def animated_png(rng: Rng) -> Made:
    first = pixels(rng, 3)
    frames = [Frame(first), Frame(first[1:, 2:] ^ 255, left=2, top=1), Frame(first[:2, :2] ^ 9)]
    return "a.png", pictures.png(frames, pictures.RGB, 8), False


def gif(rng: Rng) -> Made:
    image = Image.fromarray(pixels(rng, 3)).quantize(int(rng.integers(2, 256)))
    return "a.gif", saved(image, "GIF", interlace=bool(rng.integers(0, 2))), True


def animated_gif(rng: Rng) -> Made:
    first = pixels(rng, 1)
    frames = [Frame(first), Frame(first[1:, 2:] ^ 255, left=2, top=1), Frame(first ^ 3)]
    palette = rng.integers(0, 256, (256, 3))
    return "a.gif", pictures.gif(first.shape, frames, palette), False


def bmp(rng: Rng) -> Made:
    samples = int(rng.choice([1, 3, 4]))
    made = pixels(rng, samples)
    # Bio-Formats leaves out less padding than there is in rows of some widths.
    return "a.bmp", saved(Image.fromarray(made), "BMP", dpi=(90, 70)), made.shape[1] % 4 == 0


def tga(rng: Rng) -> Made:
    samples = int(rng.choice([1, 3, 4]))
    packed = bool(rng.integers(0, 2))
    data = saved(
        Image.fromarray(pixels(rng, samples)), "TGA", compression="tga_rle" if packed else None,
        orientation=int(rng.choice([1, -1])), id_section=b"by a test",
    )  # fmt: skip
    return "a.tga", data, not packed


def jpeg(rng: Rng) -> Made:
    image = Image.fromarray(pixels(rng, int(rng.choice([1, 3]))))
    return "a.jpg", saved(image, "JPEG", progressive=bool(rng.integers(0, 2))), True


def jpeg2000(rng: Rng) -> Made:
    samples = int(rng.integers(1, 5))
    made = pixels(rng, samples)
    options: dict[str, Any] = {"num_resolutions": int(rng.integers(1, 4)), "mct": 0}
    return "a.jp2", saved(Image.fromarray(made), "JPEG2000", **options), True


def wide_jpeg2000(rng: Rng) -> Made:
    made = pixels(rng, 1, rng.choice([np.uint16, np.int16, np.int8]))
    return "a.j2k", imagecodecs.jpeg2k_encode(made, level=0, codecformat="j2k"), True


def pnm(rng: Rng) -> Made:
    made = pixels(rng, int(rng.choice([1, 3])))
    # Bio-Formats takes pixels for blanks, if they are first.
    made.reshape(-1)[0] = 77
    return "a.ppm", saved(Image.fromarray(made), "PPM"), True


def wide_pnm(rng: Rng) -> Made:
    made = pixels(rng, 1, np.uint16)
    made[0, 0] = 0x4D4D
    header = b"P5\n%d %d\n65535\n" % made.shape[::-1]
    return "a.pgm", header + made.astype(">u2").tobytes(), False


KINDS: list[Callable[[Rng], Made]] = [
    png, indexed_png, animated_png, gif, animated_gif, bmp, tga, jpeg, jpeg2000, wide_jpeg2000,
    pnm, wide_pnm,
]  # fmt: skip


def read(reader: ReaderBackend) -> np.ndarray:
    image = reader.images[0]
    out = np.empty(image.levels[0].shape, image.dtype)
    reader.read(Region(0, 0, (0,) * 5, image.levels[0].shape), out)
    return out


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_described_as_bioformats_does(kind: Callable[[Rng], Made], seed: int) -> None:
    name, data, right = kind(np.random.default_rng(seed))
    source, options = as_source(data, name=name), OpenOptions()
    ours = PictureReader.open(source, options)
    try:
        theirs = BioFormatsReader.open(source, options)
    except BfbridgeError as error:
        ours.close()
        pytest.skip(f"refused by Bio-Formats: {error}")
    try:
        (mine,), (other,) = ours.images, theirs.images
        assert [level.shape for level in mine.levels] == [level.shape for level in other.levels]
        # How a 16-bit PNM is stored, Bio-Formats has wrong.
        order = other.byteorder if kind is not wide_pnm else ">"
        # Chunks may be smaller where rows are stored as they are.
        assert replace(mine, levels=()) == replace(other, levels=(), byteorder=order)
        assert ours.original_metadata == theirs.original_metadata
        table, reference = ours.lookup_table(0), theirs.lookup_table(0)
        if reference is None:
            assert table is None
        else:
            np.testing.assert_array_equal(table, reference)
        pixels_of = ("size_x", "size_y", "size_z", "size_c", "size_t", "type", "big_endian")
        document, wanted = (reader.ome().images[0] for reader in (ours, theirs))
        assert document.description == wanted.description
        for field in (*pixels_of, "physical_size_x", "physical_size_y", "significant_bits"):
            if field != "big_endian" or kind is not wide_pnm:
                assert getattr(document.pixels, field) == getattr(wanted.pixels, field), field
        if right:
            difference = np.abs(read(ours).astype(int) - read(theirs).astype(int))
            assert difference.max() <= (2 if kind is jpeg else 0)
    finally:
        ours.close()
        theirs.close()
