"""Conversion between OME metadata and attributes: units, pixel types, documents of new files.

ome_types is imported on use: the import takes longer than reading a small image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.backend import Channel, Image, Level, PixelSize, Quantity
from bfbridge.errors import BadArgument, BadDtype
from bfbridge.ome.pixel_types import dtype_of, ome_pixel_type
from bfbridge.ome.units import LENGTHS, NOT_LENGTHS, length_symbol

if TYPE_CHECKING:
    from ome_types import OME, model

__all__ = [
    "as_quantity",
    "carry",
    "convert_length",
    "narrow",
    "new_document",
    "ome_pixel_type",
    "record",
    "samples_of",
    "scaled",
    "settle",
    "settle_channels",
    "unit_symbol",
    "writable_dtype",
]


def unit_symbol(unit: Any) -> str:
    """Return the OME symbol of a length unit given as symbol, name or ome_types enum.

    Raises
    ------
    BadArgument
        `unit` is not a length unit of the OME schema.
    """
    symbol = length_symbol(str(getattr(unit, "value", unit)))
    if symbol is not None:
        return symbol
    raise BadArgument(
        f"{unit!r} is not a unit of length. Use one of the OME schema's: "
        f"{', '.join([*LENGTHS, *NOT_LENGTHS])}."
    )


def as_quantity(value: Any, name: str) -> Quantity | None:
    """Convert a physical size given as (value, unit), a number of µm, or None.

    Raises
    ------
    BadArgument
        `value` is none of these, or the number is not above 0.
    """
    if value is None:
        return None
    number, unit = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, "µm")
    if number is None:
        return None
    try:
        size = float(number)
    except (TypeError, ValueError):
        raise BadArgument(
            f"{name}={value!r}: give (number, unit), such as (0.325, 'µm')."
        ) from None
    if not 0 < size < float("inf"):
        raise BadArgument(f"{name}={value!r}: the size of a pixel must be a number above 0.")
    return Quantity(size, unit_symbol("µm" if unit is None else unit))


def as_color(value: Any, name: str) -> model.Color:
    """Return a colour given as red, green, blue, as a number 0xRRGGBB, as "FF8000", or by name.

    Raises
    ------
    BadArgument
        `value` is none of these; `name` is that of the parameter.
    """
    from ome_types import model

    try:
        if isinstance(value, (int, np.integer)):
            number = int(value)
            value = tuple(number >> shift & 0xFF for shift in (16, 8, 0))
        return model.Color(tuple(value) if isinstance(value, list) else value)
    except (ValueError, TypeError) as error:
        raise BadArgument(f"{name}: {value!r:.80} is no colour ({error}).") from error


def convert_length(quantity: Quantity, unit: str) -> float:
    """Convert a length to another unit.

    Raises
    ------
    BadArgument
        One of the two units has no fixed length (pixel, reference frame) and they differ.
    """
    wanted = unit_symbol(unit)
    stored = unit_symbol(quantity.unit)
    if stored == wanted:
        return quantity.value
    if stored in NOT_LENGTHS or wanted in NOT_LENGTHS:
        vague = stored if stored in NOT_LENGTHS else wanted
        raise BadArgument(
            f"a length in {stored!r} cannot be converted to {wanted!r}: {vague!r} has no fixed "
            "length. Use the unit of the file."
        )
    # Powers of ten have no exact binary fractions: 1e-3 / 1e-6 is 1000.0000000000001, and
    # 0.065 x 0.001 is not 0.065 / 1000.
    if LENGTHS[stored] >= LENGTHS[wanted]:
        return quantity.value * float(f"{LENGTHS[stored] / LENGTHS[wanted]:.15g}")
    return quantity.value / float(f"{LENGTHS[wanted] / LENGTHS[stored]:.15g}")


def scaled(size: PixelSize, factor_y: float, factor_x: float, factor_z: float = 1) -> PixelSize:
    """Return the pixel size of a level that is smaller by these factors."""
    x = None if size.x is None else Quantity(size.x.value * factor_x, size.x.unit)
    y = None if size.y is None else Quantity(size.y.value * factor_y, size.y.unit)
    z = None if size.z is None else Quantity(size.z.value * factor_z, size.z.unit)
    return PixelSize(x=x, y=y, z=z)


def writable_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the native-order dtype in which `dtype` is stored; bool is stored as uint8.

    Raises
    ------
    BadDtype
        Pixels cannot have this type.
    """
    try:
        wanted: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    except (TypeError, ValueError, SyntaxError):
        raise BadDtype(f"dtype={dtype!r} is not a numpy dtype.") from None
    if wanted == np.bool_:
        return np.dtype(np.uint8)
    if wanted.kind not in "iufc" or wanted.name in ("float16", "longdouble", "clongdouble"):
        raise BadDtype(
            f"pixels cannot have the dtype {wanted.name}; use an integer of 8 to 64 bits, float32, "
            "float64, complex64 or complex128."
        )
    return wanted


def narrow(ome: OME, index: int) -> OME:
    """Return a document with the image at `index` only, and everything that is not an image."""
    one = ome.model_copy()
    one.images = [ome.images[index]]
    return one


def new_document(count: int = 1) -> OME:
    """Return a document with `count` images of 1 x 1 pixel, uint8, to be completed."""
    import ome_types
    from ome_types import model

    return ome_types.OME(
        images=[
            model.Image(
                id=f"Image:{i}",
                pixels=model.Pixels(
                    id=f"Pixels:{i}", dimension_order="XYZCT", type="uint8",
                    size_x=1, size_y=1, size_z=1, size_c=1, size_t=1,
                    channels=[model.Channel(id=f"Channel:{i}:0", samples_per_pixel=1)],
                ),
            )
            for i in range(count)
        ]
    )  # fmt: skip


def carry(ome: OME, chosen: Sequence[int]) -> OME:
    """Copy a document for a new file that contains the images at `chosen`, in that order.

    Positions of pixels in the old file (TiffData, BinData, byte order) are removed. Everything else
    is kept; plates and data sets only if all images are.
    """
    from bfbridge.ome.documents.model import copied

    new = copied(ome)
    new.images = [new.images[i] for i in chosen]
    if len(new.images) < len(ome.images):
        kept = {image.id for image in new.images}
        for dataset in new.datasets:
            dataset.image_refs = [ref for ref in dataset.image_refs if ref.id in kept]
        new.plates = []
    for image in new.images:
        pixels = image.pixels
        for name in ("tiff_data_blocks", "bin_data_blocks"):
            if getattr(pixels, name):
                setattr(pixels, name, [])
        for name in ("metadata_only", "big_endian", "interleaved"):
            _leave_out(pixels, name)
    _leave_out(new, "binary_only")
    _leave_out(new, "uuid")
    return new


def _leave_out(element: Any, name: str) -> None:
    """Set a field to None."""
    if getattr(element, name) is not None:
        setattr(element, name, None)


def settle(ome: OME) -> None:
    """Make a document consistent before it is written: channels, planes and IDs.

    The number of channels is set to C / samples, planes outside the image are removed, and IDs of
    images, pixels and channels are numbered: OME refers to images by ID.
    """
    renamed = {image.id: f"Image:{i}" for i, image in enumerate(ome.images)}
    for number, image in enumerate(ome.images):
        pixels = image.pixels
        _identify(image, f"Image:{number}")
        _identify(pixels, f"Pixels:{number}")
        settle_channels(pixels)
        for index, channel in enumerate(pixels.channels):
            _identify(channel, f"Channel:{number}:{index}")
        count = len(pixels.channels)
        z, t = pixels.size_z, pixels.size_t
        inside = [p for p in pixels.planes if p.the_z < z and p.the_t < t and p.the_c < count]
        if len(inside) < len(pixels.planes):
            pixels.planes = inside
    for dataset in ome.datasets:
        for ref in dataset.image_refs:
            ref.id = renamed.get(ref.id, ref.id)
    for plate in ome.plates:
        for well in plate.wells:
            for sample in well.well_samples:
                if sample.image_ref is not None:
                    sample.image_ref.id = renamed.get(sample.image_ref.id, sample.image_ref.id)


def _identify(element: model.Image | model.Pixels | model.Channel, name: str) -> None:
    """Set the ID of an element; each assignment validates the whole element."""
    if element.id != name:
        element.id = name


def settle_channels(pixels: model.Pixels) -> None:
    """Give `pixels` the number of channels for its size C and its samples per pixel."""
    from ome_types import model

    samples = samples_of(pixels)
    count = max(1, pixels.size_c // samples)
    del pixels.channels[count:]
    for index in range(len(pixels.channels), count):
        pixels.channels.append(model.Channel(id=f"Channel:0:{index}", samples_per_pixel=samples))
    for channel in pixels.channels:
        if channel.samples_per_pixel != samples:
            channel.samples_per_pixel = samples


def samples_of(pixels: model.Pixels) -> int:
    """Return the samples per pixel that the channels declare, if they divide C; else 1."""
    samples = (pixels.channels[0].samples_per_pixel or 1) if pixels.channels else 1
    return samples if samples <= pixels.size_c and pixels.size_c % samples == 0 else 1


def physical_size(pixels: model.Pixels, axis: str) -> Quantity | None:
    """Return the physical size of a pixel along "x", "y" or "z", or None."""
    value = getattr(pixels, f"physical_size_{axis}")
    if value is None:
        return None
    return Quantity(float(value), unit_symbol(getattr(pixels, f"physical_size_{axis}_unit")))


def time_step(pixels: model.Pixels) -> Quantity | None:
    """Return the time between two time points, or None; an increment of 0 counts as none."""
    if not pixels.time_increment:
        return None
    return Quantity(float(pixels.time_increment), pixels.time_increment_unit.value)


def ome_unit(symbol: str) -> Any:
    """Return the ome_types enum member of a length unit."""
    from ome_types.model import UnitsLength

    return UnitsLength(symbol)


def ome_time_unit(symbol: str) -> Any:
    """Return the ome_types enum member of a unit of time."""
    from ome_types.model import UnitsTime

    return UnitsTime(symbol)


def set_pixel_type(pixels: model.Pixels, name: str) -> None:
    """Set the pixel type of the schema by name."""
    from ome_types.model import PixelType

    if pixels.type.value != name:
        pixels.type = PixelType(name)


def stored_dtype(pixels: model.Pixels) -> np.dtype[Any]:
    """Return the dtype of the schema's pixel type; "bit" is stored as uint8."""
    return dtype_of(pixels.type.value)


def name_channels(pixels: model.Pixels, names: Sequence[str | None]) -> None:
    """Name the first channels; channels are added if there are more names."""
    from ome_types import model

    samples = samples_of(pixels)
    for index in range(len(pixels.channels), len(names)):
        pixels.channels.append(model.Channel(id=f"Channel:0:{index}", samples_per_pixel=samples))
    for channel, name in zip(pixels.channels, names, strict=False):
        channel.name = None if name is None else str(name)


def channel_names(pixels: model.Pixels) -> list[str | None]:
    """Return the name of each channel for the sizes of the image, None if it has none."""
    count = max(1, pixels.size_c // samples_of(pixels))
    names = [channel.name for channel in pixels.channels[:count]]
    return names + [None] * (count - len(names))


def describe(element: model.Image, image: Image) -> None:
    """Copy name, sizes, channels and pixel size of a record to an image of a document."""
    pixels = element.pixels
    t, c, z, y, x = image.levels[0].shape
    pixels.size_x, pixels.size_y, pixels.size_z, pixels.size_c, pixels.size_t = x, y, z, c, t
    known = ome_pixel_type(image.dtype)
    if known is not None:
        set_pixel_type(pixels, known)
    element.name = image.name
    pixels.channels[0].samples_per_pixel = image.samples
    name_channels(pixels, [channel.name for channel in image.channels])
    for axis in "xyz":
        size = getattr(image.pixel_size, axis)
        if size is not None:
            setattr(pixels, f"physical_size_{axis}", size.value)
            setattr(pixels, f"physical_size_{axis}_unit", ome_unit(size.unit))
    if image.time_step is not None:
        pixels.time_increment = image.time_step.value
        pixels.time_increment_unit = ome_time_unit(image.time_step.unit)


def record(element: model.Image, dtype: np.dtype[Any], levels: tuple[Level, ...]) -> Image:
    """Describe an image of a document for a backend."""
    pixels = element.pixels

    samples = samples_of(pixels)
    return Image(
        name=element.name,
        levels=levels,
        dtype=dtype,
        samples=samples,
        interleaved=samples > 1,
        pixel_size=PixelSize(*(physical_size(pixels, axis) for axis in "xyz")),
        channels=tuple(_channel_record(channel, samples) for channel in pixels.channels),
        significant_bits=pixels.significant_bits,
        time_step=time_step(pixels),
    )


def _channel_record(channel: model.Channel, samples: int) -> Channel:
    def wavelength(kind: str) -> Quantity | None:
        value = getattr(channel, f"{kind}_wavelength")
        unit = getattr(channel, f"{kind}_wavelength_unit")
        return None if value is None else Quantity(value, unit_symbol(unit))

    color = None
    if "color" in channel.model_fields_set and channel.color is not None:
        red, green, blue, *alpha = channel.color.as_rgb_tuple()
        color = (red, green, blue, round(alpha[0] * 255) if alpha else 255)
    return Channel(
        name=channel.name,
        color=color,
        emission=wavelength("emission"),
        excitation=wavelength("excitation"),
        samples=samples,
    )
