"""One source: opened once, copied block by block to its new files, and verified on request.

Reading, changing, encoding and writing overlap: every worker reads one block and passes it to the
writer, whose chunks are encoded while the next block is read.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.convert.copy.encoded_chunks import EncodedCopy, copied_options, plan_encoded
from bfbridge.convert.locations import (
    Place,
    exists,
    files_of,
    folders_of,
    identity,
    stored_bytes,
)
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan.blocks import BlockGrid, plan_grid
from bfbridge.convert.plan.document import document_for
from bfbridge.convert.plan.overrides import apply_overrides
from bfbridge.convert.plan.pieces import Output, Piece, grouped_by_well, plan_outputs
from bfbridge.convert.plan.scaling import Scaling, plan_scaling
from bfbridge.convert.reports.record import FileRecord, OutputRecord, now, stamp
from bfbridge.convert.verification.certificate import certify, check_certifiable
from bfbridge.convert.verification.checksum import PixelChecksum
from bfbridge.convert.verification.pixels import Checked, verify_output
from bfbridge.convert.verification.selection import check_selection
from bfbridge.engine.workers import run
from bfbridge.errors import BadArgument, BfbridgeError, TargetExists, UnreadableFile
from bfbridge.ome.checks.compare import compare_documents, keeps_values
from bfbridge.ome.documents.repair import collected_faults
from bfbridge.reader import BioReader
from bfbridge.writer import BioWriter, ImageWriter

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.backend import WriterBackend
    from bfbridge.convert.plan.kept_readers import KeptReaders
    from bfbridge.views import ImageView

__all__ = [
    "Counter",
    "check_metadata",
    "convert_file",
    "document_of",
    "kept_output",
    "lost_metadata",
    "notes_of",
    "open_source",
    "output_scalings",
    "refuse_own_source",
    "source_grid",
]

Progress = Callable[[int, int], None]


class Counter:
    """Adds up bytes from all threads and calls a progress function.

    Parameters
    ----------
    progress
        Called with (bytes done, bytes in all); an exception in it ends the conversion.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._total = self._done = 0
        self._lock = threading.Lock()

    def expect(self, count: int) -> None:
        """Increase the total by `count` bytes."""
        self._total += count
        self.add(0)

    def add(self, count: int) -> None:
        """Increase the number of bytes done."""
        if self._progress is not None:
            with self._lock:
                self._done += count
                self._progress(self._done, self._total)


def open_source(
    source: Any, options: ConvertOptions, readers: KeptReaders | None = None
) -> BioReader:
    """Open a source for a conversion: without a cache, unless a crop cuts through chunks.

    A reader of this source that the search of a batch has kept is used again.
    """
    known = None if readers is None else readers.take(source, options)
    if known is not None:
        return known
    cache = 0 if options.crop is None else options.memory_bytes // 4
    arguments = {"cache": cache, **options.reader_arguments}
    given = options.rearranged(source)
    return BioReader(given, max_workers=options.workers, backend=options.backend, **arguments)


def convert_file(
    source: Any,
    target: str | os.PathLike[str],
    options: ConvertOptions,
    writer: type[WriterBackend],
    *,
    overwrite: bool = False,
    resume: bool = False,
    reported: bool = True,
    progress: Progress | None = None,
    readers: KeptReaders | None = None,
) -> FileRecord:
    """Convert one source into one or, where it is split, several new files.

    Parameters
    ----------
    source
        Any source that `BioReader` takes.
    target
        The new file; with ``split``, the base of the names of several.
    options
        The conversion options.
    writer
        The backend that writes the new files.
    overwrite
        Whether existing files may be replaced.
    resume
        Whether an existing file is kept if its pixels are those of the source; otherwise it is an
        error.
    reported
        Whether the record is for a report. Otherwise the files in a folder are not stamped.
    progress
        Called with (bytes of pixels done, bytes in all), from any thread.
    readers
        Readers of the search of a batch.

    Raises
    ------
    BfbridgeError
        The conversion failed. Files that were complete are kept; the unfinished one was removed.
    """
    begun = time.perf_counter()
    counter = Counter(progress)
    record = FileRecord(source=str(source), target=os.fspath(target), request=options.fingerprint)
    with open_source(source, options, readers) as br, collected_faults() as faults:
        check_metadata(br, faults, options)
        record.source = br.source_name
        record.backend, record.backend_reason = br.backend, br.backend_reason
        record.inputs = stamp(
            files_of(br, options.source_storage), options.source_storage,
            walk=reported or options.certify,
        )  # fmt: skip
        outputs = grouped_by_well(plan_outputs(br, target, options), br)
        refuse_own_source(outputs, br, options)
        check_certifiable(br, outputs, options, overwrite=overwrite, resume=resume)
        if options.verify:
            check_selection(br, outputs, options)
        passes = 3 if options.verify else 1
        for output in outputs:
            counter.expect(passes * sum(_nbytes(br, piece) for piece in output.pieces))
        for output in outputs:
            kept = None
            if resume and not overwrite:
                kept = kept_output(source, br, output, options, counter.add)
            record.outputs.append(
                kept or _make(source, br, output, options, writer, overwrite, counter)
            )
        record.warnings = notes_of(br, outputs, faults)
    certify(record, options)
    record.status = "done" if any(not output.kept for output in record.outputs) else "kept"
    record.seconds = time.perf_counter() - begun
    record.ended = now()
    return record


def check_metadata(br: BioReader, faults: Sequence[str], options: ConvertOptions) -> None:
    """Refuse metadata that violate the OME schema if ``strict_metadata`` is set.

    Parameters
    ----------
    br, options
        The open source, and the conversion options.
    faults
        The faults that `bfbridge.ome.documents.repair.collected_faults` collected.

    Raises
    ------
    UnreadableFile
        The metadata violate the schema, and ``strict_metadata`` is set.
    """
    if not options.strict_metadata:
        return
    _ = br.ome
    if faults:
        raise UnreadableFile(
            f"{faults[0]}: this violates the OME schema, and strict_metadata=True "
            "(--strict-metadata) was given. Without it, the element is omitted, with a warning."
        )


def notes_of(br: BioReader, outputs: Sequence[Output], faults: Sequence[str]) -> list[str]:
    """Return the warnings of a conversion."""
    return [
        *(f"omitted, because it violates the OME schema: {fault}" for fault in faults),
        *_label_notes(br, outputs),
    ]


def _label_notes(br: BioReader, outputs: Sequence[Output]) -> list[str]:
    """Warn of new files that contain the photograph of a slide label, which may name a patient."""
    return [
        f"{output.target.name} contains the photograph of the slide's label (image {piece.series}, "
        f"{piece.view(br).name!r}), which may show a patient's name. series= (--series) chooses "
        "other images."
        for output in outputs
        for piece in output.pieces
        if piece.view(br).role == "label" and not piece.view(br).is_mask
    ]


def refuse_own_source(outputs: Sequence[Output], br: BioReader, options: ConvertOptions) -> None:
    """Raise `TargetExists` if a new file would replace its source, or lie inside it."""
    files = files_of(br, options.source_storage)
    used = set(map(identity, {*files, br.source_name}))
    for output in outputs:
        place = identity(output.target)
        if place in used:
            raise TargetExists(f"{output.target}: this is the source itself. Choose another name.")
        if not used.isdisjoint(folders_of(place)):
            raise TargetExists(
                f"{output.target}: this is inside the source, a store that must not contain other "
                "files. Choose a folder outside it."
            )


def _nbytes(br: BioReader, piece: Piece) -> int:
    return piece.size * piece.view(br).dtype.itemsize


def kept_output(
    source: Any,
    br: BioReader,
    output: Output,
    options: ConvertOptions,
    count: Callable[[int], None],
    shares: Callable[..., Iterable[Checked]] | None = None,
) -> OutputRecord | None:
    """Return the record of a file made by an interrupted run, if its pixels are the source's.

    `shares` is that of `verify_output`.
    """
    if not exists(output.target, options.target_storage):
        return None
    record = OutputRecord(target=str(output.target), kept=True)
    try:
        scalings = output_scalings(br, output, options)
        verify_output(source, output, scalings, options, record, count, shares)
    except BfbridgeError as error:
        raise TargetExists(
            f"{output.target} exists, and is not a complete conversion of {br.source_name} "
            f"({error}). Replace it with overwrite=True (--overwrite), or remove it."
        ) from error
    record.file_bytes = stored_bytes(output.target, options.target_storage)
    record.pixel_bytes = sum(_nbytes(br, piece) for piece in output.pieces)
    record.plate = bool(document_of(br, output, scalings, options).plates)
    return record


def _make(
    source: Any,
    br: BioReader,
    output: Output,
    options: ConvertOptions,
    writer: type[WriterBackend],
    overwrite: bool,
    counter: Counter,
) -> OutputRecord:
    """Write one new file, and compare it with the source if ``verify`` is set."""
    begun = time.perf_counter()
    record = OutputRecord(target=str(output.target))
    scalings = output_scalings(br, output, options)
    document = document_of(br, output, scalings, options)
    with BioWriter(
        output.target,
        max_workers=options.workers,
        backend=options.target_backend,
        metadata=document,
        series="all",
        overwrite=overwrite,
        pyramid=options.lower_levels,
        downsample_z=options.downsample_z,
        smallest=options.smallest,
        downsample=options.downsample,
        fill_value=options.fill_value,
        durable=options.durable,
        memory=options.memory_bytes // 2,
        storage_options=options.target_storage,
        **copied_options(output.pieces[0].view(br), options, writer),
    ) as bw:
        record.backend = bw.backend
        ways = list(zip(output.pieces, scalings, bw.series, strict=True))
        for piece, scaling, image in ways:
            _prepare(piece, scaling, image)
        # The encoding of every image is set before the writer fixes the layout of the file.
        planned = [
            plan_encoded(piece, piece.view(br), scaling, image, options)
            for piece, scaling, image in ways
        ]
        copies = [
            _Copy(br, piece, scaling, image, options, counter)
            if encoded is None
            else _CopyEncoded(br, piece, encoded, counter)
            for encoded, (piece, scaling, image) in zip(planned, ways, strict=True)
        ]
        run((job for copy in copies for job in copy.jobs()), options.workers)
    record.images = [copy.describe() for copy in copies]
    record.plate = bool(document.plates)
    record.pixel_bytes = sum(_nbytes(br, piece) for piece in output.pieces)
    record.file_bytes = stored_bytes(output.target, options.target_storage)
    if options.verify:
        verify_output(source, output, scalings, options, record, counter.add)
    if options.compare_metadata:
        stored = bw.stored_document()
        known = stored is not None and keeps_values(document, stored)
        record.lost = [] if known else lost_metadata(document, output.target, options)
    record.seconds = time.perf_counter() - begun
    return record


def document_of(
    br: BioReader, output: Output, scalings: Sequence[Scaling], options: ConvertOptions
) -> OME:
    """Return the OME document of a new file."""
    document = document_for(
        br, output.pieces, scalings, original_metadata=options.original_metadata
    )
    apply_overrides(document, br, output.pieces, options)
    return document


def lost_metadata(document: OME, target: Place, options: ConvertOptions) -> list[str]:
    """Return the metadata of a document that a new file does not have; see `OutputRecord.lost`."""
    try:
        with BioReader(str(target), cache=0, storage_options=options.target_storage) as made:
            differences = compare_documents(document, made.ome)
    except BfbridgeError as error:
        return [f"all: the metadata of the new file cannot be read ({error})"]
    return [str(difference) for difference in differences]


def output_scalings(br: BioReader, output: Output, options: ConvertOptions) -> list[Scaling]:
    """Decide for each image of a new file how its values change."""
    return [_scaling(br, piece, options) for piece in output.pieces]


def _scaling(br: BioReader, piece: Piece, options: ConvertOptions) -> Scaling:
    view = piece.view(br)
    bits = br.ome.images[piece.series].pixels.significant_bits if options.scaling else None
    return plan_scaling(
        view.dtype, options.dtype, options.scaling, bits, partial(_extremes, br, piece, options)
    )


def _extremes(br: BioReader, piece: Piece, options: ConvertOptions) -> tuple[float, float]:
    """Return the smallest and largest finite value of a piece."""
    view = piece.view(br)
    grid = source_grid(br, piece, (1, 1, 1, 1, 1), options)
    found: list[tuple[float, float]] = []

    def look(key: tuple[slice, ...]) -> None:
        pixels = piece.read(view, key)
        if pixels.dtype.kind == "f":
            pixels = pixels[np.isfinite(pixels)]
        if pixels.size:
            found.append((float(pixels.min()), float(pixels.max())))

    run((partial(look, key) for key in grid), options.workers)
    if not found:
        raise BadArgument(
            f"{br.source_name}: scaling='minmax': image {piece.series} has no finite value."
        )
    return min(low for low, _ in found), max(high for _, high in found)


def source_grid(
    br: BioReader, piece: Piece, target: Sequence[int], options: ConvertOptions
) -> BlockGrid:
    """Blocks of a piece, along the source's chunks and for the target's, within the memory."""
    view = piece.view(br)
    return plan_grid(
        piece.shape, view.chunks, target, view.dtype.itemsize, piece.samples,
        options.memory_bytes // (2 * options.workers),
    )  # fmt: skip


def _prepare(piece: Piece, scaling: Scaling, image: ImageWriter) -> None:
    """Set the size and type of the new image to those of the pixels that will be written."""
    image.shape = piece.shape
    image.dtype = scaling.after
    image.samples_per_pixel = piece.samples


def _image_record(piece: Piece, view: ImageView, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the record of a new image without scaling and checksum."""
    return {
        "series": piece.series,
        "level": piece.level,
        "name": view.name,
        "shape": list(piece.shape),
        "dtype": dtype.name,
        "scaling": None,
        "checksum": None,
    }


class _CopyEncoded:
    """Copies one image whose chunks are stored unchanged."""

    def __init__(self, br: BioReader, piece: Piece, encoded: EncodedCopy, counter: Counter) -> None:
        self._view = piece.view(br)
        self._piece = piece
        self._encoded = encoded
        self._counter = counter

    def jobs(self) -> Iterator[Callable[[], None]]:
        """Jobs that together copy the whole image."""
        return self._encoded.jobs(self._counter.add)

    def describe(self) -> dict[str, Any]:
        """Return the record of the image; pixels that were not decoded have no checksum."""
        return {
            **_image_record(self._piece, self._view, self._view.dtype),
            "copied": self._encoded.describe(),
        }


class _Copy:
    """Copies one image block by block."""

    def __init__(
        self,
        br: BioReader,
        piece: Piece,
        scaling: Scaling,
        image: ImageWriter,
        options: ConvertOptions,
        counter: Counter,
    ) -> None:
        self._view = piece.view(br)
        self._piece = piece
        self._scaling = scaling
        self._image = image
        self._counter = counter
        self._grid = source_grid(br, piece, image.chunks, options)
        self._checksum = PixelChecksum(self._grid) if options.checksum else None

    def jobs(self) -> Iterator[Callable[[], None]]:
        """Jobs that together write the whole image."""
        return (partial(self._block, key) for key in self._grid)

    def _block(self, key: tuple[slice, ...]) -> None:
        pixels = self._piece.read(self._view, key)
        changed = self._scaling(pixels)
        self._image[key] = changed
        if self._checksum is not None:
            self._checksum.add(key, changed)
        self._counter.add(pixels.nbytes)

    def describe(self) -> dict[str, Any]:
        """Return the record of the image."""
        scaling = self._scaling
        record = _image_record(self._piece, self._view, scaling.after)
        if scaling.changes:
            record["scaling"] = scaling.describe()
        if self._checksum is not None:
            record["checksum"] = self._checksum.describe()
        return record
