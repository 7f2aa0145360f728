"""TIFF files made byte by byte, and the same pixels read by this project and by its referees."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from bfbridge.backend import OpenOptions, ReaderBackend, Region
from bfbridge.storage.source import as_source
from bfbridge_ometiff import OmeTiffReader

KINDS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 13: "I", 16: "Q", 18: "Q"}
NAMES = {"float32": "float", "float64": "double", "complex64": "complex"}


@dataclass
class Page:
    """One directory: tags as (field type, values), the segments it points to, those below it."""

    tags: dict[int, tuple[int, Any]]
    segments: Sequence[bytes] = ()
    below: Sequence[Page] = field(default_factory=list)
    tiled: bool = False


def packed_row(row: np.ndarray, bits: int) -> bytes:
    """Samples of a row as integers of `bits` bits, highest bit first, padded to whole bytes."""
    places = np.arange(bits - 1, -1, -1)
    return np.packbits((row.reshape(-1, 1).astype(np.int64) >> places & 1).ravel()).tobytes()


def page(
    width: int,
    length: int,
    segments: Sequence[bytes],
    *,
    bits: int = 8,
    samples: int = 1,
    kind: int = 1,
    compression: int = 1,
    photometric: int = 1,
    rows: int | None = None,
    tile: tuple[int, int] | None = None,
    planar: int = 1,
    description: str | bytes | None = None,
    below: Sequence[Page] = (),
    more: dict[int, tuple[int, Any]] | None = None,
) -> Page:
    """A directory with the usual tags; `more` replaces or adds some, and None removes one."""
    tags: dict[int, tuple[int, Any]] = {
        256: (4, [width]),
        257: (4, [length]),
        258: (3, [bits] * samples),
        259: (3, [compression]),
        262: (3, [photometric]),
        277: (3, [samples]),
        284: (3, [planar]),
        339: (3, [kind] * samples),
    }
    if tile:
        tags |= {322: (4, [tile[1]]), 323: (4, [tile[0]])}
    else:
        tags[278] = (4, [rows or length])
    if description is not None:
        text = description.encode() if isinstance(description, str) else description
        tags[270] = (2, text + b"\0")
    tags |= more or {}
    return Page({k: v for k, v in tags.items() if v is not None}, segments, below, bool(tile))


def build(pages: Iterable[Page], order: str = "<", *, big: bool = False) -> bytes:
    """Lay out a TIFF: each page's segments, the directories below it, its directory."""
    mark = b"II" if order == "<" else b"MM"
    out = bytearray(
        mark + struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 0) if big else (42, 0)))
    )
    link = 8 if big else 4
    for each in pages:
        place, following = _add(each, out, order, big)
        struct.pack_into(order + ("Q" if big else "I"), out, link, place)
        link = following
    return bytes(out)


def _add(each: Page, out: bytearray, order: str, big: bool) -> tuple[int, int]:
    offsets = []
    for segment in each.segments:
        out += b"\0" * (len(out) % 2)
        offsets.append(len(out))
        out += segment
    tags = dict(each.tags)
    places, sizes = (324, 325) if each.tiled else (273, 279)
    tags.setdefault(places, (16 if big else 4, offsets))
    tags.setdefault(sizes, (4, [len(segment) for segment in each.segments]))
    if each.below:
        tags[330] = (18 if big else 13, [_add(sub, out, order, big)[0] for sub in each.below])
    room, wide = (8, "Q") if big else (4, "I")
    entries = b""
    for number in sorted(tags):
        kind, values = tags[number]
        code = KINDS[kind]
        data = (
            values
            if isinstance(values, bytes)
            else struct.pack(order + code * (len(values) // len(code)), *values)
        )
        count = len(values) if isinstance(values, bytes) else len(values) // len(code)
        if len(data) > room:
            out += b"\0" * (len(out) % 2)
            place = struct.pack(order + wide, len(out))
            out += data
        else:
            place = data.ljust(room, b"\0")
        entries += struct.pack(order + "HH" + wide, number, kind, count) + place
    out += b"\0" * (len(out) % 2)
    start = len(out)
    out += struct.pack(order + ("Q" if big else "H"), len(tags)) + entries + b"\0" * room
    return start, len(out) - room


def ome_xml(
    shape: Sequence[int],
    dtype: Any,
    *,
    samples: int = 1,
    order: str = "XYZCT",
    tiff_data: str | None = None,
    uuid: str | None = None,
    channels: str | None = None,
    pixels: str = "",
) -> str:
    """An OME-XML of one image of `shape` T, C, Z, Y, X."""
    return ome_document(
        ome_image(
            shape,
            dtype,
            samples=samples,
            order=order,
            tiff_data=tiff_data,
            channels=channels,
            pixels=pixels,
        ),
        uuid=uuid,
    )


def ome_image(
    shape: Sequence[int],
    dtype: Any,
    *,
    index: int = 0,
    samples: int = 1,
    order: str = "XYZCT",
    tiff_data: str | None = None,
    channels: str | None = None,
    pixels: str = "",
) -> str:
    t, c, z, y, x = shape
    name = np.dtype(dtype).name
    if channels is None:
        channels = "".join(
            f'<Channel ID="Channel:{index}:{i}" SamplesPerPixel="{samples}"/>'
            for i in range(c // samples)
        )
    if tiff_data is None:
        tiff_data = f'<TiffData IFD="0" PlaneCount="{t * (c // samples) * z}"/>'
    return (
        f'<Image ID="Image:{index}" Name="image {index}"><Pixels ID="Pixels:{index}" '
        f'DimensionOrder="{order}" Type="{NAMES.get(name, name)}" SizeX="{x}" SizeY="{y}" '
        f'SizeZ="{z}" SizeC="{c}" SizeT="{t}" {pixels}>{channels}{tiff_data}</Pixels></Image>'
    )


def ome_document(images: str, *, uuid: str | None = None) -> str:
    mark = f' UUID="{uuid}"' if uuid else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"{mark}>{images}</OME>'
    )


def numbered(shape: Sequence[int], dtype: Any, seed: int = 0) -> np.ndarray[Any, Any]:
    """Pixels that all differ from their neighbours, over the whole range of the type."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    values = rng.normal(0, 1e4, shape)
    if dtype.kind == "c":
        return (values + 1j * rng.normal(0, 1e4, shape)).astype(dtype)
    return values.astype(dtype)


def open_ours(target: Any, **options: Any) -> OmeTiffReader:
    return OmeTiffReader.open(as_source(target), OpenOptions(**options))


def open_java(target: Any, **options: Any) -> ReaderBackend:
    from bfbridge_bioformats import READER

    reader: ReaderBackend = READER.open(as_source(target), OpenOptions(**options))
    return reader


def all_of(reader: ReaderBackend, image: int = 0, level: int = 0) -> np.ndarray[Any, Any]:
    """All pixels of one level, T, C, Z, Y, X."""
    record = reader.images[image]
    shape = record.levels[level].shape
    out = np.empty(shape, record.dtype)
    reader.read(Region(image, level, (0, 0, 0, 0, 0), shape), out)
    return out


def read_ours(target: Any, image: int = 0, level: int = 0, **options: Any) -> np.ndarray[Any, Any]:
    reader = open_ours(target, **options)
    try:
        return all_of(reader, image, level)
    finally:
        reader.close()


def read_java(target: Any, image: int = 0, level: int = 0) -> np.ndarray[Any, Any]:
    reader = open_java(target)
    try:
        return all_of(reader, image, level)
    finally:
        reader.close()


def saved(folder: Path, data: bytes, name: str = "made.ome.tif") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def write_rgb_jpeg(
    folder: Path, shape: tuple[int, int], subsampling: tuple[int, int], space: str | None
) -> Path:
    """Write a smooth RGB image of (rows, columns) in JPEG tiles with tifffile."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    array = np.stack([128 + 90 * np.sin(x / 9), 128 + 90 * np.cos(y / 7), (x * y) % 256], -1)
    path = folder / "made.ome.tif"
    tifffile.imwrite(
        path,
        array.astype("u1"),
        photometric="rgb",
        tile=(32, 48),
        compression="jpeg",
        subsampling=subsampling,
        compressionargs={"outcolorspace": space} if space else {},
        metadata={"axes": "YXS"},
    )
    return path
