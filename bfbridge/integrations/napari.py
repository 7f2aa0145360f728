"""napari: a reader of multiscale, lazy layers and a writer, found through ``napari.yaml``.

`get_reader` checks names only. The file, and Java if it is needed, are opened when napari calls the
function that it returns.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bfbridge.analysis.coordinates import channel_labels
from bfbridge.analysis.dask_arrays import to_dask
from bfbridge.backend import PixelSize, Quantity
from bfbridge.errors import BadArgument
from bfbridge.ome.metadata import convert_length, unit_symbol
from bfbridge.ome.units import NOT_LENGTHS
from bfbridge.reader import BioReader
from bfbridge.registry import writer_for
from bfbridge.views import ImageView
from bfbridge.writer import BioWriter

__all__ = ["get_reader", "read_layers", "write_channels", "write_image"]

Layer = tuple[Any, dict[str, Any], str]
ORDER = "TCZYX"
MOST_IMAGES = 100
"""Maximum number of images of one file that are opened: a plate has thousands of images."""


def get_reader(path: str | list[str]) -> Callable[[Any], list[Layer]] | None:
    """Return the function that reads a path, or None if there is nothing to read.

    Parameters
    ----------
    path
        A file or folder; if there are several, each is opened separately.
    """
    paths = path if isinstance(path, list) else [path]
    if not paths or not all(isinstance(one, (str, os.PathLike)) for one in paths):
        return None
    return read_layers


def read_layers(path: str | list[str]) -> list[Layer]:
    """Return napari's layers for every image of the files: (data, settings, type).

    Each channel is a separate layer with its colour; an RGB image is one layer. Label images of
    integers become label layers. Macro and label pictures of slides are left out, unless there are
    no other images. Of a file with more than `MOST_IMAGES` images the first are read, with a
    warning.
    """
    layers: list[Layer] = []
    for one in path if isinstance(path, list) else [path]:
        reader = BioReader(one)
        views = list(reader.series)
        chosen = [view for view in views if not _is_picture(view)] or views
        name = os.path.basename(str(one))
        if len(chosen) > MOST_IMAGES:
            warnings.warn(
                f"{reader.source_name}: it has {len(chosen)} images; the first {MOST_IMAGES} are "
                "shown. Add others with bfbridge.BioReader(path, series=number).to_dask().",
                stacklevel=2,
            )
            del chosen[MOST_IMAGES:]
        layers += [_layer(view, view.name or name) for view in chosen]
    return layers


def _is_picture(view: ImageView) -> bool:
    return view.role != "image" and not view.is_mask


def _layer(view: ImageView, name: str) -> Layer:
    rgb = view.samples_per_pixel in (3, 4) and len(view.channels) == 1
    order = "TCZYXS" if rgb else ORDER
    levels = [to_dask(level, order=order) for level in view.levels]
    settings: dict[str, Any] = {"name": name, "metadata": {"source": view.source_name}}
    channels = levels[0].shape[1]
    axes = order.removesuffix("S")
    if rgb or channels == 1 or view.is_mask:
        # A single channel needs no axis.
        levels = [level[:, 0] for level in levels] if channels == 1 else levels
        axes = axes.replace("C", "") if channels == 1 else axes
    else:
        settings["channel_axis"] = 1
        settings["name"] = [f"{name}: {label}" for label in channel_labels(view)]
        axes = axes.replace("C", "")
    settings |= _scale(view.physical_pixel_size, axes)
    data = levels if len(levels) > 1 else levels[0]
    if view.is_mask:
        return data, settings, "labels"
    if rgb:
        settings["rgb"] = True
        return data, settings, "image"
    colors = [_color(channel.color) for channel in view.channels for _ in range(channel.samples)]
    if "channel_axis" in settings:
        if all(color is not None for color in colors):
            settings["colormap"] = colors
        settings["blending"] = "additive"
    elif colors and colors[0] is not None:
        settings["colormap"] = colors[0]
    limits = _limits(view)
    if limits is not None:
        settings["contrast_limits"] = [limits] * channels if "channel_axis" in settings else limits
    return data, settings, "image"


def _scale(size: PixelSize, axes: str) -> dict[str, Any]:
    """Return napari's scale and units: micrometres if the file has lengths, otherwise pixels."""
    sizes: dict[str, Quantity | None] = {"Z": size.z, "Y": size.y, "X": size.x}
    try:
        found = {a: None if q is None else convert_length(q, "µm") for a, q in sizes.items()}
    except BadArgument:
        found = dict.fromkeys("ZYX")
    known = found["Y"] is not None and found["X"] is not None
    scale = [(found.get(axis) or 1.0) if known else 1.0 for axis in axes]
    spatial = "um" if known else "pixel"
    # A slice of unknown thickness counts as 1, next to lengths along y and x.
    units = [
        "pixel" if axis not in "ZYX" or (axis == "Z" and found["Z"] is None) else spatial
        for axis in axes
    ]
    return {"scale": scale, "units": units, "axis_labels": [axis.lower() for axis in axes]}


def _color(color: tuple[int, int, int, int] | None) -> str | None:
    return None if color is None else "#{:02x}{:02x}{:02x}".format(*color[:3])


def _limits(view: ImageView) -> list[float] | None:
    """Return the display range of the file or of bytes; None lets napari compute it."""
    bits = view._file.backend.images[view.index].significant_bits
    size = 8 * view.dtype.itemsize
    if view.dtype.kind != "u" or (size > 8 and (bits is None or bits >= size)):
        return None
    return [0, 2 ** min(bits or size, size) - 1]


def write_image(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one layer; napari's writer for image and label layers.

    Parameters
    ----------
    path
        Path of the new file; its suffix selects the format.
    data
        (T,) (Z,) Y, X pixels, with the samples last for an RGB layer. Of a multiscale layer (a list
        of levels) the first level is written.
    meta
        The layer's settings: name, scale, units, rgb, axis_labels.

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    BadArgument
        The layer has more axes than an image.
    """
    return write_channels(path, [(data, meta, "image")])


def write_channels(path: str, layers: Sequence[Layer]) -> list[str]:
    """Write layers as the channels of one image; napari's writer for several image layers.

    Parameters
    ----------
    path
        As in `write_image`.
    layers
        (data, settings, type) of each, as in `write_image`.

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    BadArgument
        The layers have different shapes, dtypes or scales, or there are several and one is RGB.
    """
    meta = layers[0][1]
    rgb = bool(meta.get("rgb"))
    pixels = [_finest(data, its) for data, its, _ in layers]
    _check_layers_match(path, pixels, layers)
    shape = tuple(pixels[0].shape)
    spatial = len(shape) - rgb
    if not 2 <= spatial <= 4:
        raise BadArgument(f"{path}: a layer of shape {shape} has more axes than T, Z, Y, X.")
    names = [str(label).upper() for label in meta.get("axis_labels") or ()]
    axes = "".join(names) if _are_axes(names, spatial) else "TZYX"[-spatial:]
    sizes = dict(zip(axes, shape, strict=False))
    samples = shape[-1] if rgb else 1
    count = samples if rgb else len(layers)
    with BioWriter(
        path,
        Y=sizes["Y"], X=sizes["X"], Z=sizes.get("Z", 1), T=sizes.get("T", 1), C=count,
        dtype=_stored_dtype(path, pixels[0].dtype),
        overwrite=True,
    ) as bw:  # fmt: skip
        bw.samples_per_pixel = samples
        bw.name, channels = _names([str(its.get("name") or "") for _, its, _ in layers])
        if channels:
            bw.channel_names = channels
        for axis, size in _lengths(axes, meta).items():
            setattr(bw, f"ps_{axis.lower()}", size)
        for t in range(sizes.get("T", 1)):
            for z in range(sizes.get("Z", 1)):
                key = tuple({"T": t, "Z": z}.get(axis, slice(None)) for axis in axes)
                planes = np.stack([np.asarray(layer[key]) for layer in pixels], axis=2)
                bw[:, :, z, :, t] = planes.reshape(sizes["Y"], sizes["X"], 1, count, 1)
    return [path]


def _check_layers_match(path: str, pixels: Sequence[Any], layers: Sequence[Layer]) -> None:
    """Raise if layers cannot be the channels of one image."""
    kinds = {
        (tuple(p.shape), str(p.dtype), tuple(meta.get("scale") or ()), bool(meta.get("rgb")))
        for p, (_, meta, _) in zip(pixels, layers, strict=True)
    }
    if len(kinds) > 1 or (len(layers) > 1 and layers[0][1].get("rgb")):
        raise BadArgument(
            f"{path}: these layers cannot be channels of one image: their shape, dtype, scale and "
            f"whether they are RGB are {sorted(kinds)}. Save them one by one."
        )


def _finest(data: Any, meta: dict[str, Any]) -> Any:
    """Return the pixels of a layer; of a multiscale layer, those at full size."""
    levels = getattr(data, "_data", data)
    return levels[0] if meta.get("multiscale") or isinstance(levels, (list, tuple)) else data


def _stored_dtype(path: str, dtype: Any) -> np.dtype[Any]:
    """Return the dtype to write: 32 bits for 64-bit labels if the format has no 64 bits."""
    given: np.dtype[Any] = np.dtype(dtype)
    wide = given.kind in "iu" and given.itemsize == 8
    if wide and not writer_for(str(path)).supports_dtype(given):
        return np.dtype(f"{given.kind}4")
    return given


def _names(layers: list[str]) -> tuple[str | None, list[str | None]]:
    """Return the names of the image and its channels: layers are named "image: channel"."""
    if len(layers) == 1:
        return layers[0] or None, []
    parts = [name.rpartition(": ") for name in layers]
    if len({image for image, _, _ in parts}) > 1:
        parts = [("", "", name) for name in layers]
    return parts[0][0] or None, [channel or None for _, _, channel in parts]


def _are_axes(names: list[str], count: int) -> bool:
    found = "".join(names)
    return len(names) == count and len(set(found)) == len(found) and found in (
        "YX", "ZYX", "TYX", "TZYX"
    )  # fmt: skip


def _lengths(axes: str, meta: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """Return the size of a pixel along the axes whose scale is a length."""
    count = len(axes)
    scale = list(meta.get("scale") or [1.0] * count)[-count:]
    units = meta.get("units")
    units = list(units)[-count:] if isinstance(units, (list, tuple)) else [units] * count
    found = {}
    for axis, size, unit in zip(axes, scale, units, strict=True):
        try:
            symbol = unit_symbol(str(unit))
        except BadArgument:
            continue
        if axis in "XYZ" and symbol not in NOT_LENGTHS:
            found[axis] = (float(size), symbol)
    return found
