"""The rules of NGFF that `validate` checks, one fault at a time; sections are those of NGFF 0.5."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bfbridge_omezarr.validation.metadata import (
    Fault,
    check_image_label,
    check_multiscale,
    check_omero,
    check_plate,
    check_well,
)

AXES = [
    {"name": "t", "type": "time", "unit": "second"},
    {"name": "c", "type": "channel"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space"},
]
SCALE = {"type": "scale", "scale": [1, 1, 0.5, 0.5]}
SHIFT = {"type": "translation", "translation": [0, 0, 1, -1]}


def multiscale(**changes: Any) -> dict[str, Any]:
    datasets = [{"path": str(n), "coordinateTransformations": [SCALE, SHIFT]} for n in range(2)]
    return copy.deepcopy({"axes": AXES, "datasets": datasets}) | changes


def found(faults: Any) -> list[tuple[str, str]]:
    listed = list(faults)
    assert all(isinstance(each, Fault) for each in listed)
    return [(each.code, each.message) for each in listed]


def axis(number: int, **changes: Any) -> dict[str, Any]:
    axes = copy.deepcopy(AXES)
    axes[number] |= changes
    return {"axes": axes}


def transformed(*transformations: Any) -> dict[str, Any]:
    return {"datasets": [{"path": "0", "coordinateTransformations": list(transformations)}]}


def test_a_valid_multiscale_has_no_faults() -> None:
    assert found(check_multiscale(multiscale(), "here")) == []
    named = multiscale(coordinateTransformations=[SCALE])
    assert found(check_multiscale(named, "here")) == []
    stored = multiscale(**transformed({"type": "scale", "path": "scale"}))
    assert found(check_multiscale(stored, "here")) == []


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"axes": None}, "ngff-axes", "it has no list of axes"),
        ({"datasets": []}, "ngff-datasets", "it has no list of datasets"),
        (
            {"datasets": [{"path": "0", "coordinateTransformations": [SCALE]}] * 2},
            "ngff-datasets", "a path is named twice",
        ),
        ({"datasets": ["0"]}, "ngff-datasets", "it has no path"),
        (axis(0, name=5), "ngff-axes", "an axis is not an object with a name"),
        ({"axes": AXES[3:]}, "ngff-axes", "there are 1 axes, not 2 to 5"),
        (axis(3, name="y"), "ngff-axes", "names of axes are not unique: ['t', 'c', 'y', 'y']"),
        (axis(2, type=None), "ngff-axes", '1 axes have the type "space", not 2 or 3'),
        (axis(1, type="time"), "ngff-axes", 'several axes have the type "time"'),
        (axis(0, type="other"), "ngff-axes", "several axes have neither space nor time"),
        (
            {"axes": [AXES[2], AXES[3], AXES[0], AXES[1]]}, "ngff-axes",
            (
                "the order of axes is ['y', 'x', 't', 'c']: time comes first, then the channel, "
                "then space"
            ),
        ),
        (
            {"axes": [*AXES[:2], AXES[3], AXES[2]]}, "ngff-axes",
            "space axes are ['x', 'y'], not z, y, x",
        ),
        (
            axis(2, unit="µm"), "ngff-unit", "'µm' is not a name of a unit of space in NGFF",
        ),
        (transformed(), "ngff-transformations", "it has no coordinateTransformations"),
        (
            transformed(SHIFT, SCALE), "ngff-transformations",
            (
                "the types are ['translation', 'scale']: one scale is required, "
                "then one translation may follow"
            ),
        ),
        (
            transformed({"type": "scale", "scale": [1, "2", 1, 1]}), "ngff-transformations",
            "it is not a list of numbers",
        ),
        (
            transformed({"type": "scale", "scale": [1, 1]}), "ngff-transformations",
            "it has 2 numbers for 4 axes",
        ),
        (
            transformed({"type": "scale", "scale": [1, 1, 0, 1]}), "ngff-transformations",
            "[1, 1, 0, 1] are not all above zero",
        ),
        (
            {"coordinateTransformations": ["scale"]}, "ngff-transformations",
            "the types are [None]: one scale is required, then one translation may follow",
        ),
    ],
)  # fmt: skip
def test_faults_of_multiscales(changes: dict[str, Any], code: str, message: str) -> None:
    assert (code, message) in found(check_multiscale(multiscale(**changes), "here"))


def test_what_is_no_object() -> None:
    assert found(check_multiscale([], "here")) == [("ngff-multiscales", "it is not an object")]
    assert found(check_image_label([])) == [("ngff-image-label", "it is not an object")]
    assert found(check_omero([], None)) == [("ngff-omero", "it has no list of channels")]
    assert found(check_well([], 1)) == [("ngff-well", "it lists no images")]


def test_an_entry_without_a_path_is_one_fault() -> None:
    faults = found(check_multiscale(multiscale(datasets=["0"]), "here"))
    assert faults == [("ngff-datasets", "it has no path")]


def test_faults_of_channels() -> None:
    window = {"min": 0, "max": 9, "start": 1, "end": 8}
    good = {"color": "00ff00", "window": window}
    assert found(check_omero({"channels": [good]}, 1)) == []
    assert found(check_omero({"channels": [good]}, 2)) == [
        ("ngff-omero", "it describes 1 channels, the arrays have 2")
    ]
    bad = [{"color": "#00ff00", "window": window}, {"color": "00ff00", "window": {"min": True}}, 5]
    assert found(check_omero({"channels": bad}, None)) == [
        ("ngff-omero", "color is '#00ff00', not 6 hex digits"),
        ("ngff-omero", "window has no number min, max, start, end"),
        ("ngff-omero", "color is None, not 6 hex digits"),
        ("ngff-omero", "window has no number min, max, start, end"),
    ]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ({"colors": {}}, "it is not a list of objects"),
        ({"properties": [1]}, "it is not a list of objects"),
        ({"colors": [{"label-value": "1"}]}, "a label-value is not a number"),
        ({"properties": [{"label-value": 1}, {"label-value": 1}]}, "a label-value occurs twice"),
        (
            {"colors": [{"label-value": 1, "rgba": [0, 0, 256, 0]}]},
            "it is not 4 integers from 0 to 255",
        ),
        ({"colors": [{"label-value": 1, "rgba": [0, 0]}]}, "it is not 4 integers from 0 to 255"),
    ],
)
def test_faults_of_labels(label: dict[str, Any], message: str) -> None:
    assert found(check_image_label(label)) == [("ngff-image-label", message)]
    assert found(check_image_label({"colors": [{"label-value": 1.5, "rgba": [0] * 4}]})) == []


def plate(**changes: Any) -> dict[str, Any]:
    well = {"path": "A/2", "rowIndex": 0, "columnIndex": 1}
    return {
        "rows": [{"name": "A"}], "columns": [{"name": "1"}, {"name": "2"}], "wells": [well],
        "acquisitions": [{"id": 0}, {"id": 3}],
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"rows": "A"}, "it is not a list of names"),
        ({"columns": [{"name": "2"}, {"name": "2"}]}, "a name occurs twice"),
        ({"rows": [{"name": "A"}, {"name": "B-1"}]}, "'B-1' is not alphanumeric"),
        ({"wells": {}}, "it lists no wells"),
        ({"wells": [5]}, "path None is not a row and a column"),
        ({"wells": [{"path": "B/1"}]}, "path 'B/1' is not a row and a column"),
        (
            {"wells": [{"path": "A/2", "rowIndex": 0, "columnIndex": 2}]},
            "columnIndex is 2, but '2' is at 1",
        ),
        (
            {"wells": [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}] * 2}, "'A/1' occurs twice",
        ),
        ({"acquisitions": [{"id": 1}, {"id": 1}]}, "ids are not unique integers"),
        ({"acquisitions": [{"id": -1}]}, "ids are not unique integers"),
        ({"acquisitions": [{"id": True}]}, "ids are not unique integers"),
        ({"acquisitions": [{"id": [1]}]}, "ids are not unique integers"),
        ({"acquisitions": [5]}, "ids are not unique integers"),
        ({"acquisitions": 5}, "ids are not unique integers"),
    ],
)  # fmt: skip
def test_faults_of_plates(changes: dict[str, Any], message: str | None) -> None:
    faults = found(check_plate(plate(**changes)))
    assert (("ngff-plate", message) in faults) if message else not faults


def test_faults_of_wells() -> None:
    images = [{"path": "0", "acquisition": 0}, {"path": "1", "acquisition": 1}]
    assert found(check_well({"images": images}, 2)) == []
    assert found(check_well({"images": [{"path": "0"}, {"path": "0"}]}, 1)) == [
        ("ngff-well", "a path occurs twice")
    ]
    bad = [{"path": "a/b", "acquisition": 0}, {"path": "1"}, 5]
    assert found(check_well({"images": bad}, 2)) == [
        ("ngff-well", "path 'a/b' is not alphanumeric"),
        ("ngff-well", "it does not name its acquisition"),
        ("ngff-well", "path None is not alphanumeric"),
    ]
