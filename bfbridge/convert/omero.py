"""A mapping of new files to names and containers, for ``omero import --bulk``.

OMERO's page "Bulk imports" describes the two files: a CSV file without a header, and a YAML file
with its columns and the options of the import. OMERO resolves relative paths from the folder of
the YAML file.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from bfbridge.convert.locations import Place, Url, place_of
from bfbridge.convert.options import RunOptions
from bfbridge.convert.plan.naming import base_name
from bfbridge.convert.reports.record import FileRecord
from bfbridge.errors import BadArgument, TargetExists
from bfbridge.storage.atomic import write_bytes_atomically

__all__ = ["COLUMNS", "check_mapping", "settings_of", "write_mapping"]

COLUMNS = ("target", "name", "path")


def settings_of(path: Path) -> Path:
    """Return the path of the YAML file that belongs to a CSV file."""
    return path.with_suffix(".yml")


def check_mapping(target: str | os.PathLike[str], run: RunOptions) -> None:
    """Refuse a mapping that could not be written after the conversion.

    Parameters
    ----------
    target
        The new file, or the folder of the new files.
    run
        The options of the run.

    Raises
    ------
    BadArgument
        The new files are at a URL.
    TargetExists
        The CSV or YAML file exists, and neither ``overwrite`` nor ``resume`` is set.
    """
    if run.omero_csv is None:
        return
    if isinstance(place_of(target), Url):
        raise BadArgument(
            f"{target}: omero_csv= (--omero-csv) lists files on disks; OMERO imports no URLs."
        )
    if run.overwrite or run.resume:
        return
    for path in (run.omero_csv, settings_of(run.omero_csv)):
        if path.exists():
            raise TargetExists(
                f"{path}: the file exists. Choose another name for omero_csv= (--omero-csv), or "
                "replace it with overwrite=True (--overwrite)."
            )


def write_mapping(
    path: Path | None, records: Sequence[FileRecord], target: Place, *, is_folder: bool
) -> None:
    """Write the CSV and YAML files for the complete files of a run.

    Images go to a dataset, and plates to a screen, named after the folder of the new file: for a
    batch the path from its folder, such as "out/day1".

    Parameters
    ----------
    path
        The CSV file; None writes nothing.
    records
        What was converted.
    target
        The new file, or the folder of the new files.
    is_folder
        Whether `target` is the folder of a batch.

    Raises
    ------
    WriteFailed
        A file cannot be written.
    """
    if path is None:
        return
    path = Path(os.path.abspath(path))
    place = Path(os.path.abspath(target))
    rows = io.StringIO(newline="")
    csv.writer(rows, lineterminator="\n").writerows(
        _rows(records, place if is_folder else place.parent, path.parent)
    )
    # Names that are not UTF-8 contain lone surrogates.
    write_bytes_atomically(path, rows.getvalue().encode("utf-8", "surrogateescape"))
    settings = [
        "---",
        f"path: {json.dumps(path.name, ensure_ascii=False)}",
        "columns:",
        *(f"  - {column}" for column in COLUMNS),
        "# In place: OMERO links the files, which must stay where they are.",
        'transfer: "ln_s"',
        'continue: "true"',
    ]
    text = "\n".join(settings) + "\n"
    write_bytes_atomically(settings_of(path), text.encode("utf-8", "surrogateescape"))


def _rows(records: Sequence[FileRecord], base: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield the rows: the container, the name, and the path from `folder` or the root."""
    for record in records:
        if not record.is_complete:
            continue
        for output in record.outputs:
            made = Path(os.path.abspath(place_of(output.target)))
            inner = made.parent.relative_to(base) if made.is_relative_to(base) else Path()
            container = "/".join((base.name or "images", *inner.parts))
            shown = made.relative_to(folder) if made.is_relative_to(folder) else made
            # A relative path must not be taken for an option.
            path = f"./{shown}" if str(shown).startswith("-") else str(shown)
            kind = "Screen" if output.plate else "Dataset"
            yield f"{kind}:name:{container}", base_name(made.name), path
