"""The native reader of pictures: Bio-Formats' sizes, types and names, and right pixels."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from bfbridge import BioReader
from bfbridge.backend import OpenOptions
from bfbridge.errors import LimitExceeded, ReadFailed, UnreadableFile, Unsupported
from bfbridge.limits import Limits
from bfbridge.storage.source import as_source
from bfbridge_pictures import PictureReader
from tests.support import pictures
from tests.support.picturereads import read, refused, shown, values
from tests.support.pictures import Frame

RNG = np.random.default_rng(12)
SHAPE = (37, 53)


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
        refused(wrong, "x.bmp", "do not have 8 bits")

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
        refused(pictures.tga(pixels, 2, 12), "x.tga", "not supported")
        refused(b"This is no image.\n" * 9, "x.tga", "not supported")


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
        try:
            data = imagecodecs.jpeg8_encode(pixels, level=98, bitspersample=12)
        except ValueError:
            pytest.skip("this version of imagecodecs writes no JPEG of 12 bits")
        found = read(data, "x.jpg")
        assert found.dtype == np.uint16
        assert np.abs(found[0, ..., 0].astype(int) - pixels).max() < 300

    def test_exif_is_told_and_not_applied(self) -> None:
        tags = Image.Exif()
        tags[0x112], tags[0x10F] = 6, "Maker"
        # pillow 10 writes a directory only if it was set.
        tags[0x8769] = {0x9003: "2021:02:03 04:05:06", 0x829A: 1.5}
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

    @staticmethod
    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", 8 + len(body)) + kind + body

    def boxed(self, stream: bytes, components: int, color: bytes, more: bytes = b"") -> bytes:
        """Put a code stream in a JP2 file."""
        header = self.box(b"ihdr", struct.pack(">IIHBBBB", *SHAPE, components, 7, 7, 0, 0))
        header += self.box(b"colr", color) + more
        data = self.box(b"jP  ", b"\r\n\x87\n") + self.box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
        return data + self.box(b"jp2h", header) + self.box(b"jp2c", stream)

    def palette_file(self) -> tuple[bytes, np.ndarray, np.ndarray]:
        indices, palette = values(SHAPE, 40), values((40, 3))
        stream = imagecodecs.jpeg2k_encode(indices, level=0, codecformat="j2k")
        colors = struct.pack(">HBBBB", 40, 3, 7, 7, 7) + palette.tobytes()
        columns = b"".join(struct.pack(">HBB", 0, 1, n) for n in range(3))
        more = self.box(b"pclr", colors) + self.box(b"cmap", columns)
        data = self.boxed(stream, 1, struct.pack(">BBBI", 1, 0, 0, 16), more)
        return data, indices, palette

    def test_palettes(self) -> None:
        data, indices, palette = self.palette_file()
        np.testing.assert_array_equal(read(data, "x.jp2")[0, ..., 0], indices)
        np.testing.assert_array_equal(shown(data, "x.jp2")[0], palette[indices])

    def test_luma_and_chroma_become_colours(self) -> None:
        colors = Image.fromarray(values((*SHAPE, 3))).convert("YCbCr")
        stream = imagecodecs.jpeg2k_encode(
            np.asarray(colors), level=0, codecformat="j2k", mct=False
        )
        data = self.boxed(stream, 3, struct.pack(">BBBI", 1, 0, 0, 18))
        truth = np.asarray(colors.convert("RGB")).astype(int)
        assert np.abs(read(data, "x.jp2")[0] - truth).max() <= 2
        flat = np.full((*SHAPE, 3), (200, 90, 160), np.uint8)
        stream = imagecodecs.jpeg2k_encode(flat, level=0, codecformat="j2k", mct=False)
        data = self.boxed(stream, 3, struct.pack(">BBBI", 1, 0, 0, 18))
        with BioReader(data, name="x.jp2") as br:
            assert len(br.levels) > 1
            color = br[0, 0, 0].astype(int)
            for level in br.levels[1:]:
                assert np.abs(level[:].astype(int) - color).max() <= 2

    def test_colours_in_another_order(self) -> None:
        pixels = values((*SHAPE, 3))
        stream = imagecodecs.jpeg2k_encode(
            pixels[..., ::-1].copy(), level=0, codecformat="j2k", mct=False
        )
        order = struct.pack(">H", 3) + b"".join(struct.pack(">HHH", n, 0, 3 - n) for n in range(3))
        data = self.boxed(stream, 3, struct.pack(">BBBI", 1, 0, 0, 16), self.box(b"cdef", order))
        np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(data), pixels)
        np.testing.assert_array_equal(read(data, "x.jp2")[0], pixels)

    @pytest.mark.parametrize("bits", [1, 3, 4, 10, 12])
    def test_few_bits_are_not_stretched(self, bits: int) -> None:
        dtype = np.uint8 if bits <= 8 else np.uint16
        pixels = values(SHAPE, 1 << bits, dtype)
        data = imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", bitspersample=bits)
        np.testing.assert_array_equal(read(data, "x.j2k")[0, ..., 0], pixels)

    def test_the_mark_of_the_end_may_be_left_out(self) -> None:
        pixels = values((*SHAPE, 3))
        data = imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k")
        assert data.endswith(b"\xff\xd9")
        np.testing.assert_array_equal(read(data[:-2], "x.j2k")[0], pixels)

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


def test_from_paths_urls_and_open_files(tmp_path: Path) -> None:
    import fsspec

    frames = [Frame(values((*SHAPE, 3))) for _ in range(3)]
    data = pictures.png(frames, pictures.RGB, 8)
    path = tmp_path / "x.png"
    path.write_bytes(data)
    fsspec.filesystem("memory").pipe_file("/pictures/x.png", data)
    truth = np.stack([frame.pixels for frame in frames], axis=-1)
    with path.open("rb") as file:
        for target in (path, str(path), "memory://pictures/x.png", file, data):
            with BioReader(target) as br:
                assert br.backend == "pictures"
                np.testing.assert_array_equal(br[:][:, :, 0], truth)
    with BioReader(path) as br:
        assert br.used_files == [str(path)]
        assert br.name == "x.png"


@pytest.mark.parametrize("packing", ["gz", "bz2"])
def test_packed_files(packing: str) -> None:
    pack = gzip.compress if packing == "gz" else bz2.compress
    pixels = values((*SHAPE, 3))
    data = imagecodecs.png_encode(pixels)
    np.testing.assert_array_equal(read(pack(data), f"x.png.{packing}")[0], pixels)
    targa = pictures.tga(pixels, 2, 24, flags=0x20)
    np.testing.assert_array_equal(read(pack(targa), f"x.tga.{packing}")[0], pixels[..., ::-1])
    refused(pack(data)[:-5], f"x.png.{packing}", "cannot be decompressed")
    small = Limits(chunk_bytes=100)
    with pytest.raises(LimitExceeded, match="decompressed size"):
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
