"""Files that are written where they are: continued, changed, or made by several processes.

The format must store each chunk separately (`bfbridge.backend.ChunkedStoreBackend`). What one
process changes or adds becomes visible as a whole when the writer is closed, or not at all
(`bfbridge.storage.journal`).
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge import registry
from bfbridge.backend import OpenOptions
from bfbridge.chunked_store import ChunkedStoreBackend
from bfbridge.errors import BadArgument, TargetExists, Unsupported, WriteFailed
from bfbridge.files.image_plans import WritePlan
from bfbridge.files.new_file import NewFile
from bfbridge.ome import metadata
from bfbridge.storage.atomic import AtomicTarget
from bfbridge.storage.journal import Interrupted, Journal, find_interrupted
from bfbridge.storage.object_store import Objects, UrlTarget
from bfbridge.storage.source import as_source, path_or_url
from bfbridge.storage.upload import UploadTarget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bfbridge.backend import Image, Quantity, WriterBackend
    from bfbridge.chunked_store import ResumedWriter
    from bfbridge.storage.source import Source

__all__ = [
    "InPlaceTarget",
    "SharedTarget",
    "create",
    "find_interrupted",
    "finish",
    "is_there",
    "open_part",
    "place_of",
    "recover",
    "refuse_url",
    "reopen",
    "target_of",
    "writer_for",
]

log = logging.getLogger("bfbridge")

SHARED_FOLDER = ".bfbridge-shared"
SEVERAL = "written by several processes"


class InPlaceTarget(AtomicTarget):
    """A finished file that is changed where it is; other writers are kept out."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, overwrite=True)

    def commit(self) -> None:
        """Let go of the file; nothing has to be moved."""
        self.discard()

    def _check_target(self) -> None:
        """Nothing is replaced, so whatever else lies in a store's folder is in no danger."""


class SharedTarget:
    """A file that several processes write; its owner is nobody.

    Attributes
    ----------
    path, work_path
        The file itself: a path, or the source of a URL.
    folder
        Where this process keeps unfinished chunks.
    """

    def __init__(self, place: Path | Source) -> None:
        self.work_path = place
        self._pid = os.getpid()
        if isinstance(place, Path):
            self.path, self.folder = str(place), place / SHARED_FOLDER
        else:
            self.path, self.folder = place.name, Path(tempfile.gettempdir())

    @property
    def owned(self) -> bool:
        """Whether this process opened the part, and is not a forked copy of the one that did."""
        return os.getpid() == self._pid

    def check_owner(self) -> None:
        """Raise `WriteFailed` in a forked child: unfinished chunks and shards are its parent's."""
        if not self.owned:
            raise WriteFailed(
                f"{self.path}: process {os.getpid()} is a forked copy of process {self._pid}, "
                "which opened this part of the store. Call BioWriter.open in each process."
            )

    def commit(self) -> None:
        """Nothing has to be moved."""

    def discard(self) -> None:
        """What was written stays: it is whole chunks, and belongs to all."""


def place_of(
    file_path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
) -> Path | Source:
    """Return where a file is written: a path, or the source of a URL."""
    place = path_or_url(file_path)
    return place if isinstance(place, Path) else as_source(place, storage_options)


def writer_for(place: Path | Source, backend: str | None = None) -> type[WriterBackend]:
    """Return the writer of a place.

    Raises
    ------
    BadArgument
        No writer owns the suffix.
    """
    return registry.writer_for(str(place) if isinstance(place, Path) else place.filename, backend)


def _chunked(writer: type[WriterBackend], where: object, what: str) -> type[ChunkedStoreBackend]:
    """Return a writer that can write files which exist already.

    Raises
    ------
    Unsupported
        The format does not store chunks separately.
    """
    if issubclass(writer, ChunkedStoreBackend):
        return writer
    suffixes = registry.suffixes_of_writers(lambda other: issubclass(other, ChunkedStoreBackend))
    raise Unsupported(f"{where}: {writer.name} files cannot be {what}; those named {suffixes} can.")


def is_there(place: Path) -> bool:
    """Whether there is a file to be written further."""
    return os.path.lexists(place)


def refuse_url(place: Path | Source) -> None:
    """Refuse to write further what is at a URL, where files are only made anew.

    Raises
    ------
    Unsupported
        There is something.
    """
    if not isinstance(place, Path) and Objects(place).keys():
        raise Unsupported(
            f"{place.name}: stores at URLs are written once; append=True is for those on disks."
        )


def target_of(
    place: Path | Source, writer: type[WriterBackend], *, overwrite: bool, durable: bool
) -> AtomicTarget | UrlTarget:
    """Return the target of a new file at a place."""
    if not isinstance(place, Path):
        return (UrlTarget if writer.at_urls else UploadTarget)(place, overwrite=overwrite)
    # What cannot be made is reported by AtomicTarget, which names the reason and the remedy.
    with suppress(OSError):
        os.makedirs(os.path.dirname(place) or ".", exist_ok=True)
    return AtomicTarget(place, overwrite=overwrite, durable=durable)


def reopen(
    path: Path, wanted: WritePlan, asked: Mapping[str, Any], backend_name: str | None = None
) -> NewFile:
    """Open a finished file to add time points, or to change what it holds.

    Parameters
    ----------
    path
        The file.
    wanted
        Workers and memory; all else is as the file has it.
    asked
        What the caller says of the image: sizes by axis name, "dtype", properties. A larger T than
        the file has adds time points; everything else must be as the file has it.
    backend_name
        As for `writer_for`.

    Raises
    ------
    BadArgument
        The file's image is not as the caller says, or there is no such option.
    """
    backend = writer_for(path, backend_name)
    backend.normalize_options(wanted.backend_options)
    target = InPlaceTarget(path)
    try:
        _settle(path)
        image = _first_image(path)
        _refuse_differences(path, image, asked)
        had = image.levels[0].shape[0]
        wished_t = int(asked.get("T", had))
        if wished_t < had:
            raise BadArgument(
                f"{path}: T={wished_t}, and the file has {had} time points. append=True adds to "
                "them; give the number there will be in all."
            )
        if wished_t > had:
            writer, first = _chunked(backend, path, "appended to").extend(path, wished_t - had), had
        else:
            writer, first = _chunked(backend, path, "changed").update(path), 0
        file = _adopting(target, backend, writer, wanted)
        file.adopt(writer, stored=first == 0, first_t=first)
    except BaseException:
        target.discard()
        raise
    return file


def recover(path: str | os.PathLike[str]) -> Interrupted | None:
    """End a change of a store that was interrupted: finish it if it is complete, else drop it.

    Opening the store for writing does the same.

    Returns
    -------
    Interrupted
        What was found; None where there was nothing to do.

    Raises
    ------
    TargetBusy
        The change is under way in another process.
    UnreadableFile, WriteFailed
        It cannot be finished.
    """
    target = InPlaceTarget(path)
    try:
        return _settle(path)
    finally:
        target.discard()


def _settle(path: str | os.PathLike[str]) -> Interrupted | None:
    found = find_interrupted(path)
    if found is not None:
        Journal(path)
        log.warning("%s", found.ended)
    return found


def _first_image(path: Path) -> Image:
    reader, _ = registry.open_reader(as_source(path), OpenOptions())
    try:
        return reader.images[0]
    finally:
        reader.close()


def _refuse_differences(path: Path, image: Image, asked: Mapping[str, Any]) -> None:
    """Refuse to go on with a file that is not what the caller takes it for."""
    _, c, z, y, x = image.levels[0].shape
    has: dict[str, Any] = {
        "Y": y, "X": x, "Z": z, "C": c, "dtype": image.dtype, "name": image.name,
        "samples_per_pixel": image.samples,
        "channel_names": [channel.name for channel in image.channels],
    }  # fmt: skip
    for name, value in asked.items():
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
                f"{path}: {name}={value!r}, and the file has {shown!r}. append=True changes pixels "
                "and adds time points; sizes, dtype and metadata stay as they are. Leave it out, "
                "or write a new file."
            )


def _same_length(one: Quantity | None, other: Quantity | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(metadata.convert_length(one, other.unit), other.value, rel_tol=1e-6)


def create(file: NewFile) -> None:
    """Start a file that several processes will write, from the plan of a new one.

    Raises
    ------
    TargetExists
        There is something under that name.
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
        backend = _chunked(file.backend, target.path, SEVERAL)
        file.create_shared(
            backend, target.work_path if isinstance(target, UrlTarget) else target.path
        )
    finally:
        # From here on the plan says what is going on there.
        target.discard()


def open_part(place: Path | Source, workers: int, memory: int) -> NewFile:
    """Take part in writing a file made with `create`."""
    return _taking_part(place, workers, memory, shared=True)


def finish(place: Path | Source, workers: int, memory: int) -> None:
    """Make the lower levels of a file that several processes wrote, and finish it."""
    _taking_part(place, workers, memory, shared=False).finish_shared()


def _taking_part(place: Path | Source, workers: int, memory: int, *, shared: bool) -> NewFile:
    target = SharedTarget(place)
    backend = _chunked(writer_for(place), place, SEVERAL)
    writer = backend.open_existing(place)
    file = _adopting(target, backend, writer, WritePlan(workers=workers, memory=memory))
    file.adopt(writer, stored=False, shared=shared)
    return file


def _adopting(
    target: Any, backend: type[WriterBackend], writer: ResumedWriter, wanted: WritePlan
) -> NewFile:
    """Return a file whose document describes what the writer's images are."""
    ome = metadata.new_document(len(writer.images))
    for element, spec in zip(ome.images, writer.images, strict=True):
        metadata.describe(element, spec.image)
    return NewFile(target, backend, ome, WritePlan(workers=wanted.workers, memory=wanted.memory))
