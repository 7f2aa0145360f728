"""Metadata of one image: sizes of axes, pixel sizes, and bioio's standard metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from bfbridge.analysis.coordinates import seconds, time_step
from bfbridge.backend import Quantity
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.ome.metadata import convert_length

if TYPE_CHECKING:
    from ome_types import OME, model

    from bfbridge.views import ImageView

__all__ = [
    "DimensionProperties",
    "DimensionProperty",
    "Dimensions",
    "PhysicalPixelSizes",
    "Scale",
    "StandardMetadata",
    "micrometres",
    "standard_metadata",
]


class PhysicalPixelSizes(NamedTuple):
    """Micrometres per pixel along `Z`, `Y` and `X`; None if unknown."""

    Z: float | None
    Y: float | None
    X: float | None


class Scale(NamedTuple):
    """Seconds along `T`, micrometres along `Z`, `Y`, `X`; None if unknown. `C` is None."""

    T: float | None
    C: float | None
    Z: float | None
    Y: float | None
    X: float | None


@dataclass(frozen=True)
class Dimensions:
    """Axes (`order`) and their sizes (`shape`): also ``dims.X`` and ``dims["T", "X"]``.

    Raises
    ------
    BadArgument
        `order` does not have one letter for each size.
    """

    order: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        letters = list(self.order)
        if len(letters) != len(self.shape) or any(len(letter) != 1 for letter in letters):
            raise BadArgument(
                f"axes {self.order!r} of the shape {self.shape}: give one letter for each size."
            )
        object.__setattr__(self, "order", "".join(letters))

    def items(self) -> list[tuple[str, int]]:
        """(axis, size) in order."""
        return list(zip(self.order, self.shape, strict=True))

    def __getattr__(self, axis: str) -> int:
        sizes = dict(zip(self.order, self.shape, strict=True))
        if axis in sizes:
            return sizes[axis]
        raise AttributeError(f"there is no axis {axis!r}; there are {self.order}.")

    def __getitem__(self, axes: str | Sequence[str]) -> tuple[int, ...]:
        sizes = dict(zip(self.order, self.shape, strict=True))
        wanted = list(axes) if isinstance(axes, Sequence) else [axes]
        unknown = [axis for axis in wanted if axis not in sizes]
        if unknown:
            raise BadSelection(f"there is no axis {unknown[0]!r}; there are {self.order}.")
        return tuple(sizes[axis] for axis in wanted)

    def __repr__(self) -> str:
        return f"<Dimensions [{', '.join(f'{a}: {n}' for a, n in self.items())}]>"


class DimensionProperty(NamedTuple):
    """The `type` of an axis ("time", "channel" or "space") and its `unit`, or None."""

    type: str | None
    unit: str | None


class DimensionProperties(NamedTuple):
    """Types of `T`, `C`, `Z`, `Y`, `X`. Units are those of `Scale`; None if unknown."""

    T: DimensionProperty
    C: DimensionProperty
    Z: DimensionProperty
    Y: DimensionProperty
    X: DimensionProperty


@dataclass
class StandardMetadata:
    """Metadata of one scene under bioio's names; None where the file is silent.

    Attributes
    ----------
    binning, objective
        As text: "2x2", "20x/0.8Air".
    column, row
        Of the well.
    dimensions_present
        Axes longer than 1.
    image_size_c, image_size_t, image_size_x, image_size_y, image_size_z
        Sizes along the axes.
    imaged_by
        User name of the experimenter, else the last name.
    imaging_datetime
        When the image was taken.
    pixel_size_x, pixel_size_y, pixel_size_z
        In micrometres.
    position_index
        Number of the field in its well.
    stage_position_x, stage_position_y
        Of the first plane, in micrometres.
    timelapse
        Whether there are several time points.
    timelapse_interval, total_time_duration
        From one time point to the next, and from the first to the last.
    """

    binning: str | None = None
    column: str | None = None
    dimensions_present: Sequence[str] | None = None
    image_size_c: int | None = None
    image_size_t: int | None = None
    image_size_x: int | None = None
    image_size_y: int | None = None
    image_size_z: int | None = None
    imaged_by: str | None = None
    imaging_datetime: datetime | None = None
    objective: str | None = None
    pixel_size_x: float | None = None
    pixel_size_y: float | None = None
    pixel_size_z: float | None = None
    position_index: int | None = None
    row: str | None = None
    stage_position_x: float | None = None
    stage_position_y: float | None = None
    timelapse: bool | None = None
    timelapse_interval: timedelta | None = None
    total_time_duration: timedelta | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the values by readable names, such as "Image Size X"."""
        names = [field.name for field in fields(self)]
        return {name.replace("_", " ").title(): getattr(self, name) for name in names}


def standard_metadata(view: ImageView, dims: Dimensions) -> StandardMetadata:
    """Return the standard metadata of one image whose axes are `dims`."""
    ome = view.ome
    image = ome.images[view.index]
    sizes = dict(dims.items())
    size = view.physical_pixel_size
    row, column, position = _well(ome, image)
    step, total = time_step(view), _duration(image.pixels)
    if total is None and step is not None and sizes["T"] > 1:
        total = step * (sizes["T"] - 1)
    return StandardMetadata(
        binning=_binning(image),
        column=column,
        row=row,
        position_index=position,
        dimensions_present=[axis for axis, length in dims.items() if length > 1],
        image_size_c=sizes["C"],
        image_size_t=sizes["T"],
        image_size_x=sizes["X"],
        image_size_y=sizes["Y"],
        image_size_z=sizes["Z"],
        imaged_by=_experimenter(ome, image),
        imaging_datetime=image.acquisition_date,
        objective=_objective(ome, image),
        pixel_size_x=micrometres(size.x),
        pixel_size_y=micrometres(size.y),
        pixel_size_z=micrometres(size.z),
        stage_position_x=_stage(image.pixels, "x"),
        stage_position_y=_stage(image.pixels, "y"),
        timelapse=sizes["T"] > 1,
        timelapse_interval=step if sizes["T"] > 1 else None,
        total_time_duration=total,
    )


def _binning(image: model.Image) -> str | None:
    for channel in image.pixels.channels:
        settings = channel.detector_settings
        if settings is not None and settings.binning is not None:
            return str(settings.binning.value)
    return None


def _experimenter(ome: OME, image: model.Image) -> str | None:
    wanted = image.experimenter_ref.id if image.experimenter_ref is not None else None
    named = [one for one in ome.experimenters if one.id == wanted] or ome.experimenters[:1]
    return next((one.user_name or one.last_name for one in named), None)


def _objective(ome: OME, image: model.Image) -> str | None:
    wanted = image.objective_settings.id if image.objective_settings is not None else None
    known = [one for instrument in ome.instruments for one in instrument.objectives]
    for one in known:
        if one.id == wanted or (wanted is None and len(known) == 1):
            if one.nominal_magnification is None:
                return None
            medium = "" if one.immersion is None else one.immersion.value
            return f"{round(one.nominal_magnification)}x/{one.lens_na}{medium}"
    return None


def _well(ome: OME, image: model.Image) -> tuple[str | None, str | None, int | None]:
    for plate in ome.plates:
        for well in plate.wells:
            for number, sample in enumerate(well.well_samples):
                if sample.image_ref is not None and sample.image_ref.id == image.id:
                    index = number if sample.index is None else sample.index
                    return str(well.row), str(well.column), index
    return None, None, None


def _stage(pixels: model.Pixels, axis: str) -> float | None:
    for plane in pixels.planes[:1]:
        value = getattr(plane, f"position_{axis}")
        unit = getattr(plane, f"position_{axis}_unit")
        if value is not None:
            return micrometres(Quantity(float(value), str(getattr(unit, "value", unit))))
    return None


def _duration(pixels: model.Pixels) -> timedelta | None:
    times = [
        seconds(plane.delta_t, plane.delta_t_unit)
        for plane in pixels.planes
        if plane.the_z == 0 and plane.the_c == 0
    ]
    known = [time for time in times if time is not None]
    return timedelta(seconds=max(known) - min(known)) if len(known) > 1 else None


def micrometres(size: Quantity | None) -> float | None:
    """Return a length in micrometres; None where there is none."""
    if size is None:
        return None
    try:
        return convert_length(size, "µm")
    except BadArgument:
        # Sizes in pixels or in a reference frame have no length.
        return None
