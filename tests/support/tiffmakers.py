"""TIFF files of `tiffzoo` as tifffile, ImageJ and vendors write them."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tests.support.tiffs import build, ome_xml, page
from tests.support.tiffzoo import Made, pixels

_LENGTHS = {"T": 2, "Z": 3, "C": 2, "S": 3}
_NUMBERS = ["u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8", "f2", "c8", "u8"]
_LOSSLESS = [None, None, "zlib", "lzw", "zstd", "packbits", "lzma", "png", "deflate", "lerc"]
_LOSSY = ["jpeg", "jpeg2000", "jpegxl", "webp"]


def by_tifffile(rng: random.Random, seed: int, folder: Path) -> Made:
    """An OME-TIFF or "shaped" TIFF with options of tifffile's at random."""
    ome = rng.random() < 0.65
    length, width = rng.randrange(17, 90), rng.randrange(17, 90)
    rgb = rng.random() < 0.4
    axes = "".join(axis for axis in "TZC" if rng.random() < 0.4)
    photometric = "rgb" if rgb else rng.choice(["minisblack"] * 5 + ["miniswhite", "palette"])
    options: dict[str, Any] = {"photometric": photometric}
    dtype = rng.choice(_NUMBERS[:8]) if rng.random() < 0.85 else rng.choice(_NUMBERS)
    compression = rng.choice(_LOSSLESS if rng.random() < 0.75 else _LOSSY)
    if compression in _LOSSY:
        dtype = "u1" if compression in ("jpeg", "webp") else rng.choice(["u1", "u2"])
    if photometric == "palette":
        dtype = rng.choice(["u1", "u2"])
        options["colormap"] = pixels(rng, (3, 256 if dtype == "u1" else 65536), "u2")
    samples = rng.choice([3, 3, 4]) if rgb else 1
    planar = rng.random() < 0.4
    axes += ("SYX" if planar else "YXS") if rgb else "YX"
    if rgb:
        options["planarconfig"] = "separate" if planar else "contig"
        if samples == 4:
            options["extrasamples"] = [rng.choice(["unassalpha", "assocalpha", "unspecified"])]
    lengths = {**_LENGTHS, "Y": length, "X": width, "S": samples}
    shape = tuple(lengths[axis] for axis in axes)
    data = pixels(rng, shape, dtype)
    if compression in _LOSSY:
        data = _smooth(shape, axes, dtype)
    if compression == "jpeg" and rgb and rng.random() < 0.5:
        options["subsampling"] = rng.choice([(1, 1), (2, 1), (2, 2)])
    if rng.random() < 0.1 and axes.endswith("ZYX"):
        options |= {"volumetric": True, "tile": rng.choice([(1, 16, 32), (2, 16, 32)])}
    options |= _any_options(rng, compression, length)
    below = rng.choice([0, 0, 0, 1, 2])
    file = {"byteorder": rng.choice("<>"), "bigtiff": rng.random() < 0.3}
    path = folder / (rng.choice(["made.ome.tif", "m.tif", "m.ome.tiff"]) if ome else "a.tif")
    metadata: dict[str, Any] | None = {"axes": axes}
    if not ome and rng.random() < 0.4:
        metadata = None
    images = rng.choice([1, 1, 1, 2])
    with tifffile.TiffWriter(path, ome=ome, **file) as writer:
        for _ in range(images):
            writer.write(data, subifds=below, metadata=metadata, **options)
            for level in range(1, below + 1):
                small = _smaller(data, axes, 2**level)
                writer.write(small, subfiletype=1, metadata=None, **options)
    options.pop("colormap", None)
    recipe = {"maker": "tifffile", "ome": ome, "axes": axes, "dtype": dtype, "shape": shape,
              "below": below, "images": images,
              "lossy": compression in _LOSSY, **file, **options}  # fmt: skip
    truth = [] if compression in _LOSSY or options.get("volumetric") else [_ordered(data, axes)]
    if photometric == "miniswhite" or (metadata is None and len(axes) > 4):
        truth = []
    return Made(path, recipe, truth if ome else [])


def _any_options(rng: random.Random, compression: str | None, length: int) -> dict[str, Any]:
    options: dict[str, Any] = {"compression": compression}
    if compression in ("zlib", "lzw", "zstd", "deflate", "lzma") and rng.random() < 0.5:
        options["predictor"] = True
    if rng.random() < 0.5:
        options["tile"] = (16 * rng.randrange(1, 5), 16 * rng.randrange(1, 5))
    elif rng.random() < 0.6:
        options["rowsperstrip"] = rng.choice([8, 16, 24, length, length + 50])
    if rng.random() < 0.3:
        options["resolution"] = (rng.choice([1, 100, 0.5]), 300)
        options["resolutionunit"] = rng.choice(["NONE", "INCH", "CENTIMETER"])
    if rng.random() < 0.15:
        options["software"] = rng.choice(["", "libtiff 4", "MetaMorph", "ScanImage", "x"])
    return options


def _smooth(shape: tuple[int, ...], axes: str, dtype: str) -> Any:
    grid = np.indices(shape, "f8")
    y, x = grid[axes.index("Y")], grid[axes.index("X")]
    value = 120 + 50 * np.sin(x / 20 + grid.sum(axis=0) / 50) + 40 * np.cos(y / 15)
    return (value if dtype == "u1" else value * 200).astype(dtype)


def _smaller(data: Any, axes: str, step: int) -> Any:
    every = slice(None, None, step)
    return np.ascontiguousarray(data[tuple(every if a in "YX" else slice(None) for a in axes)])


def _ordered(data: Any, axes: str) -> Any:
    """T, C, Z, Y, X, samples fastest in C."""
    for axis in "TCSZ":
        if axis not in axes:
            data, axes = data[np.newaxis], axis + axes
    data = data.transpose([axes.index(axis) for axis in "TCSZYX"])
    return data.reshape(data.shape[0], -1, *data.shape[3:])


def imagej(rng: random.Random, seed: int, folder: Path) -> Made:
    """An ImageJ hyperstack, some by hand with a description that is not right."""
    path = folder / "a.tif"
    if rng.random() < 0.5:
        return _imagej_by_hand(rng, path)
    axes = "".join(axis for axis in "TZC" if rng.random() < 0.5) + "YX"
    dtype = rng.choice(["u1", "u2", "f4"])
    if rng.random() < 0.25:
        axes, dtype = axes + "S", "u1"
    shape = tuple({**_LENGTHS, "Y": 12, "X": 21}[axis] for axis in axes)
    metadata: dict[str, Any] = {"axes": axes}
    channels = shape[axes.index("C")] if "C" in axes else 1
    extras = {
        "spacing": rng.choice([2.5, 0.3, -1.0]), "unit": rng.choice(["um", "micron", "nm", "inch"]),
        "finterval": 0.1, "fps": 10.0, "mode": rng.choice(["composite", "color", "grayscale"]),
        "Info": rng.choice(["a note", "slices=5", "channels=9\nx"]),
        "Labels": [f"p{i}" for i in range(3)],
        "Ranges": tuple(float(i) for i in range(2 * channels)),
        "LUTs": [np.arange(768, dtype="u1").reshape(3, 256)] * channels,
        "loop": False, "min": 0.0, "max": 255.0,
    }  # fmt: skip
    metadata |= {key: value for key, value in extras.items() if rng.random() < 0.25}
    options: dict[str, Any] = {}
    if rng.random() < 0.3:
        options["colormap"] = np.arange(768, dtype="u2").reshape(3, 256)
    if "S" in axes or dtype != "u1":
        options = {}
    order = rng.choice("<>")
    data = pixels(rng, shape, dtype)
    if rng.random() < 0.5:
        options["resolution"] = (rng.choice([3, 0.25, 1e-3]), 7)
    compression = rng.choice([None, None, "zlib", "lzw", "packbits"])
    tifffile.imwrite(
        path, data, imagej=True, byteorder=order, metadata=metadata, compression=compression,
        **options,
    )  # fmt: skip
    metadata.pop("LUTs", None)
    return Made(path, {"maker": "imagej", "dtype": dtype, "order": order, **metadata})


def _imagej_by_hand(rng: random.Random, path: Path) -> Made:
    images, stored = rng.choice([(4, 4), (4, 1), (6, 6), (6, 5), (5, 6), (1, 1)])
    keys = {"images": images}
    for key in ("channels", "slices", "frames"):
        if rng.random() < 0.5:
            keys[key] = rng.choice([1, 2, 3, images])
    lines = ["ImageJ=1.53t", *(f"{key}={value}" for key, value in keys.items())]
    lines += rng.sample(["hyperstack=true", "unit=micron", "spacing=0.5", "mode=color", "unit=cm",
                         "loop=false", "x=1=2", "", "channels", "min=0.0"],
                         rng.randrange(5))  # fmt: skip
    text = rng.choice(["\n", "\n", "\r\n"]).join(lines) + rng.choice(["\n", "", "\0"])
    array = pixels(rng, (images, 12, 21), "u2").astype(">u2")
    first = array.tobytes() if stored == 1 else array[0].tobytes()
    pages = [
        page(21, 12, [first if not i else array[i % images].tobytes()], bits=16,
             description=text if not i or rng.random() < 0.1 else None,
             more={279: (4, [504])})
        for i in range(stored)
    ]  # fmt: skip
    path.write_bytes(build(pages, ">"))
    return Made(path, {"maker": "imagej by hand", "text": text, "stored": stored})


_QPI = (
    '<?xml version="1.0" encoding="utf-8"?><PerkinElmer-QPI-ImageDescription>'
    "<ImageType>FullResolution</ImageType></PerkinElmer-QPI-ImageDescription>"
)
_SCN = (
    '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
    "<collection/></scn>"
)
_DESCRIPTIONS = (
    "Aperio Image Library v11\n46000x32914 (256x256) JPEG|AppMag = 20|MPP = 0.4990", _QPI, _SCN,
    "state.configPath='x'\rstate.acq.numberOfFrames=2", "Created by MetaMorph\nPlane 1",
    "SI.VERSION_MAJOR = 5", "[Acquisition Parameters]\nx=1", "Piezo\n", "a plain remark",
    '{"shape": [2, 12, 21]}', '{"Prefix": "x", "Summary": {}}', "<MetaData>x</MetaData>", "",
    "Software: x\nSVS", "Intergraph", "Gel 1 min", "%YAML", "ImageJ", "<?xml version='1.0'?><OME/>",
)  # fmt: skip
_VENDOR_TAGS: dict[int, tuple[int, Any]] = {
    33628: (5, [0, 1, 0, 1]), 33629: (5, [1, 1] * 12), 34412: (1, [0] * 64), 65420: (4, [1]),
    65421: (11, [0]), 34361: (1, [0] * 48), 51123: (2, b'{"a":1}\0'), 42112: (2,
    b"<GDALMetadata/>\0"),
    65001: (2, b"<m/>\0"), 50838: (4, [12, 8]), 34118: (2, b"AP_X\0"), 33560: (3, [1]),
    37724: (1, [1, 2, 3]), 34377: (1, [0] * 8), 32997: (3, [1]), 34665: (4, [8]), 65330: (3, [1]),
    700: (1, list(b"<x:xmpmeta/>")), 34152: (2, b"x\0"), 271: (2, b"Hamamatsu\0"), 305: (2,
    b"NIS\0"),
    315: (2, b"me\0"), 316: (2, b"pc\0"), 285: (2, b"Name\0"), 33550: (11, [0] * 3),
}  # fmt: skip
_NAMES = ("a.tif", "a.svs", "a.ndpi", "a.scn", "a.lsm", "a.stk", "a.qptiff", "a.ome.tif", "a.gel",
          "a.flex", "a.eer", "a.tif", "a.tiff", "a.vms", "a.nef", "a.xyz", "a",
          "a.epi")  # fmt: skip


def dialect(rng: random.Random, seed: int, folder: Path) -> Made:
    """A file with a vendor's tags, name or words; some of them are OME-TIFF as well."""
    name = rng.choice(_NAMES)
    text = rng.choice(_DESCRIPTIONS)
    more = {tag: _VENDOR_TAGS[tag] for tag in rng.sample(list(_VENDOR_TAGS), rng.randrange(3))}
    for tag, (kind, values) in list(more.items()):
        if kind == 11:
            more[tag] = (4, [int.from_bytes(struct.pack("<f", v), "little") for v in values])
    count = rng.choice([1, 2, 3])
    array = pixels(rng, (count, 12, 21), "u2")
    # Bio-Formats goes by these two names before it looks for OME-XML.
    ome = rng.random() < 0.4 and name not in ("a.gel", "a.lsm")
    if ome:
        text = ome_xml((count, 1, 1, 12, 21), "u2")
    pages = [
        page(21, 12, [array[i].tobytes()], bits=16, description=text if not i and text else None,
             more=more if not i or rng.random() < 0.5 else None)
        for i in range(count)
    ]  # fmt: skip
    path = folder / name
    path.write_bytes(build(pages))
    truth = [array[:, np.newaxis, np.newaxis]] if ome else []
    return Made(
        path, {"maker": "dialect", "ome": ome, "text": text[:30], "tags": list(more)}, truth
    )
