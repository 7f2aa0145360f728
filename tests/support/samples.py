"""Small images with known pixels, written by tifffile and zarr: the referees, not by bfbridge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

__all__ = ["distinct", "write_ome_tiff", "write_ome_zarr", "write_plate"]


def distinct(
    shape: tuple[int, ...], dtype: Any = np.uint16, start: int = 1
) -> np.ndarray[Any, Any]:
    """Array of T, C, Z, Y, X (, S) whose pixels all differ, none of them 0.

    The order is shuffled, so that no transposed or shifted reading looks right.
    """
    count = int(np.prod(shape))
    dtype = np.dtype(dtype)
    if dtype.kind in "iu" and count + start - 1 > np.iinfo(dtype).max:
        raise ValueError(f"{count} different values do not fit {dtype}")
    values = np.random.default_rng(count).permutation(count) + start
    return values.reshape(shape).astype(dtype)


def write_ome_tiff(path: Path, tczyx: np.ndarray[Any, Any], **options: Any) -> Path:
    """Write T, C, Z, Y, X by tifffile, tiled 16 x 16 unless `options` say otherwise.

    With a sixth axis, the samples of RGB pixels. ``levels=`` gives arrays of lower resolutions.
    """
    metadata = {"axes": "TCZYX" if tczyx.ndim == 5 else "TCZYXS", **options.pop("metadata", {})}
    levels = options.pop("levels", [])
    options.setdefault("tile", (16, 16))
    options.setdefault("photometric", "rgb" if tczyx.ndim == 6 else "minisblack")
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(tczyx, metadata=metadata, subifds=len(levels), **options)
        for level in levels:
            writer.write(level, subfiletype=1, **options)
    return path


def write_ome_zarr(
    path: Path,
    levels: list[np.ndarray[Any, Any]],
    chunks: tuple[int, ...] = (1, 1, 1, 16, 16),
    *,
    scale: tuple[float, ...] = (1.0, 1.0, 0.5, 0.25, 0.25),
    labels: np.ndarray[Any, Any] | None = None,
) -> Path:
    """Write T, C, Z, Y, X levels as NGFF 0.5 by zarr, sizes in µm and seconds."""
    root = zarr.open_group(path, mode="w", zarr_format=3)
    _multiscale(root, levels, chunks, scale)
    if labels is not None:
        group = root.create_group(
            "labels", attributes={"ome": {"version": "0.5", "labels": ["cells"]}}
        )
        _multiscale(group.create_group("cells"), [labels], chunks, scale)
        document = path / "labels" / "cells" / "zarr.json"
        content = json.loads(document.read_text())
        content["attributes"]["ome"]["image-label"] = {"source": {"image": "../../"}}
        document.write_text(json.dumps(content))
    return path


def write_plate(
    path: Path,
    wells: dict[tuple[int, int], list[np.ndarray[Any, Any]]],
    rows: int,
    columns: int,
    *,
    scale: tuple[float, ...] = (1.0, 1.0, 0.5, 0.25, 0.25),
) -> Path:
    """Write an NGFF 0.5 plate by zarr: for each (row, column) its fields, T, C, Z, Y, X."""
    root = zarr.open_group(path, mode="w", zarr_format=3)
    letters = [chr(ord("A") + row) for row in range(rows)]
    fields = max(map(len, wells.values()))
    root.attrs["ome"] = {
        "version": "0.5",
        "plate": {
            "name": "plate",
            "rows": [{"name": letter} for letter in letters],
            "columns": [{"name": str(c + 1)} for c in range(columns)],
            "wells": [
                {"path": f"{letters[r]}/{c + 1}", "rowIndex": r, "columnIndex": c} for r, c in wells
            ],
            "field_count": fields,
        },
    }
    for (row, column), images in wells.items():
        well = root.create_group(f"{letters[row]}/{column + 1}")
        names = [{"path": str(field)} for field in range(len(images))]
        well.attrs["ome"] = {"version": "0.5", "well": {"images": names}}
        for field, pixels in enumerate(images):
            chunks = (1, 1, 1, 256, 256)
            _multiscale(well.create_group(str(field)), [pixels], chunks, scale)
    return path


def _multiscale(
    group: Any,
    levels: list[np.ndarray[Any, Any]],
    chunks: tuple[int, ...],
    scale: tuple[float, ...],
) -> None:
    datasets = []
    full = levels[0].shape
    for number, level in enumerate(levels):
        group.create_array(str(number), data=level, chunks=tuple(map(min, chunks, level.shape)))
        factors = [a / b for a, b in zip(full, level.shape, strict=True)]
        here = [n * factor for n, factor in zip(scale, factors, strict=True)]
        datasets.append(
            {"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": here}]}
        )
    axes = [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "c", "type": "channel"},
        *({"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"),
    ]
    multiscale = {"axes": axes, "datasets": datasets, "name": "sample"}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
