"""Files that are written at their final place: extended, changed, or made by several processes.

Time points are added in formats that support it (`bfbridge.chunked_store.ExtendableBackend`). For
everything else the format must store each chunk separately (`ChunkedStoreBackend`). Changes by one
process become visible together when the writer is closed, or not at all.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bfbridge import registry
from bfbridge.backend import OpenOptions
from bfbridge.chunked_store import ChunkedStoreBackend, ExtendableBackend
from bfbridge.engine.pyramid import reduce_block, steps_of
from bfbridge.errors import BadArgument, Closed, TargetExists, Unsupported
from bfbridge.files.writing.image_plans import WritePlan
from bfbridge.files.writing.new_file import NewFile
from bfbridge.ome import metadata
from bfbridge.storage.atomic import AtomicTarget
from bfbridge.storage.durable_io import SHARED_FOLDER, ZARR_MARKS
from bfbridge.storage.journal import Interrupted, Journal, find_interrupted
from bfbridge.storage.ownership import OwnedTarget
from bfbridge.storage.remote.object_store import ExtendedTarget, Objects, UrlTarget
from bfbridge.storage.remote.upload import UploadTarget
from bfbridge.storage.source import as_source, path_or_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ome_types import OME

    from bfbridge.backend import Image, Quantity, Shape5, WriterBackend
    from bfbridge.chunked_store import ResumedWriter
    from bfbridge.engine.pyramid import Step
    from bfbridge.storage.source import Source

__all__ = [
    "InPlaceTarget",
    "SharedTarget",
    "adopting",
    "chunked",
    "compute_level",
    "create",
    "find_interrupted",
    "finish",
    "is_there",
    "level_units",
    "new_file",
    "open_part",
    "place_of",
    "recover",
    "reopen",
    "settle",
    "shared_place",
    "target_of",
    "writer_for",
]

log = logging.getLogger("bfbridge")
Array = np.ndarray[Any, Any]

SEVERAL = "written by several processes"


class InPlaceTarget(AtomicTarget):
    """A finished file that is changed in place, locked against other writers."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, overwrite=True)

    def commit(self) -> None:
        """Release the file; nothing is moved."""
        self.discard()

    def _check_target(self) -> None:
        """Accept any target: nothing is replaced, so other files in the folder are safe."""


class SharedTarget(OwnedTarget):
    """A file that several processes write; no process owns it.

    Attributes
    ----------
    path, work_path
        The target: a path, or the source of a URL.
    folder
        Folder for the unfinished chunks of this process.
    """

    path: str
    _refusal: ClassVar[str] = (
        "which opened this part of the store. Call BioWriter.open in each process."
    )

    def __init__(self, place: Path | Source) -> None:
        super().__init__()
        self.work_path = place
        if isinstance(place, Path):
            self.path, self.folder = str(place), place / SHARED_FOLDER
        else:
            self.path, self.folder = place.name, Path(tempfile.gettempdir())

    def commit(self) -> None:
        """Do nothing: the file is at its final place."""

    def discard(self) -> None:
        """Keep what was written: whole chunks, which all processes share."""


def place_of(
    file_path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
) -> Path | Source:
    """Return the place to write a file to: a path, or the source of a URL."""
    place = path_or_url(file_path)
    return place if isinstance(place, Path) else as_source(place, storage_options)


def writer_for(place: Path | Source, backend: str | None = None) -> type[WriterBackend]:
    """Return the writer for a place.

    Raises
    ------
    BadArgument
        No writer owns the suffix.
    Unsupported
        The place is a URL, and the file a ZIP file.
    """
    if isinstance(place, Path):
        return registry.writer_for(str(place), backend)
    if registry.is_zipped_folder(place.name):
        raise Unsupported(
            f"{place.name}: ZIP files are written to disks only. Write to a path, and copy the "
            "finished file."
        )
    return registry.writer_for(place.filename, backend)


def chunked(writer: type[WriterBackend], where: object, what: str) -> type[ChunkedStoreBackend]:
    """Return a writer that can write to existing files.

    Raises
    ------
    Unsupported
        The format does not store chunks separately.
    """
    if issubclass(writer, ChunkedStoreBackend) and not registry.is_zipped_folder(str(where)):
        return writer
    suffixes = registry.suffixes_of_writers(lambda other: issubclass(other, ChunkedStoreBackend))
    raise _impossible(writer, where, what, suffixes)


def _extendable(writer: type[WriterBackend], where: object) -> type[ExtendableBackend]:
    """Return a writer that can add time points; raise `Unsupported` if it cannot."""
    if issubclass(writer, ExtendableBackend) and not registry.is_zipped_folder(str(where)):
        return writer
    suffixes = registry.suffixes_of_writers(lambda other: issubclass(other, ExtendableBackend))
    raise _impossible(writer, where, "appended to", suffixes)


def _impossible(
    writer: type[WriterBackend], where: object, what: str, suffixes: str
) -> Unsupported:
    return Unsupported(
        f"{where}: {writer.name} files cannot be {what}; those named {suffixes} can."
    )


def is_there(place: Path | Source, writer: type[WriterBackend]) -> bool:
    """Return whether there is a file at the place that `writer` would extend or change."""
    if isinstance(place, Path):
        return os.path.lexists(place)
    if not writer.at_urls:
        return place.exists()
    objects = Objects(place)
    return any(objects.get(name) is not None for name in sorted(ZARR_MARKS))


def target_of(
    place: Path | Source, writer: type[WriterBackend], *, overwrite: bool, durable: bool
) -> AtomicTarget | UrlTarget:
    """Return the target of a new file at a place."""
    if not isinstance(place, Path):
        return (UrlTarget if writer.at_urls else UploadTarget)(place, overwrite=overwrite)
    # What cannot be made is reported by AtomicTarget, which names the reason and the remedy.
    folder = os.path.dirname(place) or "."
    if not os.path.isdir(folder):
        with suppress(OSError):
            os.makedirs(folder, exist_ok=True)
    return AtomicTarget(place, overwrite=overwrite, durable=durable)


def new_file(
    target: AtomicTarget | UrlTarget,
    writer: type[WriterBackend],
    ome: OME,
    plan: WritePlan,
    grow: Mapping[str, Any] | None = None,
) -> NewFile:
    """Return a new file for a document; discard its target on an error.

    With `grow`, arguments of `bfbridge.files.growing.growing_file.GrowingFile`, it grows.
    """
    try:
        if grow is not None:
            from bfbridge.files.growing.growing_file import GrowingFile

            return GrowingFile(target, writer, ome, plan, **grow)
        return NewFile(target, writer, ome, plan)
    except BaseException:
        target.discard()
        raise


def reopen(
    place: Path | Source,
    wanted: WritePlan,
    requested: Mapping[str, Any],
    backend_name: str | None = None,
) -> NewFile:
    """Open a finished file to add time points, or to change its pixels.

    Parameters
    ----------
    place
        The file. Time points only are added to one at a URL.
    wanted
        Workers and memory; everything else is defined by the file.
    requested
        What the caller gave: sizes by axis name, "dtype", properties. A larger T than that of the
        file adds time points; everything else must equal that of the file.
    backend_name
        As for `writer_for`.

    Raises
    ------
    BadArgument
        The image of the file differs from the arguments, or an option does not exist.
    Unsupported
        The file is at a URL, and no time points are added.
    """
    backend = writer_for(place, backend_name)
    backend.normalize_options(wanted.backend_options)
    path = place if isinstance(place, Path) else place.name
    if not isinstance(place, Path) and not backend.at_urls:
        raise Unsupported(
            f"{path}: {backend.name} files at a URL cannot be appended to or changed. Copy the "
            "file to a disk, append there, and upload it."
        )
    target = InPlaceTarget(place) if isinstance(place, Path) else ExtendedTarget(place)
    writer: ResumedWriter | None = None
    try:
        if isinstance(place, Path):
            settle(place)
        image = _first_image(place)
        _refuse_differences(path, image, requested)
        had = image.levels[0].shape[0]
        requested_t = int(requested.get("T", had))
        if requested_t < had:
            raise BadArgument(
                f"{path}: T={requested_t}, but the file has {had} time points. append=True can "
                "only add time points: give the total number, old and new."
            )
        if requested_t > had:
            writer, first = _extendable(backend, path).extend(place, requested_t - had), had
        elif isinstance(place, Path):
            writer, first = _changeable(backend, path, had).update(place), 0
        else:
            raise Unsupported(
                f"{path}: the pixels of a store at a URL cannot be changed, because object stores "
                "have no renames, and readers would see a part of the change. append=True with a "
                f"T above {had} adds time points. For other changes, write a new store."
            )
        file = adopting(target, backend, writer, wanted)
        file.adopt(writer, stored=first == 0, first_t=first)
    except BaseException:
        if writer is not None:
            writer.abort()
        target.discard()
        raise
    return file


def _changeable(
    backend: type[WriterBackend], path: Path | str, had: int
) -> type[ChunkedStoreBackend]:
    """Return a writer that can change pixels; raise `Unsupported` if it cannot."""
    if issubclass(backend, ExtendableBackend) and not issubclass(backend, ChunkedStoreBackend):
        raise Unsupported(
            f"{path}: the pixels of {backend.name} files cannot be changed. append=True with a T "
            f"above {had} adds time points, T={had + 1} for one. For other changes, write a new "
            "file."
        )
    return chunked(backend, path, "changed")


def recover(path: str | os.PathLike[str]) -> Interrupted | None:
    """End an interrupted change of a store: finish it if it is complete, otherwise discard it.

    Opening the store for writing does the same.

    Parameters
    ----------
    path
        The store: a folder on a disk.

    Returns
    -------
    Interrupted
        The change that was found; None if there was none.

    Raises
    ------
    TargetBusy
        Another process is making the change at this moment.
    UnreadableFile, WriteFailed
        The change cannot be finished.
    """
    target = InPlaceTarget(path)
    try:
        return settle(path)
    finally:
        target.discard()


def settle(path: str | os.PathLike[str]) -> Interrupted | None:
    """Finish or discard an interrupted change of a store; return it, or None."""
    found = find_interrupted(path)
    if found is not None:
        Journal(path)
        log.warning("%s", found.ended)
    return found


def _first_image(place: Path | Source) -> Image:
    reader, _ = registry.open_reader(as_source(place), OpenOptions())
    try:
        return reader.images[0]
    finally:
        reader.close()


def _refuse_differences(path: Path | str, image: Image, requested: Mapping[str, Any]) -> None:
    """Raise `BadArgument` if the arguments differ from the image of the file."""
    _, c, z, y, x = image.levels[0].shape
    has: dict[str, Any] = {
        "Y": y, "X": x, "Z": z, "C": c, "dtype": image.dtype, "name": image.name,
        "samples_per_pixel": image.samples,
        "channel_names": [channel.name for channel in image.channels],
    }  # fmt: skip
    for name, value in requested.items():
        if name.startswith("physical_size_"):
            stored = getattr(image.pixel_size, name[-1])
            same = _same_length(metadata.as_quantity(value, name), stored)
            shown = None if stored is None else tuple(stored)
        elif name in has:
            shown = has[name]
            same = (
                list(value) if name == "channel_names" and np.iterable(value) else value
            ) == shown
        else:
            continue
        if not same:
            raise BadArgument(
                f"{path}: {name}={value!r}, but the file has {shown!r}. append=True changes pixels "
                "and adds time points; sizes, dtype and metadata cannot be changed. Leave this "
                "argument out, or write a new file."
            )


def _same_length(one: Quantity | None, other: Quantity | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(metadata.convert_length(one, other.unit), other.value, rel_tol=1e-6)


def create(file: NewFile) -> None:
    """Start a file that several processes write, from the plan of a new file.

    Raises
    ------
    TargetExists
        A file of that name exists.
    """
    target = file.target
    if isinstance(target, UrlTarget):
        taken = target.occupied
    else:
        target.discard()
        taken = os.path.lexists(target.path)
    try:
        if taken:
            raise TargetExists(f"{target.path} exists. Remove it, or choose another name.")
        backend = chunked(file.backend, target.path, SEVERAL)
        file.create_shared(
            backend, target.work_path if isinstance(target, UrlTarget) else target.path
        )
    finally:
        # From now on the plan in the store marks it as being written.
        target.discard()


def shared_place(file: NewFile) -> Path | Source:
    """Return the place of a file that several processes write, for another of them.

    Raises
    ------
    BadArgument
        One process writes the file.
    Closed
        This process ended its part.
    """
    if not isinstance(file.target, SharedTarget):
        raise BadArgument(
            f"{file.name}: this BioWriter cannot be pickled, because one process writes its file. "
            "For writes by several processes, start an OME-Zarr store with BioWriter.create(path, "
            "...), and pickle the result of BioWriter.open(path), or call that in each process."
        )
    if file.closed:
        raise Closed(f"{file.name}: a BioWriter that is closed cannot be pickled.")
    place = file.target.work_path
    return place.absolute() if isinstance(place, Path) else place


def open_part(place: Path | Source, workers: int, memory: int) -> NewFile:
    """Open a file made with `create`, to write a part of it."""
    return _open_shared(place, workers, memory, shared=True)


def finish(place: Path | Source, workers: int, memory: int, *, levels: bool = True) -> None:
    """Finish a file that several processes wrote, and compute its lower levels before."""
    _open_shared(place, workers, memory, shared=False).finish_shared(levels=levels)


def level_units(place: Path | Source) -> list[list[tuple[Shape5, Shape5]]]:
    """Return shape and unit of each level of each image of a file that several processes write.

    A unit is the smallest box, along T, C, Z, Y, X, that one process must write alone: a chunk or a
    shard.
    """
    writer = _open_writer(place)
    try:
        return [
            [(level.shape, writer.unit(number, i)) for i, level in enumerate(spec.image.levels)]
            for number, spec in enumerate(writer.images)
        ]
    finally:
        writer.abort()


def compute_level(place: Path | Source, image: int, level: int, box: Sequence[slice]) -> None:
    """Compute a part of a lower level of a file that several processes write.

    Parameters
    ----------
    place
        The file.
    image, level
        Which level, 1 or more. The level before must be complete in this part.
    box
        The part, along T, C, Z, Y, X, in whole units of `level_units`.
    """
    writer = _open_writer(place)
    try:
        spec = writer.images[image]
        here, step = spec.image.levels[level], steps_of(spec)[level - 1]
        starts = [cut.start // n for cut, n in zip(box, here.chunk, strict=True)]
        counts = [-(-(cut.stop - cut.start) // n) for cut, n in zip(box, here.chunk, strict=True)]
        for offset in np.ndindex(*counts):
            t, c, z, y, x = (a + b for a, b in zip(starts, offset, strict=True))
            pixels = _chunks_below(writer, image, level - 1, (t, c, z, y, x), step)
            reduced = reduce_block(pixels, step, spec.downsample)
            writer.write_block(image, level, (t, c, z, y, x), reduced)
    except BaseException:
        writer.abort()
        raise
    writer.release()


def _chunks_below(
    writer: ResumedWriter, image: int, level: int, index: Shape5, step: Step
) -> Array:
    """Return the pixels from which a chunk of the next level is computed."""
    spec = writer.images[image]
    below, above = spec.image.levels[level], spec.image.levels[level + 1]
    origin = above.grid.origin(index)
    size = above.grid.block_shape(index)
    factors = (1, 1, *step)
    low = tuple(a * factor for a, factor in zip(origin, factors, strict=True))
    high = tuple(
        min((a + n) * factor, whole)
        for a, n, factor, whole in zip(origin, size, factors, below.shape, strict=True)
    )
    shape = tuple(b - a for a, b in zip(low, high, strict=True))
    pixels = np.full(shape, spec.fill_value, spec.image.dtype)
    first = [a // n for a, n in zip(low, below.chunk, strict=True)]
    last = [-(-b // n) for b, n in zip(high, below.chunk, strict=True)]
    for t, c, z, y, x in product(*map(range, first, last)):
        place = (t, c, z, y, x)
        block = writer.read_block(image, level, place)
        if block is None:
            continue
        start = below.grid.origin(place)
        target, source = [], []
        for a, b, at, n in zip(low, high, start, block.shape, strict=True):
            begin, end = max(a, at), min(b, at + n)
            target.append(slice(begin - a, end - a))
            source.append(slice(begin - at, end - at))
        pixels[tuple(target)] = block[tuple(source)]
    return pixels


def _open_writer(place: Path | Source) -> ResumedWriter:
    return chunked(writer_for(place), place, SEVERAL).open_existing(place)


def _open_shared(place: Path | Source, workers: int, memory: int, *, shared: bool) -> NewFile:
    target = SharedTarget(place)
    backend = chunked(writer_for(place), place, SEVERAL)
    writer = backend.open_existing(place)
    file = adopting(target, backend, writer, WritePlan(workers=workers, memory=memory))
    file.adopt(writer, stored=False, shared=shared)
    return file


def adopting(
    target: Any, backend: type[WriterBackend], writer: ResumedWriter, wanted: WritePlan
) -> NewFile:
    """Return a file whose document describes the images of a writer."""
    ome = metadata.new_document(len(writer.images))
    for element, spec in zip(ome.images, writer.images, strict=True):
        metadata.describe(element, spec.image)
    return NewFile(target, backend, ome, WritePlan(workers=wanted.workers, memory=wanted.memory))
