"""A file being written: its document, its backend, and the way from regions to finished chunks.

Until the first write it is only a plan, an OME document that may be changed. The first write
settles the document, starts the backend in a private folder, and from then on the plan is fixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge import forking, metadata, roles
from bfbridge.assembler import ImageAssembler, Scratch
from bfbridge.atomic import AtomicTarget
from bfbridge.backend import Extras, Image, ImageSpec, Level, Shape5, StoredAs, WriterBackend
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
from bfbridge.extras import find_extras
from bfbridge.indexing import Selection, fit_value
from bfbridge.objects import UrlTarget
from bfbridge.pyramid import METHODS, Pyramid, factors_of, plan_levels, steps_between
from bfbridge.tiles import Background, Block, plan, run, take
from bfbridge.values import cast, checked, checked_number

if TYPE_CHECKING:
    from ome_types import OME
    from ome_types.model import Pixels

    from bfbridge.source import Source

__all__ = ["NewFile", "WritePlan", "name_target"]

Array = np.ndarray[Any, Any]
Target = AtomicTarget | UrlTarget
DEFAULT_MEMORY = 256 << 20


@dataclass(frozen=True, slots=True)
class WritePlan:
    """What a user may ask of a new file, beside the options of its backend.

    Attributes
    ----------
    pyramid
        False, True, a number of lower levels, or their factors against full size.
    downsample
        "mean", "nearest" or "mode". Masks are never averaged: for them "mean" is "nearest".
    fill_value
        What areas never written hold.
    memory
        Bytes of unfinished chunks kept in memory before a scratch file is used.
    workers
        Chunks encoded at once.
    infer_dtype
        Whether the first array written says what the dtype is, if it is not set before.
    backend_options
        Compression, tile size and whatever else the backend takes.
    """

    pyramid: Pyramid = False
    downsample: str = "mean"
    fill_value: float = 0
    memory: int = DEFAULT_MEMORY
    workers: int = 1
    infer_dtype: bool = False
    backend_options: Mapping[str, Any] = field(default_factory=dict)


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
        if wanted.downsample not in METHODS:
            raise BadArgument(f"downsample={wanted.downsample!r}: use one of {', '.join(METHODS)}.")
        backend.check(wanted.backend_options)
        self.target = target
        self.backend = backend
        self.ome = ome
        self.wanted = wanted
        self._dtypes = [metadata.stored_dtype(image.pixels) for image in ome.images]
        self._types = [image.pixels.type for image in ome.images]
        self._untyped = set(range(len(ome.images))) if wanted.infer_dtype else set()
        self.named: dict[int, int] = {}
        self.closed = False
        self._lock = forking.rlock()
        self._idle = forking.condition(self._lock)
        self._active = 0
        self._closing = False
        self._failure: BaseException | None = None
        self._writer: WriterBackend | None = None
        self._specs: list[ImageSpec] = []
        self._assemblers: list[ImageAssembler] = []
        self._scratch = Scratch(target.folder, wanted.memory)
        self._background = Background(2 * wanted.workers)
        self._first_t = 0
        self._shared = False
        self._roles: list[roles.ImageRole] = []
        self._copies: dict[int, tuple[tuple[Level, ...], tuple[StoredAs | None, ...]]] = {}

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
        self, writer: WriterBackend, *, stored: bool, first_t: int = 0, shared: bool = False
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
        self._specs = list(writer.images)
        self._dtypes = [spec.image.dtype for spec in self._specs]
        self._first_t, self._shared = first_t, shared
        self._assemblers = [
            ImageAssembler(
                writer,
                number,
                spec,
                [] if shared else steps_between(spec.image.levels),
                self._scratch,
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

    def pixels(self, index: int) -> Pixels:
        """Pixels element of one image."""
        return self.ome.images[index].pixels

    def shape5(self, index: int) -> tuple[int, int, int, int, int]:
        """Sizes of one image along Y, X, Z, C, T."""
        if self._writer is not None:
            # The document may still be changed by whoever holds it: then it is too late.
            t, c, z, y, x = self._specs[index].image.levels[0].shape
            return y, x, z, c, t + self._first_t
        p = self.pixels(index)
        return p.size_y, p.size_x, p.size_z, p.size_c, p.size_t

    def dtype(self, index: int) -> np.dtype[Any]:
        """Type of one image's pixels: what was set last, on the writer or in the document."""
        if self._writer is None and self.pixels(index).type != self._types[index]:
            self._types[index] = self.pixels(index).type
            self._dtypes[index] = metadata.stored_dtype(self.pixels(index))
        return self._dtypes[index]

    def set_dtype(self, index: int, dtype: np.dtype[Any]) -> None:
        """Set the type of one image's pixels, and the document's where the schema knows it."""
        self._dtypes[index] = dtype
        self._untyped.discard(index)
        known = metadata.ome_pixel_type(dtype)
        if known is not None:
            metadata.set_pixel_type(self.pixels(index), known)
        self._types[index] = self.pixels(index).type

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
            self._settle()
            planned = self._plan_images()
            self._specs = [spec for spec, _ in planned]
            with _reported(self.target):
                if isinstance(self.target, UrlTarget):
                    self.target.begin()
                writer = self.backend.prepare(
                    self.target.work_path, self._specs, self._document(self._specs),
                    self.wanted.backend_options,
                )  # fmt: skip
            self._assemblers = [
                ImageAssembler(writer, i, spec, steps, self._scratch)
                for i, (spec, steps) in enumerate(planned)
            ]
            self._writer = writer
            return writer

    def _settle(self) -> None:
        """Make the document complete and consistent; it is written from here on as it is."""
        self._check_names()
        self._settle_types()
        self._roles = roles.read_roles(self.ome)
        metadata.settle(self.ome)
        # They refer to images by the IDs that have been made anew.
        roles.write_roles(self.ome, self._roles)

    def _check_names(self) -> None:
        """Refuse more channel names than channels; properties may be set in any order until now."""
        for index, count in self.named.items():
            channels = len(metadata.channel_names(self.pixels(index)))
            if count > channels:
                raise BadArgument(
                    f"{self.name}: channel_names has {count} names, and image {index} has "
                    f"{channels} channel(s). Set C, or give one name for each channel."
                )

    def _settle_types(self) -> None:
        if len(self.ome.images) != len(self._dtypes):
            raise BadArgument(
                f"{self.name}: metadata had {len(self._dtypes)} image(s) when the writer was made, "
                f"and has {len(self.ome.images)} now. Give all images to BioWriter(metadata=...)."
            )
        for index in range(len(self._dtypes)):
            # What is stored for "bit" is uint8, and the document has to say so.
            self.set_dtype(index, self.dtype(index))

    def _document(self, specs: Sequence[ImageSpec]) -> OME | None:
        untyped = [s.image for s in specs if metadata.ome_pixel_type(s.image.dtype) is None]
        # Formats that hold masks of 64 bits describe them elsewhere.
        return self.ome if all(image.is_mask for image in untyped) else None

    def _record(self, index: int, levels: tuple[Level, ...]) -> Image:
        record = metadata.record(self.ome.images[index], self.dtype(index), levels)
        return replace(record, **self._roles[index]._asdict())

    def _plan_images(self) -> list[tuple[ImageSpec, Sequence[int]]]:
        return [self._plan_image(i, told) for i, told in enumerate(find_extras(self.ome))]

    def _plan_image(self, index: int, extras: Extras) -> tuple[ImageSpec, Sequence[int]]:
        y, x, z, c, t = self.shape5(index)
        dtype = self.dtype(index)
        shape: Shape5 = (t, c, z, y, x)
        flat = self._record(index, (Level(shape, shape),))
        levels, stored = self._copies.get(index, ((), ()))
        steps: Sequence[int] = []
        if len(levels) < 2:
            chunk = self.backend.default_chunk(flat, self.wanted.backend_options)
            steps = factors_of(self.wanted.pyramid, y, x)
            levels = plan_levels(shape, levels[0].chunk if levels else chunk, steps)
        image = self._record(index, levels)
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
                self._assemblers[index].pass_up(place, pixels)

    def write(self, index: int, selection: Selection, value: Any) -> None:
        """Write a selection of one image.

        Parameters
        ----------
        index
            Number of the image.
        selection
            Where, along Y, X, Z, C, T.
        value
            An array or number, broadcast to the selection's shape.

        Raises
        ------
        BadSelection, BadDtype
            The values do not fit there, or cannot be held by the image's dtype.
        WriteFailed
            The disk refuses, now or while an earlier write was finished.
        """
        self.target.check_owner()
        self._infer_dtype(index, selection, value)
        dtype = self.dtype(index)
        # All that can be wrong with the values is found before the first of them is written.
        values = fit_value(checked(value, dtype, self.name), selection.shape).transpose(
            4, 3, 2, 0, 1
        )
        selection = self._from_first_t(selection)
        with self._writing():
            assembler = self._assemblers[index]
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
        with self._lock:
            if self.closed or self._closing:
                raise Closed(f"{self.name}: the writer is closed.")
            self._refuse_failed()
            self.start()
            self._active += 1
        try:
            with _reported(self.target):
                yield
        except BaseException as error:  # Ctrl-C stops a write midway as well
            self._failure = self._failure or error
            raise
        finally:
            with self._idle:
                self._active -= 1
                self._idle.notify_all()

    def _infer_dtype(self, index: int, selection: Selection, value: Any) -> None:
        """Take the dtype of the first array written, where nothing else says what it is to be."""
        with self._lock:
            if index in self._untyped and not self.started and isinstance(value, np.ndarray):
                fit_value(value, selection.shape)
                self.set_dtype(index, metadata.writable_dtype(value.dtype))

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
        if self._failure is not None:
            raise WriteFailed(
                f"{self.name}: an earlier write failed, so this file cannot be finished; write it "
                f"anew. The failure was: {str(self._failure) or type(self._failure).__name__}"
            ) from self._failure

    def _wait_idle(self) -> None:
        """Let writes under way on other threads end; new ones are refused."""
        self._closing = True
        self._idle.wait_for(lambda: not self._active)

    def close(self, *, require_complete: bool = False) -> None:
        """Finish the file and put it under its name; what was never written is the fill value.

        Raises
        ------
        IncompleteImage
            `require_complete` was asked for and there are gaps; nothing stands under the name.
        WriteFailed
            The disk refuses; nothing stands under the name but what stood there before.
        """
        self.target.check_owner()
        with self._lock:
            if not self.closed:
                self._wait_idle()
            if self.closed:
                return
            try:
                self._refuse_failed()
                writer = self.start()
                with _reported(self.target):
                    self._background.wait()
                    if require_complete:
                        self._refuse_gaps()
                    if self._shared:
                        self._refuse_parts()
                        writer.release()
                    else:
                        self._write_leftovers()
                        writer.finish()
                    self._scratch.close()
                    self.target.commit()
            except BaseException:
                self.abort()
                raise
            self.closed = True

    def _write_leftovers(self) -> None:
        for assembler in self._assemblers:
            for jobs in assembler.leftovers():
                run(jobs, self.wanted.workers)

    def create_shared(self, path: Path | Source) -> None:
        """Start the planned file at its final place, for several processes to write."""
        self._settle()
        specs = [spec for spec, _ in self._plan_images()]
        with _reported(self.target):
            self.backend.create(path, specs, self._document(specs), self.wanted.backend_options)
        self.closed = True

    def finish_shared(self) -> None:
        """Make the lower levels of a file that several processes wrote, and finish it."""
        writer = self.start()
        with _reported(self.target):
            for assembler in self._assemblers:
                run(assembler.rebuild(), self.wanted.workers)
            self._write_leftovers()
            self._scratch.close()
            writer.finish()
            self.target.commit()
        self.closed = True

    def _refuse_parts(self) -> None:
        """Refuse chunks that other processes may hold the rest of: one of the two would be lost."""
        for index, assembler in enumerate(self._assemblers):
            for place in assembler.unfinished[:1]:
                chunk = self._specs[index].image.levels[0].chunk
                start = tuple(i * n for i, n in zip(place, chunk, strict=True))
                raise WriteFailed(
                    f"{self.name}: image {index}, the chunk at T, C, Z, Y, X = {start} of "
                    f"{chunk} was written only in part, and another process may write the rest. "
                    "Write regions that begin and end at multiples of the chunk (bw.chunks), or at "
                    "the image's end."
                )

    def is_complete(self) -> bool:
        """Whether every pixel of every image was written, once all that is under way has ended."""
        if not self.started or self._failure is not None or not self.target.owned:
            return False
        with suppress(Exception):
            self._background.wait()
            return all(assembler.is_complete for assembler in self._assemblers)
        return False

    def _refuse_gaps(self) -> None:
        for index, assembler in enumerate(self._assemblers):
            if index not in self._copies and not assembler.is_complete:
                raise IncompleteImage(
                    f"{self.name}: image {index} has areas that were never written, and "
                    "close(require_complete=True) was asked for. The file was not made."
                )

    def abort(self) -> None:
        """Give up: remove the unfinished work, leave what stood under the name."""
        if not self.target.owned:
            # A forked child: the work and the locks are its parent's.
            self.closed = True
            return
        with self._lock:
            if not self.closed:
                self._wait_idle()
            if self.closed:
                return
            self.closed = True
            # The work is given up: its errors do not matter.
            with suppress(BaseException):
                self._background.wait()
            if self._writer is not None:
                self._writer.abort()
            self._scratch.close()
            self.target.discard()


def _write_block(
    assembler: ImageAssembler, block: Block, values: Array, dtype: np.dtype[Any]
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
    if isinstance(target, AtomicTarget) and len(error.args) == 1:
        text = str(error.args[0]).replace(str(target.work_path), str(target.path))
        error.args = (text.replace(str(target.folder), str(target.path)),)
