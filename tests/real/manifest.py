"""The real files and what the reference reader says of them.

The files lie beside the checkout, in ``../shared/data``, or where ``BFBRIDGE_DATA`` says; tests
skip where they are absent. See its README.md for how the figures were made.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CHECKOUT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("BFBRIDGE_DATA") or CHECKOUT.parent / "shared" / "data")
PIXEL_TYPES = {"float": "float32", "double": "float64", "bit": "uint8"}


@dataclass(frozen=True)
class Entry:
    """One file of the manifest."""

    format: str
    path: Path
    expect: str
    truth: dict[str, Any]

    @property
    def is_zarr(self) -> bool:
        """Whether it is an OME-Zarr store: its truth then comes from zarr and has no series."""
        return self.format.startswith("omezarr")

    @property
    def opens(self) -> bool:
        """Whether it can be opened; its pixels may fail all the same."""
        return self.expect != "fails"

    @property
    def pixels_fail(self) -> bool:
        """Whether it opens, but its pixels cannot be read."""
        return self.expect == "opens, pixels fail"

    @property
    def series(self) -> list[dict[str, Any]]:
        """Records of the first 48 series."""
        return list(self.truth.get("series") or [])

    def __str__(self) -> str:
        return f"{self.format}/{self.path.name}"


def entries() -> list[Entry]:
    """Every entry; empty where the data are absent."""
    listing = DATA / "manifest.json"
    if not listing.is_file():
        return []
    manifest = json.loads(listing.read_text(encoding="utf-8"))
    return [
        Entry(
            format=entry["format_slug"],
            path=DATA / entry["file"],
            expect=entry["expect"],
            truth=entry.get("ground_truth") or {},
        )
        for entry in manifest["entries"]
    ]


def _targa(path: Path) -> np.ndarray[Any, Any]:
    from PIL import Image

    return np.asarray(Image.open(path))[..., :3]


def _jpeg2000(path: Path) -> np.ndarray[Any, Any]:
    import imagecodecs

    pixels: np.ndarray[Any, Any] = imagecodecs.jpeg2k_decode(path.read_bytes())
    return pixels


def _dicom(path: Path) -> np.ndarray[Any, Any]:
    """The one frame of a file, its fragments joined."""
    import imagecodecs

    data = path.read_bytes()
    at = data.rindex(b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff") + 12
    parts = []
    while data[at : at + 4] == b"\xfe\xff\0\xe0":
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        parts.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    pixels: np.ndarray[Any, Any] = imagecodecs.jpeg2k_decode(b"".join(parts[1:]))
    return pixels


def _andor(path: Path) -> np.ndarray[Any, Any]:
    """The first of two blocks, behind the header that ends with the time of its one frame."""
    data = path.read_bytes()
    at = data.index(b"\n         0\n") + 12
    return np.frombuffer(data, "<f4", 512 * 512, at).reshape(512, 512, 1)


_WRONG: dict[str, Callable[[Path], np.ndarray[Any, Any]]] = {
    "rgb32rle.tga": _targa,  # its last quarter is black
    "world.jp2": _jpeg2000,  # bright pixels are grey or black
    "image.sif": _andor,  # the second block, and a pixel too early
    "US1_J2KR.dcm": _dicom,  # the frame lies in three fragments
}


def right_pixels(entry: Entry) -> np.ndarray[Any, Any] | None:
    """Return the pixels of a file that the reference reader has wrong, (T, C, Z, Y, X), or None."""
    decode = _WRONG.get(entry.path.name)
    return None if decode is None else decode(entry.path).transpose(2, 0, 1)[None, :, None]


def expected_dtype(series: dict[str, Any]) -> np.dtype[Any]:
    """dtype that a series is to be handed out in."""
    name = series["pixel_type"]
    return np.dtype(PIXEL_TYPES.get(name, name))


def expected_shape(series: dict[str, Any]) -> tuple[int, int, int, int, int]:
    """Sizes along T, C (channels x samples), Z, Y, X."""
    channels = series["effectiveSizeC"] * (series["rgb_channel_count"] if series["rgb"] else 1)
    return (series["sizeT"], channels, series["sizeZ"], series["sizeY"], series["sizeX"])


def plane_position(series: dict[str, Any], plane: int) -> tuple[int, int, int]:
    """(z, effective c, t) of a plane number, as the dimension order counts."""
    sizes = {"Z": series["sizeZ"], "C": series["effectiveSizeC"], "T": series["sizeT"]}
    place = {}
    for axis in series["dimension_order"][2:]:
        plane, place[axis] = divmod(plane, sizes[axis])
    return place["Z"], place["C"], place["T"]


def plane_bytes(pixels: np.ndarray[Any, Any], series: dict[str, Any]) -> bytes:
    """Samples x Y x X of one plane as the bytes that openBytes would return.

    Parameters
    ----------
    pixels
        All samples of one plane, in any byte order: (1, Y, X), or (3, Y, X) for RGB.
    series
        The record, which says byte order and interleaving.
    """
    order = "<" if series["little_endian"] else ">"
    stored = pixels.astype(pixels.dtype.newbyteorder(order), copy=False)
    if series["interleaved"] and len(stored) > 1:
        stored = stored.transpose(1, 2, 0)
    return np.ascontiguousarray(stored).tobytes()


def plane_md5(pixels: np.ndarray[Any, Any], series: dict[str, Any]) -> str:
    """MD5 of one plane's samples x Y x X, to compare with ``plane_md5``."""
    return hashlib.md5(plane_bytes(pixels, series), usedforsecurity=False).hexdigest()


def planes(
    array: np.ndarray[Any, Any], series: dict[str, Any]
) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """(plane number, samples x Y x X) of a T, C, Z, Y, X array, for the planes with a known MD5."""
    samples = series["rgb_channel_count"] if series["rgb"] else 1
    for number in range(len(series.get("plane_md5") or [])):
        z, c, t = plane_position(series, number)
        yield number, array[t, c * samples : (c + 1) * samples, z]


def wrong_planes(array: np.ndarray[Any, Any], series: dict[str, Any]) -> list[int]:
    """Numbers of the planes of a T, C, Z, Y, X array whose MD5 is not the reference's."""
    return [
        number
        for number, pixels in planes(array, series)
        if plane_md5(pixels, series) != series["plane_md5"][number]
    ]
