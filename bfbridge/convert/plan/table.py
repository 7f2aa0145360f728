"""Options for single files of a batch, from a table: CSV, JSON or a list of rows."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from bfbridge.convert.locations import identity, is_url
from bfbridge.convert.options import TARGET_OPTIONS, ConvertOptions, Option, option_of
from bfbridge.errors import BadArgument, FileMissing, UnreadableFile
from bfbridge.runtime.writer_options import refuse_unknown

if TYPE_CHECKING:
    from bfbridge.backend import WriterBackend

__all__ = ["Table", "read_table"]

SOURCE = "source"
_SAME_FOR_ALL = ("split", "target_backend")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Table:
    """Rows of options, by source.

    Parameters
    ----------
    rows
        For each row the source and the options, by name. Values may be text.
    folder
        Folder from which relative sources are counted, beside the working folder.
    name
        Name of the table, for messages.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], folder: str, name: str) -> None:
        self._name = name
        self._rows: list[tuple[str, dict[str, Any]]] = []
        for number, row in enumerate(rows, 1):
            where = f"{name}, row {number}"
            if not isinstance(row, Mapping):
                raise BadArgument(f"{where}: is {row!r:.60}, not names with values.")
            given = {str(key).strip().lstrip("-").replace("-", "_"): v for key, v in row.items()}
            source = given.pop(SOURCE, None)
            if not isinstance(source, (str, os.PathLike)) or not os.fspath(source):
                raise BadArgument(f"{where}: has no source. Name the file in the column 'source'.")
            self._rows.append((_found(os.fspath(source), folder), _parsed(given, where)))

    @property
    def sources(self) -> list[str]:
        """The sources of the rows, in order."""
        return [source for source, _ in self._rows]

    def changes(
        self, found: Sequence[str], options: ConvertOptions, writer: type[WriterBackend]
    ) -> list[dict[str, Any]]:
        """Return, for each file of a batch, the fields of `options` that its row replaces.

        Parameters
        ----------
        found
            The files of the batch.
        options, writer
            The options of all files, and the backend that writes them.

        Raises
        ------
        BadArgument
            A row names no file of the batch, or one that another row names.
        """
        places = [identity(path) for path in found]
        names = [os.path.basename(path.rstrip("/" + os.sep)) for path in found]
        changes: list[dict[str, Any]] = [{} for _ in found]
        taken: dict[int, str] = {}
        for source, given in self._rows:
            place = identity(source)
            numbers = [i for i, one in enumerate(places) if one == place]
            numbers = numbers or [i for i, one in enumerate(names) if one == source]
            if len(numbers) != 1:
                why = "is no source of this batch" if not numbers else "names several sources"
                raise BadArgument(f"{self._name}: {source} {why}. Give a path of a source.")
            (number,) = numbers
            if number in taken:
                raise BadArgument(f"{self._name}: two rows name {source}. Leave one of them out.")
            taken[number] = source
            changes[number] = _fields(given, options, writer)
        return changes


def read_table(value: Any, name: str = "table") -> Table:
    """Read a table of options.

    Parameters
    ----------
    value
        Path of a CSV file with a line of names, or of a JSON file with a list of objects; or a
        list of mappings. "source" names the file, and the others are names of options.
    name
        Name of the option, for messages.

    Raises
    ------
    BadArgument
        A row has no source, or an option does not exist or has an invalid value.
    FileMissing, UnreadableFile
        The file does not exist, or is not CSV or JSON.
    """
    if isinstance(value, Table):
        return value
    if isinstance(value, (list, tuple)):
        return Table(value, "", name)
    if not isinstance(value, (str, os.PathLike)):
        raise BadArgument(f"{name}={value!r:.60}: give the path of a CSV or JSON file, or rows.")
    path = os.fspath(value)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except FileNotFoundError as error:
        raise FileMissing(f"{name}: {path}: no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{name}: {path}: cannot be read as text ({error}).") from error
    return Table(_rows(text, path), os.path.dirname(os.path.abspath(path)), path)


def _rows(text: str, path: str) -> list[dict[str, Any]]:
    if path.lower().endswith(".json"):
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise UnreadableFile(f"{path}: is not valid JSON ({error}).") from error
        if not isinstance(rows, list):
            raise UnreadableFile(f"{path}: is not a list of objects, one for each source.")
        return rows
    lines = csv.reader(io.StringIO(text), delimiter="\t" if path.lower().endswith(".tsv") else ",")
    try:
        head, *rest = [line for line in lines if any(cell.strip() for cell in line)] or [[]]
    except csv.Error as error:
        raise UnreadableFile(f"{path}: is not valid CSV ({error}).") from error
    for number, line in enumerate(rest, 1):
        if len(line) > len(head):
            raise UnreadableFile(
                f"{path}, row {number}: has {len(line)} values for {len(head)} names. Put values "
                "that contain commas in double quotes."
            )
    # A cell without text is an option that is not given.
    return [
        {key: cell.strip() for key, cell in zip(head, line, strict=False) if cell.strip()}
        for line in rest
    ]


def _found(source: str, folder: str) -> str:
    """Return a source, counted from the table's folder if it exists there."""
    if not is_url(source) and folder and os.path.exists(os.path.join(folder, source)):
        return os.path.join(folder, source)
    return source


def _known() -> dict[str, Option]:
    """Return the options that may differ between files of a batch, by name."""
    own = {
        declared.name: option
        for declared in fields(ConvertOptions)
        if (option := option_of(declared)).flags
        and option.affects_file
        and declared.name not in _SAME_FOR_ALL
    }
    return own | dict(TARGET_OPTIONS)


def _parsed(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the options of a row with checked values."""
    known = _known()
    flags = {
        flag.split("/")[0].lstrip("-").replace("-", "_"): name
        for name, option in known.items()
        for flag in option.flags
    }
    named = {name if name in known else flags.get(name, name): v for name, v in given.items()}
    refuse_unknown(named, known, where)
    found = {}
    for name, value in named.items():
        if value is None:
            continue
        try:
            read = _from_text(value, known[name]) if isinstance(value, str) else value
            parse = known[name].parse
            found[name] = read if parse is None else parse(read, name)
        except BadArgument as error:
            raise BadArgument(f"{where}: {error}") from error
    return found


def _from_text(text: str, option: Option) -> Any:
    """Return the value of a text as the command line reads it."""
    kind = option.kind
    if kind in (bool, bool | None):
        if text.lower() not in _WORDS:
            raise BadArgument(f"{text!r} is neither true nor false.")
        return _WORDS[text.lower()]
    if kind in (int, int | None, float):
        with suppress(ValueError):
            return int(text)
        with suppress(ValueError):
            return float(text)
    if "--series" in option.flags and text.replace(",", "").isdigit():
        return [int(part) for part in text.split(",")]
    return text


def _fields(
    given: Mapping[str, Any], options: ConvertOptions, writer: type[WriterBackend]
) -> dict[str, Any]:
    """Return fields of `ConvertOptions` from options by name."""
    own = {name: value for name, value in given.items() if name not in TARGET_OPTIONS}
    target = {name: value for name, value in given.items() if name in TARGET_OPTIONS}
    if target:
        own["target_options"] = writer.normalize_options({**options.target_options, **target})
    return own
