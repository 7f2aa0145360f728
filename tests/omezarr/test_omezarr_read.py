"""Reading OME-Zarr: layouts, axes, codecs and metadata; zarr-python writes what is read."""

from __future__ import annotations

import itertools
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")

from bfbridge.backend import Channel, OpenOptions, PixelSize, Quantity, Region  # noqa: E402
from bfbridge.errors import BadArgument, Closed, ReadFailed, UnreadableFile, Unsupported  # noqa: E402
from bfbridge.storage.source import as_source  # noqa: E402
from bfbridge_omezarr import OmeZarrReader  # noqa: E402

Array = np.ndarray[Any, Any]


def counting(shape: tuple[int, ...], dtype: str = "uint16") -> Array:
    """Pixels that are all different, as far as the dtype can tell them apart."""
    values = np.arange(np.prod(shape)) * 7 + 3
    return values.reshape(shape).astype(dtype)


def open_reader(path: Any, **options: Any) -> OmeZarrReader:
    return OmeZarrReader.open(as_source(path), OpenOptions(**options))


def whole(reader: OmeZarrReader, image: int = 0, level: int = 0) -> Array:
    """A whole level, T, C, Z, Y, X."""
    record = reader.images[image]
    shape = record.levels[level].shape
    out = np.empty(shape, record.dtype)
    reader.read(Region(image, level, (0,) * 5, shape), out)
    return out


def axes_04(names: str, unit: str | None = None) -> list[dict[str, str]]:
    kinds = {"t": "time", "c": "channel"}
    return [
        {
            "name": n,
            "type": kinds.get(n, "space"),
            **({"unit": unit} if unit and n in "zyx" else {}),
        }
        for n in names
    ]


def multiscale(names: str, levels: int = 1, **more: Any) -> dict[str, Any]:
    datasets = [
        {
            "path": str(i),
            "coordinateTransformations": [{"type": "scale", "scale": [float(2**i)] * len(names)}],
        }
        for i in range(levels)
    ]
    return {"axes": axes_04(names), "datasets": datasets, **more}


def save(
    path: Path,
    arrays: dict[str, Array],
    attributes: dict[str, Any],
    *,
    zarr_format: int = 3,
    **settings: Any,
) -> Path:
    """A group with arrays, made by zarr-python."""
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    for name, values in arrays.items():
        chunks = settings.get("chunks") or tuple(max(1, -(-n // 3)) for n in values.shape)
        made = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            **{"chunks": chunks, **settings},
        )
        made[...] = values
    group.attrs.put(attributes)
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("names", ["yx", "zyx", "cyx", "tyx", "tczyx", "yxc", "xyzct", "ztyxc"])
def test_any_axes_in_any_order(tmp_path: Path, names: str, zarr_format: int) -> None:
    sizes = {"t": 2, "c": 3, "z": 4, "y": 23, "x": 17}
    values = counting(tuple(sizes[n] for n in names))
    entry = multiscale(names, version="0.4")
    attributes = (
        {"multiscales": [entry]}
        if zarr_format == 2
        else {"ome": {"version": "0.5", "multiscales": [entry]}}
    )
    path = save(tmp_path / "a.zarr", {"0": values}, attributes, zarr_format=zarr_format)
    present = [n for n in "tczyx" if n in names]
    expected = values.transpose([names.index(n) for n in present])
    shape = tuple(sizes[n] if n in names else 1 for n in "tczyx")
    with_reader = open_reader(path)
    assert with_reader.images[0].levels[0].shape == shape
    np.testing.assert_array_equal(whole(with_reader), expected.reshape(shape))


def test_regions_need_not_be_aligned_to_chunks(tmp_path: Path) -> None:
    values = counting((2, 3, 4, 50, 60))
    path = save(
        tmp_path / "a.zarr",
        {"0": values},
        {"ome": {"version": "0.5", "multiscales": [multiscale("tczyx")]}},
        chunks=(1, 2, 3, 16, 32),
    )
    reader = open_reader(path)
    random = np.random.default_rng(5)
    for _ in range(60):
        low = [int(random.integers(0, n)) for n in values.shape]
        high = [int(random.integers(a + 1, n + 1)) for a, n in zip(low, values.shape, strict=True)]
        region = Region(0, 0, tuple(low), tuple(high))  # type: ignore[arg-type]
        # Any strides are allowed: every other element of a larger array.
        out = np.full([2 * n for n in region.shape], 999, np.uint16)[::2, ::2, ::2, ::2, ::2]
        reader.read(region, out)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        np.testing.assert_array_equal(out, values[box])


DTYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16", "?"]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(tmp_path: Path, dtype: str, zarr_format: int) -> None:
    values = np.arange(31 * 19).reshape(31, 19).astype(dtype)
    path = save(
        tmp_path / "a.zarr",
        {"0": values},
        {"multiscales": [multiscale("yx", version="0.4")]},
        zarr_format=zarr_format,
    )
    reader = open_reader(path)
    expected = values.view(np.uint8) if dtype == "?" else values
    assert reader.images[0].dtype == expected.dtype
    np.testing.assert_array_equal(whole(reader)[0, 0, 0], expected)
    # int64 and float16 have no name in OME; the document is made all the same.
    assert reader.ome().images[0].pixels.size_x == 19


@pytest.mark.parametrize("dtype", [">u2", ">f4", ">i8", ">c8"])
def test_big_endian_version_2(tmp_path: Path, dtype: str) -> None:
    values = np.arange(31 * 19).reshape(31, 19).astype(dtype)
    path = save(
        tmp_path / "a.zarr",
        {"0": values},
        {"multiscales": [multiscale("yx", version="0.4")]},
        zarr_format=2,
    )
    assert json.loads((path / "0/.zarray").read_bytes())["dtype"].startswith(">")
    reader = open_reader(path)
    assert reader.images[0].byteorder == ">"
    assert reader.images[0].dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(whole(reader)[0, 0, 0], values)


def v2_codecs() -> list[tuple[str, Any]]:
    import numcodecs

    return [
        *(
            (f"blosc-{name}", numcodecs.Blosc(name, 3, shuffle))
            for name, shuffle in (
                ("lz4", 1),
                ("zstd", 2),
                ("lz4hc", 0),
                ("zlib", 1),
                ("blosclz", 1),
            )
        ),
        ("zstd", numcodecs.Zstd(3)),
        ("gzip", numcodecs.GZip(3)),
        ("zlib", numcodecs.Zlib(3)),
        ("lz4", numcodecs.LZ4()),
        ("bz2", numcodecs.BZ2(1)),
        ("lzma", numcodecs.LZMA()),
        ("none", None),
    ]


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("name", "codec"), v2_codecs(), ids=[n for n, _ in v2_codecs()])
def test_compressors_of_version_2(tmp_path: Path, name: str, codec: Any, order: str) -> None:
    values = counting((5, 41, 37))
    path = save(
        tmp_path / "a.zarr",
        {"0": values},
        {"multiscales": [multiscale("zyx", version="0.4")]},
        zarr_format=2,
        compressors=codec,
        order=order,
        chunks=(2, 16, 16),
    )
    stored = json.loads((path / "0/.zarray").read_bytes())
    assert (stored["compressor"] or {"id": "none"})["id"] == name.split("-", maxsplit=1)[0]
    assert stored["order"] == order
    np.testing.assert_array_equal(whole(open_reader(path))[0, 0], values)


def test_filters_of_version_2(tmp_path: Path) -> None:
    import numcodecs

    values = counting((41, 37), "int32")
    path = save(
        tmp_path / "a.zarr",
        {"0": values},
        {"multiscales": [multiscale("yx", version="0.4")]},
        zarr_format=2,
        filters=[numcodecs.Delta("i4"), numcodecs.CRC32()],
        compressors=numcodecs.Zstd(1),
    )
    np.testing.assert_array_equal(whole(open_reader(path))[0, 0, 0], values)


def v3_codecs() -> list[tuple[str, dict[str, Any]]]:
    from zarr import codecs as c

    return [
        ("none", {"compressors": None}),
        ("zstd", {"compressors": c.ZstdCodec(level=3, checksum=True)}),
        ("gzip", {"compressors": c.GzipCodec()}),
        ("blosc", {"compressors": c.BloscCodec(cname="lz4", shuffle="bitshuffle")}),
        ("crc32c", {"compressors": [c.ZstdCodec(), c.Crc32cCodec()]}),
        ("transpose", {"filters": c.TransposeCodec(order=(2, 0, 1)), "compressors": c.ZstdCodec()}),
        ("big", {"serializer": c.BytesCodec(endian="big"), "compressors": None}),
    ]


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("shards", [None, (4, 32, 32)])
@pytest.mark.parametrize(("name", "settings"), v3_codecs(), ids=[n for n, _ in v3_codecs()])
def test_codecs_of_version_3(
    tmp_path: Path, name: str, settings: dict[str, Any], shards: Any
) -> None:
    values = counting((5, 41, 37))
    path = save(
        tmp_path / "a.zarr",
        {"0": values},
        {"ome": {"version": "0.5", "multiscales": [multiscale("zyx")]}},
        chunks=(2, 16, 8),
        shards=shards,
        **settings,
    )
    reader = open_reader(path)
    # The inner chunk of a shard is what can be read on its own.
    assert reader.images[0].levels[0].chunk == (1, 1, 2, 16, 8)
    np.testing.assert_array_equal(whole(reader)[0, 0], values)


def test_index_at_the_start_of_shards(tmp_path: Path) -> None:
    from zarr.codecs import ShardingCodec

    values = counting((41, 37))
    path = tmp_path / "a.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    made = group.create_array(
        "0",
        shape=values.shape,
        dtype=values.dtype,
        chunks=(32, 32),
        compressors=None,
        serializer=ShardingCodec(chunk_shape=(16, 8), index_location="start"),
    )
    made[...] = values
    group.attrs.put({"ome": {"version": "0.5", "multiscales": [multiscale("yx")]}})
    reader = open_reader(path)
    np.testing.assert_array_equal(whole(reader)[0, 0, 0], values)


@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed`")
@pytest.mark.parametrize("case", ["nested shards", "compressed shards", "transposed shards"])
def test_what_zarr_python_reads_for_us(tmp_path: Path, case: str) -> None:
    from zarr import codecs as c

    values = counting((41, 37))
    inner = c.ShardingCodec(chunk_shape=(8, 8))
    settings: dict[str, Any] = {
        "nested shards": {
            "serializer": c.ShardingCodec(chunk_shape=(16, 16), codecs=[inner]),
            "compressors": None,
        },
        "compressed shards": {"serializer": inner, "compressors": c.ZstdCodec()},
        "transposed shards": {
            "filters": c.TransposeCodec(order=(1, 0)),
            "serializer": inner,
            "compressors": None,
        },
    }[case]
    path = save(
        tmp_path / "a.zarr",
        {"0": values},
        {"ome": {"version": "0.5", "multiscales": [multiscale("yx")]}},
        chunks=(32, 32),
        **settings,
    )
    reader = open_reader(path)
    np.testing.assert_array_equal(whole(reader)[0, 0, 0], values)
    out = np.zeros((1, 1, 1, 5, 7), np.uint16)
    reader.read(Region(0, 0, (0, 0, 0, 30, 9), (1, 1, 1, 35, 16)), out)
    np.testing.assert_array_equal(out[0, 0, 0], values[30:35, 9:16])


def test_levels_follow_datasets_and_not_the_alphabet(tmp_path: Path) -> None:
    arrays = {"a": counting((11, 13)), "z": counting((44, 52)), "m": counting((22, 26))}
    entry = multiscale("yx", 3, version="0.4")
    for dataset, path in zip(entry["datasets"], "zma", strict=True):
        dataset["path"] = path
    path = save(tmp_path / "a.zarr", arrays, {"multiscales": [entry]}, zarr_format=2)
    reader = open_reader(path)
    assert [level.shape[3:] for level in reader.images[0].levels] == [(44, 52), (22, 26), (11, 13)]
    for level, name in enumerate("zma"):
        np.testing.assert_array_equal(whole(reader, 0, level)[0, 0, 0], arrays[name])


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shards", [None, (32, 32)])
def test_missing_chunks_hold_the_fill_value(tmp_path: Path, zarr_format: int, shards: Any) -> None:
    if shards and zarr_format == 2:
        pytest.skip("Zarr version 2 has no shards")
    path = tmp_path / "a.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    made = group.create_array(
        "0", shape=(40, 50), dtype="int16", chunks=(8, 8), shards=shards, fill_value=-5
    )
    made[10:14, 20:30] = 77
    group.attrs.put({"multiscales": [multiscale("yx", version="0.4")]})
    expected = np.full((40, 50), -5, np.int16)
    expected[10:14, 20:30] = 77
    np.testing.assert_array_equal(whole(open_reader(path))[0, 0, 0], expected)


@pytest.mark.parametrize(
    ("stored", "dtype", "expected"),
    [
        ("NaN", "<f4", np.nan),
        ("-Infinity", "<f8", -np.inf),
        (None, "<u2", 0),
        ("0", "|i1", 0),
        (3.5, "<f4", 3.5),
        ([1.5, "NaN"], "<c8", complex(1.5, np.nan)),
        (True, "|b1", 1),
    ],
)
def test_fill_values_of_every_kind(tmp_path: Path, stored: Any, dtype: str, expected: Any) -> None:
    path = save(
        tmp_path / "a.zarr",
        {"0": np.zeros((4, 6), dtype)},
        {"multiscales": [multiscale("yx", version="0.4")]},
        zarr_format=2,
    )
    document = json.loads((path / "0/.zarray").read_bytes())
    document["fill_value"] = stored
    (path / "0/.zarray").write_text(json.dumps(document))
    for chunk in (path / "0").glob("[0-9]*"):
        shutil.rmtree(chunk) if chunk.is_dir() else chunk.unlink()
    np.testing.assert_array_equal(
        whole(open_reader(path))[0, 0, 0], np.full((4, 6), expected, whole(open_reader(path)).dtype)
    )


def test_version_3_hexadecimal_fill(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.zarr",
        {"0": np.zeros((4, 6), "f4")},
        {"ome": {"version": "0.5", "multiscales": [multiscale("yx")]}},
    )
    document = json.loads((path / "0/zarr.json").read_bytes())
    document["fill_value"] = "0x40490fdb"
    (path / "0/zarr.json").write_text(json.dumps(document))
    shutil.rmtree(path / "0/c", ignore_errors=True)
    np.testing.assert_array_equal(whole(open_reader(path)), np.float32(np.pi))


# ---- versions


def test_versions_0_1_to_0_3(tmp_path: Path) -> None:
    values = counting((2, 3, 4, 23, 17))
    for version, axes in (("0.1", None), ("0.2", None), ("0.3", list("tczyx"))):
        entry: dict[str, Any] = {"version": version, "datasets": [{"path": "0"}], "name": "old"}
        if axes:
            entry["axes"] = axes
        path = save(
            tmp_path / f"{version}.zarr", {"0": values}, {"multiscales": [entry]}, zarr_format=2
        )
        reader = open_reader(path)
        assert reader.images[0].name == "old"
        assert reader.images[0].pixel_size == PixelSize()
        np.testing.assert_array_equal(whole(reader), values)


def test_version_0_6_coordinate_systems(tmp_path: Path) -> None:
    values = counting((3, 23, 17))
    entry = {
        "name": "new",
        "coordinateSystems": [
            {"name": "physical", "axes": axes_04("zyx", "nanometer")},
            {"name": "world", "axes": axes_04("zyx", "meter")},
        ],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [
                    {
                        "type": "sequence",
                        "input": "0",
                        "output": "physical",
                        "transformations": [
                            {"type": "scale", "scale": [50, 4.5, 3]},
                            {"type": "translation", "translation": [1, 2, 3]},
                        ],
                    }
                ],
            }
        ],
        "coordinateTransformations": [
            {"type": "scale", "scale": [2, 2, 2], "input": "physical", "output": "world"}
        ],
    }
    path = save(
        tmp_path / "a.zarr", {"0": values}, {"ome": {"version": "0.6", "multiscales": [entry]}}
    )
    reader = open_reader(path)
    assert reader.images[0].pixel_size == PixelSize(
        Quantity(3, "nm"), Quantity(4.5, "nm"), Quantity(50, "nm")
    )
    np.testing.assert_array_equal(whole(reader)[0, 0], values)


# ---- metadata


def test_pixel_size_channels_and_name(tmp_path: Path) -> None:
    entry = {
        "version": "0.4",
        "name": "cells",
        "axes": axes_04("czyx", "micrometer"),
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1, 2.0, 0.5, 0.25]},
                    {"type": "translation", "translation": [0, 1, 1, 1]},
                ],
            }
        ],
        "coordinateTransformations": [{"type": "scale", "scale": [1, 3, 1, 1]}],
    }
    omero = {
        "channels": [
            {"label": "DAPI", "color": "0000FF", "window": {"start": 5, "end": 70.5}},
            {"label": "GFP", "color": "#00ff0080", "active": False, "window": {"start": 3}},
            {"window": {"start": 9, "end": 9}},
        ]
    }
    path = save(
        tmp_path / "a.zarr",
        {"0": counting((3, 2, 9, 8))},
        {"multiscales": [entry], "omero": omero},
        zarr_format=2,
    )
    reader = open_reader(path)
    image = reader.images[0]
    assert image.name == "cells"
    # The scale of the whole comes after that of the level.
    assert image.pixel_size == PixelSize(
        Quantity(0.25, "µm"), Quantity(0.5, "µm"), Quantity(6.0, "µm")
    )
    assert image.channels == (
        Channel("DAPI", (0, 0, 255, 255), window=(5, 70.5)),
        Channel("GFP", (0, 255, 0, 128), active=False),
        Channel(),
    )
    ome = reader.ome()
    assert [c.name for c in ome.images[0].pixels.channels] == ["DAPI", "GFP", None]
    assert ome.images[0].pixels.physical_size_z == 6.0
    assert ome.images[0].pixels.physical_size_x_unit.value == "µm"
    assert "DAPI" in (reader.ome_xml() or "")


@pytest.mark.parametrize(
    ("unit", "scale", "expected"),
    [
        (None, 1.0, None),
        (None, 0.5, Quantity(0.5, "pixel")),
        ("nanometer", 1, Quantity(1, "nm")),
        ("angstrom", 2, Quantity(2, "Å")),
        ("pixel", 1, Quantity(1, "pixel")),
        ("micron", 2, Quantity(2, "µm")),
        ("furlong", 2, Quantity(2, "pixel")),
        ("micrometers", 2, Quantity(2, "µm")),
        ("metre", 2, Quantity(2, "m")),
        ("Nanometers", 2, Quantity(2, "nm")),
        ("\N{GREEK SMALL LETTER MU}m", 2, Quantity(2, "µm")),
        ("seconds", 2, Quantity(2, "pixel")),
        ("micrometer", 0, None),
        ("micrometer", -1, None),
    ],
)
def test_units(tmp_path: Path, unit: str | None, scale: float, expected: Quantity | None) -> None:
    entry = multiscale("yx", version="0.4")
    entry["axes"] = axes_04("yx", unit)
    entry["datasets"][0]["coordinateTransformations"][0]["scale"] = [7, scale]
    path = save(
        tmp_path / "a.zarr", {"0": counting((9, 8))}, {"multiscales": [entry]}, zarr_format=2
    )
    assert open_reader(path).images[0].pixel_size.x == expected


def test_original_metadata_and_used_files(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.zarr",
        {"0": counting((9, 8))},
        {"ome": {"version": "0.5", "multiscales": [multiscale("yx")]}},
        chunks=(9, 8),
    )
    reader = open_reader(path)
    found = reader.original_metadata
    assert found["zarr.json/attributes.ome.multiscales[0].axes[1].name"] == "x"
    assert found["0/zarr.json/shape[0]"] == 9
    assert reader.used_files == [
        str(path),
        *(f"{path}/{k}" for k in ("zarr.json", "0/zarr.json", "0/c/0/0")),
    ]


def test_stored_ome_xml_names_what_ngff_does_not(tmp_path: Path) -> None:
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" '
        'Name="from xml"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="8" '
        'SizeY="9" SizeZ="1" SizeC="2" SizeT="1" SignificantBits="12" PhysicalSizeX="0.3" '
        'PhysicalSizeY="0.4"><Channel ID="Channel:0:0" Name="A" EmissionWavelength="520"/>'
        '<Channel ID="Channel:0:1"/><MetadataOnly/></Pixels></Image></OME>'
    )
    omero = {"channels": [{"label": "x", "color": "FF0000"}, {"label": "B", "color": "00FF00"}]}
    path = save(tmp_path / "a.zarr", {}, {"bioformats2raw.layout": 3}, zarr_format=2)
    save(
        path / "0",
        {"0": counting((2, 9, 8))},
        {"multiscales": [multiscale("cyx", version="0.4")], "omero": omero},
        zarr_format=2,
    )
    (path / "OME").mkdir()
    (path / "OME/.zgroup").write_text('{"zarr_format": 2}')
    (path / "OME/.zattrs").write_text('{"series": ["0"]}')
    (path / "OME/METADATA.ome.xml").write_text(xml)
    reader = open_reader(path)
    image = reader.images[0]
    assert image.name == "from xml"
    assert image.significant_bits == 12
    assert image.pixel_size == PixelSize(Quantity(0.3, "µm"), Quantity(0.4, "µm"))
    # Viewers show the names of omero, so those are the ones that count.
    assert [c.name for c in image.channels] == ["x", "B"]
    assert image.channels[0].color == (255, 0, 0, 255)
    assert image.channels[0].emission == Quantity(520, "nm")
    assert reader.ome_xml() == xml
    assert reader.ome().images[0].name == "from xml"
    assert [c.name for c in reader.ome().images[0].pixels.channels] == ["x", "B"]


# ---- layouts


def image_at(path: Path, values: Array, name: str | None = None) -> None:
    entry = multiscale("yx", version="0.4", **({"name": name} if name else {}))
    save(path, {"0": values}, {"multiscales": [entry]}, zarr_format=2)


@pytest.mark.parametrize("listed", [True, False])
def test_collection_of_bioformats2raw(tmp_path: Path, listed: bool) -> None:
    path = save(tmp_path / "a.zarr", {}, {"bioformats2raw.layout": 3}, zarr_format=2)
    names = ["0", "1", "2"]
    for i, name in enumerate(names):
        image_at(path / name, counting((9 + i, 8)) + i, f"image {i}")
    order = names
    if listed:
        order = ["2", "0", "1"]
        save(path / "OME", {}, {"series": order}, zarr_format=2)
    reader = open_reader(path)
    assert [image.name for image in reader.images] == [f"image {n}" for n in order]
    for i, name in enumerate(order):
        np.testing.assert_array_equal(
            whole(reader, i)[0, 0, 0], counting((9 + int(name), 8)) + int(name)
        )


def test_plate(tmp_path: Path) -> None:
    plate = {
        "plate": {
            "rows": [{"name": "B"}],
            "columns": [{"name": "03"}, {"name": "04"}],
            "wells": [
                {"path": "B/04", "rowIndex": 0, "columnIndex": 1},
                {"path": "B/03", "rowIndex": 0, "columnIndex": 0},
            ],
            "version": "0.4",
        }
    }
    path = save(tmp_path / "p.zarr", {}, plate, zarr_format=2)
    save(path / "B", {}, {}, zarr_format=2)
    for n, (well, fields) in enumerate((("B/03", 1), ("B/04", 2))):
        entries = [{"path": str(i)} for i in range(fields)]
        save(path / well, {}, {"well": {"images": entries, "version": "0.4"}}, zarr_format=2)
        for i in range(fields):
            image_at(path / well / str(i), counting((9, 8)) + 10 * n + i)
    reader = open_reader(path)
    assert [image.name for image in reader.images] == ["B04/0", "B04/1", "B03/0"]
    for i, add in enumerate((10, 11, 0)):
        np.testing.assert_array_equal(whole(reader, i)[0, 0, 0], counting((9, 8)) + add)
    well = open_reader(path / "B/04")
    assert [image.name for image in well.images] == ["0", "1"]
    np.testing.assert_array_equal(whole(well, 1)[0, 0, 0], counting((9, 8)) + 11)


def test_labels_come_last_with_their_role(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    image_at(path, counting((9, 8)), "cells")
    save(path / "labels", {}, {"labels": ["nuclei"]}, zarr_format=2)
    image_at(path / "labels/nuclei", counting((9, 8), "int32"))
    reader = open_reader(path)
    assert [(i.name, i.role) for i in reader.images] == [("cells", "image"), ("nuclei", "label")]
    np.testing.assert_array_equal(whole(reader, 1)[0, 0, 0], counting((9, 8), "int32"))
    assert len(reader.ome().images) == 2
    only = open_reader(path / "labels")
    assert [(i.name, i.role) for i in only.images] == [("nuclei", "label")]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_bare_array(tmp_path: Path, zarr_format: int) -> None:
    values = counting((4, 9, 8))
    path = tmp_path / "a.zarr"
    made = zarr.create_array(
        str(path), shape=values.shape, dtype=values.dtype, chunks=(2, 5, 5), zarr_format=zarr_format
    )
    made[...] = values
    with pytest.raises(Unsupported, match="axes"):
        open_reader(path)
    with pytest.raises(BadArgument, match="2 axes"):
        open_reader(path, backend_options={"axes": "yx"})
    with pytest.raises(BadArgument, match="once"):
        open_reader(path, backend_options={"axes": "yyx"})
    with pytest.raises(BadArgument, match="no such option"):
        open_reader(path, backend_options={"axis": "zyx"})
    reader = open_reader(path, backend_options={"axes": "cyx"})
    np.testing.assert_array_equal(whole(reader)[0, :, 0], values)


def test_dimension_names_are_axes(tmp_path: Path) -> None:
    values = counting((4, 9, 8))
    made = zarr.create_array(
        str(tmp_path / "a.zarr"),
        shape=values.shape,
        dtype=values.dtype,
        dimension_names=["c", "y", "x"],
    )
    made[...] = values
    np.testing.assert_array_equal(whole(open_reader(tmp_path / "a.zarr"))[0, :, 0], values)


@pytest.mark.parametrize("inside", ["", "a.zarr/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_files(tmp_path: Path, inside: str, method: int) -> None:
    values = counting((3, 41, 37))
    path = save(
        tmp_path / "a.zarr",
        {"0": values},
        {"ome": {"version": "0.5", "multiscales": [multiscale("zyx")]}},
        chunks=(1, 16, 8),
        shards=(1, 32, 32),
    )
    packed = tmp_path / "a.ozx"
    with zipfile.ZipFile(packed, "w", method) as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                archive.write(file, inside + file.relative_to(path).as_posix())
    reader = open_reader(packed)
    np.testing.assert_array_equal(whole(reader)[0, 0], values)
    assert reader.used_files == [str(packed)]
    from_memory = OmeZarrReader.open(as_source(packed.read_bytes(), name="a.ozx"), OpenOptions())
    np.testing.assert_array_equal(whole(from_memory)[0, 0], values)


# ---- what is refused


def test_reading_after_close(tmp_path: Path) -> None:
    image_at(tmp_path / "a.zarr", counting((9, 8)))
    reader = open_reader(tmp_path / "a.zarr")
    reader.close()
    reader.close()
    with pytest.raises(Closed, match="a.zarr"):
        whole(reader)


def test_group_without_images(tmp_path: Path) -> None:
    save(tmp_path / "a.zarr", {"b": counting((3, 4))}, {"hello": 1}, zarr_format=2)
    with pytest.raises(Unsupported, match="multiscales"):
        open_reader(tmp_path / "a.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Unsupported, match="no Zarr group"):
        open_reader(tmp_path / "empty")


def test_level_that_is_not_there(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.zarr",
        {"0": counting((9, 8))},
        {"multiscales": [multiscale("yx", 2, version="0.4")]},
        zarr_format=2,
    )
    with pytest.raises(UnreadableFile, match="a.zarr/1.*missing"):
        open_reader(path)


def test_axis_that_has_no_place(tmp_path: Path) -> None:
    entry = multiscale("zyx", version="0.4")
    entry["axes"][0] = {"name": "angle", "type": "space"}
    entry["axes"] = [{"name": "angle"}, {"name": "phase"}, *entry["axes"][1:]]
    entry["datasets"][0].pop("coordinateTransformations")
    values = counting((5, 2, 9, 8))
    path = save(tmp_path / "a.zarr", {"0": values}, {"multiscales": [entry]}, zarr_format=2)
    with pytest.raises(Unsupported, match="'phase' of length 2"):
        open_reader(path)
    path = save(tmp_path / "b.zarr", {"0": values[:, :1]}, {"multiscales": [entry]}, zarr_format=2)
    # An axis of another kind has the position of the channels.
    np.testing.assert_array_equal(whole(open_reader(path))[0, :, 0], values[:, 0])


def test_every_chunk_is_read_from_many_threads(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    values = counting((6, 90, 70))
    path = save(
        tmp_path / "a.zarr",
        {"0": values},
        {"ome": {"version": "0.5", "multiscales": [multiscale("zyx")]}},
        chunks=(1, 16, 16),
        shards=(2, 32, 32),
    )
    reader = open_reader(path)

    def one(corner: tuple[int, int, int]) -> bool:
        z, y, x = corner
        stop = (1, 1, z + 1, min(y + 20, 90), min(x + 20, 70))
        out = np.zeros((1, 1, 1, stop[3] - y, stop[4] - x), np.uint16)
        reader.read(Region(0, 0, (0, 0, z, y, x), stop), out)
        return bool((out[0, 0, 0] == values[z, y : y + 20, x : x + 20]).all())

    corners = list(itertools.product(range(6), range(0, 90, 20), range(0, 70, 20)))
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, corners * 3))


def test_corrupt_chunk_names_its_file(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.zarr",
        {"0": counting((40, 50))},
        {"multiscales": [multiscale("yx", version="0.4")]},
        zarr_format=2,
        chunks=(20, 25),
    )
    chunk = next(p for p in (path / "0").iterdir() if p.name in ("1.1", "1"))
    chunk = chunk / "1" if chunk.is_dir() else chunk
    chunk.write_bytes(chunk.read_bytes()[:-9])
    reader = open_reader(path)
    out = np.zeros((1, 1, 1, 20, 25), np.uint16)
    reader.read(Region(0, 0, (0, 0, 0, 0, 0), (1, 1, 1, 20, 25)), out)
    with pytest.raises(ReadFailed, match=str(chunk.relative_to(path.parent))):
        whole(reader)
