"""The WIPP plugin: ``python -m bfbridge.wipp --inpDir ... --filePattern ... --outDir ...``.

Converts a collection of vendor images into files of one channel and one time point each, the format
of the platform. Unlike earlier converters it converts all other files if one fails, then exits with
an error, and it does not convert pyramid levels as images.

Environment: POLUS_IMG_EXT (.ome.tif or .ome.zarr), POLUS_LOG (level of the log), NUM_WORKERS
(processes), NUM_THREADS (threads in all).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bfbridge.convert import Conversion, Watcher, convert_many
from bfbridge.convert.copy.source import open_source
from bfbridge.convert.options import ConvertOptions, read_options
from bfbridge.convert.plan.pieces import plan_outputs
from bfbridge.convert.plan.sources import find_sources, name_targets
from bfbridge.convert.reports.record import FileRecord
from bfbridge.convert.reports.writer import REPORT_NAME
from bfbridge.errors import BadArgument, BfbridgeError, FileMissing
from bfbridge.runtime.terminal import printable

__all__ = ["main"]

LOG_FORMAT = "%(asctime)s - %(name)-8s - %(levelname)-8s - %(message)s"
LOG_DATE = "%d-%b-%y %H:%M:%S"
EXTENSIONS = (".ome.tif", ".ome.zarr")
WIPP_TIFF = {"tile": 1024, "whole_tiles": True, "compression": "lzw", "pyramid": False}
"""Options of the files that the platform makes of uploads."""
SPLIT = "series,c,t"
CONVERT_OPTIONS = {"split": SPLIT, "suffix": EXTENSIONS[0], **WIPP_TIFF}
"""Options of `bfbridge.convert` that make such files."""

log = logging.getLogger("bfbridge.wipp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the plugin and return its exit code: 0, or 1 if anything failed.

    Parameters
    ----------
    arguments
        Arguments of the command line. Default: those of the process.
    """
    level = os.environ.get("POLUS_LOG", "INFO").upper()
    known = logging.getLevelNamesMapping()
    logging.basicConfig(level=known.get(level, logging.INFO), force=True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_OneLine(LOG_FORMAT, LOG_DATE))
    if not log.isEnabledFor(logging.DEBUG):
        # Warnings of Bio-Formats during reading would hide the messages of the platform.
        logging.getLogger("bfbridge.java").setLevel(logging.ERROR)
    parsed = _parser().parse_args(arguments)
    for name, value in vars(parsed).items():
        log.info("%s = %s", name, value)
    try:
        return _run(parsed)
    except BfbridgeError as error:
        log.error("%s", error)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bfbridge.wipp",
        description="Convert a collection of images into OME-TIFF or OME-Zarr.",
    )
    parser.add_argument("--inpDir", type=Path, required=True, help="Folder of the images.")
    parser.add_argument("--filePattern", default=".*", help="File pattern that names must match.")
    parser.add_argument(
        "--fileExtension", type=_extension, default=None,
        help="Of the new files: .ome.tif or .ome.zarr. Default: POLUS_IMG_EXT.",
    )  # fmt: skip
    parser.add_argument("--outDir", type=Path, required=True, help="Folder for the new files.")
    parser.add_argument(
        "--preview", nargs="?", const=True, default=False, type=_truth,
        help="Only write preview.json, which names the files that would be made.",
    )  # fmt: skip
    return parser


def _truth(text: str) -> bool:
    """Parse a boolean given as a value, as the platform passes it."""
    lowered = text.strip().lower()
    if lowered in ("true", "1", "yes"):
        return True
    if lowered in ("false", "0", "no", ""):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _extension(text: str) -> str | None:
    wanted = text.strip().lower()
    if not wanted or wanted == "default":
        return None
    if wanted not in EXTENSIONS:
        raise argparse.ArgumentTypeError(f"{text!r}: choose one of {', '.join(EXTENSIONS)}")
    return wanted


def _run(parsed: argparse.Namespace) -> int:
    extension = parsed.fileExtension or os.environ.get("POLUS_IMG_EXT") or EXTENSIONS[0]
    if extension not in EXTENSIONS:
        raise BadArgument(f"POLUS_IMG_EXT={extension!r}: choose one of {', '.join(EXTENSIONS)}.")
    if not parsed.inpDir.is_dir():
        raise FileMissing(f"--inpDir {parsed.inpDir}: this folder does not exist.")
    if not parsed.outDir.is_dir():
        raise FileMissing(
            f"--outDir {parsed.outDir}: this folder does not exist; the platform must make it."
        )
    images = parsed.inpDir / "images"
    folder = images if images.is_dir() else parsed.inpDir
    pattern = parsed.filePattern.strip() or ".*"
    options: dict[str, Any] = {"split": SPLIT, "max_workers": _number("NUM_THREADS")}
    if extension == ".ome.tif":
        options |= WIPP_TIFF
    if parsed.preview:
        return _preview(folder, pattern, parsed.outDir, extension, read_options(options)[0])
    done = convert_many(
        str(folder), parsed.outDir, **options, suffix=extension, pattern=pattern, recursive=False,
        overwrite=True, jobs=_number("NUM_WORKERS") or 1, watcher=_Log(),
        report=parsed.outDir / REPORT_NAME,
    )  # fmt: skip
    return _log_result(done)


def _number(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise BadArgument(f"{name}={text!r}: give a number, 1 or more.")
    return int(text)


def _preview(folder: Path, pattern: str, out: Path, extension: str, options: ConvertOptions) -> int:
    """Write the names of the files that would be made."""
    found = find_sources([str(folder)], options, pattern=pattern, recursive=False)
    names: list[str] = []
    failed = 0
    targets = name_targets(found, out, extension, options.split)
    for source, target in zip(found, targets, strict=True):
        if source.error is not None:
            log.error("%s", FileRecord(source.path, "", error=source.error).failure)
            failed += 1
            continue
        with open_source(source.path, options) as br:
            names.extend(output.target.name for output in plan_outputs(br, target, options))
    preview = {"filePattern": pattern, "outDir": names}
    (out / "preview.json").write_text(json.dumps(preview, indent=4) + "\n", encoding="utf-8")
    log.info("preview.json names %d files", len(names))
    if failed:
        log.warning("%d files cannot be read; a run would fail for them", failed)
    return 0


class _OneLine(logging.Formatter):
    """Escapes characters in names and metadata that control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        return printable(super().format(record))


class _Log(Watcher):
    """Logs one line for each file."""

    def begin(self, count: int) -> None:
        log.info("%d images to convert", count)

    def ended(self, number: int, record: FileRecord) -> None:
        if record.status == "failed":
            log.error("failed: %s", record.failure)
        else:
            names = ", ".join(Path(output.target).name for output in record.outputs)
            log.info("%s -> %s in %.1f s", Path(record.source).name, names, record.seconds)


def _log_result(done: Conversion) -> int:
    log.info(
        "%d images made of %d files, %d failed; report: %s",
        done.images, len(done.files), len(done.failed), done.report,
    )  # fmt: skip
    return 1 if done.failed else 0


if __name__ == "__main__":
    sys.exit(main())
