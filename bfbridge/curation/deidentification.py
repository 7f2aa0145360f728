"""Files without metadata and photographs that may identify a person, a sample or a place.

Nothing is removed from a file: a new one is written with what is on a list
(`bfbridge.ome.checks.identifying`). Then all of it is read back and compared with this list, before
it gets its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bfbridge import registry
from bfbridge.backend import OpenOptions
from bfbridge.backend.findings import limited
from bfbridge.convert.copy.source import convert_file
from bfbridge.convert.locations import folders_of, identity, place_of
from bfbridge.convert.options import ConvertOptions, RunOptions
from bfbridge.convert.plan.sources import find_sources
from bfbridge.curation.cleaned_reader import CleanedReader, Rules, why_left_out
from bfbridge.curation.validation import Validation, backend_of
from bfbridge.errors import (
    BfbridgeError,
    FileMissing,
    TargetExists,
    Unsupported,
    WriteFailed,
)
from bfbridge.files.rearranged import Changes, Rearranged
from bfbridge.files.writing.aside import aside
from bfbridge.limits import DEFAULT_LIMITS, Limits
from bfbridge.ome.checks.compare import compare_documents, values_of
from bfbridge.reader import BioReader
from bfbridge.runtime.arguments import flag
from bfbridge.storage.source import as_source

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.backend import Image, WriterBackend

__all__ = ["Deidentification", "check_deidentified", "deidentify", "deidentify_many"]

_FEW: Final = 6
_CHECK: Final = "find_identifying"
"""Function of a backend's module: yields findings for what is not known to identify nobody."""


@dataclass(frozen=True)
class Deidentification:
    """The result of `deidentify`.

    Attributes
    ----------
    source, target
        The file, and the new one.
    removed
        What the new file does not have: images, and metadata by their place, with the number of
        values. The values themselves are not listed.
    kept
        The metadata of the new file: each place with its values. Names of channels are texts that a
        person must look at.
    findings
        Notes of the check of the new file.
    error
        Why there is no new file, in the result of `deidentify_many`; otherwise None.
    """

    source: str
    target: str
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {
            "source": self.source, "target": self.target, "removed": list(self.removed),
            "kept": list(self.kept), "findings": list(self.findings), "error": self.error,
        }  # fmt: skip


def deidentify(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    label_image: str = "drop",
    series: Sequence[int] | None = None,
    positions: bool = False,
    channel_names: bool = True,
    recompress: bool = False,
    overwrite: bool = False,
    max_workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Deidentification:
    """Write a copy of a file without what may identify a person, a sample or a place.

    These are kept: pixels, sizes and types, pixel sizes, the time step, channel names, colours and
    wavelengths, magnification, numerical aperture, immersion and correction of the objective. All
    else is left out: other names, dates, serial numbers, people, comments, annotations, original
    metadata, plates, regions of interest, ICC profiles, metadata inside JPEG tiles. Text in the
    pixels remains.

    JPEG tiles of a slide are copied without decoding, if the new file can store them. The new file
    is checked as by `check_deidentified` before it gets its name.

    Parameters
    ----------
    source
        Path or URL of a file in any format.
    target
        The new OME-TIFF or OME-Zarr on a disk. Its name must not identify anybody either.
    label_image
        What becomes of labels, macros and thumbnails: "drop" leaves them out, "blank" replaces
        their pixels by zeros.
    series
        Numbers of the images to keep as they are; default: all but labels, macros and thumbnails.
    positions
        Whether the stage positions of planes are kept.
    channel_names
        Whether channel names are kept. Names with dates, paths, addresses or long numbers are not.
    recompress
        Whether JPEG tiles are decoded and stored without loss.
    overwrite
        Whether an existing file may be replaced.
    max_workers
        Threads; default: the CPUs this process may use.
    progress
        Called with (bytes of pixels done, bytes in all), from any thread.

    Returns
    -------
    Deidentification
        What was removed and kept.

    Raises
    ------
    TargetExists
        The target exists, is the source itself (also by another link), or lies inside it.
    Unsupported
        The format of the target cannot be checked, or an image may be a photograph of a slide.
    BadArgument, BadSelection
        An option is not valid, or no image is left.
    WriteFailed
        The new file could not be written, or the check found something in it. There is no new
        file, and an existing one is unchanged.
    """
    rules = Rules(
        label_image, None if series is None else tuple(series),
        flag(positions, "positions"), flag(channel_names, "channel_names"),
    )  # fmt: skip
    place, writer = _writer_for(target)
    options = ConvertOptions(recompress=recompress, max_workers=max_workers)
    options = options.for_writer(writer, str(place))
    with BioReader(source, cache=0, max_workers=max_workers) as br:
        _refuse_own_source([br.source_name, *br.used_files], place)
        removed, kept = _described(br, rules)
        name = br.source_name
    with aside(place, overwrite=flag(overwrite, "overwrite")) as hidden:
        cleaned = Rearranged(source, Changes(wrapper=rules))
        convert_file(cleaned, hidden, options, writer, progress=progress)
        found = check_deidentified(hidden)
        if not found.valid:
            first = found.errors[0]
            raise WriteFailed(
                f"{place}: not written, because the check of the new file found something: "
                f"{first.where}: {first.message}. Please report this as a fault of bfbridge."
            )
    notes = tuple(note.message for note in found.findings)
    return Deidentification(name, str(place), removed, kept, notes)


def deidentify_many(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    suffix: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> list[Deidentification]:
    """De-identify many files into a folder; those that fail are in the result, not raised.

    The new files are called image_0001, image_0002, ..., in the order of their sources' paths. The
    result is the only record of which is which.

    Parameters
    ----------
    sources
        Files, folders, globs and file patterns, as for `bfbridge.convert.convert`.
    folder
        The folder of the new files; it is created if it does not exist.
    suffix
        Suffix of the new files, which selects the format; default: that of `convert`.
    overwrite
        Whether existing files may be replaced.
    **options
        As for `deidentify`.

    Raises
    ------
    FileMissing
        A source does not exist, or matches nothing.
    BadArgument, Unsupported
        An option is not valid, or the format of `suffix` cannot be checked.
    """
    given = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    ending = RunOptions().suffix if suffix is None else RunOptions(suffix=suffix).suffix
    place = place_of(folder)
    _writer_for(place / f"image{ending}")
    found = find_sources(
        [os.fspath(source) for source in given], ConvertOptions(), made={identity(place)}
    )
    if not found:
        raise FileMissing(f"{', '.join(map(str, given))}: there is no image.")
    Path(place).mkdir(parents=True, exist_ok=True)
    results = []
    for number, one in enumerate(found, 1):
        target = place / f"image_{number:04}{ending}"
        if one.error is not None:
            results.append(Deidentification(one.path, str(target), error=one.error))
            continue
        try:
            results.append(deidentify(one.path, target, overwrite=overwrite, **options))
        except BfbridgeError as error:
            results.append(Deidentification(one.path, str(target), error=str(error)))
    return results


def check_deidentified(
    path: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS
) -> Validation:
    """Search a file for everything that is not known to identify nobody.

    Every place of metadata is read: in a TIFF the OME-XML, the tags of all directories with those
    that are not known, the markers of JPEG segments, and bytes that nothing refers to; in a Zarr
    store the attributes of all groups and arrays, OME-XML, and files that are not chunks. Pixels
    are not searched for text.

    Parameters
    ----------
    path
        A TIFF, or a Zarr store that is a folder.
    limits
        Limits on what the file may declare.

    Returns
    -------
    Validation
        It is valid if nothing was found. Errors have the place of each value, not the value itself;
        a note lists the names of channels.

    Raises
    ------
    FileMissing
        There is no file at the path.
    Unsupported
        There is no check for this format, or for a store that is not a folder.
    """
    source = as_source(path)
    if not source.exists():
        raise FileMissing(f"{source.name}: no such file or folder.")
    entry = backend_of(source)
    search = None if entry is None else getattr(entry.load(), _CHECK, None)
    if entry is None or search is None:
        raise Unsupported(
            f"{source.name}: files of this format cannot be checked for metadata that identify "
            "somebody. De-identify the file to OME-TIFF or OME-Zarr."
        )
    findings = tuple(limited(search(source, OpenOptions(limits=limits)), source.name))
    return Validation(source.name, entry.name, findings)


def _writer_for(target: Any) -> tuple[Path, type[WriterBackend]]:
    """Return a target and the backend that writes it, if its files can be checked."""
    place = place_of(target)
    if not isinstance(place, Path):
        raise Unsupported(f"{place}: give a path; files at URLs are not written here.")
    writer = registry.writer_for(str(place))
    zipped = registry.is_zipped_folder(place.name)
    if zipped or not hasattr(registry.find(writer.name).load(), _CHECK):
        raise Unsupported(
            f"{place}: files of this format cannot be checked for metadata that identify somebody. "
            "Give the name of an OME-TIFF or OME-Zarr."
        )
    return place, writer


def _refuse_own_source(sources: Sequence[str], target: Path) -> None:
    """Raise if the target is a file of the source, by any of its names, or is inside of it."""
    own = identity(target)
    for source in sources:
        other = identity(source)
        try:
            same = own == other or os.path.samefile(source, target)
        except OSError:
            same = False
        if same:
            raise TargetExists(
                f"{target}: this is the source itself. Files are never de-identified in place; "
                "choose another name."
            )
        if os.path.isdir(other) and other in folders_of(own):
            raise TargetExists(
                f"{target}: this is inside the source. Choose a folder outside of it."
            )


# ---- what is removed and kept


def _described(br: BioReader, rules: Rules) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a new file will not have, and what it will have."""
    with br._file.reading("metadata") as backend:
        cleaned = CleanedReader(backend, rules)
        before, after = backend.ome(), cleaned.ome()
    removed = list(_removed_images(backend.images, cleaned, rules))
    images = [before.images[number] for number in cleaned.numbers]
    removed += [
        f"{found.path}: {found.count} of {found.total} values"
        for found in compare_documents(before.model_copy(update={"images": images}), after)
    ]
    own = len(br.original_metadata)
    if own:
        removed.append(f"original metadata: {own:,} entries")
    if any(backend.icc_profile(number) for number in range(len(backend.images))):
        removed.append("ICC profiles")
    return tuple(removed), tuple(_kept(after))


def _removed_images(images: Sequence[Image], cleaned: CleanedReader, rules: Rules) -> Iterator[str]:
    for number, image in enumerate(images):
        y, x = image.levels[0].shape[3:]
        reason = why_left_out(image) if rules.series is None else ""
        if number not in cleaned.numbers:
            yield f"image {number}: {reason or 'not chosen'}, {x} x {y} pixels"
        elif reason:
            yield f"pixels of image {number}: {reason}, {x} x {y} pixels"


def _kept(document: OME) -> Iterator[str]:
    for path, values in sorted(values_of(document).items()):
        shown = sorted(value for value in values if value)[:_FEW]
        more = f", ... ({len(values):,} in all)" if len(values) > _FEW else ""
        if shown:
            yield f"{path}: {', '.join(shown)}{more}"
