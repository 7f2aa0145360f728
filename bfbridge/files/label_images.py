"""Label images that are added to a finished file."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge import registry
from bfbridge.backend import Channel, Extras, Image, ImageSpec, Level, OpenOptions, Shape5
from bfbridge.engine.pyramid import plan_levels
from bfbridge.errors import BadArgument, BadDtype, FileMissing, Unsupported
from bfbridge.files.in_place import InPlaceTarget, adopting, chunked, settle, writer_for
from bfbridge.storage.source import as_source

if TYPE_CHECKING:
    from bfbridge.files.writing.image_plans import WritePlan
    from bfbridge.files.writing.new_file import NewFile
    from bfbridge.storage.source import Source

__all__ = ["open_label"]

_NAME: Final = re.compile(r"(?!\.)[\w.-]{1,200}")
_DTYPE: Final = np.dtype(np.uint32)
_SMALLEST: Final = 2


def open_label(
    place: Path | Source,
    name: str,
    image: int | str,
    wanted: WritePlan,
    requested: Mapping[str, Any],
    *,
    backend_name: str | None = None,
    overwrite: bool = False,
    details: Mapping[str, Any] | None = None,
) -> NewFile:
    """Open a finished file to add a label image to one of its images.

    Parameters
    ----------
    place
        The file.
    name
        Name of the label image.
    image
        Number of the image.
    wanted
        Workers, memory, the downsampling method and options of the backend.
    requested
        Sizes by axis name, and "dtype". Y and X must equal those of the image; Z and T too, or 1.
    backend_name
        As for `bfbridge.files.in_place.writer_for`.
    overwrite
        Whether labels of that name are replaced.
    details
        Entries of NGFF's ``image-label``: colours and properties.

    Raises
    ------
    BadArgument, BadDtype
        An argument does not fit the image.
    FileMissing
        There is no file.
    TargetExists
        The image has labels of that name.
    Unsupported
        The format has no labels that can be added.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadArgument(
            f"labels={name!r:.80}: give the name of a label image: letters, digits, '_', '-' and "
            "'.', not first a '.'."
        )
    if not isinstance(place, Path):
        raise Unsupported(f"{place.name}: labels are added to stores on disks only.")
    if not os.path.lexists(place):
        raise FileMissing(f"{place}: no such file. Write the image first, then add its labels.")
    if wanted.pyramid:
        raise BadArgument("pyramid=: the levels of a label image are those of its image.")
    backend = chunked(writer_for(place, backend_name), place, "given labels")
    options = backend.normalize_options(wanted.backend_options)
    target = InPlaceTarget(place)
    try:
        settle(place)
        number, record = _image_of(place, image)
        label = _label_record(place, name, record, requested)
        chunk = backend.default_chunk(label, options)
        steps = _steps(record.levels)
        label = replace(label, levels=plan_levels(label.levels[0].shape, chunk, steps))
        method = "nearest" if wanted.downsample == "mean" else wanted.downsample
        extras = Extras(other={"image-label": dict(details or {})})
        spec = ImageSpec(label, 0, method, (), extras)
        writer = backend.add_label(place, number, spec, options, replaced=overwrite)
        file = adopting(target, backend, writer, wanted)
        file.adopt(writer, stored=False, new=True)
    except BaseException:
        target.discard()
        raise
    return file


def _image_of(path: Path, image: int | str) -> tuple[int, Image]:
    """Return the number and the record of an image that can have labels."""
    reader, _ = registry.open_reader(as_source(path), OpenOptions())
    try:
        count = len(reader.images)
        if isinstance(image, bool) or not isinstance(image, int) or not 0 <= image < count:
            raise BadArgument(f"{path}: there is no image {image!r}; it has {count}.")
        record = reader.images[image]
    finally:
        reader.close()
    if record.is_mask:
        raise BadArgument(f"{path}: image {image} is a label image; name the image it belongs to.")
    return image, record


def _label_record(path: Path, name: str, image: Image, requested: Mapping[str, Any]) -> Image:
    """Return the record of a label image, at full size only."""
    unknown = sorted(set(requested) - {*"TCZYX", "dtype"})
    if unknown:
        raise BadArgument(
            f"{path}: {', '.join(unknown)}: a label image has the pixel size and the position of "
            "its image, and no named channels. Leave this argument out."
        )
    t, _, z, y, x = image.levels[0].shape
    sizes = {"T": t, "C": 1, "Z": z, "Y": y, "X": x}
    for axis, size in requested.items():
        if axis not in sizes:
            continue
        allowed = {sizes[axis], 1} if axis in "TZ" else {sizes[axis]}
        if size not in allowed:
            raise BadArgument(
                f"{path}: labels with {axis}={size} do not fit the image, whose size along {axis} "
                f"is {sizes[axis]}. Labels have one channel, and the Y and X of their image."
            )
        sizes[axis] = int(size)
    dtype = np.dtype(requested.get("dtype") or _DTYPE)
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    if dtype.kind not in "iu":
        raise BadDtype(f"{path}: labels are integers, not {dtype}. Convert the array first.")
    shape: Shape5 = (sizes["T"], 1, sizes["Z"], sizes["Y"], sizes["X"])
    return Image(
        name=name,
        levels=(Level(shape, shape),),
        dtype=dtype.newbyteorder("="),
        pixel_size=image.pixel_size,
        channels=(Channel(),),
        role="label",
        label_of=0,
        time_step=image.time_step,
    )


def _steps(levels: Sequence[Level]) -> list[int]:
    """Return the factors between levels that are whole and equal along Y and X."""
    steps = []
    for before, after in itertools.pairwise(levels):
        down, across = (before.shape[i] / after.shape[i] for i in (3, 4))
        step = round(across)
        fits = all(abs(factor - step) <= step / after.shape[i] for factor, i in
                   ((down, 3), (across, 4)))  # fmt: skip
        if step < _SMALLEST or not fits:
            break
        steps.append(step)
    return steps
