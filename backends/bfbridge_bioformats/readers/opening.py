"""From a file name to an open Java reader: detection, options, set-up."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bfbridge.backend import OpenOptions
from bfbridge.errors import BadArgument, FileMissing, UnreadableFile
from bfbridge_bioformats.files.virtual_files import Files
from bfbridge_bioformats.readers.pool import JavaReader
from bfbridge_bioformats.runtime.machine import machine

__all__ = ["Recipe", "check_file", "recipe_for"]

_OPTION_NAME = re.compile(r"[a-z0-9]+\.[a-z_.]+")
_known_options: frozenset[str] | None = None


class Recipe:
    """Arguments that open any number of equivalent Java readers of one file.

    Parameters
    ----------
    files
        The files that Bio-Formats opens.
    reader_class
        The Java class that recognised it.
    options
        How the user opened the file.
    """

    def __init__(self, files: Files, reader_class: Any, options: OpenOptions) -> None:
        self.files = files
        self.reader_class = reader_class
        self._group_files = options.group_files
        self._settings = dict(options.backend_options)

    def make(self, store: Any = None, table: Any = None) -> tuple[JavaReader, float]:
        """Open a reader; return it with the seconds that setId took.

        Java exceptions are not converted. `store` is the bfbridge.Store to fill; `table` is the
        FileMap to read through, or None for a new one.
        """
        table = self.files.table() if table is None else table
        with self.files.using(table):
            java = self.reader_class()
            try:
                java.setFlattenedResolutions(False)
                if self._group_files is not None:
                    java.setGroupFiles(self._group_files)
                java.setMetadataOptions(_metadata_options(self._settings))
                if store is not None:
                    store.fillFrom(java)
                begun = time.monotonic()
                machine.type("bfbridge.Store").open(java, self.files.main_id, store)
                return JavaReader(java, table), time.monotonic() - begun
            except BaseException:
                java.close()
                self.files.release(table)
                raise


def check_file(path: Path) -> None:
    """Refuse files that no reader can open.

    Raises
    ------
    FileMissing
        The file does not exist, and the name is not that of a synthetic image (``.fake``).
    UnreadableFile
        A folder, a pipe or device, or a file of 0 bytes.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        if path.name.lower().endswith(".fake"):
            return
        raise FileMissing(f"{path}: no such file.") from error
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{path}: cannot be opened ({error}).") from error
    if stat.S_ISDIR(found.st_mode):
        raise UnreadableFile(f"{path}: this is a folder; give the path of an image file in it.")
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableFile(f"{path}: this is a pipe or a device, not a file.")
    if found.st_size == 0 and not path.name.lower().endswith(".fake"):
        raise UnreadableFile(f"{path}: the file is empty (0 bytes).")
    if not os.access(path, os.R_OK):
        raise UnreadableFile(f"{path}: no permission to read this file.")


def recipe_for(files: Files, options: OpenOptions, table: Any) -> Recipe:
    """Find the reader class that recognises the main file. Java exceptions are not converted.

    Parameters
    ----------
    files, options
        As for the recipe.
    table
        The FileMap to read through; released if no reader recognises the file.

    Raises
    ------
    BadArgument
        No reader has an option that is in `options.backend_options`.
    """
    try:
        _refuse_unknown(options.backend_options)
        # Not the instance of ImageReader: a new one has no state of other files.
        with files.using(table):
            name = machine.type("bfbridge.Formats").readerOf(files.main_id, table)
    except BaseException:
        files.release(table)
        raise
    return Recipe(files, machine.type(str(name)), options)


def _metadata_options(settings: Mapping[str, Any]) -> Any:
    options = machine.type("loci.formats.in.DynamicMetadataOptions")()
    for key, value in settings.items():
        options.set(key, str(value).lower() if isinstance(value, bool) else str(value))
    return options


def _refuse_unknown(settings: Mapping[str, Any]) -> None:
    if not settings:
        return
    known = known_options()
    for key in settings:
        if key not in known:
            raise BadArgument(
                f"options: {key!r} is not an option of any Bio-Formats reader. There are: "
                f"{', '.join(sorted(known))}."
            )


def known_options() -> frozenset[str]:
    """Return the names of all options of the readers in this jar. Call inside ``attached``."""
    global _known_options
    if _known_options is None:
        ask = machine.type("loci.formats.FormatReader").class_.getDeclaredMethod(
            "getAvailableOptions"
        )
        ask.setAccessible(True)
        base = machine.type("loci.formats.FormatReader")
        names: set[str] = set()
        for reader in machine.type("loci.formats.ImageReader")().getReaders():
            if isinstance(reader, base):
                names.update(str(name) for name in ask.invoke(reader))
            names.update(_declared_options(reader))
        _known_options = frozenset(names)
    return _known_options


def _declared_options(reader: Any) -> Iterator[str]:
    """Yield the option names that a reader defines as constants; its list is incomplete."""
    for field in reader.getClass().getFields():
        if str(field.getName()).endswith("_KEY") and str(field.getType().getName()).endswith(
            ".String"
        ):
            name = str(field.get(None))
            if _OPTION_NAME.fullmatch(name):
                yield name
