"""Files that are written where they are: continued, changed, or made by several processes.

Only stores of separate chunks can be: OME-Zarr. Each chunk appears whole or not at all, but the
file as a whole is not finished in one step, as a new file is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bfbridge import metadata, registry
from bfbridge.atomic import AtomicTarget
from bfbridge.backend import OpenOptions
from bfbridge.errors import BadArgument, TargetExists
from bfbridge.newfile import NewFile, WritePlan
from bfbridge.source import as_source

if TYPE_CHECKING:
    from bfbridge.backend import WriterBackend

__all__ = ["InPlaceTarget", "SharedTarget", "create", "finish", "open_part", "reopen"]

SHARED_FOLDER = ".bfbridge-shared"


class InPlaceTarget(AtomicTarget):
    """A finished file that is changed where it is; other writers are kept out."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, overwrite=True)

    def commit(self) -> None:
        """Let go of the file; nothing has to be moved."""
        self.discard()


class SharedTarget:
    """A file that several processes write; its owner is nobody.

    Attributes
    ----------
    path, work_path
        The file itself.
    folder
        Where this process keeps unfinished chunks.
    owned
        Always True: each process gives up its own part.
    """

    owned = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = self.work_path = Path(path)
        self.folder = self.path / SHARED_FOLDER

    def check_owner(self) -> None:
        """Any process may write its part."""

    def commit(self) -> None:
        """Nothing has to be moved."""

    def discard(self) -> None:
        """What was written stays: it is whole chunks, and belongs to all."""


def reopen(path: str | os.PathLike[str], wanted: WritePlan, wished_t: int | None) -> NewFile:
    """Open a finished file to add time points, or to change what it holds.

    Parameters
    ----------
    path
        The file.
    wanted
        Workers and memory; all else is as the file has it.
    wished_t
        Time points it is to have. More than it has are added; None or as many: it is changed.
    """
    backend = registry.writer_for(os.fspath(path))
    target = InPlaceTarget(path)
    try:
        had = _time_points(path)
        wished_t = had if wished_t is None else wished_t
        if wished_t < had:
            raise BadArgument(
                f"{path}: T={wished_t}, and the file has {had} time points. append=True adds to "
                "them; give the number there will be in all."
            )
        if wished_t > had:
            writer, first = backend.extend(Path(path), wished_t - had), had
        else:
            writer, first = backend.update(Path(path)), 0
        file = _adopting(target, backend, writer, wanted)
        file.adopt(writer, stored=first == 0, first_t=first)
    except BaseException:
        target.discard()
        raise
    return file


def _time_points(path: str | os.PathLike[str]) -> int:
    reader, _ = registry.open_reader(as_source(path), OpenOptions())
    try:
        return reader.images[0].levels[0].shape[0]
    finally:
        reader.close()


def create(file: NewFile, path: str | os.PathLike[str]) -> None:
    """Start a file that several processes will write, from the plan of a new one.

    Raises
    ------
    TargetExists
        There is something under that name.
    """
    file.target.discard()
    if os.path.lexists(path):
        raise TargetExists(f"{path} exists. Remove it, or choose another name.")
    file.create_shared(Path(path))


def open_part(path: str | os.PathLike[str], workers: int, memory: int) -> NewFile:
    """Take part in writing a file made with `create`."""
    backend = registry.writer_for(os.fspath(path))
    writer = backend.open_existing(Path(path))
    wanted = WritePlan(workers=workers, memory=memory)
    file = _adopting(SharedTarget(path), backend, writer, wanted)
    file.adopt(writer, stored=False, shared=True)
    return file


def finish(path: str | os.PathLike[str], workers: int, memory: int) -> None:
    """Make the lower levels of a file that several processes wrote, and finish it."""
    backend = registry.writer_for(os.fspath(path))
    writer = backend.open_existing(Path(path))
    file = _adopting(SharedTarget(path), backend, writer, WritePlan(workers=workers, memory=memory))
    file.adopt(writer, stored=False)
    file.finish_shared()


def _adopting(
    target: Any, backend: type[WriterBackend], writer: WriterBackend, wanted: WritePlan
) -> NewFile:
    """Return a file whose document describes what the writer's images are."""
    ome = metadata.new_document(len(writer.images))
    for element, spec in zip(ome.images, writer.images, strict=True):
        metadata.describe(element, spec.image)
    return NewFile(target, backend, ome, WritePlan(workers=wanted.workers, memory=wanted.memory))
