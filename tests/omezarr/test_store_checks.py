"""`validate` of OME-Zarr stores: every kind of group, each with one fault."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioWriter
from bfbridge.backend import OpenOptions
from bfbridge.limits import DEFAULT_LIMITS
from bfbridge.storage.source import as_source
from bfbridge_omezarr.validation.stores import validate

AXES = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
SCALE = {"type": "scale", "scale": [1.0, 1.0]}
GROUP = {"zarr_format": 2}
Documents = dict[str, Any]


def found(path: Any, **limits: int) -> list[tuple[str, str, str]]:
    """Code, place in the store and message of each finding."""
    options = OpenOptions(limits=replace(DEFAULT_LIMITS, **limits))
    listed = list(validate(as_source(path), options))
    return [(f.code, f.where.removeprefix(str(path)).lstrip("/"), f.message) for f in listed]


def stored(path: Path, documents: Documents) -> Path:
    for key, document in documents.items():
        file = path / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def array(*shape: int, **changes: Any) -> dict[str, Any]:
    return {
        "zarr_format": 2, "shape": list(shape), "chunks": [50] * len(shape), "dtype": "<u2",
        "compressor": None, "fill_value": 0, "order": "C", "filters": None,
        "dimension_separator": "/",
    } | changes  # fmt: skip


def dataset(path: str, scale: float = 1, **more: Any) -> dict[str, Any]:
    transformation = {"type": "scale", "scale": [scale, scale]}
    return {"path": path, "coordinateTransformations": [transformation]} | more


def entry(*datasets: Any, **changes: Any) -> dict[str, Any]:
    return {"version": "0.4", "axes": AXES, "datasets": list(datasets)} | changes


def image(key: str = "", *arrays: Any, **changes: Any) -> Documents:
    """The documents of an image in NGFF 0.4, each level half of the one before it."""
    base = f"{key}/" if key else ""
    arrays = arrays or (array(40, 30),)
    levels = [dataset(str(n), 2**n) for n in range(len(arrays))]
    documents: Documents = {
        f"{base}.zgroup": GROUP,
        f"{base}.zattrs": {"multiscales": [entry(*levels)]} | changes,
    }
    return documents | {f"{base}{n}/.zarray": level for n, level in enumerate(arrays)}


def absent(key: str, count: int = 1) -> tuple[str, str, str]:
    """The note about chunks that are not stored."""
    chunks = f"{count} of {count} chunks are not stored: their pixels have the fill value"
    return "zarr-absent", key, chunks


def without_notes(listed: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return [each for each in listed if each[0] != "zarr-absent"]


def test_an_image_without_faults(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.zarr", image("", array(40, 30), array(20, 15)))
    assert without_notes(found(path)) == []
    assert [where for code, where, _ in found(path) if code == "zarr-absent"] == ["0", "1"]


def test_a_bare_array_and_a_group_that_is_no_image(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.zarr", {".zarray": array(40, 30)})
    assert found(path)[0] == ("zarr-note", "", "it is a Zarr array without NGFF metadata")
    path = stored(tmp_path / "b.zarr", {".zgroup": GROUP})
    assert found(path) == [("ngff-missing", ": attributes", "there is no NGFF metadata")]
    (tmp_path / "c.zarr").mkdir()
    ((code, where, message),) = found(tmp_path / "c.zarr")
    assert (code, where) == ("zarr-missing", "")
    assert message == "the store has no Zarr document (zarr.json, .zgroup or .zarray)"


# ---- versions


@pytest.mark.parametrize(
    ("attributes", "code", "message"),
    [
        ({"version": "0.5"}, "ngff-version", "NGFF 0.5 requires Zarr version 3, this is version 2"),
        ({"version": "0.3"}, "zarr-note", "NGFF 0.3: only its arrays are checked"),
    ],
)
def test_versions_of_ngff(
    tmp_path: Path, attributes: dict[str, Any], code: str, message: str
) -> None:
    documents = image()
    documents[".zattrs"]["multiscales"][0] |= attributes
    assert (code, message) in [
        (code, message) for code, _, message in found(stored(tmp_path / "a.zarr", documents))
    ]


def test_rules_of_other_versions_are_not_applied_but_arrays_are_checked(tmp_path: Path) -> None:
    documents = image("", array(40, 30, dtype="<q9"))
    documents[".zattrs"]["multiscales"][0] |= {"version": "0.1", "axes": ["y", "x", "x"]}
    listed = found(stored(tmp_path / "a.zarr", documents))
    assert [code for code, _, _ in listed] == ["zarr-note", "zarr-array"]
    assert listed[1][1:] == ("0/.zarray", "'<q9' is no data type.")


def test_zarr_3_without_a_version(tmp_path: Path) -> None:
    attributes = {"ome": {"multiscales": [entry()]}}
    del attributes["ome"]["multiscales"][0]["version"]
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    listed = found(stored(tmp_path / "a.zarr", {"zarr.json": document}))
    assert ("ngff-version", ": ome", "it has no version") in listed


# ---- collections, plates, wells


LAYOUT = {".zgroup": GROUP, ".zattrs": {"bioformats2raw.layout": 3}}


def listed_series(*series: Any) -> Documents:
    return {"OME/.zgroup": GROUP, "OME/.zattrs": {"series": list(series)}}


def test_collections(tmp_path: Path) -> None:
    images = image("0") | image("1")
    path = stored(tmp_path / "a.zarr", LAYOUT | images | listed_series("1", "0"))
    assert without_notes(found(path)) == []
    # Without a list, the images are 0, 1 and so on.
    path = stored(tmp_path / "b.zarr", LAYOUT | images | {"1/0/.zarray": array(40, 30, 5)})
    ((code, where, message),) = without_notes(found(path))
    assert (code, where) == ("ngff-axes", "1/0: shape")
    assert message == "[40, 30, 5] has 3 axes, the metadata name 2"
    path = stored(tmp_path / "c.zarr", LAYOUT)
    assert found(path) == [("ngff-series", ": bioformats2raw.layout", "it has no images")]
    path = stored(tmp_path / "d.zarr", LAYOUT | images | listed_series("0", "5", "../e"))
    path_fault, missing = without_notes(found(path))
    assert path_fault[:2] == ("zarr-path", ": OME: series")
    assert "names the path '../e', which is outside the store" in path_fault[2]
    assert missing[:2] == ("zarr-missing", "5")
    assert missing[2].startswith("an image of the collection has no Zarr document")


def test_wells_alone_and_in_a_plate(tmp_path: Path) -> None:
    well = {".zgroup": GROUP, ".zattrs": {"well": {"version": "0.4", "images": [{"path": "0"}]}}}
    path = stored(tmp_path / "a.zarr", well | image("0"))
    assert without_notes(found(path)) == []
    well[".zattrs"]["well"]["images"].append({"path": "7"})
    ((code, where, message),) = without_notes(found(stored(tmp_path / "a.zarr", well)))
    assert (code, where) == ("zarr-missing", "7")
    assert message.startswith("an image of the well has no Zarr document")
    plate = {
        "rows": [{"name": "A"}], "columns": [{"name": "1"}],
        "wells": [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}],
    }  # fmt: skip
    inside = {f"A/1/{key}": value for key, value in well.items()} | image("A/1/0")
    plate_documents = {".zgroup": GROUP, ".zattrs": {"plate": plate}}
    path = stored(tmp_path / "p.zarr", plate_documents | inside)
    assert [each[:2] for each in without_notes(found(path))] == [
        ("ngff-version", ": plate"), ("zarr-missing", "A/1/7"),
    ]  # fmt: skip
    plate["wells"] = 5
    codes = [code for code, _, _ in found(stored(path, plate_documents))]
    assert "ngff-plate" in codes


# ---- levels


@pytest.mark.parametrize(
    ("lower", "expected"),
    [
        ("{", ("zarr-document", "1")),
        (array(20, 15, dtype="|S4"), ("zarr-note", "1")),
        (array(20, 15, chunks=[0, 1]), ("zarr-array", "1/.zarray")),
        (array(20, 15, dtype="<f4"), ("ngff-levels", "1: data_type")),
        (array(20, 0), ("ngff-levels", "1: shape")),
        (array(20, 15, dimension_separator="."), ("ngff-separator", "1: dimension_separator")),
        (array(80, 60), ("ngff-levels", ": multiscales[0].datasets[1]")),
    ],
)
def test_levels_with_faults(tmp_path: Path, lower: Any, expected: tuple[str, str]) -> None:
    path = stored(tmp_path / "a.zarr", image("", array(40, 30), lower))
    assert expected in [each[:2] for each in found(path)]


def test_messages_about_levels(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.zarr", image("", array(40, 30), array(80, 60, dtype=">u4")))
    messages = {message for _, _, message in found(path)}
    assert "level 1 is uint32, level 0 uint16" in messages
    assert "its shape [80, 60] is above that of the level before it, [40, 30]" in messages
    documents = image()
    documents["0/.zgroup"] = GROUP
    del documents["0/.zarray"]
    ((code, where, message),) = found(stored(tmp_path / "b.zarr", documents))
    assert (code, where, message) == ("zarr-array", "0", "it is a group, not an array")


ODD: list[Any] = [
    5, [5], ["scale"], [{"type": "scale"}], [{"type": "scale", "scale": 5}],
    [{"type": "scale", "scale": ["1", 1]}], [{"type": "scale", "scale": [None, True]}],
    [{"type": "scale", "scale": [10**400, 1]}], [{"type": "scale", "scale": [0, 1]}],
    [SCALE, {"type": "translation", "translation": [1, "x"]}],
    [SCALE, {"type": "translation", "translation": [10**400, 0]}],
    [{"type": "scale", "scale": [1e-320, 1]}],
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:60])
@pytest.mark.parametrize("level", [0, 1])
def test_transformations_of_any_kind_are_findings(tmp_path: Path, odd: Any, level: int) -> None:
    documents = image("", array(40, 30), array(20, 15), array(10, 8))
    multiscale = documents[".zattrs"]["multiscales"][0]
    multiscale["datasets"][level]["coordinateTransformations"] = odd
    codes = {code for code, _, _ in found(stored(tmp_path / "a.zarr", documents))}
    assert codes & {"ngff-transformations", "ngff-scale", "ngff-translation"}


def test_positions_are_compared_with_the_scale_of_the_level(tmp_path: Path) -> None:
    documents = image("", array(40, 30), array(20, 15))
    levels = documents[".zattrs"]["multiscales"][0]["datasets"]
    levels[0]["coordinateTransformations"].append(
        {"type": "translation", "translation": [100, 200]}
    )
    levels[1]["coordinateTransformations"].append(
        {"type": "translation", "translation": [100.5, 206]}
    )
    ((code, where, message),) = without_notes(found(stored(tmp_path / "a.zarr", documents)))
    assert (code, where) == ("ngff-translation", ": multiscales[0].datasets[1]")
    assert message.startswith("along axis 1 its first element is 3 elements away")


@pytest.mark.parametrize("entries", [5, [], [5]])
def test_multiscales_that_are_no_images(tmp_path: Path, entries: Any) -> None:
    documents = {".zgroup": GROUP, ".zattrs": {"multiscales": entries, "omero": {}}}
    codes = [code for code, _, _ in found(stored(tmp_path / "a.zarr", documents))]
    assert codes[0] == "ngff-multiscales"


def test_channels_of_omero_are_counted(tmp_path: Path) -> None:
    axes = [{"name": "c", "type": "channel"}, *AXES]
    documents = image("", array(3, 40, 30))
    scale = {"coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}], "path": "0"}
    window = {"start": 0, "end": 9, "min": 0, "max": 9}
    channel = {"color": "FF0000", "window": window}
    documents[".zattrs"] = {
        "multiscales": [entry(scale, axes=axes)], "omero": {"channels": [channel] * 3},
    }  # fmt: skip
    assert without_notes(found(stored(tmp_path / "a.zarr", documents))) == []
    documents[".zattrs"]["omero"]["channels"].pop()
    ((code, _, message),) = without_notes(found(stored(tmp_path / "a.zarr", documents)))
    assert code == "ngff-omero"
    assert "2" in message
    assert "3" in message


# ---- labels


def labels(names: Any, *arrays: Any, **changes: Any) -> Documents:
    group = {"labels/.zgroup": GROUP, "labels/.zattrs": {"labels": names}}
    return group | image("labels/cells", *arrays, **({"image-label": {"version": "0.4"}} | changes))


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        (labels(5), ("ngff-labels", "labels: labels", "it is not a list of paths")),
        (labels([5]), ("ngff-labels", "labels: labels", "it is not a list of paths")),
        (labels([]), ("ngff-labels", "labels: labels", "it is empty")),
        (
            labels(["gone"]),
            (
                "zarr-missing", "labels/gone",
                "a listed label image has no Zarr document (zarr.json, .zgroup or .zarray)",
            ),
        ),
        (
            labels(["cells"], array(40, 30, dtype="<f4")),
            ("ngff-labels", "labels/cells: dtype", "labels are integers, not float32"),
        ),
        (
            labels(["cells"], array(40, 31)),
            (
                "ngff-labels", "labels/cells: shape",
                "rows and columns (40, 31) differ from those of the image, (40, 30)",
            ),
        ),
        (
            labels(["cells"], array(40, 30), array(20, 15)),
            ("ngff-labels", "labels/cells: multiscales", "it has 2 levels, its image 1"),
        ),
        (
            labels(["cells"], **{"image-label": None}),
            ("ngff-image-label", "labels/cells: image-label", "it is missing"),
        ),
        (
            labels(["cells"], multiscales=5),
            ("ngff-multiscales", "labels/cells: multiscales", "it is not a list of images"),
        ),
    ],
)  # fmt: skip
def test_labels_of_an_image(
    tmp_path: Path, documents: Documents, expected: tuple[str, str, str]
) -> None:
    path = stored(tmp_path / "a.zarr", image() | documents)
    assert without_notes(found(path)) == [expected]


def test_a_group_of_labels_alone(tmp_path: Path) -> None:
    documents = {key.removeprefix("labels/"): d for key, d in labels(["cells"]).items()}
    path = stored(tmp_path / "a.zarr", documents)
    assert without_notes(found(path)) == []


# ---- OME-XML, journals, kinds of stores

XML = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:{0}">'
    '<Pixels ID="Pixels:{0}" DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="40" SizeZ="1" '
    'SizeC="1" SizeT="1"><MetadataOnly/></Pixels></Image></OME>'
)


def test_ome_xml_of_a_store(tmp_path: Path) -> None:
    where = "OME/METADATA.ome.xml"
    two = XML.format(0).replace("</OME>", "") + XML.format(1).partition(">")[2]
    path = stored(tmp_path / "a.zarr", image() | {where: XML.format(0)})
    assert without_notes(found(path)) == []
    stored(path, {where: XML.format(0) + " " * 2000})
    ((code, place, message),) = without_notes(found(path, xml_bytes=1000))
    assert (code, place) == ("ome-xml", where)
    assert "more than the 1,000 allowed" in message
    ((code, place, _),) = without_notes(found(stored(path, {where: two[:-6]})))
    assert (code[:4], place[: len(where)]) == ("ome-", where)
    message = "it describes 2 images, the store has 1: readers ignore it"
    assert without_notes(found(stored(path, {where: two}))) == [("ome-images", where, message)]


def test_stores_in_zip_files_and_at_urls(tmp_path: Path) -> None:
    values = np.arange(1200, dtype="u2").reshape(40, 30)
    folder = tmp_path / "a.ome.zarr"
    with BioWriter(folder, image=values, chunks=16) as bw:
        bw[:] = values
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder).as_posix())
        archive.writestr("0/c/0/0/0/9/9", b"x")
    ((code, where, message),) = found(tmp_path / "a.zip")
    assert (code, where) == ("zarr-stray", "0/c/0/0/0/9/9")
    assert message == "this is not one of the array's chunks"
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/validated.zarr", recursive=True)
    ((code, where, message),) = found("memory://validated.zarr")
    assert (code, where) == ("zarr-chunks", "")
    assert message.startswith("a store at a URL is not listed")
    memory.rm("/validated.zarr", recursive=True)
