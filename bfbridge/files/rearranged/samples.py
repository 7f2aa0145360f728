"""RGB images from three channels, and channels from the samples of RGB images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bfbridge.backend import Channel, Image, Level, ReaderBackend, Shape5
from bfbridge.errors import BadArgument
from bfbridge.files.rearranged.wrapper import Wrapper

if TYPE_CHECKING:
    from ome_types import OME, model

__all__ = ["MergedChannels", "SplitSamples"]

RGB = 3
COLORS = ((255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255), (255, 255, 255, 255))
LETTERS = "RGBA"


class MergedChannels(Wrapper):
    """Images in which each three consecutive channels are the red, green and blue of one.

    C counts channels x samples, so the pixels stay where they are. RGB images and associated images
    are unchanged.

    Raises
    ------
    BadArgument
        The number of channels of an image is not a multiple of three.
    """

    def __init__(self, inner: ReaderBackend) -> None:
        super().__init__(inner, [_merged(i, image) for i, image in enumerate(inner.images)])

    def change_document(self, ome: OME) -> None:
        """Make each three channels one, and keep the planes of the first."""
        for number, element in enumerate(ome.images):
            if self._is_same(number):
                continue
            pixels = element.pixels
            pixels.channels = [
                channel.model_copy(update={"samples_per_pixel": RGB, "name": None})
                for channel in _channels(pixels)[::RGB]
            ]
            for channel in pixels.channels:
                channel.model_fields_set.discard("color")
            pixels.planes = [
                plane.model_copy(update={"the_c": plane.the_c // RGB})
                for plane in pixels.planes
                if plane.the_c % RGB == 0
            ]


def _merged(number: int, image: Image) -> Image:
    if image.role != "image" or image.samples > 1:
        return image
    count = image.levels[0].shape[1]
    if count % RGB:
        raise BadArgument(
            f"merge_channels: image {number} has {count} channel(s), and red, green and blue need "
            "three. Choose them with channels= (--channels) in a first conversion."
        )
    levels = tuple(Level(level.shape, _with_c(level.chunk, RGB)) for level in image.levels)
    return replace(
        image, levels=levels, samples=RGB, interleaved=False,
        channels=(Channel(samples=RGB),) * (count // RGB),
    )  # fmt: skip


def _with_c(chunk: Shape5, samples: int) -> Shape5:
    t, c, z, y, x = chunk
    return t, -(-c // samples) * samples, z, y, x


class SplitSamples(Wrapper):
    """Images whose samples are separate channels, named R, G and B. Others are unchanged."""

    def __init__(self, inner: ReaderBackend) -> None:
        super().__init__(inner, [_split(image) for image in inner.images])

    def change_document(self, ome: OME) -> None:
        """Make each sample a channel, with the planes of the former channel."""
        from ome_types.model import Color

        for number, element in enumerate(ome.images):
            if self._is_same(number):
                continue
            samples, pixels = self._inner.images[number].samples, element.pixels
            pixels.channels = [
                channel.model_copy(
                    update={
                        "id": f"{channel.id}:{s}", "samples_per_pixel": 1,
                        "name": record.name, "color": Color((*record.color[:3], 1.0)),
                    }
                )
                for channel, s, record in (
                    (channel, s, self._images[number].channels[i * samples + s])
                    for i, channel in enumerate(_channels(pixels)) for s in range(samples)
                )
                if record.color is not None
            ]  # fmt: skip
            pixels.planes = [
                plane.model_copy(update={"the_c": plane.the_c * samples + s})
                for plane in pixels.planes
                for s in range(samples)
            ]


def _split(image: Image) -> Image:
    if image.role != "image" or image.samples == 1:
        return image
    channels = []
    for channel in image.channels:
        for s in range(image.samples):
            letter = LETTERS[s] if s < len(LETTERS) else str(s)
            name = f"{channel.name} {letter}" if channel.name else letter
            color = COLORS[min(s, len(COLORS) - 1)]
            channels.append(replace(channel, name=name, color=color, samples=1))
    return replace(image, samples=1, interleaved=False, channels=tuple(channels))


def _channels(pixels: model.Pixels) -> list[model.Channel]:
    from bfbridge.ome.metadata import settle_channels

    settle_channels(pixels)
    return pixels.channels
