"""A file being written: its document, its backend, and the steps from regions to finished chunks.

Before the first write it is a plan: an OME document that may be changed. The first write makes the
document consistent and starts the backend in a private folder. After that the plan is fixed.
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

from bfbridge import registry
from bfbridge.backend import Extras, ImageSpec, Level, Shape5, StoredAs, WriterBackend
from bfbridge.engine.assembler import LevelAssembler, UnfinishedChunks, level_assemblers
from bfbridge.engine.casting import cast, castable, checked
from bfbridge.engine.lazy_pixels import LazyPixels
from bfbridge.engine.pyramid import METHODS, Step, plan_levels, steps_of
from bfbridge.engine.selection import Selection, fit_axes, spread
from bfbridge.engine.tiles import Block, take
from bfbridge.engine.workers import Background, run
from bfbridge.errors import (
    BadSelection,
    Closed,
    IncompleteImage,
    ReadOnlyProperty,
    WriteFailed,
)
from bfbridge.files.writing.image_plans import ImagePlans, WritePlan, check_fill_value, deep_chunk
from bfbridge.files.writing.single_planes import find_single_stacks, trimmed_specs, untrimmed
from bfbridge.files.writing.write_errors import Target, reported
from bfbridge.files.writing.writes import Writes
from bfbridge.ome import metadata
from bfbridge.ome.extras import find_extras
from bfbridge.runtime import finalizers, forking
from bfbridge.runtime.arguments import one_of
from bfbridge.runtime.interrupts import checkpoint, deferred
from bfbridge.storage.atomic import AtomicTarget
from bfbridge.storage.packing import pack_folder
from bfbridge.storage.remote.object_store import UrlTarget

if TYPE_CHECKING:
    from ome_types import OME
    from ome_types.model import Pixels

    from bfbridge.chunked_store import ChunkedStoreBackend, ResumedWriter
    from bfbridge.storage.source import Source

__all__ = ["NewFile"]

log = logging.getLogger("bfbridge")

Array = np.ndarray[Any, Any]


class NewFile:
    """One target, its document and its writer backend; shared by the views of its images.

    Parameters
    ----------
    target
        Place of the finished file.
    backend
        Class that writes the file.
    ome
        OME document of the file; it belongs to this object.
    wanted
        Arguments of the caller.
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
        # The text of the error: the error itself would keep the writer alive through its traceback.
        self._failure: str | None = None
        self._writer: WriterBackend | None = None
        self._specs: list[ImageSpec] = []
        self._assemblers: list[tuple[LevelAssembler, ...]] = []
        self._unfinished = UnfinishedChunks(target.folder, wanted.memory)
        self._background = Background(2 * wanted.workers)
        self._first_t = 0
        self._adopted = False
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
            Levels of the source, and how their chunks are encoded. With one level, lower levels
            that were requested are computed from its pixels.
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
        self, writer: ResumedWriter, *, stored: bool, first_t: int = 0, shared: bool = False,
        new: bool = False,
    ) -> None:  # fmt: skip
        """Continue with an existing file instead of starting a new one.

        Parameters
        ----------
        writer
            Started by the backend; its `images` describe the file.
        stored
            Whether the file has pixels that regions change.
        first_t
            Number of time points that exist already; writing begins with this one.
        shared
            Whether other processes write too. Then lower levels are made when the file is finished.
        new
            Whether the images are new, so that closing the file without a write is an error.
        """
        self._writer = writer
        self._adopted, self._has_pixels = True, not new
        self._specs = list(writer.images)
        self._first_t, self._shared = first_t, writer if shared else None
        self._assemblers = [
            level_assemblers(
                writer,
                number,
                spec,
                [] if shared else steps_of(spec),
                self._unfinished,
                stored=stored,
            )
            for number, spec in enumerate(self._specs)
        ]

    @property
    def name(self) -> str:
        """Path of the target, for messages."""
        return str(self.target.path)

    @property
    def started(self) -> bool:
        """Whether something was written, so that properties are fixed."""
        return self._writer is not None or self.closed

    def edit(self, what: str) -> None:
        """Raise `ReadOnlyProperty` if `what` can no longer be set."""
        if self.started:
            raise ReadOnlyProperty(
                f"{self.name}: {what} cannot be set after the first write. Set it before, or make "
                "a new BioWriter."
            )

    @property
    def ome(self) -> OME:
        """OME document; it may be changed until the first write."""
        return self.plans.ome

    def pixels(self, index: int) -> Pixels:
        """Return the Pixels element of one image."""
        return self.plans.pixels(index)

    def shape5(self, index: int) -> tuple[int, int, int, int, int]:
        """Return the sizes of one image along Y, X, Z, C, T."""
        if self._writer is None:
            return self.plans.shape5(index)
        # The caller may still change the document, but the file no longer follows it.
        t, c, z, y, x = self._specs[index].image.levels[0].shape
        return y, x, z, c, t + self._first_t

    def dtype(self, index: int) -> np.dtype[Any]:
        """Return the dtype of one image."""
        return self.plans.dtype(index) if self._writer is None else self._specs[index].image.dtype

    def chunk5(self, index: int) -> tuple[int, int, int, int, int]:
        """Return the chunk of one image along Y, X, Z, C, T. The call fixes the plan."""
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
            The file system refuses to write.
        """
        with self._lock:
            if self.closed:
                raise Closed(f"{self.name}: the writer is closed.")
            if self._writer is not None:
                return self._writer
            self.plans.settle()
            planned = self._plan_images()
            self._specs = [spec for spec, _ in planned]
            with reported(self.target):
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
            finalizers.run_before_later_handlers()  # the backend may have started Java
            return writer

    def _plan_images(self) -> list[tuple[ImageSpec, Sequence[Step]]]:
        return [self._plan_image(i, extras) for i, extras in enumerate(find_extras(self.ome))]

    def _plan_image(self, index: int, extras: Extras) -> tuple[ImageSpec, Sequence[Step]]:
        y, x, z, c, t = self.shape5(index)
        dtype = self.dtype(index)
        shape: Shape5 = (t, c, z, y, x)
        flat = self.plans.record(index, (Level(shape, shape),))
        levels, stored = self._copies.get(index, ((), ()))
        steps: Sequence[Step] = []
        if len(levels) < 2:
            chunk = self.backend.default_chunk(flat, self.wanted.backend_options)
            steps = self.wanted.levels.steps((z, y, x), flat.pixel_size)
            chunk = levels[0].chunk if levels else chunk
            options = self.wanted.backend_options
            chunk = deep_chunk(chunk, shape, steps, self.backend, options, self.name)
            levels = plan_levels(shape, chunk, steps)
        image = self.plans.record(index, levels)
        check_fill_value(self.wanted.fill_value, dtype, self.name)
        averaged = self.wanted.downsample == "mean"
        method = "nearest" if averaged and image.is_mask else self.wanted.downsample
        spec = ImageSpec(image, self.wanted.fill_value, method, stored, extras, tuple(steps))
        return spec, steps

    def write_stored(
        self, index: int, level: int, place: Shape5, data: bytes | Path, pixels: Array | None
    ) -> None:
        """Store a chunk that is encoded already.

        Parameters
        ----------
        index, level, place
            The image, its level, and the position in the chunk grid (T, C, Z, Y, X).
        data
            Encoded as `plan_copy` agreed; or the path of a file with this content, which is moved.
        pixels
            The decoded pixels, if lower levels are computed from them.
        """
        self.target.check_owner()
        with self._writing():
            if isinstance(data, Path) and not self.start().move_stored(index, level, place, data):
                data = data.read_bytes()
            if not isinstance(data, Path):
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
            Indices along Y, X, Z, C, T.
        pixels
            A number, an array or `LazyPixels`, broadcast to the selection's shape. `LazyPixels` are
            read part by part, within the memory that unfinished chunks may take.

        Raises
        ------
        BadSelection, BadDtype
            The values do not fit the selection, or the image's dtype cannot hold them.
        WriteFailed
            The file system refuses to write, now or for an earlier write.
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
            # Check all values before the first of them is written.
            values = checked(pixels, dtype, self.name)
            selection = self._from_first_t(selection)
            with self._writing():
                self._write_values(index, selection, spread(values, axes, selection.shape))

    def _write_parts(
        self, index: int, selection: Selection, pixels: LazyPixels, axes: tuple[int | None, ...]
    ) -> None:
        """Write a dask array or other lazy array part by part."""
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
        """Write checked values of the selection's shape, along Y, X, Z, C, T."""
        self._has_pixels = self._has_pixels or selection.size > 0
        dtype, assembler = self.dtype(index), self._assemblers[index][0]
        values = values.transpose(4, 3, 2, 0, 1)
        blocks = assembler.blocks(selection.tczyx())
        first = list(islice(blocks, 2))
        if len(first) == 1:
            block = first[0]
            pixels = cast(take(values, block.outer), dtype)
            assembler.write(block, pixels, self._background.submit)
            return

        def write(block: Block) -> None:
            assembler.write(block, cast(take(values, block.outer), dtype))

        run((partial(write, block) for block in chain(first, blocks)), self.wanted.workers)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make `close` wait for a write; after a failed write, refuse all further writes.

        A failed write may lose its own pixels, or those of an earlier write that are encoded in the
        background. A file finished after it could look complete without being so.
        """
        with self._writes.one(self._admit):
            try:
                with reported(self.target):
                    yield
            except BaseException as error:  # Ctrl-C also interrupts a write
                self._failure = self._failure or str(error) or type(error).__name__
                raise

    def _admit(self) -> None:
        """Raise if nothing can be written any more; start the file if it was not started."""
        with self._lock:
            if self.closed or self._writes.closing:
                raise Closed(f"{self.name}: the writer is closed.")
            self._refuse_failed()
            self.start()

    def _from_first_t(self, selection: Selection) -> Selection:
        """Return a selection with time points counted from the first one that can be written."""
        first = self._first_t
        *others, t = selection.axes
        if not first or not len(t):
            return selection
        if min(t) < first:
            raise BadSelection(
                f"{self.name}: time points 0 to {first - 1} are finished; append=True writes from "
                f"T={first} on. To change these, use append=True without a larger T."
            )
        if isinstance(t, range):
            return Selection((*others, range(t.start - first, t.stop - first, t.step)))
        return Selection((*others, t - first))

    def _refuse_failed(self) -> None:
        failure = self._failure or ("it was interrupted" if self._writes.was_interrupted else None)
        if failure is not None:
            raise WriteFailed(
                f"{self.name}: an earlier write failed, so this file cannot be finished. Write it "
                f"again with a new BioWriter. The failure was: {failure}"
            )

    def _refuse_empty(self) -> None:
        if not self._has_pixels and not self._copies:
            raise IncompleteImage(
                f"{self.name}: nothing was written, so no file was created. Write the pixels "
                "before the writer is closed: bw[:] = array (BioWriter's image= gives sizes and "
                "dtype only), or bfbridge.imwrite(path, array). For an image of one value: bw[:] "
                "= 0."
            )

    def close(self, *, require_complete: bool = False) -> None:
        """Finish the file and give it its name; pixels never written get the fill value.

        An image whose C and T come from the document alone, and of which exactly C=0, T=0 was
        written, gets C=1, T=1: bfio's documented converter writes such files.

        Raises
        ------
        IncompleteImage
            Nothing was written; or `require_complete` is True and some pixels were never written.
        WriteFailed
            The file system refuses to write. After any error a previous file of that name is
            unchanged.
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
            self.start()  # an error in the plan is the more useful message
        self._refuse_empty()
        writer = self.start()
        with reported(self.target):
            self._background.wait()
            if require_complete:
                self._refuse_gaps()
            if self._shared is not None:
                self._refuse_parts()
                self._shared.release()
            else:
                single, remarks = ([], []) if require_complete else self._single_stacks()
                for remark in remarks:
                    log.warning("%s: %s", self.name, remark)
                self._write_leftovers()
                self._trim(writer, single)
                writer.finish()
            self._unfinished.close()
            if isinstance(self.target, AtomicTarget) and registry.is_zipped_folder(self.name):
                pack_folder(self.target.work_path)
            self.target.commit()

    def stored_document(self) -> OME | None:
        """Return the document of the finished file; see `WriterBackend.stored_document`."""
        return None if self._writer is None else self._writer.stored_document()

    def _single_stacks(self) -> tuple[list[int], list[str]]:
        """Return images of which only C=0, T=0 was written, and remarks on others with gaps."""
        inherited = [
            index
            for index in range(len(self._assemblers))
            if not (self._adopted or index in self._copies) and self.plans.is_inherited(index)
        ]
        return find_single_stacks(self._assemblers, self._specs, inherited)

    def _trim(self, writer: WriterBackend, single: Sequence[int]) -> None:
        """Reduce images to C=0, T=0, the only planes that were written."""
        if single:
            specs = trimmed_specs(self.plans, self._specs, single)
            if not writer.trim(specs, self.plans.document_for(specs)):
                raise IncompleteImage(f"{self.name}: {untrimmed(writer.name)}")
            self._specs = specs
            log.info("%s: only C=0, T=0 was written, so the file has C=1, T=1.", self.name)

    def _write_leftovers(self) -> None:
        for levels in self._assemblers:
            for level in levels:
                run(level.leftovers(), self.wanted.workers)

    def create_shared(self, backend: type[ChunkedStoreBackend], path: Path | Source) -> None:
        """Start the planned file at its final place, to be written by several processes."""
        self.plans.settle()
        specs = [spec for spec, _ in self._plan_images()]
        with reported(self.target):
            backend.create(path, specs, self.plans.document_for(specs), self.wanted.backend_options)
        self._end()

    def finish_shared(self, *, levels: bool = True) -> None:
        """Finish a file that several processes wrote.

        Unless `levels` is False, its lower levels are computed before.
        """
        writer = self.start()
        with reported(self.target):
            for assemblers in self._assemblers if levels else ():
                run(assemblers[0].rebuild(), self.wanted.workers)
            if levels:
                self._write_leftovers()
            self._unfinished.close()
            writer.finish()
            self.target.commit()
        self._end()

    def _refuse_parts(self) -> None:
        """Raise if a chunk is incomplete: another process may have the rest of its pixels."""
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
        """Wait for active writes; return whether every pixel of every image was written."""
        was_left = self._failure is not None or self._writes.was_interrupted
        if not self.started or was_left or not self.target.owned:
            return False
        with suppress(Exception):
            self._background.wait()
            if all(levels[0].is_complete for levels in self._assemblers):
                return True
            single, _ = self._single_stacks()
            return all(i in single or a[0].is_complete for i, a in enumerate(self._assemblers))
        return False

    def _refuse_gaps(self) -> None:
        for index, levels in enumerate(self._assemblers):
            if index not in self._copies and not levels[0].is_complete:
                raise IncompleteImage(
                    f"{self.name}: image {index} has areas that were never written, and "
                    "close(require_complete=True) requires all pixels. The file was not created."
                )

    def abort(self) -> None:
        """Remove the unfinished file; a previous file of that name is unchanged."""
        if not self.target.owned:
            # In a forked child the files and the locks belong to the parent.
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
        """End the file in another thread when its owner is garbage collected; see `drop`."""
        self._task = finalizers.watch(owner, self.release, self.name)

    def drop(self) -> None:
        """End the file in another thread. May be called from a finalizer; never blocks."""
        task = self._task or finalizers.Task(self.release)
        task.hand_over()

    def release(self) -> None:
        """End a file that was not closed: finish it if it is complete, otherwise remove it."""
        if self.closed or not self.target.owned:
            return  # in a forked child the file and its threads belong to the parent
        whole = self.is_complete()
        if whole:
            self.close()
        else:
            self.abort()
        log.info(
            "%s: the writer was garbage collected without close(). The file is %s.",
            self.name,
            "finished, as every pixel was written" if whole else "not created, as it has gaps",
        )
