"""Metadata of new images that the caller gives: pixel size, time step, names and colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan.pieces import Piece, chosen_channels, chosen_views
from bfbridge.errors import BadArgument
from bfbridge.ome import metadata
from bfbridge.reader import BioReader

if TYPE_CHECKING:
    from ome_types import OME, model

__all__ = ["apply_overrides"]


def apply_overrides(
    new: OME, br: BioReader, pieces: Sequence[Piece], options: ConvertOptions
) -> None:
    """Replace metadata of a new file's images by those of the options.

    Labels of slides, macro images and thumbnails keep their metadata; masks get the sizes.

    Parameters
    ----------
    new
        Document of the new file, with an image for each piece. Its images are replaced, not
        changed, because the source's document may contain them too.
    br, pieces, options
        The open source, what becomes of it, and the conversion options.

    Raises
    ------
    BadArgument
        The number of names or colours is not that of the images or channels.
    """
    if all(
        value is None
        for value in (
            options.pixel_size, options.time_step, options.name, options.channel_names,
            options.channel_colors,
        )
    ):  # fmt: skip
        return
    names = _names(br, options)
    for number, (image, piece) in enumerate(zip(new.images, pieces, strict=True)):
        view = piece.view(br)
        if view.role != "image" and not view.is_mask:
            continue
        pixels = image.pixels.model_copy()
        changes: dict[str, Any] = {"pixels": pixels}
        _set_sizes(pixels, options)
        if view.role == "image":
            if piece.series in names:
                changes["name"] = names[piece.series]
            _set_channels(pixels, br, piece, options)
        new.images[number] = image.model_copy(update=changes)


def _names(br: BioReader, options: ConvertOptions) -> dict[int, str]:
    """Return the new name of each image, by its number in the source."""
    if options.name is None:
        return {}
    images = [view.index for view in chosen_views(br, options) if view.role == "image"]
    if len(options.name) != len(images):
        raise BadArgument(
            f"{br.source_name}: name={list(options.name)} has {len(options.name)} name(s), and "
            f"{len(images)} images are converted. Give one for each, or choose images with series= "
            "(--series)."
        )
    return dict(zip(images, options.name, strict=True))


def _set_sizes(pixels: model.Pixels, options: ConvertOptions) -> None:
    for axis, size in zip("xyz", options.pixel_size or (), strict=False):
        if size is not None:
            setattr(pixels, f"physical_size_{axis}", size.value)
            setattr(pixels, f"physical_size_{axis}_unit", metadata.ome_unit(size.unit))
    if options.time_step is not None:
        pixels.time_increment = options.time_step.value
        pixels.time_increment_unit = metadata.ome_time_unit(options.time_step.unit)


def _set_channels(
    pixels: model.Pixels, br: BioReader, piece: Piece, options: ConvertOptions
) -> None:
    """Set names and colours, which are given for the channels that are converted, in order."""
    if options.channel_names is None and options.channel_colors is None:
        return
    from ome_types.model import Color

    metadata.settle_channels(pixels := _with_copied_channels(pixels))
    chosen = list(chosen_channels(piece.view(br), options.channels))
    mine = [chosen.index(c // piece.samples) for c in list(piece.c)[:: piece.samples]]
    for option, given in (
        ("channel_names", options.channel_names), ("channel_colors", options.channel_colors)
    ):  # fmt: skip
        if given is not None and len(given) != len(chosen):
            raise BadArgument(
                f"{br.source_name}: {option}={list(given)} has {len(given)} value(s), and image "
                f"{piece.series} has {len(chosen)} channel(s). Give one for each channel."
            )
    for channel, place in zip(pixels.channels, mine, strict=True):
        if options.channel_names is not None:
            channel.name = options.channel_names[place]
        if options.channel_colors is not None:
            red, green, blue = options.channel_colors[place]
            channel.color = Color((red, green, blue, 1.0))


def _with_copied_channels(pixels: model.Pixels) -> model.Pixels:
    pixels.channels = [channel.model_copy() for channel in pixels.channels]
    return pixels
