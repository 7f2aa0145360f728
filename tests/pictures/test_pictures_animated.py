"""GIF and PNG, and animations of both, read natively: what they show, pixel for pixel."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bfbridge import BioReader
from bfbridge.errors import ReadFailed
from tests.support import pictures
from tests.support.picturereads import read, refused, shown, values
from tests.support.pictures import BACKGROUND, KEEP, PREVIOUS, Frame

SHAPE = (37, 53)
SEVERAL = (pictures.RGB, pictures.GREY_ALPHA, pictures.RGBA)
RNG = np.random.default_rng(13)


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
        refused(pictures.gif((20, 20), [Frame(values(SHAPE))], self.palette), "x.gif", "outside")
        refused(pictures.gif(SHAPE, [], self.palette), "x.gif", "no image")
        refused(pictures.gif(SHAPE, [Frame(values(SHAPE))]), "x.gif", "no colour table")
        short = pictures.gif(SHAPE, [Frame(values((30, 53)))], self.palette)
        taller = short.replace(struct.pack("<HH", 53, 30), struct.pack("<HH", 53, 37))
        assert taller != short
        with BioReader(taller, name="x.gif") as br, pytest.raises(ReadFailed, match="t 0"):
            br[:]


class TestPng:
    @pytest.mark.slow(ci=True)
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

    def test_interlaced_pictures_are_no_news(self, caplog: pytest.LogCaptureFixture) -> None:
        pixels = values((*SHAPE, 3))
        read(pictures.png([Frame(pixels)], pictures.RGB, 8, interlaced=True), "x.png")
        assert not caplog.records

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
        refused(data, "x.png", "are cleared")
