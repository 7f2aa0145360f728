"""Label images: added to an existing store, from arrays, files or regions of interest."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from bfbridge.analysis.rois import Roi, draw_rois
from bfbridge.engine.workers import worker_count
from bfbridge.errors import BadArgument, FileMissing, UnreadableFile
from bfbridge.files.in_place import place_of
from bfbridge.files.label_images import open_label
from bfbridge.files.writing.image_plans import DEFAULT_MEMORY, WritePlan
from bfbridge.reader import BioReader
from bfbridge.runtime.arguments import flag
from bfbridge.writer import ImageWriter

__all__ = ["add_labels", "labels_from_rois"]

Array = np.ndarray[Any, Any]
Table = Mapping[Any, Any] | str | os.PathLike[str] | None
_HEX: Final = re.compile("#[0-9a-fA-F]{6}(?:[0-9a-fA-F]{2})?")
_TILE: Final = 4096
_METHODS: Final = ("nearest", "mode")


def add_labels(
    store: str | os.PathLike[str],
    labels: Any,
    name: str,
    *,
    image: int = 0,
    colors: Table = None,
    properties: Table = None,
    downsample: str = "nearest",
    overwrite: bool = False,
    max_workers: int | None = None,
) -> None:
    """Add a label image to an image of an existing OME-Zarr store.

    The store is unchanged until the labels are complete; then they are added in one step. A kill
    at any time leaves the store as it was, or with all labels (`bfbridge.recover` completes it).

    Parameters
    ----------
    store
        The store: a folder on a disk.
    labels
        An array of integers with the axes Y, X, Z, C, T, trailing axes of length 1 left out, or a
        path of an image file in any format, of which the first image is used. 0 is the background.
        C is 1; Z and T are those of the image, or 1.
    name
        Name of the label image.
    image
        Number of the image that the labels belong to.
    colors
        Colours of labels: a mapping from label to a colour ("#ff8000", "red", (255, 128, 0)), or a
        path of a JSON file with such a mapping, or of a CSV file with the columns label and color.
    properties
        Properties of labels: a mapping from label to a mapping, or a path of a JSON file with such
        a mapping, or of a CSV file whose first column is the label.
    downsample
        Method for lower levels: "nearest" or "mode".
    overwrite
        Whether labels of that name are replaced.
    max_workers
        Chunks encoded at once. Default: the CPUs this process may use.

    Raises
    ------
    FileMissing
        A file does not exist.
    TargetExists
        The image has labels of that name.
    TargetBusy
        Another writer is changing the store.
    BadArgument, BadDtype
        The labels do not fit the image, or an argument is not valid.
    Unsupported
        The file is not an OME-Zarr store on a disk.
    """
    details = _details(colors, properties)
    arguments: dict[str, Any] = {"image": image, "downsample": downsample, "overwrite": overwrite,
                 "workers": max_workers, "details": details}  # fmt: skip
    if isinstance(labels, (str, os.PathLike)):
        with BioReader(labels, cache=0) as br:
            sizes = {axis: br.sizes[axis] for axis in "YXZCT"}
            with _Opened(store, name, {**sizes, "dtype": br.dtype}, **arguments) as writer:
                for key in _tiles(sizes):
                    writer[key] = br[key]
        return
    array = labels if hasattr(labels, "shape") and hasattr(labels, "dtype") else np.asarray(labels)
    if not 2 <= len(array.shape) <= 5:
        raise BadArgument(
            f"labels: give an array of 2 to 5 axes (Y, X, Z, C, T), not {array.shape}."
        )
    sizes = dict(zip("YXZCT", (*array.shape, 1, 1, 1), strict=False))
    with _Opened(store, name, {**sizes, "dtype": array.dtype}, **arguments) as writer:
        writer[:] = array


def labels_from_rois(
    source: str | os.PathLike[str],
    store: str | os.PathLike[str] | None = None,
    name: str = "rois",
    *,
    image: int = 0,
    downsample: str = "nearest",
    overwrite: bool = False,
    max_workers: int | None = None,
) -> int:
    """Draw the regions of interest of an image as labels 1, 2, 3, ..., and add them to a store.

    Later regions are drawn over earlier ones. Names, texts and colours of the regions become
    properties and colours of the labels.

    Parameters
    ----------
    source
        A file in any format whose OME metadata have regions of interest.
    store
        OME-Zarr store of the image. Default: `source`.
    name, image, downsample, overwrite, max_workers
        As for `add_labels`; `image` is the number of the image in both files.

    Returns
    -------
    int
        The number of regions.

    Raises
    ------
    BadArgument
        The image has no regions of interest, or the images differ in size.
    BfbridgeError
        As for `add_labels`.
    """
    with BioReader(source, series=image, cache=0) as br:
        rois = br.rois
        if not rois:
            raise BadArgument(f"{br.source_name}: image {image} has no regions of interest.")
        sizes = {**{axis: br.sizes[axis] for axis in "YXZT"}, "C": 1}
    dtype = np.dtype(np.uint16 if len(rois) < 1 << 16 else np.uint32)
    where = source if store is None else store
    with _Opened(
        where, name, {**sizes, "dtype": dtype}, image=image, downsample=downsample,
        overwrite=overwrite, workers=max_workers, details=_details_of(rois),
    ) as writer:  # fmt: skip
        for key in _tiles(sizes):
            y, x, z, _, t = key
            plane = np.zeros((y.stop - y.start, x.stop - x.start), dtype)
            draw_rois(rois, plane, y.start, x.start, z.start, t.start)
            writer[key] = plane
    return len(rois)


class _Opened:
    """A label image of a store, to be written in a ``with`` block."""

    def __init__(
        self,
        store: str | os.PathLike[str],
        name: str,
        requested: Mapping[str, Any],
        *,
        image: int,
        downsample: str,
        overwrite: bool,
        workers: int | None,
        details: Mapping[str, Any],
    ) -> None:
        if downsample not in _METHODS:
            raise BadArgument(f"downsample={downsample!r}: give 'nearest' or 'mode'.")
        place = place_of(store)
        plan = WritePlan(
            downsample=downsample, memory=DEFAULT_MEMORY, workers=worker_count(workers)
        )
        self._file = open_label(
            place, name, image, plan, requested,
            overwrite=flag(overwrite, "overwrite"), details=details,
        )  # fmt: skip

    def __enter__(self) -> ImageWriter:
        return ImageWriter(self._file, 0)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._file.close(require_complete=True)
        else:
            self._file.abort()


def _tiles(sizes: Mapping[str, int]) -> list[tuple[slice, ...]]:
    """Return keys along Y, X, Z, C, T of blocks of one plane."""
    counts = [math.ceil(sizes[axis] / _TILE) for axis in "YX"]
    return [
        (
            slice(row * _TILE, min(sizes["Y"], (row + 1) * _TILE)),
            slice(column * _TILE, min(sizes["X"], (column + 1) * _TILE)),
            slice(z, z + 1),
            slice(0, 1),
            slice(t, t + 1),
        )
        for t, z, row, column in np.ndindex(sizes["T"], sizes["Z"], *counts)
    ]


# ---- colours and properties


def _details(colors: Table, properties: Table) -> dict[str, Any]:
    """Return the entries of NGFF's ``image-label``."""
    found: dict[str, Any] = {}
    if colors is not None:
        table = _table(colors, "colors")
        found["colors"] = [
            {"label-value": label, "rgba": _rgba(_only(value))} for label, value in table.items()
        ]
    if properties is not None:
        found["properties"] = []
        for label, values in _table(properties, "properties").items():
            if not isinstance(values, Mapping):
                raise BadArgument(f"properties of label {label}: {values!r:.60} is not a mapping.")
            found["properties"].append({"label-value": label, **values})
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadArgument(f"properties: a value cannot be stored as JSON ({error}).") from error
    return found


def _details_of(rois: list[Roi]) -> dict[str, Any]:
    colors, properties = [], []
    for number, roi in enumerate(rois, 1):
        texts = [shape.text for shape in roi.shapes if shape.text]
        values = {"name": roi.name, "description": roi.description, "text": "; ".join(texts)}
        known = {key: value for key, value in values.items() if value}
        properties.append({"label-value": number, "id": roi.id, **known})
        color = next((shape.color for shape in roi.shapes if shape.color), None)
        if color is not None:
            colors.append({"label-value": number, "rgba": list(color)})
    return {"properties": properties, **({"colors": colors} if colors else {})}


def _table(given: Table, what: str) -> dict[int, Any]:
    """Return a mapping from label to value, from a mapping or a file."""
    where = what
    if isinstance(given, (str, os.PathLike)):
        where = os.fspath(given)
        given = _read_table(Path(given))
    if not isinstance(given, Mapping):
        raise BadArgument(f"{where}: give a mapping from labels to values, or a JSON or CSV file.")
    found: dict[int, Any] = {}
    for key, value in given.items():
        try:
            label = int(str(key))
        except ValueError:
            raise BadArgument(f"{where}: {key!r:.60} is not a label, an integer.") from None
        if label in found:
            raise BadArgument(f"{where}: the label {label} occurs twice.")
        found[label] = value
    return found


def _read_table(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileMissing(f"{path}: no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path}: cannot be read as text ({error}).") from error
    if path.suffix.lower() == ".json":
        try:
            return json.loads(text)
        except ValueError as error:
            raise UnreadableFile(f"{path}: is not valid JSON ({error}).") from error
    rows = list(csv.reader(text.splitlines()))
    if len(rows) < 2 or len(rows[0]) < 2:
        raise BadArgument(
            f"{path}: give a first row of names, label first, then one row per label."
        )
    names = rows[0][1:]
    found: dict[str, Any] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(rows[0]):
            raise BadArgument(f"{path}: row {number} has {len(row)} cells, not {len(rows[0])}.")
        if row[0] in found:
            raise BadArgument(f"{path}: the label {row[0]} occurs twice.")
        found[row[0]] = dict(zip(names, map(_cell, row[1:]), strict=True))
    return found


def _cell(text: str) -> Any:
    """Return a number where a cell of a CSV file is one."""
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else text
    return text


def _only(value: Any) -> Any:
    """Return the only cell of a row of a CSV file."""
    return next(iter(value.values())) if isinstance(value, Mapping) and len(value) == 1 else value


def _rgba(value: Any) -> list[int]:
    """Return red, green, blue and alpha, 0 to 255."""
    if isinstance(value, str) and _HEX.fullmatch(value):
        return [*bytes.fromhex(value[1:]), 255][:4]
    if isinstance(value, (list, tuple)) and len(value) in (3, 4):
        if all(isinstance(part, (int, np.integer)) and 0 <= part <= 255 for part in value):
            return [*map(int, value), 255][:4]
    elif isinstance(value, str):
        from bfbridge.rendering.palettes import parse_color

        return [round(part) for part in parse_color(value)]
    raise BadArgument(
        f"colors: {value!r:.60} is not a colour: give '#rrggbb', a CSS name, or three or four "
        "integers from 0 to 255."
    )
