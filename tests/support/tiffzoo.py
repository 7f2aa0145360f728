"""TIFF and OME-TIFF files of every make, each from one number: pixels known, storage at random."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from tests.support.tiffs import Page, build, ome_document, ome_image, packed_row, page

Array = np.ndarray[Any, np.dtype[Any]]

TYPES = {
    "u1": (8, 1),
    "u2": (16, 1),
    "u4": (32, 1),
    "i1": (8, 2),
    "i2": (16, 2),
    "i4": (32, 2),
    "f4": (32, 3),
    "f8": (64, 3),
}
ODD_BITS = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15)
UUID = "urn:uuid:{:08d}-0000-4000-8000-000000000000"
_COMPRESSIONS = {
    1: lambda data: data,
    5: imagecodecs.lzw_encode,
    8: imagecodecs.zlib_encode,
    32946: imagecodecs.zlib_encode,
    32773: imagecodecs.packbits_encode,
    50000: imagecodecs.zstd_encode,
}
_ORDERS = ("XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC")


@dataclass
class Made:
    """One file (of a set, the one to open) and what is known about it."""

    path: Path
    recipe: dict[str, Any]
    truth: list[Array] = field(default_factory=list)
    """Pixels of the first image's levels, T, C, Z, Y, X, where they are certain."""


def make(seed: int, folder: Path) -> Made:
    """Make the file of a number in a folder of its own."""
    rng = random.Random(seed)
    from tests.support import tiffmakers as others

    makers = [
        _stored_ome,
        _mapped_ome,
        _stored_plain,
        others.by_tifffile,
        others.imagej,
        others.dialect,
    ]
    maker = rng.choices(makers, [4, 5, 3, 3, 3, 2])[0]
    return maker(rng, seed, folder)


def pixels(rng: random.Random, shape: tuple[int, ...], dtype: str, bits: int = 0) -> Array:
    """Random pixels, in runs so that compression has work, of so many bits."""
    source = np.random.default_rng(rng.randrange(1 << 30))
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (source.normal(0, 1e4, shape)).astype(dtype)
    info = np.iinfo(kind)
    low, high = (0, (1 << bits) - 1) if bits else (info.min, info.max)
    values = source.integers(low, high, shape, kind, endpoint=True)
    return (values >> rng.randrange(3)).astype(kind) if kind.kind == "u" else values


@dataclass
class Storage:
    """How the planes of a file are stored."""

    dtype: str
    bits: int
    kind: int
    samples: int
    planar: int
    photometric: int
    compression: int
    predictor: int
    fill_order: int
    order: str
    big: bool
    tile: tuple[int, int] | None
    rows: int
    more: dict[int, Any]


def storage(rng: random.Random, length: int, width: int) -> Storage:
    """Choose at random; half of the choices are such as a native reader takes."""
    plain = rng.random() < 0.5
    dtype = rng.choice(list(TYPES))
    bits, kind = TYPES[dtype]
    samples = rng.choice([1, 1, 1, 3, 3, 4] if plain else [1, 1, 2, 3, 3, 4, 5])
    compression = rng.choice(list(_COMPRESSIONS))
    predictor = 1
    if compression in (5, 8, 32946, 50000) and rng.random() < 0.5:
        predictor = 3 if dtype in ("f4", "f8") else 2
    if rng.random() < (0.15 if plain else 0.4) and predictor == 1:
        bits, kind = rng.choice(ODD_BITS), 1
        dtype = "u1" if bits < 8 else "u2"
    usual = 2 if samples in (3, 4) else rng.choice([0, 1, 1, 1, 1, 1])
    photometric = usual if plain else rng.choice([0, 1, 2, 3, 5, 6, 8, usual, usual])
    more = _more_tags(rng, photometric, samples, bits, plain=plain)
    tile = None
    if rng.random() < 0.5:
        most = 16 if rng.random() < 0.8 else 1
        tile = (most * rng.randrange(1, 80 // most), most * rng.randrange(1, 80 // most))
    rows = rng.choice([1, 2, 3, 7, length // 2 or 1, length, length + 5, 1 << 31, (1 << 32) - 1])
    planar = 1 if 284 in more else rng.choice([1, 2])
    fill_order = 1 if plain else rng.choice([1, 1, 1, 2])
    return Storage(
        dtype, bits, kind, samples, planar, photometric, compression, predictor, fill_order,
        rng.choice("<>"), rng.random() < 0.3, tile, rows, more,
    )  # fmt: skip


def _more_tags(
    rng: random.Random, photometric: int, samples: int, bits: int, *, plain: bool
) -> dict[int, Any]:
    """Tags that not every file has; None leaves one out."""
    more: dict[int, Any] = {}
    if photometric == 3:
        more[320] = (3, [int(x) for x in np.linspace(0, 65535, 3 << min(bits, 16))])
    extra = samples - {2: 3, 5: 4, 6: 3, 8: 3}.get(photometric, 1)
    if extra > 0 and rng.random() < 0.7:
        more[338] = (3, [rng.randrange(3) for _ in range(extra)])
    if not plain:
        if rng.random() < 0.3:
            more[274] = (3, [rng.randrange(1, 9)])
        if rng.random() < 0.1:
            more[284] = None
        if rng.random() < 0.1:
            more[rng.choice([258, 277, 278, 339, 262, 259])] = None
    return more


def _row_bytes(rows: Array, how: Storage) -> bytes:
    """Rows of a segment, shape (Y, X, samples), as a byte stream."""
    if how.bits != rows.dtype.itemsize * 8:
        return b"".join(packed_row(row, how.bits) for row in rows)
    if how.predictor == 2:
        rows = imagecodecs.delta_encode(np.ascontiguousarray(rows), axis=1)
    elif how.predictor == 3:
        return imagecodecs.floatpred_encode(np.ascontiguousarray(rows), axis=-2).tobytes()
    return rows.astype(rows.dtype.newbyteorder(how.order)).tobytes()


def segments_of(plane: Array, how: Storage) -> list[bytes]:
    """Encode one plane, shape (Y, X, samples)."""
    parts = [plane] if how.planar == 1 else [plane[:, :, s : s + 1] for s in range(plane.shape[2])]
    length, width = plane.shape[:2]
    found = []
    for part in parts:
        if how.tile:
            high, wide = how.tile
            padded = np.pad(part, ((0, -length % high), (0, -width % wide), (0, 0)), mode="edge")
            blocks = [
                padded[y : y + high, x : x + wide]
                for y in range(0, length, high)
                for x in range(0, width, wide)
            ]
        else:
            blocks = [part[y : y + how.rows] for y in range(0, length, min(how.rows, length))]
        for block in blocks:
            data = _COMPRESSIONS[how.compression](_row_bytes(block, how))
            if how.fill_order == 2:
                data = imagecodecs.bitorder_decode(bytes(data))
            found.append(bytes(data))
    return found


def stored_page(plane: Array, how: Storage, description: str | None = None, **extra: Any) -> Page:
    """One directory of a plane, shape (Y, X, samples)."""
    more = dict(how.more)
    if how.predictor != 1:
        more[317] = (3, [how.predictor])
    if how.fill_order != 1:
        more[266] = (3, [how.fill_order])
    more |= extra.pop("more", {})
    return page(
        plane.shape[1],
        plane.shape[0],
        segments_of(plane, how),
        bits=how.bits,
        kind=how.kind,
        samples=how.samples,
        compression=how.compression,
        photometric=how.photometric,
        planar=how.planar,
        tile=how.tile,
        rows=how.rows,
        description=description,
        more=more,
        **extra,
    )


def _lengths(rng: random.Random) -> tuple[int, int]:
    return rng.randrange(1, 70), rng.randrange(1, 70)


def _certain(how: Storage, array: Array, below: int = 0) -> list[Array]:
    """Every level's pixels, T, C, Z, Y, X, where no reader may think otherwise."""
    whole = array.dtype.kind in "ui"
    if _damaged(how) or how.photometric not in (0, 1, 2, 3):
        return []
    if how.photometric == 0 and whole:
        array = ~array if not _bits(how) else ((1 << how.bits) - 1 - array).astype(array.dtype)
    return [array[..., :: 2**level, :: 2**level] for level in range(below + 1)]


def _stored_ome(rng: random.Random, seed: int, folder: Path) -> Made:
    """One image whose storage is at random and whose planes lie in order."""
    length, width = _lengths(rng)
    how = storage(rng, length, width)
    sizes = (rng.randrange(1, 3), rng.randrange(1, 3), rng.randrange(1, 3))
    array = pixels(rng, (*sizes, length, width, how.samples), how.dtype, _bits(how))
    t, c, z = sizes
    shape = (t, c * how.samples, z, length, width)
    document = ome_document(ome_image(shape, how.dtype, samples=how.samples))
    below = rng.choice([0, 0, 1, 2])
    pages = []
    for tt, cc, zz in itertools.product(range(t), range(c), range(z)):
        plane = array[tt, cc, zz]
        subs = [
            stored_page(np.ascontiguousarray(plane[:: 2**n, :: 2**n]), how)
            for n in range(1, below + 1)
        ]
        pages.append(stored_page(plane, how, None if pages else document, below=subs))
    path = folder / "made.ome.tif"
    path.write_bytes(build(pages, how.order, big=how.big))
    truth = array.transpose(0, 1, 5, 2, 3, 4).reshape(shape)
    recipe = {"maker": "stored_ome", **vars(how), "shape": shape, "below": below}
    recipe["damaged"] = _damaged(how)
    return Made(path, recipe, _certain(how, truth, below))


def _damaged(how: Storage) -> bool:
    """Whether a tag is left out whose default is another value."""
    return any(value is None for tag, value in how.more.items() if tag != 284)


def _bits(how: Storage) -> int:
    return how.bits if how.bits != np.dtype(how.dtype).itemsize * 8 else 0


def _stored_plain(rng: random.Random, seed: int, folder: Path) -> Made:
    """A TIFF without OME-XML."""
    length, width = _lengths(rng)
    how = storage(rng, length, width)
    count = rng.choice([1, 1, 2, 3, 5])
    array = pixels(rng, (count, length, width, how.samples), how.dtype, _bits(how))
    pages = []
    stack = True
    for index in range(count):
        more: dict[int, tuple[int, Any]] = {}
        if rng.random() < 0.1:
            stack = False
            more[254] = (4, [rng.randrange(8)])
        if not index and rng.random() < 0.3:
            more[296] = (3, [rng.randrange(4)])
            more |= {tag: (5, [rng.randrange(1, 4000), rng.randrange(1, 3)]) for tag in (282, 283)}
        if not index and rng.random() < 0.2:
            more[306] = (2, b"2024:03:01 12:13:14\0")
        subs = []
        if rng.random() < 0.1:
            subs = [stored_page(array[index][::2, ::2], how)]
        plane = array[index]
        if rng.random() < 0.07:
            stack = False
            plane = plane[: max(1, length // 2)]
        pages.append(stored_page(plane, how, more=more, below=subs))
    path = folder / rng.choice(["a.tif", "a.tiff", "a.TIF", "a.btf", "a.tf8"])
    path.write_bytes(build(pages, how.order, big=how.big))
    truth = _certain(how, array.transpose(0, 3, 1, 2)[:, :, np.newaxis]) if stack else []
    recipe = {"maker": "stored_plain", **vars(how), "count": count}
    recipe["damaged"] = _damaged(how)
    return Made(path, recipe, truth)


def _mapped_ome(rng: random.Random, seed: int, folder: Path) -> Made:
    """Images whose TiffData, order, channels and files are at random, not all of them right."""
    count = rng.choice([1, 1, 1, 2, 3])
    samples = rng.choice([1, 1, 1, 3])
    dtype = rng.choice(["u1", "u2", "f4"])
    length, width = rng.randrange(5, 20), rng.randrange(5, 20)
    names = ["made.ome.tif", "b.ome.tif", "c.ome.tif"][: rng.choice([1, 1, 1, 2, 3])]
    companion = rng.random() < 0.15
    pages: list[list[Array]] = [[] for _ in names]
    images = []
    recipe: dict[str, Any] = {"maker": "mapped_ome", "files": len(names), "companion": companion}
    for index in range(count):
        z, c, t = (rng.randrange(1, 4) for _ in "ZCT")
        order = rng.choice(_ORDERS)
        array = pixels(rng, (t, c, z, length, width, samples), dtype)
        places = _in_order(order, z, c, t)
        style = rng.choice(_STYLES)
        recipe[f"image {index}"] = (order, z, c, t, style)
        data = _tiff_data(rng, style, array, places, pages, names, companion=companion)
        images.append(
            ome_image(
                (t, c * samples, z, length, width), dtype, index=index, order=order,
                tiff_data=data, channels=_channels(rng, index, c, samples),
                pixels=_attributes(rng, dtype),
            )
        )  # fmt: skip
    document = ome_document("".join(images), uuid=UUID.format(1) if rng.random() < 0.8 else None)
    bits, kind = TYPES[dtype]
    how = Storage(dtype, bits, kind, samples, 1, 2 if samples == 3 else 1, 8, 1, 1, "<", False,
                  None, length, {})  # fmt: skip
    files = []
    for number, name in enumerate(names):
        held = pages[number] or [np.zeros((length, width, samples), dtype)]
        own = document
        if companion:
            own = ome_document('<BinaryOnly MetadataFile="x.companion.ome" UUID="urn:uuid:1"/>')
        elif number:
            own = document.replace(UUID.format(1), UUID.format(number + 1), 1)
        made = [stored_page(plane, how, None if i else own) for i, plane in enumerate(held)]
        files.append(folder / name)
        files[-1].write_bytes(build(made))
    if companion:
        files.append(folder / "x.companion.ome")
        files[-1].write_text(document)
    if len(files) > 1 and rng.random() < 0.1:
        files.pop(rng.randrange(1, len(files))).unlink()
        recipe["missing"] = True
    recipe["open"] = rng.randrange(len(files))
    return Made(files[recipe["open"]], recipe)


_STYLES = (
    "none", "empty", "ifd only", "ifd count", "each", "each with ifd", "each no count", "shuffled",
    "first only", "gaps", "too many", "too few", "runs", "runs with uuid", "outside", "zero count",
    "one-based", "descending",
)  # fmt: skip


def _in_order(order: str, z: int, c: int, t: int) -> list[tuple[int, int, int]]:
    """Planes (t, c, z), the first axis named varying fastest."""
    sizes = {"Z": z, "C": c, "T": t}
    slowest_first = order[:1:-1]
    found = []
    for position in itertools.product(*(range(sizes[axis]) for axis in slowest_first)):
        at = dict(zip(slowest_first, position, strict=True))
        found.append((at["T"], at["C"], at["Z"]))
    return found


def _element(ifd: int | None, place: tuple[int, int, int] | None, count: int | None,
             uuid: str = "") -> str:  # fmt: skip
    text = "" if ifd is None else f' IFD="{ifd}"'
    if place is not None:
        text += ' FirstT="{}" FirstC="{}" FirstZ="{}"'.format(*place)
    if count is not None:
        text += f' PlaneCount="{count}"'
    return f"<TiffData{text}>{uuid}</TiffData>"


def _tiff_data(
    rng: random.Random, style: str, array: Array, places: list[tuple[int, int, int]],
    pages: list[list[Array]], names: list[str], *, companion: bool,
) -> str:  # fmt: skip
    """Put planes into files as a style has it; return the elements that say so."""
    spread = len(names) > 1 and style in ("each with ifd", "runs with uuid", "shuffled")
    named = spread or companion or rng.random() < 0.2
    home = rng.randrange(len(names)) if named else 0

    def uuid(number: int) -> str:
        if not named:
            return ""
        return f'<UUID FileName="{names[number]}">{UUID.format(number + 1)}</UUID>'

    planes = list(places)
    if style == "shuffled":
        rng.shuffle(planes)
    start = len(pages[home])
    where = []
    for at, place in enumerate(planes):
        number = at % len(names) if spread else home
        where.append((number, len(pages[number])))
        pages[number].append(array[place])
    total = len(planes)
    counts = {"ifd count": total, "too many": total + 1, "too few": total - 1, "zero count": 0}
    whole: dict[str, tuple[int | None, tuple[int, int, int] | None, int | None]] = {
        "empty": (None, None, None),
        "ifd only": (start, None, None),
        "outside": (start, (places[-1][0] + 3, 0, 0), 1),
        "first only": (start, planes[0], None),
        **{key: (start, None, count) for key, count in counts.items()},
    }
    if style == "none":
        return ""
    if style in whole:
        return _element(*whole[style], uuid(home))
    if style in ("runs", "runs with uuid"):
        step = 1 if spread else max(1, total // 2)
        return "".join(
            _element(where[at][1], planes[at], min(step, total - at), uuid(where[at][0]))
            for at in range(0, total, step)
        )
    elements = _each(rng, style, where, planes, uuid)
    if style == "descending":
        elements.reverse()
    if style == "gaps" and len(elements) > 1:
        del elements[rng.randrange(len(elements))]
    return "".join(elements)


def _each(
    rng: random.Random, style: str, where: list[tuple[int, int]],
    planes: list[tuple[int, int, int]], uuid: Callable[[int], str],
) -> list[str]:  # fmt: skip
    """One element for each plane."""
    count = None if style == "each no count" else 1
    shift = 1 if style == "one-based" else 0
    return [
        _element(
            None if style == "each" and rng.random() < 0.5 else ifd + shift,
            (place[0] + shift, place[1] + shift, place[2] + shift),
            count,
            uuid(number),
        )
        for (number, ifd), place in zip(where, planes, strict=True)
    ]


def _channels(rng: random.Random, index: int, count: int, samples: int) -> str:
    style = rng.choice(["right"] * 6 + ["none", "fewer", "undeclared", "wrong", "per sample"])
    if style == "none":
        return ""
    number = {"fewer": max(1, count - 1), "per sample": count * samples}.get(style, count)
    stated = {"undeclared": "", "wrong": ' SamplesPerPixel="2"', "per sample": ""}.get(
        style, f' SamplesPerPixel="{samples}"'
    )
    names = [f' Name="c{i} µ &lt;&amp;"' if rng.random() < 0.7 else "" for i in range(number)]
    return "".join(
        f'<Channel ID="Channel:{index}:{i}"{stated}{name}/>' for i, name in enumerate(names)
    )


def _attributes(rng: random.Random, dtype: str) -> str:
    text = ""
    for axis in "XYZ":
        if rng.random() < 0.4:
            text += f' PhysicalSize{axis}="{rng.choice(["0.25", "1e-3", "12"])}"'
            if rng.random() < 0.5:
                text += (
                    f' PhysicalSize{axis}Unit="{rng.choice(["nm", "µm", "mm", "pixel", "Å", "m"])}"'
                )
    if rng.random() < 0.2:
        text += f' BigEndian="{rng.choice(["true", "false"])}"'
    if rng.random() < 0.2:
        text += f' Interleaved="{rng.choice(["true", "false"])}"'
    if dtype == "u2" and rng.random() < 0.3:
        text += f' SignificantBits="{rng.choice([8, 12, 16])}"'
    return text
