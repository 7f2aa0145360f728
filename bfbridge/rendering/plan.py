"""The planes of a picture, and how each is drawn: styles and defaults for one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from bfbridge.errors import BadArgument, BadSelection
from bfbridge.ngff.omero import channel_color
from bfbridge.rendering.compose import Layer
from bfbridge.rendering.contrast import Contrast
from bfbridge.rendering.style import Band, Style, parse_style

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["Drawing", "Plane", "is_indexed", "plan_drawing"]

MOST_CHANNELS: Final = 8
"""Maximum number of channels shown if the file selects none: one for each default colour."""
_SAMPLE_NAMES: Final = {"red": 0, "green": 1, "blue": 2, "gray": 1, "grey": 1}


class Plane(NamedTuple):
    """Position of a plane: number along C (channels x samples), Z and T."""

    c: int
    z: int
    t: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """Description of a drawing.

    Attributes
    ----------
    planes, layers
        One layer for each plane, drawn in this order.
    dtype
        "uint8", "uint16" or "float".
    axis
        The one of red, green, blue, alpha to keep, or None.
    icc
        As in `Style`.
    by_value
        Whether pixels are labels or indices, which must not be averaged.
    """

    planes: tuple[Plane, ...]
    layers: tuple[Layer, ...]
    dtype: str = "uint8"
    axis: int | None = None
    icc: bool | str = False
    by_value: bool = False


def plan_drawing(
    view: ImageView, contrast: Contrast, style: Any, channels: Any, z: int, t: int
) -> Drawing:
    """Plan the picture of one z and t of an image.

    Parameters
    ----------
    view
        The image.
    contrast
        Its statistics.
    style
        As `parse_style` takes it, or None for the default.
    channels
        Numbers or names of channels to show, one or several; None for those the file shows.
        With a style, the channel of bands without ``frame``.
    z, t
        The plane.

    Raises
    ------
    BadSelection
        The channel or plane does not exist.
    BadArgument
        A style that is not valid here.
    """
    chosen = _chosen(view, channels)
    parsed = None if style is None else parse_style(style)
    if parsed is None or not parsed.bands:
        drawing = _default(view, contrast, chosen, z, t)
        if parsed is None:
            return drawing
        dtype = _dtype(view, parsed)
        return replace(drawing, dtype=dtype, axis=parsed.axis, icc=parsed.icc)
    if channels is not None and len(chosen) != 1:
        raise BadArgument("channels=: with a style, give exactly one channel.")
    return _styled(view, contrast, parsed, Plane(chosen[0], z, t))


def _chosen(view: ImageView, channels: Any) -> list[int]:
    """Return the numbers of channels (records, not samples)."""
    count = len(view.channels)
    if channels is None:
        active = [i for i, channel in enumerate(view.channels) if channel.active]
        return (active or list(range(count)))[:MOST_CHANNELS]
    single = isinstance(channels, (str, int, np.integer))
    listed: Sequence[Any] = [channels] if single else list(channels)
    if not listed:
        raise BadSelection(f"{view.source_name}: channels=[] is empty; give at least one channel.")
    return [_number(view, channel) for channel in listed]


def _number(view: ImageView, channel: Any) -> int:
    names = view.channel_names
    if isinstance(channel, str) and names.count(channel) == 1:
        return names.index(channel)
    whole = isinstance(channel, (int, np.integer)) and not isinstance(channel, bool)
    if whole and -len(names) <= channel < len(names):
        return int(channel) % len(names)
    raise BadSelection(
        f"{view.source_name}: there is no channel {channel!r:.60}; it has {len(names)}"
        + (f": {names[:20]}." if any(names) else ".")
    )


# ---- without a style


def _default(view: ImageView, contrast: Contrast, chosen: Sequence[int], z: int, t: int) -> Drawing:
    samples = view.samples_per_pixel
    if view.is_mask:
        planes = [Plane(channel, z, t) for channel in chosen[:1]]
        return Drawing(tuple(planes), (Layer(palette="labels"),), by_value=True)
    indexed = _indexed(view, chosen[0])
    if indexed is not None:
        return Drawing((Plane(chosen[0], z, t),), (indexed,), by_value=True)
    shown = min(samples, 3) if samples >= 3 else 1
    planes, layers = [], []
    for channel in chosen:
        record = view.channels[channel]
        for sample in range(shown):
            c = channel * samples + sample
            place = sample if shown == 3 else channel
            # A single channel without a stored colour is grey.
            count = 1 if len(chosen) == 1 else len(view.channels)
            color = channel_color(record, place, count, 3 if shown == 3 else 1)
            if shown == 1 and record.color is None:
                color = _ramp_color(view, channel) or color
            low, high = contrast.window(c)
            planes.append(Plane(c, z, t))
            layers.append(
                Layer(low, high, "#{:02x}{:02x}{:02x}".format(*color), composite="additive")
            )
    return Drawing(tuple(planes), tuple(layers))


def is_indexed(view: ImageView) -> bool:
    """Return whether pixels are indices of a colour table, which must not be averaged."""
    return _indexed(view, 0) is not None


def _indexed(view: ImageView, channel: int) -> Layer | None:
    """Return how an indexed image is drawn, or None for another image."""
    table = _table(view, channel)
    if table is None or _is_ramp(table):
        # Intensities: the ramp is the display colour of the microscope's software.
        return None
    colors = np.full((table.shape[1], 4), 255, np.uint8)
    colors[:, :3] = table.T
    return Layer(lookup=colors.tobytes())


def _ramp_color(view: ImageView, channel: int) -> tuple[int, int, int] | None:
    """Return the colour of a channel if its colour table is a ramp from black to this colour."""
    table = _table(view, channel)
    if table is None or not _is_ramp(table) or not table.any():
        return None
    red, green, blue = (int(part) for part in table[:, -1])
    return red, green, blue


def _table(view: ImageView, channel: int) -> np.ndarray[Any, Any] | None:
    """Return the colour table of a channel, 3 x values of uint8, or None."""
    if view.dtype.kind not in "iu" or view.samples_per_pixel > 1:
        return None

    def read() -> np.ndarray[Any, Any] | None:
        table = view.lookup_table(channel)
        if table is None or table.shape[0] < 3 or not table.shape[1]:
            return None
        return table[:3] if table.dtype == np.uint8 else (table[:3] >> 8).astype(np.uint8)

    return view._file.remembered(("colour table", view.index, channel), read)


def _is_ramp(table: np.ndarray[Any, Any]) -> bool:
    """Return whether the colours begin with black and never become darker."""
    return bool((np.diff(table.astype(np.int64), axis=1) >= 0).all()) and not table[:, 0].any()


# ---- with one


def _dtype(view: ImageView, style: Style) -> str:
    if style.dtype != "source":
        return style.dtype or "uint8"
    return {"uint16": "uint16"}.get(view.dtype.name, "float" if view.dtype.kind == "f" else "uint8")


def _styled(view: ImageView, contrast: Contrast, style: Style, base: Plane) -> Drawing:
    planes, layers = [], []
    for band in style.bands:
        plane, alpha = _plane_of(view, band, base)
        if plane is None:
            # An image without alpha is opaque.
            plane = _first_sample(view, base)
            layers.append(Layer(palette=("#fff", "#fff"), composite=band.composite or "multiply"))
        else:
            layers.append(_layer(view, contrast, band, plane, alpha=alpha))
        planes.append(plane)
    by_value = any(layer.by_value for layer in layers) or view.is_mask
    return Drawing(
        tuple(planes), tuple(layers), _dtype(view, style), style.axis, style.icc, by_value
    )


def _first_sample(view: ImageView, base: Plane) -> Plane:
    return Plane(base.c * view.samples_per_pixel, base.z, base.t)


def _plane_of(view: ImageView, band: Band, base: Plane) -> tuple[Plane | None, bool]:
    """Return the plane of a band, and whether it is the alpha band; None without alpha."""
    samples = view.samples_per_pixel
    channel, z, t = _frame(view, band, base)
    first = channel * samples
    name = band.band.lower() if isinstance(band.band, str) else ""
    if name == "alpha":
        return (Plane(first + samples - 1, z, t) if samples in (2, 4) else None), True
    if name in _SAMPLE_NAMES and name not in (n and n.lower() for n in view.channel_names):
        sample = _SAMPLE_NAMES[name] if samples > 2 else 0
        return Plane(first + sample, z, t), False
    if isinstance(band.band, str):
        return Plane(_number(view, band.band) * samples, z, t), False
    if band.band is None:
        return Plane(first + (1 if samples > 2 else 0), z, t), False
    count = view.sizes["C"]
    if samples == 1 and band.frame is None and not band.framedelta:
        if band.band > count:
            raise BadSelection(
                f"{view.source_name}: band {band.band}: it has {count} channels, counted from 1."
            )
        return Plane(band.band - 1, z, t), False
    if band.band > samples:
        raise BadSelection(
            f"{view.source_name}: band {band.band}: a pixel has {samples} samples, counted from 1."
        )
    return Plane(first + band.band - 1, z, t), False


def _frame(view: ImageView, band: Band, base: Plane) -> Plane:
    """Return channel, z and t of the frame of a band."""
    if band.frame is None and not band.framedelta:
        return base
    channels, depth, times = len(view.channels), view.sizes["Z"], view.sizes["T"]
    here = base.c + channels * (base.z + depth * base.t)
    number = here + band.framedelta if band.frame is None else band.frame
    if not 0 <= number < channels * depth * times:
        raise BadSelection(
            f"{view.source_name}: there is no frame {number}; it has {channels * depth * times}."
        )
    rest, c = divmod(number, channels)
    t, z = divmod(rest, depth)
    return Plane(c, z, t)


def _layer(view: ImageView, contrast: Contrast, band: Band, plane: Plane, *, alpha: bool) -> Layer:
    if band.palette == "labels":
        return Layer(palette="labels", composite=band.composite or "lighten")
    palette = band.palette
    if palette is None:
        palette = ("#fff0", "#ffff") if alpha else ("#000", "#fff")
    return Layer(
        low=_end(view, contrast, band.min, plane, top=False),
        high=_end(view, contrast, band.max, plane, top=True),
        palette=palette,
        discrete=band.scheme == "discrete",
        nodata=band.nodata,
        clamp=band.clamp,
        composite=band.composite or ("multiply" if alpha else "lighten"),
        gamma=band.gamma,
        invert=band.invert,
    )


def _end(
    view: ImageView, contrast: Contrast, value: float | str, plane: Plane, *, top: bool
) -> float:
    """Return the number for one end of a band's range."""
    if not isinstance(value, str):
        return value
    word, _, share = value.partition(":")
    if word == "full":
        return _full(view.dtype) if top else 0.0
    if word == "auto":
        samples = view.samples_per_pixel
        first = plane.c // samples * samples
        known = [contrast.of_plane(first + i, plane.z, plane.t) for i in range(samples)]
        if all(0 <= s.least <= 254 and 2 <= s.greatest <= 255 for s in known):
            return 255.0 if top else 0.0
        word = "max" if top else "min"
    found = contrast.of_plane(*plane)
    if share:
        return found.threshold(float(share), from_top=word == "max")
    return found.greatest if word == "max" else found.least


def _full(dtype: np.dtype[Any]) -> float:
    """Return the largest value of a dtype, as defined by large_image."""
    if dtype.kind == "f":
        return 1.0
    return 65535.0 if dtype == np.uint16 else 255.0
