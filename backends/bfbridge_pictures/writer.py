"""Writing pictures: PNG, JPEG, WebP and BMP. The suffix selects the format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import imagecodecs
import numpy as np

from bfbridge.backend import Image, ImageSpec, Shape5, WriterBackend
from bfbridge.errors import BadArgument, Unsupported
from bfbridge.limits import check
from bfbridge.runtime import forking
from bfbridge.runtime.arguments import whole
from bfbridge.runtime.writer_options import refuse_unknown

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["SUFFIXES", "PictureWriter"]

Array = np.ndarray[Any, Any]
_TILE: Final = 1024
_JPEG_QUALITY: Final = 95


def _png(planes: Array, quality: int | None, level: int | None) -> bytes:
    del quality
    if len(planes) > 1:
        return bytes(imagecodecs.apng_encode(planes, level=level))
    return bytes(imagecodecs.png_encode(planes[0], level=level))


def _jpeg(planes: Array, quality: int | None, level: int | None) -> bytes:
    del level
    quality = _JPEG_QUALITY if quality is None else quality
    return bytes(imagecodecs.jpeg8_encode(planes[0], level=quality, subsampling="444"))


def _webp(planes: Array, quality: int | None, level: int | None) -> bytes:
    del level
    if planes.shape[-1] == 4 and np.all(planes[..., 3] == 255):
        raise Unsupported(
            "WebP files have no fourth sample that is 255 everywhere. Write the first three."
        )
    if quality is None:
        return bytes(imagecodecs.webp_encode(planes[0], lossless=True))
    return bytes(imagecodecs.webp_encode(planes[0], level=quality, lossless=False))


def _bmp(planes: Array, quality: int | None, level: int | None) -> bytes:
    del quality, level
    return bytes(imagecodecs.bmp_encode(planes[0]))


class _Format(NamedTuple):
    """The types that a format stores, and the function that encodes them."""

    name: str
    encode: Callable[[Array, int | None, int | None], bytes]
    dtypes: tuple[str, ...]
    samples: tuple[int, ...]
    largest_side: int
    options: tuple[str, ...] = ()
    frames: bool = False


_PNG: Final = _Format(
    "PNG", _png, ("uint8", "uint16"), (1, 2, 3, 4), 2**31 - 1, ("level",), frames=True
)
_JPEG: Final = _Format("JPEG", _jpeg, ("uint8",), (1, 3), 65_500, ("quality",))
_WEBP: Final = _Format("WebP", _webp, ("uint8",), (3, 4), 16_383, ("quality",))
_BMP: Final = _Format("BMP", _bmp, ("uint8",), (1, 3), 2**31 - 1)
_FORMATS: Final = {
    ".png": _PNG, ".jpg": _JPEG, ".jpeg": _JPEG, ".jpe": _JPEG, ".webp": _WEBP, ".bmp": _BMP,
}  # fmt: skip
SUFFIXES: Final = tuple(_FORMATS)


class PictureWriter(WriterBackend):
    """A new picture; its pixels are kept in memory until `finish`.

    PNG files hold time points as frames (APNG). WebP is lossless unless ``quality`` is given.
    """

    name: ClassVar[str] = "pictures"
    option_names: ClassVar[tuple[str, ...]] = ("quality", "level", "compression")

    def __init__(self, target: Path, spec: ImageSpec, options: Mapping[str, Any]) -> None:
        image = spec.image
        self._target = target
        self._format = _FORMATS[target.suffix.lower()]
        self._quality, self._level = options.get("quality"), options.get("level")
        self._chunk = image.levels[0].chunk
        shape = image.levels[0].shape
        self._pixels = np.full(shape, spec.fill_value, image.dtype)
        self._written: set[Shape5] = set()
        self._lock = forking.lock()

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Check ``quality``, 1 to 100 of JPEG and lossy WebP, and ``level``, 0 to 9 of PNG."""
        refuse_unknown(options, cls.option_names, "pictures")
        if options.get("compression") is not None:
            raise BadArgument(
                f"compression={options['compression']!r}: the suffix of a picture selects its "
                "codec. Options are quality (JPEG, WebP) and level (PNG)."
            )
        for name, least, most in (("quality", 1, 100), ("level", 0, 9)):
            if options.get(name) is not None:
                whole(options[name], name, least, most)

    @classmethod
    def supports_levels(cls, target: str) -> bool:
        """No picture has lower resolution levels."""
        del target
        return False

    @classmethod
    def supports_dtype(cls, dtype: np.dtype[Any]) -> bool:
        """Whether a format of pictures stores pixels of this type."""
        return dtype.name in _PNG.dtypes

    @classmethod
    def default_chunk(cls, image: Image, options: Mapping[str, Any]) -> Shape5:
        """Return tiles with all samples of a pixel."""
        del options
        _, _, _, y, x = image.levels[0].shape
        return 1, image.samples, 1, min(y, _TILE), min(x, _TILE)

    @classmethod
    def prepare(
        cls, target: Path, images: Sequence[ImageSpec], ome: OME | None, options: Mapping[str, Any]
    ) -> PictureWriter:
        """Check that the format can store the image, and start the file.

        Raises
        ------
        Unsupported
            It cannot; the message says what it can store.
        BadArgument
            The format has no such option.
        """
        del ome
        cls.check(options)
        kind = _FORMATS.get(target.suffix.lower())
        if kind is None:
            raise BadArgument(f"{target.name}: pictures are named {', '.join(SUFFIXES)}.")
        for name in options:
            if options[name] is not None and name not in kind.options:
                raise BadArgument(f"{target.name}: {kind.name} files have no option {name}.")
        _check_image(target.name, kind, images)
        shape = images[0].image.levels[0].shape
        check(max(shape[3:]), kind.largest_side, "width or height", target.name)
        return cls(target, images[0], options)

    def write_block(self, image: int, level: int, index: Shape5, block: Array) -> None:
        """Store a tile; see `WriterBackend.write_block`."""
        del image, level
        # Tiles of different threads do not overlap.
        self._pixels[self._place(index)] = block
        with self._lock:
            self._written.add(index)

    def read_block(self, image: int, level: int, index: Shape5) -> Array | None:
        """Return a tile that was written; see `WriterBackend.read_block`."""
        del image, level
        with self._lock:
            if index not in self._written:
                return None
        return self._pixels[self._place(index)].copy()

    def _place(self, index: Shape5) -> tuple[slice, ...]:
        return tuple(
            slice(at * step, (at + 1) * step) for at, step in zip(index, self._chunk, strict=True)
        )

    def finish(self) -> None:
        """Encode the picture, and write it."""
        planes = np.ascontiguousarray(np.moveaxis(self._pixels[:, :, 0], 1, -1))
        if planes.shape[-1] == 1:
            planes = planes[..., 0]
        try:
            data = self._format.encode(planes, self._quality, self._level)
        except Unsupported as error:
            raise Unsupported(f"{self._target.name}: {error}") from error
        self._target.write_bytes(data)

    def abort(self) -> None:
        """Release the pixels."""
        self._pixels = np.empty((0,) * 5, np.uint8)


def _check_image(name: str, kind: _Format, images: Sequence[ImageSpec]) -> None:
    """Refuse images that a format does not hold."""
    image = images[0].image
    t, c, z, _, _ = image.levels[0].shape
    if len(images) > 1 or len(image.levels) > 1:
        raise Unsupported(f"{name}: {kind.name} files hold one image, and no lower levels.")
    if image.dtype.name not in kind.dtypes:
        raise Unsupported(
            f"{name}: {kind.name} files hold {' and '.join(kind.dtypes)}, not {image.dtype}. "
            "Scale the values first, or write .ome.tif."
        )
    if c != image.samples or z > 1 or (t > 1 and not kind.frames):
        most = "one channel and slice" if kind.frames else "one plane"
        raise Unsupported(
            f"{name}: {kind.name} files hold {most}, not T={t}, C={c // image.samples}, Z={z}. "
            "Write .ome.tif, or give the samples of RGB pixels the axis S."
        )
    if image.samples not in kind.samples:
        raise Unsupported(
            f"{name}: {kind.name} files hold pixels of {', '.join(map(str, kind.samples))} "
            f"samples, not {image.samples}."
        )
