"""A file being written: its document, its backend, and the way from regions to finished chunks.

Until the first write it is only a plan, an OME document that may be changed. The first write
settles the document, starts the backend in a private folder, and from then on the plan is fixed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.backend import Extras, ImageSpec, Level, Shape5, StoredAs, WriterBackend
from bfbridge.engine.assembler import LevelAssembler, UnfinishedChunks, level_assemblers
from bfbridge.engine.casting import cast, castable, checked, checked_number
from bfbridge.engine.lazy_pixels import LazyPixels
from bfbridge.engine.pyramid import METHODS, factors_of, plan_levels, steps_between
from bfbridge.engine.selection import Selection, fit_axes, spread
from bfbridge.engine.tiles import Block, plan, take
from bfbridge.engine.workers import Background, run
from bfbridge.errors import (
    BadArgument,
    BadDtype,
    BadSelection,
    BfbridgeError,
    Closed,
    IncompleteImage,
    OutOfMemory,
    ReadOnlyProperty,
    WriteFailed,
)
from bfbridge.files.image_plans import ImagePlans, WritePlan
from bfbridge.files.writes import Writes
from bfbridge.ome import metadata
from bfbridge.ome.extras import find_extras
from bfbridge.runtime import finalizers, forking
from bfbridge.runtime.arguments import one_of
from bfbridge.runtime.interrupts import checkpoint, deferred
from bfbridge.storage.atomic import AtomicTarget
from bfbridge.storage.object_store import UrlTarget
from bfbridge.storage.upload import UploadTarget

if TYPE_CHECKING:
    from ome_types import OME
    from ome_types.model import Pixels

    from bfbridge.chunked_store import ChunkedStoreBackend, ResumedWriter
    from bfbridge.storage.source import Source

__all__ = ["NewFile", "name_target"]

log = logging.getLogger("bfbridge")

Array = np.ndarray[Any, Any]
Target = AtomicTarget | UrlTarget


class NewFile:
    """One target, its document and its writer backend; shared by the views of its images.

    Parameters
    ----------
    target
        Where the finished file goes.
    backend
        The class that writes it.
    ome
        Its document; it belongs to this object.
    wanted
        What was asked of it.
    """

    def __init__(
        self, target: Target, backend: type[WriterBackend], ome: OME, wanted: WritePlan
    ) -> None:
        one_of(wanted.downsample, "downsample", METHODS)
        options = backend.normalize_options(wanted.backend_options)
        self.target = target
        self.backend = backend
        self.wanted = replace(wanted, backend_options=options)
        self.plans = ImagePlans(ome, self.name, infer=wanted.infer_dtype)
        self.closed = False
        self._lock = forking.rlock()
        self._writes = Writes()
        self._has_pixels = False
        # Its text: the error itself would keep the writer alive through its traceback.
        self._failure: str | None = None
        self._writer: WriterBackend | None = None
        self._specs: list[ImageSpec] = []
        self._assemblers: list[tuple[LevelAssembler, ...]] = []
        self._unfinished = UnfinishedChunks(target.folder, wanted.memory)
        self._background = Background(2 * wanted.workers)
        self._first_t = 0
        self._shared: ResumedWriter | None = None
        self._copies: dict[int, tuple[tuple[Level, ...], tuple[StoredAs | None, ...]]] = {}
        self._task: finalizers.Task | None = None

    def plan_copy(
        self, index: int, levels: Sequence[Level], stored: Sequence[StoredAs | None]
    ) -> bool:
        """Plan that chunks of an image arrive encoded; return whether the format takes them.

        Parameters
        ----------
        index
            Number of the image; its sizes and dtype are set.
        levels, stored
            The source's levels, and how their chunks are encoded. With one level, the lower ones
            that were asked for are made from its pixels.
        """
        self.edit("the encoding")
        y, x, z, c, t = self.shape5(index)
        image = metadata.record(self.ome.images[index], self.dtype(index), tuple(levels))
        options = self.wanted.backend_options
        if levels[0].shape != (t, c, z, y, x) or not all(
            how is not None and self.backend.can_store(how, image, options) for how in stored
        ):
            return False
        self._copies[index] = tuple(levels), tuple(stored)
        return True

    def adopt(
        self, writer: ResumedWriter, *, stored: bool, first_t: int = 0, shared: bool = False
    ) -> None:
        """Go on with a file that is there already, instead of starting one.

        Parameters
        ----------
        writer
            Started by the backend; it says what its images are.
        stored
            Whether the file has pixels that regions change.
        first_t
            Time points there were before; writing begins with this one.
        shared
            Whether other processes write too. Then lower levels are made when the file is finished.
        """
        self._writer = writer
        self._has_pixels = True
        self._specs = list(writer.images)
        self._first_t, self._shared = first_t, writer if shared else None
        self._assemblers = [
            level_assemblers(
                writer,
                number,
                spec,
                [] if shared else steps_between(spec.image.levels),
                self._unfinished,
                stored=stored,
            )
            for number, spec in enumerate(self._specs)
        ]

    @property
    def name(self) -> str:
        """The target's path, for messages."""
        return str(self.target.path)

    @property
    def started(self) -> bool:
        """Whether anything was written, so that properties are fixed."""
        return self._writer is not None or self.closed

    def edit(self, what: str) -> None:
        """Raise `ReadOnlyProperty` if `what` can no longer be set."""
        if self.started:
            raise ReadOnlyProperty(
                f"{self.name}: {what} cannot be set after the first write. Set it before, or open "
                "a new BioWriter."
            )

    @property
    def ome(self) -> OME:
        """The document; changes to it count until the first write."""
        return self.plans.ome

    def pixels(self, index: int) -> Pixels:
        """Pixels element of one image."""
        return self.plans.pixels(index)

    def shape5(self, index: int) -> tuple[int, int, int, int, int]:
        """Sizes of one image along Y, X, Z, C, T."""
        if self._writer is None:
            return self.plans.shape5(index)
        # The document may still be changed by whoever holds it: then it is too late.
        t, c, z, y, x = self._specs[index].image.levels[0].shape
        return y, x, z, c, t + self._first_t

    def dtype(self, index: int) -> np.dtype[Any]:
        """Type of one image's pixels."""
        return self.plans.dtype(index) if self._writer is None else self._specs[index].image.dtype

    def chunk5(self, index: int) -> tuple[int, int, int, int, int]:
        """Stored block of one image along Y, X, Z, C, T; the plan is fixed by asking."""
        self.start()
        t, c, z, y, x = self._specs[index].image.levels[0].chunk
        return y, x, z, c, t

    def start(self) -> WriterBackend:
        """Fix the plan and start the backend, once.

        Raises
        ------
        Unsupported, BadArgument
            The format cannot hold the image, or an option does not fit it.
        WriteFailed
            The disk refuses.
        """
        with self._lock:
            if self.closed:
                raise Closed(f"{self.name}: the writer is closed.")
            if self._writer is not None:
                return self._writer
            self.plans.settle()
            planned = self._plan_images()
            self._specs = [spec for spec, _ in planned]
            with _reported(self.target):
                if isinstance(self.target, UrlTarget):
                    self.target.begin()
                writer = self.backend.prepare(
                    self.target.work_path, self._specs, self.plans.document_for(self._specs),
                    self.wanted.backend_options,
                )  # fmt: skip
            self._assemblers = [
                level_assemblers(writer, i, spec, steps, self._unfinished)
                for i, (spec, steps) in enumerate(planned)
            ]
            self._writer = writer
            finalizers.before_what_was_started()  # the backend may have started Java
            return writer

    def _plan_images(self) -> list[tuple[ImageSpec, Sequence[int]]]:
        return [self._plan_image(i, told) for i, told in enumerate(find_extras(self.ome))]

    def _plan_image(self, index: int, extras: Extras) -> tuple[ImageSpec, Sequence[int]]:
        y, x, z, c, t = self.shape5(index)
        dtype = self.dtype(index)
        shape: Shape5 = (t, c, z, y, x)
        flat = self.plans.record(index, (Level(shape, shape),))
        levels, stored = self._copies.get(index, ((), ()))
        steps: Sequence[int] = []
        if len(levels) < 2:
            chunk = self.backend.default_chunk(flat, self.wanted.backend_options)
            steps = factors_of(self.wanted.pyramid, y, x)
            levels = plan_levels(shape, levels[0].chunk if levels else chunk, steps)
        image = self.plans.record(index, levels)
        try:
            checked_number(self.wanted.fill_value, dtype, self.name)
        except BadDtype:
            raise BadArgument(
                f"{self.name}: fill_value={self.wanted.fill_value!r} cannot be held by {dtype}."
            ) from None
        averaged = self.wanted.downsample == "mean"
        method = "nearest" if averaged and image.is_mask else self.wanted.downsample
        spec = ImageSpec(image, self.wanted.fill_value, method, stored, extras)
        return spec, steps

    def write_stored(
        self, index: int, level: int, place: Shape5, data: bytes, pixels: Array | None
    ) -> None:
        """Store a chunk that is encoded already.

        Parameters
        ----------
        index, level, place
            The image, its level, and the position in the chunk grid (T, C, Z, Y, X).
        data
            As the plan made by `plan_copy` says.
        pixels
            What it decodes to, where lower levels are made from it.
        """
        self.target.check_owner()
        with self._writing():
            self.start().write_stored(index, level, place, data)
            if pixels is not None:
                self._assemblers[index][0].pass_up(place, pixels)

    def write(self, index: int, selection: Selection, pixels: Any) -> None:
        """Write a selection of one image.

        Parameters
        ----------
        index
            Number of the image.
        selection
            Where, along Y, X, Z, C, T.
        pixels
            A number, an array or `LazyPixels`, broadcast to the selection's shape. `LazyPixels` are
            read part by part, within the memory that unfinished chunks may take.

        Raises
        ------
        BadSelection, BadDtype
            The values do not fit there, or cannot be held by the image's dtype.
        WriteFailed
            The disk refuses, now or while an earlier write was finished.
        """
        self.target.check_owner()
        axes = fit_axes(np.shape(pixels), selection.shape)
        with self._lock:
            if not self.started:
                self.plans.infer_dtype(index, getattr(pixels, "dtype", None))
        dtype = self.dtype(index)
        if isinstance(pixels, LazyPixels):
            self._write_parts(index, selection, pixels, axes)
            return
        with deferred():
            # All that can be wrong with the values is found before the first of them is written.
            values = checked(pixels, dtype, self.name)
            selection = self._from_first_t(selection)
            with self._writing():
                self._write_values(index, selection, spread(values, axes, selection.shape))

    def _write_parts(
        self, index: int, selection: Selection, pixels: LazyPixels, axes: tuple[int | None, ...]
    ) -> None:
        """Write an array that is computed or read on demand, part by part."""
        dtype = self.dtype(index)
        if not castable(pixels.dtype, dtype):
            checked(np.empty((0, 0), pixels.dtype), dtype, self.name)
        selection = self._from_first_t(selection)
        with self._writing():
            for batch in pixels.batches(self.wanted.memory):
                with deferred():
                    while batch:
                        start, part = batch.pop(0)
                        there = selection.part(axes, pixels.shape, start, part.shape)
                        values = checked(part, dtype, self.name)
                        self._write_values(index, there, spread(values, axes, there.shape))
                        checkpoint()

    def _write_values(self, index: int, selection: Selection, values: Array) -> None:
        """Write values of the selection's shape, along Y, X, Z, C, T, that were checked."""
        self._has_pixels = self._has_pixels or selection.size > 0
        dtype, assembler = self.dtype(index), self._assemblers[index][0]
        values = values.transpose(4, 3, 2, 0, 1)
        blocks = plan(selection.tczyx(), self._specs[index].image.levels[0].chunk)
        first = list(islice(blocks, 2))
        if len(first) == 1:
            block = first[0]
            pixels = cast(take(values, block.outer), dtype)
            assembler.write(block, pixels, self._background.submit)
            return
        run(
            (
                partial(_write_block, assembler, block, values, dtype)
                for block in chain(first, blocks)
            ),
            self.wanted.workers,
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold `close` back while a write is under way; after one that failed, refuse all else.

        Pixels of a failed write may be lost, its own or those of an earlier one encoded in the
        background, so a file finished after it could look whole and not be.
        """
        with self._writes.one(self._admit):
            try:
                with _reported(self.target):
                    yield
            except BaseException as error:  # Ctrl-C stops a write midway as well
                self._failure = self._failure or str(error) or type(error).__name__
                raise

    def _admit(self) -> None:
        """Raise if nothing can be written any more; else start."""
        with self._lock:
            if self.closed or self._writes.closing:
                raise Closed(f"{self.name}: the writer is closed.")
            self._refuse_failed()
            self.start()

    def _from_first_t(self, selection: Selection) -> Selection:
        """Count time points from the first that can be written."""
        first = self._first_t
        *others, t = selection.axes
        if not first or not len(t):
            return selection
        if min(t) < first:
            raise BadSelection(
                f"{self.name}: time points 0 to {first - 1} are finished; append=True writes from "
                f"T={first} on. Set no other T than the old one to change what is there."
            )
        if isinstance(t, range):
            return Selection((*others, range(t.start - first, t.stop - first, t.step)))
        return Selection((*others, t - first))

    def _refuse_failed(self) -> None:
        failure = self._failure or ("it was interrupted" if self._writes.one_was_left else None)
        if failure is not None:
            raise WriteFailed(
                f"{self.name}: an earlier write failed, so this file cannot be finished; write it "
                f"anew. The failure was: {failure}"
            )

    def _refuse_empty(self) -> None:
        if not self._has_pixels and not self._copies:
            raise IncompleteImage(
                f"{self.name}: nothing was written, so no file was made. Write the pixels before "
                "the writer is closed: bw[:] = array (BioWriter's image= gives sizes and dtype "
                "only), or bfbridge.imwrite(path, array). For an image of one value: bw[:] = 0."
            )

    def close(self, *, require_complete: bool = False) -> None:
        """Finish the file and put it under its name; what was never written is the fill value.

        Raises
        ------
        IncompleteImage
            Nothing was written; or `require_complete` was asked for and there are gaps.
        WriteFailed
            The disk refuses. As with the error above, an older file of that name is unchanged.
        """
        self.target.check_owner()
        with deferred():
            if not self.closed:
                self._writes.stop()
            with self._lock:
                if self.closed:
                    return
                try:
                    self._finish(require_complete)
                except BaseException:
                    self.abort()
                    raise
                self._end()

    def _finish(self, require_complete: bool) -> None:
        self._refuse_failed()
        if self._has_pixels or not self.plans.is_unsized(0):
            self.start()  # what is wrong with the plan is the better reason
        self._refuse_empty()
        writer = self.start()
        with _reported(self.target):
            self._background.wait()
            if require_complete:
                self._refuse_gaps()
            if self._shared is not None:
                self._refuse_parts()
                self._shared.release()
            else:
                self._write_leftovers()
                writer.finish()
            self._unfinished.close()
            self.target.commit()

    def _write_leftovers(self) -> None:
        for levels in self._assemblers:
            for level in levels:
                run(level.leftovers(), self.wanted.workers)

    def create_shared(self, backend: type[ChunkedStoreBackend], path: Path | Source) -> None:
        """Start the planned file at its final place, for several processes to write."""
        self.plans.settle()
        specs = [spec for spec, _ in self._plan_images()]
        with _reported(self.target):
            backend.create(path, specs, self.plans.document_for(specs), self.wanted.backend_options)
        self._end()

    def finish_shared(self) -> None:
        """Make the lower levels of a file that several processes wrote, and finish it."""
        writer = self.start()
        with _reported(self.target):
            for levels in self._assemblers:
                run(levels[0].rebuild(), self.wanted.workers)
            self._write_leftovers()
            self._unfinished.close()
            writer.finish()
            self.target.commit()
        self._end()

    def _refuse_parts(self) -> None:
        """Refuse chunks that other processes may hold the rest of: one of the two would be lost."""
        for index, levels in enumerate(self._assemblers):
            for place in levels[0].unfinished[:1]:
                grid = self._specs[index].image.levels[0].grid
                start, chunk = grid.origin(place), grid.chunk
                raise WriteFailed(
                    f"{self.name}: image {index}, the chunk at T, C, Z, Y, X = {start} of "
                    f"{chunk} was written only in part, and another process may write the rest. "
                    "Write regions that begin and end at multiples of the chunk (bw.chunks), or at "
                    "the image's end."
                )

    def is_complete(self) -> bool:
        """Whether every pixel of every image was written, once all that is under way has ended."""
        was_left = self._failure is not None or self._writes.one_was_left
        if not self.started or was_left or not self.target.owned:
            return False
        with suppress(Exception):
            self._background.wait()
            return all(levels[0].is_complete for levels in self._assemblers)
        return False

    def _refuse_gaps(self) -> None:
        for index, levels in enumerate(self._assemblers):
            if index not in self._copies and not levels[0].is_complete:
                raise IncompleteImage(
                    f"{self.name}: image {index} has areas that were never written, and "
                    "close(require_complete=True) was asked for. The file was not made."
                )

    def abort(self) -> None:
        """Give up: remove the unfinished work, leave what stood under the name."""
        if not self.target.owned:
            # A forked child: the work and the locks are its parent's.
            self._end()
            return
        with deferred():
            if not self.closed:
                self._writes.stop()
            with self._lock:
                if self.closed:
                    return
                self._background.drain()
                if self._writer is not None:
                    self._writer.abort()
                self._unfinished.close()
                self.target.discard()
                self._end()

    def _end(self) -> None:
        self.closed = True
        if self._task is not None:
            self._task.forget()

    def watch(self, owner: object) -> None:
        """Have the file ended by another thread when its owner is dropped; see `drop`."""
        self._task = finalizers.watch(owner, self.release, self.name)

    def drop(self) -> None:
        """Have another thread end the file. May be called from a finalizer, and never waits."""
        task = self._task or finalizers.Task(self.release)
        task.hand_over()

    def release(self) -> None:
        """End the work of a writer that was dropped: finish a whole file, give up any other."""
        if self.closed or not self.target.owned:
            return  # in a forked child the work and its threads are the parent's
        whole = self.is_complete()
        if whole:
            self.close()
        else:
            self.abort()
        log.info(
            "%s: the writer was dropped without close(). The file is %s.",
            self.name,
            "finished, as every pixel was written" if whole else "not made, as it has gaps",
        )


def _write_block(
    assembler: LevelAssembler, block: Block, values: Array, dtype: np.dtype[Any]
) -> None:
    assembler.write(block, cast(take(values, block.outer), dtype))


@contextmanager
def _reported(target: Target) -> Iterator[None]:
    """Turn the operating system's and memory errors into bfbridge's, naming the target."""
    name = str(target.path)
    try:
        yield
    except BfbridgeError as error:
        name_target(error, target)
        raise
    except MemoryError as error:
        raise OutOfMemory(
            f"{name}: memory ran out while writing. Write smaller regions, use fewer workers, or "
            "lower memory=."
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise WriteFailed(
            f"{name}: cannot be written ({reason}). Nothing stands under this name but what stood "
            "there before."
        ) from error


def name_target(error: BfbridgeError, target: Target) -> None:
    """Put the target's name into a message, in place of the private folder it is made in."""
    if isinstance(target, (AtomicTarget, UploadTarget)) and len(error.args) == 1:
        text = str(error.args[0]).replace(str(target.work_path), str(target.path))
        error.args = (text.replace(str(target.folder), str(target.path)),)
