"""The native reader of pictures: Bio-Formats' sizes, types and names, and right pixels."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from bfbridge import BioReader
from bfbridge.backend import OpenOptions
from bfbridge.errors import LimitExceeded, ReadFailed, UnreadableFile, Unsupported
from bfbridge.limits import Limits
from bfbridge.source import as_source
from bfbridge_pictures import PictureReader
from tests.support import pictures
from tests.support.pictures import BACKGROUND, KEEP, PREVIOUS, Frame

RNG = np.random.default_rng(12)
SHAPE = (37, 53)
SEVERAL = (pictures.RGB, pictures.GREY_ALPHA, pictures.RGBA)


def values(shape: tuple[int, ...], most: int = 256, dtype: Any = np.uint8) -> np.ndarray:
    return RNG.integers(0, most, shape).astype(dtype)


def read(data: bytes, name: str) -> np.ndarray:
    """All planes as (T, Y, X, samples)."""
    with BioReader(data, name=name) as br:
        assert br.backend == "pictures", br.backend_reason
        array: np.ndarray = br.read(keepdims=True).transpose(4, 0, 1, 3, 2)[..., 0]
        return array


def shown(data: bytes, name: str) -> np.ndarray:
    """All planes as (T, Y, X, RGB), through the lookup table where there is one."""
    with BioReader(data, name=name) as br:
        table = br.lookup_table()
    pixels = read(data, name)
    return pixels if table is None else table.T[pixels[..., 0]]


def refused(data: bytes, name: str, match: str) -> None:
    with pytest.raises(UnreadableFile, match=match), BioReader(data, name=name) as br:
        br[:]


class TestGif:
    palette = values((256, 3))

    def check(self, shape: tuple[int, int], frames: list[Frame], **options: Any) -> None:
        data = pictures.gif(shape, frames, self.palette, **options)
        truth = pictures.gif_shown(shape, frames, self.palette)
        found = shown(data, "x.gif")
        there = truth[..., 3] > 0
        np.testing.assert_array_equal(found[there], truth[there][:, :3])

    def test_indices_and_their_colours(self) -> None:
        pixels = values(SHAPE)
        data = pictures.gif(SHAPE, [Frame(pixels)], self.palette)
        np.testing.assert_array_equal(read(data, "x.gif")[0, ..., 0], pixels)
        with BioReader(data, name="x.gif") as br:
            np.testing.assert_array_equal(br.lookup_table(), self.palette.T)

    def test_a_full_table_that_is_not_cleared(self) -> None:
        # 60 of 256 values: the table is full early, and long strings follow.
        pixels = values((211, 307), 60)
        data = pictures.gif(pixels.shape, [Frame(pixels)], self.palette, clear=False)
        np.testing.assert_array_equal(read(data, "x.gif")[0, ..., 0], pixels)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)

    def test_palettes_that_share_colours_become_one(self) -> None:
        first, second = self.palette[:100], self.palette[:100][::-1].copy()
        frames = [
            Frame(values(SHAPE, 100), palette=first),
            Frame(values((10, 12), 100), 3, 5, palette=second),
        ]
        data = pictures.gif(SHAPE, frames)
        assert read(data, "x.gif").shape == (2, *SHAPE, 1)
        np.testing.assert_array_equal(
            shown(data, "x.gif"), pictures.gif_shown(SHAPE, frames)[..., :3]
        )

    def test_palettes_of_more_than_256_colours_become_rgb(self) -> None:
        frames = [
            Frame(values(SHAPE)),
            Frame(values((10, 12)), 3, 5, palette=values((256, 3))),
            Frame(values((10, 12)), 20, 5, palette=values((16, 3)), transparent=None),
        ]
        frames[2].pixels %= 16
        data = pictures.gif(SHAPE, frames, self.palette)
        with BioReader(data, name="x.gif") as br:
            assert br.sizes == {"Y": 37, "X": 53, "Z": 1, "C": 3, "T": 3}
            assert br.samples_per_pixel == 3
            assert br.lookup_table() is None
        np.testing.assert_array_equal(
            read(data, "x.gif"), pictures.gif_shown(SHAPE, frames, self.palette)[..., :3]
        )

    @pytest.mark.parametrize("seed", range(60))
    def test_any_disposal_transparency_and_palette(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shape = (int(rng.integers(2, 20)), int(rng.integers(2, 20)))
        colors = int(rng.integers(2, 40))
        frames = []
        for _ in range(rng.integers(1, 7)):
            top, left = (int(rng.integers(0, n)) for n in shape)
            size = [
                int(rng.integers(1, n - a + 1)) for n, a in zip(shape, (top, left), strict=True)
            ]
            own = rng.integers(0, 256, (colors, 3)) if rng.random() < 0.4 else None
            frames.append(
                Frame(
                    rng.integers(0, colors, size), left, top,
                    disposal=int(rng.choice([KEEP, BACKGROUND, PREVIOUS])),
                    transparent=int(rng.integers(0, colors)) if rng.random() < 0.5 else None,
                    palette=own, interlaced=bool(rng.random() < 0.5),
                )
            )  # fmt: skip
        self.check(shape, frames, background=int(rng.integers(0, colors)))

    def test_frames_in_any_order_from_any_thread(self) -> None:
        frames = [
            Frame(values((9, 11)), i, i, transparent=7, disposal=(KEEP, PREVIOUS)[i % 2])
            for i in range(20)
        ]
        frames[0] = Frame(values(SHAPE))
        frames[9] = Frame(values(SHAPE))
        data = pictures.gif(SHAPE, frames, self.palette)
        truth = read(data, "x.gif")[..., 0]
        order = RNG.permutation(20)
        with BioReader(data, name="x.gif", max_workers=4, cache=0) as br:
            for t in order:
                np.testing.assert_array_equal(br[:, :, 0, 0, int(t)], truth[t])
            np.testing.assert_array_equal(
                br.read(T=[int(t) for t in order], keepdims=True)[:, :, 0, 0],
                truth[order].transpose(1, 2, 0),
            )

    def test_what_is_damaged(self) -> None:
        data = pictures.gif(SHAPE, [Frame(values(SHAPE))], self.palette)
        refused(data[:-1], "x.gif", "cut short")
        refused(data[: len(data) // 2], "x.gif", "cut short")
        refused(pictures.gif((20, 20), [Frame(values(SHAPE))], self.palette), "x.gif", "not inside")
        refused(pictures.gif(SHAPE, [], self.palette), "x.gif", "no image")
        refused(pictures.gif(SHAPE, [Frame(values(SHAPE))]), "x.gif", "no colour table")
        short = pictures.gif(SHAPE, [Frame(values((30, 53)))], self.palette)
        taller = short.replace(struct.pack("<HH", 53, 30), struct.pack("<HH", 53, 37))
        assert taller != short
        with BioReader(taller, name="x.gif") as br, pytest.raises(ReadFailed, match="t 0"):
            br[:]


class TestPng:
    @pytest.mark.parametrize("interlaced", [False, True])
    @pytest.mark.parametrize(
        ("kind", "depth"),
        [
            *((pictures.GREY, depth) for depth in (1, 2, 4, 8, 16)),
            *((pictures.INDEXED, depth) for depth in (1, 2, 4, 8)),
            *((kind, depth) for kind in SEVERAL for depth in (8, 16)),
        ],
    )  # fmt: skip
    def test_samples_are_as_stored(self, kind: int, depth: int, interlaced: bool) -> None:
        dtype = np.uint16 if depth == 16 else np.uint8
        for shape in (SHAPE, (3, 5), (1, 1), (16, 8)):
            pixels = values((*shape, pictures.SAMPLES[kind]), 1 << depth, dtype)
            palette = values((1 << depth, 3)) if kind == pictures.INDEXED else None
            data = pictures.png(
                [Frame(pixels)], kind, depth, palette=palette, interlaced=interlaced
            )
            found = read(data, "x.png")
            assert found.dtype == dtype
            np.testing.assert_array_equal(found[0], pixels)
            with BioReader(data, name="x.png") as br:
                assert br.metadata.images[0].pixels.significant_bits == depth
                table = br.lookup_table()
            if palette is None:
                assert table is None
            else:
                np.testing.assert_array_equal(table[:, : len(palette)], palette.T)

    def animation(
        self, rng: np.random.Generator, kind: int, depth: int, alphas: tuple[int, ...] = ()
    ) -> list[Frame]:
        shape = (int(rng.integers(2, 20)), int(rng.integers(2, 20)))
        samples = pictures.SAMPLES[kind]

        def pixels(size: tuple[int, ...]) -> np.ndarray:
            made = rng.integers(0, 1 << depth, (*size, samples))
            if samples in (2, 4):
                made[..., -1] = rng.choice(alphas, size)
            return made

        frames = [
            Frame(pixels(shape), disposal=int(rng.integers(0, 3)), over=bool(rng.random() < 0.5))
        ]
        for _ in range(rng.integers(1, 6)):
            top, left = (int(rng.integers(0, n)) for n in shape)
            size = tuple(
                int(rng.integers(1, n - a + 1)) for n, a in zip(shape, (top, left), strict=True)
            )
            frames.append(
                Frame(
                    pixels(size), left, top, disposal=int(rng.integers(0, 3)),
                    over=bool(rng.random() < 0.6),
                )
            )  # fmt: skip
        return frames

    @pytest.mark.parametrize("seed", range(40))
    def test_frames_are_blended_as_the_specification_says(self, seed: int) -> None:
        kind, depth = ((pictures.RGBA, 8), (pictures.GREY_ALPHA, 8), (pictures.RGBA, 16))[seed % 3]
        most = (1 << depth) - 1
        rng = np.random.default_rng(seed)
        frames = self.animation(rng, kind, depth, (0, most, most // 2, most // 5))
        found = read(pictures.png(frames, kind, depth), "x.png")
        canvas = np.zeros(frames[0].pixels.shape)
        for number, frame in enumerate(frames):
            y, x = frame.pixels.shape[:2]
            box = np.s_[frame.top : frame.top + y, frame.left : frame.left + x]
            before = canvas.copy()
            if number and frame.over:
                above, below = frame.pixels / most, canvas[box] / most
                alpha = above[..., -1:] + below[..., -1:] * (1 - above[..., -1:])
                color = above[..., :-1] * above[..., -1:]
                color += below[..., :-1] * below[..., -1:] * (1 - above[..., -1:])
                color = np.divide(color, alpha, out=np.zeros_like(color), where=alpha > 0)
                canvas[box] = np.round(np.concatenate([color, alpha], axis=-1) * most)
            else:
                canvas[box] = frame.pixels
            assert np.abs(found[number] - canvas).max() <= 1, f"frame {number}"
            canvas = found[number].astype(float)  # rounded the same way from here on
            if frame.disposal == PREVIOUS and number:
                canvas[box] = before[box]
            elif frame.disposal != KEEP:
                canvas[box] = 0

    @pytest.mark.parametrize("seed", range(40))
    def test_frames_without_alpha(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        kind = (pictures.GREY, pictures.RGB, pictures.INDEXED)[seed % 3]
        depth = (8, 16, 4, 2)[seed % 4] if kind == pictures.GREY else 8
        frames = self.animation(rng, kind, depth)
        for frame in frames:
            frame.pixels %= 5  # a value that is transparent is met often
        clear = int(rng.integers(0, 5))
        palette, chunk = None, struct.pack(">H", clear) * pictures.SAMPLES[kind]
        if kind == pictures.INDEXED:
            palette = rng.integers(0, 256, (5, 3))
            chunk = bytes([255] * clear + [0])
        data = pictures.png(frames, kind, depth, palette=palette, transparency=chunk)
        found = read(data, "x.png")
        canvas = np.full_like(frames[0].pixels, clear)
        for number, frame in enumerate(frames):
            y, x = frame.pixels.shape[:2]
            box = np.s_[frame.top : frame.top + y, frame.left : frame.left + x]
            before = canvas.copy()
            hidden = (frame.pixels == clear).all(axis=2, keepdims=True)
            drawn = np.where(hidden, canvas[box], frame.pixels) if frame.over else frame.pixels
            canvas[box] = frame.pixels if number == 0 else drawn
            np.testing.assert_array_equal(found[number], canvas, f"frame {number}")
            if frame.disposal == PREVIOUS and number:
                canvas = before
            elif frame.disposal != KEEP:
                canvas[box] = clear

    def test_sixteen_bits_are_blended_in_sixteen(self) -> None:
        below = np.array([[[40000, 20000, 10000, 65535]]])
        above = np.array([[[10001, 60000, 65535, 32768]]])
        data = pictures.png([Frame(below), Frame(above, over=True)], pictures.RGBA, 16)
        share = 32768 / 65535
        mixed = above[..., :3] * share + below[..., :3] * (1 - share)
        np.testing.assert_array_equal(read(data, "x.png")[1], [[[*np.round(mixed[0, 0]), 65535]]])

    def test_a_default_image_that_is_not_shown(self) -> None:
        frames = [Frame(values((*SHAPE, 3))) for _ in range(3)]
        data = pictures.png(frames, pictures.RGB, 8, hidden=values((*SHAPE, 3)))
        np.testing.assert_array_equal(read(data, "x.png"), [frame.pixels for frame in frames])
        with BioReader(data, name="x.png") as br:
            assert br.original_metadata == {"Loop count": 3}

    def test_what_is_damaged(self) -> None:
        frames = [Frame(values((*SHAPE, 3))) for _ in range(3)]
        data = pictures.png(frames, pictures.RGB, 8)
        refused(data[:-13], "x.png", "cut short")
        refused(data[: len(data) // 2], "x.png", "cut short")
        without_last = data[: data.rindex(b"fcTL") - 4] + pictures.chunk(b"IEND", b"")
        refused(without_last, "x.png", "declares 3 frames, and 2")
        flipped = bytearray(data)
        flipped[data.rindex(b"fdAT") + 500] ^= 1
        with BioReader(bytes(flipped), name="x.png") as br:
            np.testing.assert_array_equal(br[:, :, 0, :, 0][:, :, 0], frames[0].pixels)
            with pytest.raises(ReadFailed, match="t 2.*checksum"):
                br[..., 2]
        header = bytearray(data)
        header[20] ^= 1
        refused(bytes(header), "x.png", "checksum of its chunk 'IHDR'")
        without_pixels = data[: data.index(b"IDAT") - 4] + pictures.chunk(b"IEND", b"")
        refused(without_pixels, "x.png", "no pixels")
        refused(pictures.png([Frame(values(SHAPE))], pictures.INDEXED, 8), "x.png", "no palette")

    def test_indices_that_no_palette_can_blend_are_refused(self) -> None:
        frames = [Frame(values(SHAPE, 4)), Frame(values(SHAPE, 4), over=True)]
        data = pictures.png(
            frames, pictures.INDEXED, 8, palette=values((4, 3)), transparency=b"\x80\xff"
        )
        refused(data, "x.png", "blended")
        frames = [Frame(values(SHAPE, 4), disposal=BACKGROUND), Frame(values((3, 3), 4))]
        data = pictures.png(frames, pictures.INDEXED, 8, palette=values((4, 3)) | 1)
        refused(data, "x.png", "leave nothing behind")


class TestBmp:
    @pytest.mark.parametrize("width", [1, 7, 8, 29, 31, 32])
    @pytest.mark.parametrize("bits", [1, 4, 8])
    def test_indices_of_rows_of_any_padding(self, bits: int, width: int) -> None:
        pixels, palette = values((5, width), 1 << bits), values((1 << bits, 3))
        for header in (12, 40, 108, 124):
            data = pictures.bmp(
                pictures.bmp_rows(pixels, bits), pixels.shape, bits, palette=palette, header=header
            )
            np.testing.assert_array_equal(read(data, "x.bmp")[0, ..., 0], pixels)
            np.testing.assert_array_equal(
                shown(data, "x.bmp")[0], np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            )

    @pytest.mark.parametrize("width", [1, 2, 3, 4, 29])
    def test_colours(self, width: int) -> None:
        stored = values((7, width, 3))
        data = pictures.bmp(pictures.bmp_rows(stored, 24), (7, width), 24)
        np.testing.assert_array_equal(read(data, "x.bmp")[0], stored[..., ::-1])
        with BioReader(data, name="x.bmp") as br:
            size = br.physical_pixel_size
            assert size.x is not None
            assert size.x.value == pytest.approx(1e6 / 2835)
        stored = values((7, width, 4))
        data = pictures.bmp(pictures.bmp_rows(stored, 32), (7, width), 32, downward=True)
        np.testing.assert_array_equal(read(data, "x.bmp")[0], stored[::-1][..., [2, 1, 0, 3]])

    @pytest.mark.parametrize("masks", [(), (0xF800, 0x7E0, 0x1F), (0xF00, 0xF0, 0xF)])
    def test_sixteen_bits_are_colours(self, masks: tuple[int, ...]) -> None:
        stored = values((7, 5), 65536, np.uint16)
        data = pictures.bmp(
            pictures.bmp_rows(stored.astype("<u2"), 16), (7, 5), 16,
            masks=masks, compression=3 if masks else 0,
        )  # fmt: skip
        wanted = []
        for mask in masks or (0x7C00, 0x3E0, 0x1F):
            low = mask & -mask
            wanted.append(np.round((stored & mask) / low * 255 / (mask // low)))
        np.testing.assert_array_equal(read(data, "x.bmp")[0], np.stack(wanted, -1))

    def test_masks_may_change_the_order_of_bytes(self) -> None:
        stored = values((7, 5, 4))
        data = pictures.bmp(
            pictures.bmp_rows(stored, 32), (7, 5), 32, compression=3, header=56,
            masks=(0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        )  # fmt: skip
        np.testing.assert_array_equal(read(data, "x.bmp")[0], stored)
        wrong = pictures.bmp(
            pictures.bmp_rows(stored, 32), (7, 5), 32, compression=3, header=56,
            masks=(0x3FF, 0xFFC00, 0x3FF00000, 0),
        )  # fmt: skip
        refused(wrong, "x.bmp", "not of 8 bits")

    def test_run_lengths(self) -> None:
        palette = values((256, 3))
        # Row 0 from the bottom: a run, three values as they are, the end of the row. Row 1: a run.
        # Then two pixels to the right and one row up, a run, and the end.
        packed = bytes([5, 9, 0, 3, 1, 2, 3, 0, 0, 0, 8, 200, 0, 2, 2, 1, 3, 77, 0, 1])
        data = pictures.bmp(packed, (4, 13), 8, compression=1, palette=palette)
        wanted = np.zeros((4, 13), np.uint8)
        wanted[3, :8] = [9] * 5 + [1, 2, 3]
        wanted[2, :8] = 200
        wanted[1, 10:13] = 77
        np.testing.assert_array_equal(read(data, "x.bmp")[0, ..., 0], wanted)
        packed = bytes([5, 0x12, 0, 5, 0x34, 0x56, 0x70, 0, 0, 0, 3, 0xAB, 0, 1])
        data = pictures.bmp(packed, (2, 10), 4, compression=2, palette=palette[:16])
        wanted = np.zeros((2, 10), np.uint8)
        wanted[1] = [1, 2, 1, 2, 1, 3, 4, 5, 6, 7]
        wanted[0, :3] = [10, 11, 10]
        np.testing.assert_array_equal(read(data, "x.bmp")[0, ..., 0], wanted)

    def test_what_is_damaged_or_not_read(self) -> None:
        stored = values((7, 5, 3))
        data = pictures.bmp(pictures.bmp_rows(stored, 24), (7, 5), 24)
        refused(data[:-8], "x.bmp", "cut short")
        # Writers are known to leave out the padding of the last row.
        np.testing.assert_array_equal(read(data[:-1], "x.bmp")[0], stored[..., ::-1])
        refused(pictures.bmp(b"\xff\xd8", (7, 5), 24, compression=4), "x.bmp", "compression 4")
        palette = values((256, 3))
        cut = pictures.bmp(bytes([5, 9]), (4, 13), 8, compression=1, palette=palette)
        with BioReader(cut, name="x.bmp") as br, pytest.raises(ReadFailed, match="cut short"):
            br[:]
        outside = pictures.bmp(bytes([50, 9, 0, 1]), (4, 13), 8, compression=1, palette=palette)
        with (
            BioReader(outside, name="x.bmp") as br,
            pytest.raises(ReadFailed, match="leave the image"),
        ):
            br[:]


class TestTga:
    @pytest.mark.parametrize("flags", [0, 0x10, 0x20, 0x30])
    @pytest.mark.parametrize(
        ("kind", "depth"), [(2, 15), (2, 16), (2, 24), (2, 32), (3, 8), (3, 16)]
    )
    def test_packed_and_not(self, kind: int, depth: int, flags: int) -> None:
        size = -(-depth // 8)
        stored = values((11, 17, size))
        # Runs and stretches of every length, over the ends of rows too: of one, and of 128.
        lengths = [(1, True), (1, False), (128, True), (2, True), (30, False), (25, True)]
        at = 0
        for length, run in lengths:
            if run:
                stored.reshape(-1, size)[at : at + length] = stored.reshape(-1, size)[at]
            at += length
        assert at == 11 * 17
        turned = stored[:: 1 if flags & 0x20 else -1, :: -1 if flags & 0x10 else 1]
        if kind == 3:
            wanted = turned[..., :1]
        elif size == 2:
            word = turned[..., 0].astype(int) | turned[..., 1].astype(int) << 8
            wanted = np.stack([word >> 10 & 31, word >> 5 & 31, word & 31], axis=-1)
        else:
            wanted = turned[..., 2::-1]
        for packets in ((), lengths):
            data = pictures.tga(
                stored, kind + 8 * bool(packets), depth, packets=packets, flags=flags, name=b"dots"
            )
            np.testing.assert_array_equal(read(data, "x.tga")[0], wanted)
        with BioReader(data, name="x.tga") as br:
            assert br.metadata.images[0].description == "dots"
            assert br.metadata.images[0].pixels.significant_bits == (
                5 if size == 2 and kind == 2 else 8
            )

    def test_thirty_two_bits_in_runs_to_the_last_quarter(self) -> None:
        pixels = values((64, 64, 4))
        data = pictures.tga(pixels, 10, 32, packets=[(128, False)] * 32, flags=0x28)
        np.testing.assert_array_equal(read(data, "x.tga")[0], pixels[..., 2::-1])
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(data)))[..., :3], pixels[..., 2::-1]
        )

    def test_indices(self) -> None:
        palette, pixels = values((50, 3)), values((11, 17, 1), 50) + 20
        data = pictures.tga(pixels, 1, 8, palette=palette, origin=20, flags=0x20)
        np.testing.assert_array_equal(read(data, "x.tga")[0], pixels)
        np.testing.assert_array_equal(shown(data, "x.tga")[0], palette[pixels[..., 0] - 20])

    def test_what_is_damaged_or_not_read(self) -> None:
        pixels = values((11, 17, 3))
        refused(pictures.tga(pixels, 2, 24)[:-1], "x.tga", "cut short")
        short = pictures.tga(pixels, 10, 24, packets=[(100, False)])
        with BioReader(short, name="x.tga") as br, pytest.raises(ReadFailed, match="100 of 187"):
            br[:]
        refused(pictures.tga(pixels, 2, 12), "x.tga", "not read")
        refused(b"This is no image.\n" * 9, "x.tga", "not read")


class TestPnm:
    def test_two_bytes_are_big_endian(self) -> None:
        for samples, letter in ((1, b"5"), (3, b"6")):
            pixels = values((*SHAPE, samples), 65536, np.uint16)
            data = (
                b"P"
                + letter
                + b"\n# made by a test\n53 37\n65535\n"
                + pixels.astype(">u2").tobytes()
            )
            np.testing.assert_array_equal(read(data, "x.pgm")[0], pixels)

    def test_bytes_that_look_like_blanks_are_pixels(self) -> None:
        pixels = values(SHAPE)
        pixels[0, :6] = (10, 32, 13, 9, 35, 10)
        data = b"P5 53 37 255\n" + pixels.tobytes()
        np.testing.assert_array_equal(read(data, "x.pgm")[0, ..., 0], pixels)

    def test_values_are_not_stretched(self) -> None:
        pixels = values(SHAPE, 11)
        data = b"P5\n53 37\n10\n" + pixels.tobytes()
        np.testing.assert_array_equal(read(data, "x.pgm")[0, ..., 0], pixels)

    def test_bitmaps(self) -> None:
        bits = values(SHAPE, 2)
        packed = b"P4\n53 37\n" + np.packbits(bits, axis=1).tobytes()
        apart = b"P1\n53 37\n" + b"\n".join(b" ".join(b"%d" % v for v in row) for row in bits)
        close = b"P1\n53 37\n" + b"".join(b"%d" % v for v in bits.ravel())
        for data in (packed, apart, close):
            found = read(data, "x.pbm")
            assert found.dtype == np.int8  # as in Bio-Formats
            np.testing.assert_array_equal(found[0, ..., 0], bits)

    def test_text(self) -> None:
        for most, dtype in ((255, np.uint8), (999, np.uint16)):
            pixels = values((*SHAPE, 3), most + 1, dtype)
            text = b"\n".join(b" ".join(b"%d" % v for v in row.ravel()) for row in pixels)
            data = b"P3 53 37 %d\n# colours\n" % most + text + b"\n# end"
            found = read(data, "x.ppm")
            assert found.dtype == dtype
            np.testing.assert_array_equal(found[0], pixels)

    def test_pam(self) -> None:
        pixels = values((*SHAPE, 4), 1000, np.uint16)
        data = (
            b"P7\nWIDTH 53\nHEIGHT 37\nDEPTH 4\n# hello\nMAXVAL 999\nTUPLTYPE RGB_ALPHA\nENDHDR\n"
            + pixels.astype(">u2").tobytes()
        )
        np.testing.assert_array_equal(read(data, "x.pam")[0], pixels)

    def test_what_is_damaged(self) -> None:
        data = b"P5\n53 37\n255\n" + values(SHAPE).tobytes()
        refused(data[:-1], "x.pgm", "cut short")
        refused(data + data, "x.pgm", "several images")
        refused(b"P5\n53 thirty\n255\n" + bytes(100), "x.pgm", "no number")
        refused(b"P5\n53 37\n70000\n" + bytes(10000), "x.pgm", "largest value is 70000")
        refused(b"P7\nWIDTH 53\nHEIGHT 37\nENDHDR\n" + bytes(9999), "x.pam", "no DEPTH, MAXVAL")
        for text, match in (
            (b"1 2 3", "3 of 1,961"),
            (b"1 x 2", "b'x'"),
            (b"256 " * 1961, "larger"),
        ):
            plain = BioReader(b"P2 53 37 255\n" + text, name="x.pgm")
            with plain as br, pytest.raises(ReadFailed, match=match):
                br[:]


class TestJpeg:
    def encoded(self, mode: str, **options: Any) -> bytes:
        samples = len(Image.new(mode, (1, 1)).getbands())
        smooth = np.kron(values((6, 9, samples)), np.ones((8, 8, 1), np.uint8))[:45, :67]
        out = io.BytesIO()
        Image.fromarray(smooth.squeeze(), mode).save(out, "JPEG", **options)
        return out.getvalue()

    @pytest.mark.parametrize(
        "options", [{}, {"progressive": True}, {"keep_rgb": True}, {"subsampling": 2}]
    )
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_pixels_are_pillows(self, mode: str, options: dict[str, Any]) -> None:
        data = self.encoded(mode, **options)
        truth = np.asarray(Image.open(io.BytesIO(data))).reshape(45, 67, -1)
        np.testing.assert_array_equal(read(data, "x.jpg")[0], truth)

    def test_cmyk_is_converted(self) -> None:
        data = self.encoded("CMYK")
        truth = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        found = read(data, "x.jpg")[0]
        assert np.abs(found - truth).max() <= 1

    def test_twelve_bits(self) -> None:
        pixels = np.kron(values((5, 7), 4096, np.uint16), np.ones((8, 8), np.uint16))
        data = imagecodecs.jpeg8_encode(pixels, level=98, bitspersample=12)
        found = read(data, "x.jpg")
        assert found.dtype == np.uint16
        assert np.abs(found[0, ..., 0].astype(int) - pixels).max() < 300

    def test_exif_is_told_and_not_applied(self) -> None:
        tags = Image.Exif()
        tags[0x112], tags[0x10F] = 6, "Maker"
        tags.get_ifd(0x8769)[0x9003] = "2021:02:03 04:05:06"
        tags.get_ifd(0x8769)[0x829A] = 1.5
        data = self.encoded("RGB", exif=tags.tobytes())
        assert read(data, "x.jpg").shape == (1, 45, 67, 3)
        with BioReader(data, name="x.jpg") as br:
            told = br.original_metadata
            assert (told["Make"], told["Orientation"], told["ExposureTime"]) == ("Maker", 6, 1.5)
            date = br.metadata.images[0].acquisition_date
            assert date is not None
            assert date.isoformat() == "2021-02-03T04:05:06"

    def test_damaged_exif_is_left_out(self) -> None:
        data = self.encoded("RGB", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 40)
        with BioReader(data, name="x.jpg") as br:
            assert isinstance(dict(br.original_metadata), dict)
            assert br[:].shape == (45, 67, 1, 3)

    def test_what_follows_the_image_is_left_out(self) -> None:
        data = self.encoded("RGB")
        np.testing.assert_array_equal(read(data + self.encoded("L"), "x.jpg"), read(data, "x.jpg"))

    def test_what_is_damaged_or_not_read(self) -> None:
        data = self.encoded("RGB")
        for end in (-1, -2, -500, 300):
            refused(data[:end], "x.jpg", "cut short")
        lossless = imagecodecs.ljpeg_encode(values(SHAPE))
        refused(lossless, "x.jpg", "lossless")
        frame = data.index(b"\xff\xc0")
        larger = data[: frame + 5] + struct.pack(">HH", 60000, 60000) + data[frame + 9 :]
        with pytest.raises((UnreadableFile, LimitExceeded)), BioReader(larger, name="x.jpg") as br:
            br[:]


class TestJpeg2000:
    def encoded(self, pixels: np.ndarray, **options: Any) -> bytes:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG2000", num_resolutions=4, **options)
        return out.getvalue()

    @pytest.mark.parametrize("shape", [(37, 53), (63, 85), (64, 96)])
    @pytest.mark.parametrize("lossy", [False, True])
    def test_extreme_colours_and_resolutions(self, shape: tuple[int, int], lossy: bool) -> None:
        pixels = (values((*shape, 3)) > 127).astype(np.uint8) * 255
        options: dict[str, Any] = {"irreversible": lossy, "mct": 1}
        if lossy:
            options.update(quality_mode="dB", quality_layers=[35])
        data = self.encoded(pixels, **options)
        found = read(data, "x.jp2")[0]
        np.testing.assert_array_equal(found, np.asarray(Image.open(io.BytesIO(data))))
        if not lossy:
            np.testing.assert_array_equal(found, pixels)
        with BioReader(data, name="x.jp2") as br:
            sizes = [level.shape[:2] for level in br.levels]
            assert sizes == [(shape[0] >> n, shape[1] >> n) for n in range(4)]
            # An independent way to a lower resolution: Pillow's own, where its rounding allows it.
            image = Image.open(io.BytesIO(data))
            image.reduce = 1
            half = np.asarray(image)
            np.testing.assert_array_equal(
                br.levels[1][:][:, :, 0], half[: shape[0] // 2, : shape[1] // 2]
            )

    @pytest.mark.parametrize("container", ["j2k", "jp2"])
    @pytest.mark.parametrize(
        ("dtype", "samples"),
        [
            *((kind, 1) for kind in ("uint8", "int8", "uint16", "int16")),
            *((kind, n) for kind in ("uint8", "uint16") for n in (2, 3, 4)),
        ],
    )
    def test_types(self, dtype: str, samples: int, container: str) -> None:
        limits = np.iinfo(dtype)
        shape = SHAPE if samples == 1 else (*SHAPE, samples)
        pixels = RNG.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)
        data = imagecodecs.jpeg2k_encode(pixels, level=0, codecformat=container)
        found = read(data, f"x.{container}")
        assert found.dtype == dtype
        np.testing.assert_array_equal(found[0], pixels.reshape(*SHAPE, samples))

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
    def test_lower_resolutions_of_one_component_of_any_type(self, dtype: str) -> None:
        limits = np.iinfo(dtype)
        flat = RNG.integers(limits.min, limits.max, (5, 6), endpoint=True)
        pixels = np.kron(flat, np.ones((16, 16))).astype(dtype)
        data = imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k")
        with BioReader(data, name="x.j2k") as br:
            assert len(br.levels) > 1
            for number, level in enumerate(br.levels):
                step = 1 << number
                inside = level[:][:: 16 // step, :: 16 // step]
                # The mean of an area of one value is that value, its edges aside.
                middle = level[:][8 // step :: 16 // step, 8 // step :: 16 // step]
                assert inside.shape == middle.shape == flat.shape
                if number < 3:
                    np.testing.assert_array_equal(middle, flat)

    def palette_file(self) -> tuple[bytes, np.ndarray, np.ndarray]:
        indices, palette = values(SHAPE, 40), values((40, 3))
        stream = imagecodecs.jpeg2k_encode(indices, level=0, codecformat="j2k")

        def box(kind: bytes, body: bytes) -> bytes:
            return struct.pack(">I", 8 + len(body)) + kind + body

        header = box(b"ihdr", struct.pack(">IIHBBBB", *SHAPE, 1, 7, 7, 0, 0))
        header += box(b"colr", struct.pack(">BBBI", 1, 0, 0, 16))
        header += box(b"pclr", struct.pack(">HBBBB", 40, 3, 7, 7, 7) + palette.tobytes())
        header += box(b"cmap", b"".join(struct.pack(">HBB", 0, 1, n) for n in range(3)))
        data = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
        return data + box(b"jp2h", header) + box(b"jp2c", stream), indices, palette

    def test_palettes(self) -> None:
        data, indices, palette = self.palette_file()
        np.testing.assert_array_equal(read(data, "x.jp2")[0, ..., 0], indices)
        np.testing.assert_array_equal(shown(data, "x.jp2")[0], palette[indices])

    def test_boxes_behind_the_pixels(self) -> None:
        pixels = values((*SHAPE, 3))
        data = self.encoded(pixels) + struct.pack(">I", 12) + b"xml <a/>"
        np.testing.assert_array_equal(read(data, "x.jp2")[0], pixels)

    def test_what_is_damaged(self) -> None:
        data = self.encoded(values((*SHAPE, 3)))
        for end in (-3, -100, len(data) // 2, 100, 30):
            refused(data[:end], "x.jp2", "cut short|no code stream")

    def test_files_of_several_images_stay_with_bioformats(self) -> None:
        data = self.encoded(values(SHAPE)).replace(b"ftypjp2 ", b"ftypjpx ")
        with pytest.raises(Unsupported, match="JPX"):
            PictureReader.open(as_source(data, name="x.jpx"), OpenOptions())


class TestWebp:
    @pytest.mark.parametrize("samples", [3, 4])
    def test_pixels(self, samples: int) -> None:
        pixels = values((*SHAPE, samples))
        data = imagecodecs.webp_encode(pixels, lossless=True)
        np.testing.assert_array_equal(read(data, "x.webp")[0], pixels)

    def test_lossy(self) -> None:
        out = io.BytesIO()
        Image.fromarray(values((*SHAPE, 3))).save(out, "WEBP", quality=70)
        truth = np.asarray(Image.open(io.BytesIO(out.getvalue())))
        np.testing.assert_array_equal(read(out.getvalue(), "x.webp")[0], truth)

    def test_animations(self) -> None:
        frames = [values((*SHAPE, 4)) for _ in range(5)]
        for frame in frames[1:]:
            frame[:20, 10:30, 3] = 0
        out = io.BytesIO()
        images = [Image.fromarray(frame) for frame in frames]
        images[0].save(
            out, "WEBP", save_all=True, append_images=images[1:], lossless=True, exact=True
        )
        data = out.getvalue()
        found = read(data, "x.webp")
        assert found.shape == (5, *SHAPE, 4)
        image = Image.open(io.BytesIO(data))
        for number in range(5):
            image.seek(number)
            np.testing.assert_array_equal(found[number], np.asarray(image.convert("RGBA")))
        with BioReader(data, name="x.webp", cache=0) as br:
            for t in (3, 0, 4, 1):
                np.testing.assert_array_equal(br[..., t][:, :, 0], found[t])

    def test_what_is_damaged(self) -> None:
        data = imagecodecs.webp_encode(values((*SHAPE, 3)), lossless=True)
        refused(data[:-1], "x.webp", "cut short")
        refused(data[:20], "x.webp", "cut short")


def test_a_file_is_known_by_its_first_bytes() -> None:
    data = imagecodecs.png_encode(values((*SHAPE, 3)))
    for name in ("x.png", "x.jpg", "x", "x.dat"):
        np.testing.assert_array_equal(read(data, name)[0], imagecodecs.png_decode(data))


@pytest.mark.parametrize("packing", ["gz", "bz2"])
def test_packed_files(packing: str) -> None:
    pack = gzip.compress if packing == "gz" else bz2.compress
    pixels = values((*SHAPE, 3))
    data = imagecodecs.png_encode(pixels)
    np.testing.assert_array_equal(read(pack(data), f"x.png.{packing}")[0], pixels)
    targa = pictures.tga(pixels, 2, 24, flags=0x20)
    np.testing.assert_array_equal(read(pack(targa), f"x.tga.{packing}")[0], pixels[..., ::-1])
    refused(pack(data)[:-5], f"x.png.{packing}", "cannot be unpacked")
    small = Limits(chunk_bytes=100)
    with pytest.raises(LimitExceeded, match="unpacked size"):
        BioReader(pack(bytes(1000)), name=f"x.png.{packing}", limits=small).close()
    with pytest.raises(Unsupported):
        PictureReader.open(as_source(pack(b"text"), name=f"x.png.{packing}"), OpenOptions())


def test_dicom_with_a_picture_in_its_preamble_is_no_picture() -> None:
    head = b"\xff\xd8\xff".ljust(128, b"\0") + b"DICM"
    with pytest.raises(Unsupported):
        PictureReader.open(as_source(head + bytes(500), name="x.dcm"), OpenOptions())


def test_sizes_are_compared_with_the_limits_before_memory_is_taken() -> None:
    data = pictures.png([Frame(np.zeros((3000, 3000, 3), np.uint8))], pictures.RGB, 8)
    with pytest.raises(LimitExceeded, match="decoded size of a plane"):
        BioReader(data, name="x.png", limits=Limits(chunk_bytes=1 << 20)).close()
    large = data.replace(
        pictures.chunk(b"IHDR", struct.pack(">IIBBBBB", 3000, 3000, 8, 2, 0, 0, 0)),
        pictures.chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 2, 0, 0, 0)),
    )
    with pytest.raises(LimitExceeded):
        BioReader(large, name="x.png").close()
