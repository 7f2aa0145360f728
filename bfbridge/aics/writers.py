"""AICSImageIO's writers: arrays of any kind to OME-TIFF and OME-Zarr."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ome_types import OME, model

from bfbridge.engine.lazy_pixels import LazyPixels
from bfbridge.errors import BadArgument
from bfbridge.files.array_images import ArrayImage, ArrayImages, ArrayReader, images_of
from bfbridge.ome.documents.model import model_from_xml
from bfbridge.ome.metadata import as_color
from bfbridge.ome.pixel_types import dtype_of
from bfbridge.runtime.arguments import whole
from bfbridge.writer import BioWriter

__all__ = ["OmeTiffWriter", "OmeZarrWriter"]


def _images(
    data: Any, dim_order: Any, channel_names: Any, physical_pixel_sizes: Any
) -> list[ArrayImage]:
    found = images_of(data, dim_order, channel_names, physical_pixel_sizes)
    if found is None:
        raise BadArgument(f"data: {type(data).__name__} is neither an array nor a list of arrays.")
    for image in found:
        if image.samples not in (1, 3, 4):
            raise BadArgument(f"an array with {image.samples} samples (S): give 3 or 4, or use C.")
    return found


def _named(document: OME, names: Any) -> None:
    """Give images their names: one for all, or a list."""
    images = document.images
    listed = [names] * len(images) if names is None or isinstance(names, str) else list(names)
    if len(listed) != len(images):
        raise BadArgument(f"image_name={names!r}: there are {len(images)} arrays.")
    for image, name in zip(images, listed, strict=True):
        image.name = None if name is None else str(name)
        for at, channel in enumerate(image.pixels.channels):
            channel.name = channel.name or f"C:{at}"


def _colored(document: OME, colors: Any) -> None:
    """Give channels their colours: a list for all images, or one list for each."""
    if colors is None:
        return
    images = document.images
    nested = list(colors)
    single = not all(c is None or _is_nested(c) for c in nested) or len(nested) != len(images)
    for image, wanted in zip(images, [nested] * len(images) if single else nested, strict=True):
        if wanted is not None:
            _color_channels(image, wanted)


def _color_channels(image: model.Image, wanted: Sequence[Any]) -> None:
    channels = image.pixels.channels
    if len(wanted) != len(channels):
        raise BadArgument(
            f"channel_colors={wanted!r}: image {image.name!r} has {len(channels)} channels."
        )
    for channel, color in zip(channels, wanted, strict=True):
        channel.color = as_color(color, "channel_colors")


def _is_nested(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(v, (list, tuple)) for v in value)


def _checked(document: OME, images: Sequence[ArrayImage]) -> OME:
    """Compare a document with the arrays it is for."""
    if len(document.images) != len(images):
        raise BadArgument(f"ome_xml describes {len(document.images)} images, not {len(images)}.")
    for image, array in zip(document.images, images, strict=True):
        pixels = image.pixels
        described = (pixels.size_t, pixels.size_c, pixels.size_z, pixels.size_y, pixels.size_x)
        have = tuple(array.pixels.shape)
        if described != have or dtype_of(pixels.type.value) != array.pixels.dtype:
            raise BadArgument(
                f"ome_xml describes image {image.id} as {described} of {pixels.type.value}, but "
                f"the array is {have} of {array.pixels.dtype}, along T, C, Z, Y, X."
            )
    return document


def _write(uri: Any, document: OME, images: Sequence[ArrayImage], **options: Any) -> None:
    with BioWriter(uri, metadata=document, series="all", **options) as writer:
        for view, image in zip(writer.series, images, strict=True):
            view.dtype = image.pixels.dtype
        for view, image in zip(writer.series, images, strict=True):
            view[...] = LazyPixels(image.pixels, "TCZYX", str(uri))


class OmeTiffWriter:
    """Writes OME-TIFF; there is nothing to construct."""

    @staticmethod
    def save(
        data: Any,
        uri: str | os.PathLike[str],
        dim_order: Any = None,
        ome_xml: str | OME | None = None,
        channel_names: Any = None,
        image_name: Any = None,
        physical_pixel_sizes: Any = None,
        channel_colors: Any = None,
        fs_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Write arrays as images of one file, which replaces an existing one when it is complete.

        Parameters
        ----------
        data
            An array of numpy, dask or xarray, or a list of them. dask arrays are written block by
            block.
        uri
            Path of the file.
        dim_order
            A letter of T, C, Z, Y, X and S for each axis, or a list of such texts. Default: the
            last of T, C, Z, Y, X; of six axes all and S.
        ome_xml
            Metadata that replace all below.
        channel_names, image_name, physical_pixel_sizes
            Of each image, or one for all; pixel sizes along Z, Y, X in micrometres.
        channel_colors
            (red, green, blue) of each channel, or a list of such lists for each image.
        fs_kwargs
            Accepted for AICSImageIO's sake where it is empty.
        **options
            Further keyword arguments of `BioWriter`: compression, pyramid, ...

        Raises
        ------
        BadArgument
            What is said of the arrays does not fit them.
        """
        if fs_kwargs:
            options.setdefault("storage_options", fs_kwargs)
        images = _images(data, dim_order, channel_names, physical_pixel_sizes)
        if ome_xml is None:
            document = OmeTiffWriter._document(images, image_name, channel_colors)
        elif isinstance(ome_xml, str):
            document = _checked(model_from_xml(ome_xml, "ome_xml"), images)
        elif isinstance(ome_xml, OME):
            document = _checked(ome_xml, images)
        else:
            raise BadArgument(f"ome_xml={type(ome_xml).__name__}: give XML or an ome_types.OME.")
        _write(uri, document, images, **{"overwrite": True, "backend": "ometiff", **options})

    @staticmethod
    def build_ome(
        data_shapes: Sequence[Sequence[int]],
        data_types: Sequence[Any],
        dimension_order: Sequence[str | None] | None = None,
        channel_names: Any = None,
        image_name: Any = None,
        physical_pixel_sizes: Any = None,
        channel_colors: Any = None,
    ) -> OME:
        """Return the metadata that `save` writes for arrays of these shapes and types.

        Parameters
        ----------
        data_shapes, data_types
            Shape and dtype of each array.
        dimension_order
            As `dim_order` of `save`, one text for each array.
        channel_names, image_name, physical_pixel_sizes, channel_colors
            As for `save`, one entry for each array.

        Raises
        ------
        BadArgument
            The lists differ in length, or do not fit the shapes.
        """
        if len(data_shapes) != len(data_types):
            raise BadArgument(f"{len(data_shapes)} data_shapes, but {len(data_types)} data_types.")
        arrays = [
            np.broadcast_to(np.zeros((), dtype), tuple(shape))
            for shape, dtype in zip(data_shapes, data_types, strict=True)
        ]
        images = _images(arrays, dimension_order, channel_names, physical_pixel_sizes)
        return OmeTiffWriter._document(images, image_name, channel_colors)

    @staticmethod
    def _document(images: Sequence[ArrayImage], image_name: Any, channel_colors: Any) -> OME:
        document = ArrayReader(ArrayImages(images)).ome()
        _named(document, image_name)
        _colored(document, channel_colors)
        return document


class OmeZarrWriter:
    """Writes OME-Zarr.

    Parameters
    ----------
    uri
        Path or URL of the store.
    overwrite
        Whether a store that is there already is replaced.
    """

    def __init__(self, uri: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self._uri = uri
        self._overwrite = overwrite
        self._images: list[tuple[ArrayImage, str, Any, int]] = []

    def write_image(
        self,
        image_data: Any,
        image_name: str,
        physical_pixel_sizes: Any = None,
        channel_names: Sequence[str] | None = None,
        channel_colors: Sequence[Any] | None = None,
        scale_num_levels: int = 1,
        scale_factor: float = 2.0,
        dimension_order: str | None = None,
        **options: Any,
    ) -> None:
        """Write an array; with further calls, as further images of the same store.

        Each call writes the store with all images so far, which replaces the one before when it is
        complete.

        Parameters
        ----------
        image_data
            An array of numpy, dask or xarray.
        image_name
            Name of the image.
        physical_pixel_sizes
            Along Z, Y, X in micrometres.
        channel_names
            One for each channel.
        channel_colors
            0xRRGGBB or (red, green, blue) of each channel.
        scale_num_levels
            Levels, full size among them; lower ones are means. The first image decides.
        scale_factor
            From level to level: 2, or another whole number.
        dimension_order
            A letter of T, C, Z, Y and X for each axis. Default: the last of them.
        **options
            Further keyword arguments of `BioWriter`.

        Raises
        ------
        BadArgument
            What is said of the array does not fit it.
        TargetExists
            There is a store already, and `overwrite` was not given.
        """
        levels = whole(scale_num_levels, "scale_num_levels", 1, 31)
        if scale_factor != int(scale_factor) or scale_factor < 2:
            raise BadArgument(f"scale_factor={scale_factor!r}: give a whole number of 2 or more.")
        sizes = None if physical_pixel_sizes is None else [physical_pixel_sizes]
        names = None if channel_names is None else [list(channel_names)]
        (image,) = _images([image_data], [dimension_order], names, sizes)
        images = [*self._images, (image, str(image_name), channel_colors, levels)]
        document = ArrayReader(ArrayImages([one for one, *_ in images])).ome()
        _named(document, [name for _, name, *_ in images])
        for element, (_, _, colors, _) in zip(document.images, images, strict=True):
            if colors is not None:
                _color_channels(element, list(colors))
        factors = [int(scale_factor) ** n for n in range(1, images[0][3])]
        overwrite = self._overwrite or bool(self._images)
        wanted = {"overwrite": overwrite, "backend": "omezarr", "pyramid": factors or False}
        _write(self._uri, document, [one for one, *_ in images], **{**wanted, **options})
        self._images = images
