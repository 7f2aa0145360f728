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
from bfbridge.ome.metadata import convert_length, new_document, unit_symbol
from bfbridge.ome.roles import ImageRole, write_roles
from bfbridge.ome.units import NOT_LENGTHS
from bfbridge.reader import BioReader
from bfbridge.registry import writer_for
from bfbridge.views import ImageView
from bfbridge.writer import BioWriter, ImageWriter

__all__ = ["get_reader", "read_layers", "write_image", "write_labels", "write_layers"]

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
        layers += [_layer(view, _name(view) or name) for view in chosen]
    return layers


def _is_picture(view: ImageView) -> bool:
    return view.role != "image" and not view.is_mask


def _name(view: ImageView) -> str:
    # Names of label images begin with the group of their image.
    return (view.name or "").rpartition("/")[2] if view.is_mask else view.name or ""


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
    """Write one image layer; napari's writer for one layer.

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
    return write_layers(path, [(data, meta, "image")])


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one labels layer as a label image, which is read as a labels layer again.

    Parameters and errors are those of `write_image`.
    """
    return write_layers(path, [(data, meta, "labels")])


def write_layers(path: str, layers: Sequence[Layer]) -> list[str]:
    """Write layers into one file; napari's writer for several layers.

    Image layers of the same shape, dtype and scale are the channels of one image; RGB layers and
    layers that differ are images of their own. Labels layers are label images, of the first image
    with the same Y and X.

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
        A layer has more axes than an image.
    """
    images = _images(path, layers)
    faces = [(one.sizes["Y"], one.sizes["X"]) for one in images if not one.is_mask]
    found = [faces.index(face) if face in faces else None for face in (
        (one.sizes["Y"], one.sizes["X"]) for one in images)]  # fmt: skip
    roles = [
        ImageRole("label", of) if one.is_mask else ImageRole()
        for one, of in zip(images, found, strict=True)
    ]
    document = new_document(len(images))
    with BioWriter(path, metadata=document, series="all", overwrite=True) as bw:
        write_roles(bw.metadata, roles)
        for view, image in zip(bw.series, images, strict=True):
            image.describe(view)
        for view, image in zip(bw.series, images, strict=True):
            image.write(view)
    return [path]


class _NewImage:
    """One image of a new file: the layers that are its channels, in order.

    Attributes
    ----------
    is_mask
        Whether it is a label image.
    sizes
        By axis.
    """

    def __init__(self, path: str, layers: Sequence[Layer]) -> None:
        meta = layers[0][1]
        self._metas = [its for _, its, _ in layers]
        self._rgb = bool(meta.get("rgb"))
        self.is_mask = layers[0][2] == "labels"
        self._pixels = [_finest(data, its) for data, its, _ in layers]
        shape = tuple(self._pixels[0].shape)
        spatial = len(shape) - self._rgb
        if not 2 <= spatial <= 4:
            raise BadArgument(f"{path}: a layer of shape {shape} has more axes than T, Z, Y, X.")
        names = [str(label).upper() for label in meta.get("axis_labels") or ()]
        self._axes = "".join(names) if _are_axes(names, spatial) else "TZYX"[-spatial:]
        self.sizes = dict(zip(self._axes, shape, strict=False))
        self._samples = shape[-1] if self._rgb else 1
        self._count = self._samples if self._rgb else len(layers)
        self._dtype = _stored_dtype(path, self._pixels[0].dtype)

    def describe(self, view: ImageWriter) -> None:
        """Set the properties of the new image."""
        sizes = [self.sizes.get(axis, 1) for axis in "YXZ"]
        view.shape = (*sizes, self._count, self.sizes.get("T", 1))
        view.dtype = self._dtype
        view.samples_per_pixel = self._samples
        view.name, channels = _names([str(its.get("name") or "") for its in self._metas])
        if channels:
            view.channel_names = channels
        for axis, size in _lengths(self._axes, self._metas[0]).items():
            setattr(view, f"ps_{axis.lower()}", size)

    def write(self, view: ImageWriter) -> None:
        """Write the pixels, plane by plane."""
        for t in range(self.sizes.get("T", 1)):
            for z in range(self.sizes.get("Z", 1)):
                key = tuple({"T": t, "Z": z}.get(axis, slice(None)) for axis in self._axes)
                planes = np.stack([np.asarray(layer[key]) for layer in self._pixels], axis=2)
                shape = (self.sizes["Y"], self.sizes["X"], 1, self._count, 1)
                view[:, :, z, :, t] = planes.reshape(shape)


def _images(path: str, layers: Sequence[Layer]) -> list[_NewImage]:
    """Return the images that layers are written as, label images last."""
    groups: dict[Any, list[Layer]] = {}
    for number, layer in enumerate(layers):
        data, meta, kind = layer
        pixels = _finest(data, meta)
        alike = (tuple(pixels.shape), str(pixels.dtype), tuple(meta.get("scale") or ()))
        alone = kind == "labels" or meta.get("rgb")
        groups.setdefault(number if alone else alike, []).append(layer)
    found = [_NewImage(path, group) for group in groups.values()]
    return sorted(found, key=lambda image: image.is_mask)


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
