"""Pictures that are written without Java: PNG, JPEG, WebP and BMP."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bfbridge
from bfbridge import BioReader, BioWriter
from bfbridge.errors import BadArgument, LimitExceeded, Unsupported
from tests.support.samples import distinct

Image = pytest.importorskip("PIL.Image")

GREY = (distinct((41, 53)) % 251).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], -1)
# The colours under transparent pixels are kept.
RGBA = np.concatenate([RGB, (GREY * (GREY > 99))[..., np.newaxis]], -1)
DEEP = distinct((41, 53))


@pytest.mark.parametrize(("suffix", "axes", "pixels"), [
    (".png", "YX", GREY), (".png", "YX", DEEP), (".png", "YXS", RGB), (".png", "YXS", RGBA),
    (".png", "YXS", np.stack([DEEP, DEEP[::-1], DEEP[:, ::-1]], -1)), (".PNG", "YX", GREY),
    (".webp", "YXS", RGB), (".webp", "YXS", RGBA), (".bmp", "YX", GREY), (".bmp", "YXS", RGB),
    (".png", "TYX", np.stack([GREY, GREY[::-1]])), (".png", "TYXS", np.stack([RGB, RGB[::-1]])),
])  # fmt: skip
def test_round_trips(tmp_path: Path, suffix: str, axes: str, pixels: Any) -> None:
    path = tmp_path / f"a{suffix}"
    bfbridge.imwrite(path, pixels, axes=axes)
    found = bfbridge.imread(path, axes=axes)
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, pixels)
    # Pillow has no RGB of 16 bits.
    if pixels.dtype == np.uint8:
        with Image.open(path) as image:
            for number, plane in enumerate(pixels if "T" in axes else [pixels]):
                image.seek(number)
                np.testing.assert_array_equal(np.asarray(image), plane)


@pytest.mark.parametrize(
    ("suffix", "form"), [(".jpg", "JPEG"), (".jpe", "JPEG"), (".webp", "WEBP")]
)
def test_quality(tmp_path: Path, suffix: str, form: str) -> None:
    y, x = np.mgrid[:64, :80]
    pixels = np.stack([x * 3, y * 3, (x + y) % 256], -1).astype(np.uint8)
    sizes = []
    for quality in (10, np.int64(95)):
        path = tmp_path / f"{quality}{suffix}"
        bfbridge.imwrite(path, pixels, axes="YXS", quality=quality)
        sizes.append(path.stat().st_size)
        with Image.open(path) as image:
            assert image.format == form
        error = np.abs(bfbridge.imread(path, axes="YXS").astype(int) - pixels).mean()
        assert error < (20, 3)[len(sizes) - 1]
    assert sizes[0] < sizes[1]
    if form == "JPEG":
        bfbridge.imwrite(tmp_path / f"grey{suffix}", GREY)
        assert bfbridge.imread(tmp_path / f"grey{suffix}").shape == GREY.shape


@pytest.mark.parametrize(("name", "axes", "pixels", "message"), [
    ("a.png", "YX", GREY.astype(np.float32), "hold uint8 and uint16, not float32. Scale"),
    ("a.jpg", "YX", DEEP, "JPEG files hold uint8, not uint16"),
    ("a.bmp", "YX", GREY.astype(np.int8), "BMP files hold uint8, not int8"),
    ("a.webp", "YXS", RGB.astype(np.float64), "WebP files hold uint8, not float64"),
    ("a.webp", "YX", GREY, "pixels of 3, 4 samples, not 1"),
    ("a.webp", "YXS", np.dstack([RGB, RGB[..., :1] * 0 + 255]), "255 everywhere"),
    ("a.jpg", "YXS", RGBA, "pixels of 1, 3 samples, not 4"),
    ("a.png", "ZYX", np.stack([GREY] * 3), "one channel and slice, not T=1, C=1, Z=3"),
    ("a.png", "CYX", np.stack([GREY] * 2), "one channel and slice, not T=1, C=2, Z=1"),
    ("a.webp", "TYXS", np.stack([RGB] * 2), "one plane, not T=2"),
])  # fmt: skip
def test_what_a_format_does_not_hold(
    tmp_path: Path, name: str, axes: str, pixels: Any, message: str
) -> None:
    with pytest.raises(Unsupported, match=message):
        bfbridge.imwrite(tmp_path / name, pixels, axes=axes)
    assert list(tmp_path.iterdir()) == []


def test_options(tmp_path: Path) -> None:
    for level in (0, 9):
        bfbridge.imwrite(tmp_path / f"{level}.png", GREY // 100, level=level)
    assert (tmp_path / "0.png").stat().st_size > (tmp_path / "9.png").stat().st_size
    for name, options, message in (
        ("a.png", {"quality": 9}, "PNG files have no option quality"),
        ("a.jpg", {"quality": 0}, "quality"), ("a.jpg", {"quality": True}, "quality"),
        ("a.png", {"level": 10}, "level"), ("a.png", {"qualty": 1}, "Did you mean quality"),
        ("a.png", {"compression": "zstd"}, "the suffix of a picture selects its codec"),
    ):  # fmt: skip
        with pytest.raises(BadArgument, match=message):
            bfbridge.imwrite(tmp_path / name, GREY, **options)
    with pytest.raises(LimitExceeded, match="width or height"):
        bfbridge.imwrite(tmp_path / "a.webp", np.zeros((2, 16_400, 3), np.uint8), axes="YXS")


def test_tiles_in_any_order_and_again(tmp_path: Path) -> None:
    pixels = (distinct((1100, 1300), np.uint32) % 65_521).astype(np.uint16)
    with BioWriter(tmp_path / "a.png", image=pixels[:, :, np.newaxis]) as bw:
        bw[1024:] = pixels[1024:, :]
        bw[:1024] = 0
        bw[:1030] = pixels[:1030, :]
    with BioReader(tmp_path / "a.png") as br:
        assert br.backend == "pictures"
        np.testing.assert_array_equal(br[:], pixels)


def test_animations_are_time_points(tmp_path: Path) -> None:
    """As imageio lists the frames of an animation."""
    frames = [Image.fromarray(plane) for plane in (RGB, RGB[::-1], RGB[:, ::-1])]
    for form in ("WEBP", "GIF"):
        made = io.BytesIO()
        frames[0].save(made, form, save_all=True, append_images=frames[1:], lossless=True)
        path = tmp_path / f"a.{form.lower()}"
        path.write_bytes(made.getvalue())
        with BioReader(path) as br, Image.open(path) as image:
            assert (br.sizes["T"], br.backend) == (3, "pictures")
            if form == "WEBP":
                for number in (2, 0, 1):
                    image.seek(number)
                    np.testing.assert_array_equal(
                        br.read(T=number, squeeze=True)[..., :3],
                        np.asarray(image.convert("RGB")),
                    )
