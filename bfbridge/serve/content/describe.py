"""JSON documents that describe a file for viewers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.errors import BfbridgeError
from bfbridge.ngff.omero import channel_color
from bfbridge.rendering.compose import Layer
from bfbridge.rendering.contrast import Contrast, Statistics
from bfbridge.rendering.palettes import palette_colors
from bfbridge.rendering.plan import Drawing, is_indexed
from bfbridge.serve.content.grids import stored_side
from bfbridge.serve.content.query import plane_of
from bfbridge.serve.content.raw import raw_dtype

if TYPE_CHECKING:
    from bfbridge.backend import Channel, Quantity
    from bfbridge.serve.files.served_file import ServedFile
    from bfbridge.views import ImageView
    from bfbridge.virtual.pyramid import VirtualImage

__all__ = ["describe", "histograms", "original_metadata", "to_json"]

_MOST_ENTRIES: Final = 20_000
_LONGEST: Final = 10_000


def to_json(content: Any) -> bytes:
    """Encode as JSON without NaN and infinities, which JSON does not have (null instead)."""
    return json.dumps(_finite(content), ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "replace"
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value


def describe(served: ServedFile, series: int | None = None) -> dict[str, Any]:
    """Return the information document of a file.

    Parameters
    ----------
    served
        The file.
    series
        Number of the image that is described in full, as ``image``; None for the list only.
    """
    reader = served.reader
    found: dict[str, Any] = {
        "name": served.name,
        "version": served.version,
        "backend": reader.backend,
        "backendReason": reader.backend_reason,
        "series": [_brief(view) for view in reader.series],
        "plates": _plates(served),
    }
    if series is not None:
        found["image"] = _full(served, series)
    return found


def _brief(view: ImageView) -> dict[str, Any]:
    sizes = view.sizes
    return {
        "index": view.index,
        "name": view.name,
        "role": view.role,
        "mask": view.is_mask,
        "sizes": {axis: sizes[axis] for axis in "TCZYX"},
        "samples": view.samples_per_pixel,
        "dtype": view.dtype.name,
    }


def _plates(served: ServedFile) -> list[dict[str, Any]]:
    """Return the plates of a file with several images: the wells and the images of their fields."""
    if len(served.reader.series) < 2:
        return []
    try:
        ome = served.reader.ome
    except BfbridgeError:
        return []
    places = {image.id: number for number, image in enumerate(ome.images)}
    plates = []
    for plate in ome.plates:
        wells: list[dict[str, Any]] = []
        for well in plate.wells:
            refs = [sample.image_ref for sample in well.well_samples]
            fields = [places[ref.id] for ref in refs if ref is not None and ref.id in places]
            if fields:
                wells.append({"row": well.row, "column": well.column, "fields": fields})
        if wells:
            plates.append({
                "name": plate.name,
                "rows": max(plate.rows or 0, *(well["row"] + 1 for well in wells)),
                "columns": max(plate.columns or 0, *(well["column"] + 1 for well in wells)),
                "wells": wells,
            })  # fmt: skip
    return plates


def _full(served: ServedFile, series: int) -> dict[str, Any]:
    view, image = served.view(series), served.image(series)
    z, t = plane_of(view, None, None)
    drawing = served.drawing(series, None, None, z, t)
    size = view.physical_pixel_size
    return {
        **_brief(view),
        "rawDtype": raw_dtype(view.dtype).name,
        "pixelSize": {axis: _quantity(getattr(size, axis)) for axis in "xyz"},
        "levels": _levels(image),
        "tileSize": stored_side(image),
        "kind": _kind(view),
        "defaultZ": z,
        "defaultT": t,
        "channels": [
            _channel(view, drawing, number, channel) for number, channel in enumerate(view.channels)
        ],
        "colorTable": _color_table(drawing) if is_indexed(view) else None,
    }


def _kind(view: ImageView) -> str:
    """Return the kind of colour mapping: "rgb", "indexed", "labels" or "intensity"."""
    if view.is_mask:
        return "labels"
    if view.samples_per_pixel >= 3:
        return "rgb"
    return "indexed" if is_indexed(view) else "intensity"


def _levels(image: VirtualImage) -> list[dict[str, Any]]:
    return [
        {
            "level": number,
            "width": level.shape[4],
            "height": level.shape[3],
            "scale": 1 << number,
            "stored": level.stored is not None,
        }
        for number, level in enumerate(image.levels)
    ]


def _channel(view: ImageView, drawing: Drawing, number: int, channel: Channel) -> dict[str, Any]:
    """Return the description of a channel; samples of RGB share one."""
    samples = view.samples_per_pixel
    first = number * samples
    layers = dict(zip((plane.c for plane in drawing.planes), drawing.layers, strict=True))
    layer: Layer | None = layers.get(first)
    color: str | None
    if layer is None and not view.is_mask:
        low, high = Contrast(view).window(first)
        # The colour it has when it is drawn with the others.
        color = _css(channel_color(channel, number, len(view.channels), 1))
    elif layer is None or layer.by_value:
        low, high, color = 0.0, 255.0, "#ffffff"
    else:
        low, high = layer.low, layer.high
        color = _css(tuple(round(part) for part in palette_colors(layer.palette)[-1]))
    return {
        "index": number,
        "c": list(range(first, first + samples)),
        "name": channel.name,
        "color": "#ffffff" if samples >= 3 else color,
        "active": layer is not None,
        "window": [low, high],
        "windowFromFile": channel.window is not None,
        "emission": _quantity(channel.emission),
        "excitation": _quantity(channel.excitation),
    }


def _css(color: Sequence[int] | None) -> str | None:
    return None if color is None else "#{:02x}{:02x}{:02x}".format(*color[:3])


def _color_table(drawing: Drawing) -> list[list[int]] | None:
    lookup = drawing.layers[0].lookup
    if lookup is None:
        return None
    table: list[list[int]] = np.frombuffer(lookup, np.uint8).reshape(-1, 4)[:, :3].tolist()
    return table


def _quantity(quantity: Quantity | None) -> dict[str, Any] | None:
    return None if quantity is None else {"value": quantity.value, "unit": quantity.unit}


def histograms(
    served: ServedFile, series: int, channels: Sequence[int], z: int | None, t: int | None
) -> dict[str, Any]:
    """Return the histograms of channels, of a low resolution or of samples of large images.

    Parameters
    ----------
    served, series
        The image.
    channels
        Along C (channels x samples).
    z, t
        The plane; None for both is the whole channel, of which some planes are read.
    """
    view = served.view(series)
    contrast = Contrast(view)
    plane = None if z is None and t is None else plane_of(view, z, t)

    def measured(c: int) -> Statistics:
        return contrast.of_channel(c) if plane is None else contrast.of_plane(c, *plane)

    return {
        "series": series,
        "z": None if plane is None else plane[0],
        "t": None if plane is None else plane[1],
        "channels": [_histogram(c, measured(c)) for c in channels],
    }


def _histogram(c: int, found: Statistics) -> dict[str, Any]:
    return {
        "c": c,
        "min": found.least,
        "max": found.greatest,
        "window": [found.low, found.high],
        "binStart": found.least,
        "binEnd": found.greatest + 1,
        "counts": list(found.counts),
    }


def original_metadata(served: ServedFile) -> dict[str, Any]:
    """Return the metadata of the format as text by name; long texts are shortened."""
    entries = served.reader.original_metadata
    found: dict[str, str] = {}
    for name, value in entries.items():
        if len(found) == _MOST_ENTRIES:
            break
        found[str(name)[:_LONGEST]] = str(value)[:_LONGEST]
    return {"count": len(entries), "entries": found}
