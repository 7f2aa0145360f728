"""Validation of files: the structure by their backend, the pixels by decoding all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bfbridge.backend import OpenOptions
from bfbridge.backend.findings import COPY_AGAIN, Finding, limited
from bfbridge.errors import BfbridgeError, FileMissing, MissingExtra
from bfbridge.limits import DEFAULT_LIMITS, Limits
from bfbridge.reader import BioReader
from bfbridge.registry import BACKENDS, preferred
from bfbridge.runtime.arguments import flag
from bfbridge.storage.source import as_source

if TYPE_CHECKING:
    from bfbridge.registry import Entry
    from bfbridge.storage.source import Source
    from bfbridge.views import ImageView

__all__ = ["Validation", "backend_of", "validate"]

_BAND_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Validation:
    """Result of the validation of a file.

    Attributes
    ----------
    path
        The file, as it was given.
    backend
        Name of the backend that reads it; None if none does.
    findings
        Errors first, then warnings, then notes.
    pixels
        Number of pixels that were decoded; None if decoding was not requested.
    """

    path: str
    backend: str | None
    findings: tuple[Finding, ...]
    pixels: int | None = None

    @property
    def valid(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings with the severity "error"."""
        return self._with("error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings with the severity "warning"."""
        return self._with("warning")

    def _with(self, severity: str) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {
            "path": self.path,
            "valid": self.valid,
            "backend": self.backend,
            "pixels": self.pixels,
            "findings": [finding.as_dict() for finding in self.findings],
        }


def validate(
    path: str | os.PathLike[str],
    *,
    pixels: bool = False,
    allow_outside: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Validation:
    """Check a file against the specification of its format.

    Of OME-TIFF: the directories and where their tiles are, the OME-XML against the schema of OME
    2016-06, the directory of every plane, lower resolutions. Of OME-Zarr: the documents against the
    rules of NGFF 0.4 and 0.5, shapes against scales and positions, labels, plates, the names and
    lengths of chunks, the indexes of shards. Files of other formats are opened.

    Parameters
    ----------
    path
        A path or URL of a file or store.
    pixels
        Whether all pixels of all levels are decoded too.
    allow_outside
        Whether the file may refer to companion files outside its folder.
    storage_options
        For a URL: arguments of its fsspec filesystem.
    limits
        Limits on what the file may declare.

    Returns
    -------
    Validation
        Everything that was found. A file that is damaged is a finding, not an exception.

    Raises
    ------
    FileMissing
        There is no file at the path.
    MissingExtra
        A package that is needed to read the format is not installed.
    """
    decode = flag(pixels, "pixels")
    source = as_source(path, storage_options)
    if not source.exists():
        raise FileMissing(f"{source.name}: no such file or folder.")
    options = OpenOptions(limits=limits, allow_outside=flag(allow_outside, "allow_outside"))
    findings = list(limited(_check_structure(source, options), source.name))
    backend, count = None, None
    try:
        with BioReader(
            path,
            cache=0,
            allow_outside=allow_outside,
            storage_options=storage_options,
            limits=limits,
        ) as br:
            backend = br.backend
            if decode:
                faults, count = _decode(br)
                findings += limited(iter(faults), source.name)
    except MissingExtra:
        raise
    except BfbridgeError as error:
        message = str(error).removeprefix(f"{source.name}: ")
        if not any(finding.severity == "error" for finding in findings):
            findings.append(Finding("error", "unreadable", source.name, message, COPY_AGAIN))
    order = ("error", "warning", "note")
    findings.sort(key=lambda finding: order.index(finding.severity))
    return Validation(source.name, backend, tuple(findings), count)


def _check_structure(source: Source, options: OpenOptions) -> Iterator[Finding]:
    entry = backend_of(source)
    check = None if entry is None else getattr(entry.load(), "validate", None)
    if check is None:
        yield Finding(
            "note",
            "format",
            source.name,
            "there are no rules for this format: the file is opened, its structure is not checked",
        )
        return
    try:
        yield from check(source, options)
    except MissingExtra:
        raise
    except BfbridgeError as error:
        message = str(error).removeprefix(f"{source.name}: ")
        yield Finding("error", "unreadable", source.name, message, COPY_AGAIN)


def backend_of(source: Source) -> Entry | None:
    """Return the first backend that claims the content of a file."""
    try:
        head = source.head()
    except BfbridgeError:
        return None
    return next((e for e in (*preferred(), *BACKENDS) if e.claims(source, head)), None)


def _decode(br: BioReader) -> tuple[list[Finding], int]:
    """Decode every level of every image; return what failed, and the number of decoded pixels."""
    findings: list[Finding] = []
    count = 0
    for image in br.series:
        for level in image.levels:
            place = f"{br.source_name}: image {image.index}, level {level.level}"
            for key in _bands(level):
                failures = _failures(level, key)
                findings += [
                    Finding("error", "pixels", f"{place}, {where}", why, COPY_AGAIN)
                    for where, why in failures
                ]
                count += 0 if failures else _size(key)
    return findings, count


Key = tuple[slice, ...]


def _size(key: Key) -> int:
    size = 1
    for part in key:
        size *= part.stop - part.start
    return size


def _bands(level: ImageView) -> Iterator[Key]:
    """Yield keys of whole rows of chunks, of about 64 MiB each, along Y, X, Z, C, T."""
    y, x, z, c, t = (level.sizes[axis] for axis in "YXZCT")
    height, _, depth, channels, times = _five(level.chunks)
    row = x * height * depth * channels * times * level.dtype.itemsize
    rows = height * max(1, _BAND_BYTES // max(1, row))
    for start_t in range(0, t, times):
        for start_c in range(0, c, channels):
            for start_z in range(0, z, depth):
                for top in range(0, y, rows):
                    yield (
                        slice(top, min(y, top + rows)),
                        slice(0, x),
                        slice(start_z, min(z, start_z + depth)),
                        slice(start_c, min(c, start_c + channels)),
                        slice(start_t, min(t, start_t + times)),
                    )


def _five(sizes: Sequence[int]) -> list[int]:
    return [*sizes, *(1,) * (5 - len(sizes))]


def _failures(level: ImageView, key: Key) -> list[tuple[str, str]]:
    """Decode a band; return the place and the message of each chunk that cannot be decoded."""
    try:
        level[key]
    except BfbridgeError as error:
        whole = error
    else:
        return []
    found = []
    height, width, *_ = _five(level.chunks)
    rows, columns, z, c, t = key
    for top in range(rows.start, rows.stop, height):
        for left in range(0, columns.stop, width):
            part = (
                slice(top, min(rows.stop, top + height)),
                slice(left, min(columns.stop, left + width)),
            )
            try:
                level[(*part, z, c, t)]
            except BfbridgeError as error:
                place = f"y {top}, x {left}, z {z.start}, c {c.start}, t {t.start}"
                found.append((place, str(error)))
    # A failure that does not occur again, such as a request to a server that timed out.
    return found or [(f"y {rows.start}, z {z.start}, c {c.start}, t {t.start}", str(whole))]
