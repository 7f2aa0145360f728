"""``bfbridge convert``."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bfbridge.cli.options import conversion_extra as extra
from bfbridge.cli.options.conversion import ConvertHelp, chosen_options, with_options
from bfbridge.cli.options.help import HelpAll, new_app
from bfbridge.cli.options.values import pairs
from bfbridge.cli.terminal.cluster import connected
from bfbridge.cli.terminal.text import printable_json, say, silenced
from bfbridge.errors import BatchFailed

if TYPE_CHECKING:
    from bfbridge.cli.terminal.stopping import Stopper
    from bfbridge.convert import Conversion

__all__ = ["app"]

app = new_app()

STATUSES = ("done", "kept", "failed")


@app.command(cls=ConvertHelp)
@with_options
def convert(
    paths: extra.Paths,
    resolutions: extra.Resolutions = None,
    tile_width: extra.TileWidth = None,
    tile_height: extra.TileHeight = None,
    chunk_depth: extra.ChunkDepth = None,
    wipp: extra.Wipp = False,
    set_: extra.WriterOption = None,
    option: extra.ReaderOption = None,
    index: extra.Index = False,
    dask: extra.Dask = None,
    dry_run: extra.DryRun = False,
    as_json: extra.AsJson = False,
    quiet: extra.Quiet = False,
    help_all: HelpAll = False,
    **options: Any,
) -> None:
    """Convert images to OME-TIFF, OME-Zarr and other formats.

    A folder or several sources are a batch, which writes a report.
    """
    del help_all
    if len(paths) < (2 if options["table"] is None else 1):
        raise typer.BadParameter("give one or more sources, and the new file or folder.")
    options |= {"tile": _side(options["tile"], tile_height, tile_width), **pairs(set_, lists=True)}
    if chunk_depth is not None:
        side = options.pop("tile") or 1024
        options["chunks"] = (chunk_depth, *(side if isinstance(side, tuple) else (side, side)))
    if resolutions is not None:
        options["pyramid"] = resolutions - 1
    if wipp:
        options = _for_wipp(options)
    if option:
        options["reader_options"] = {"options": pairs(option)}
    if index:
        options["reader_options"] = {**options.get("reader_options", {}), "index": True}
    if as_json and not dry_run:
        raise typer.BadParameter("--json is for --dry-run; a conversion writes a report.")
    if dry_run:
        _show_plan(paths, chosen_options(options), as_json=as_json, quiet=quiet)
    else:
        _run(paths, dask, quiet, chosen_options(options))


def _show_plan(paths: list[str], options: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Print what would be converted; exit with an error if a conversion would fail."""
    from bfbridge.cli.terminal.planned import plan_lines
    from bfbridge.convert import plan_conversion

    *sources, target = paths
    plan = plan_conversion(sources[0] if len(sources) == 1 else sources, target, **options)
    if as_json:
        text = json.dumps(plan.as_dict(), indent=2, ensure_ascii=False, default=str)
        typer.echo(printable_json(text))
    elif not quiet:
        for line in plan_lines(plan):
            say(line)
    for planned in plan.failed:
        say(f"would fail: {planned.failure}", err=True)
    if plan.failed:
        raise typer.Exit(1)


def _for_wipp(options: dict[str, Any]) -> dict[str, Any]:
    """Add the options of WIPP's files, and refuse others of the same names."""
    from bfbridge.wipp import CONVERT_OPTIONS

    wanted = CONVERT_OPTIONS.items()
    given = [name for name, value in wanted if options.get(name) not in (None, False, value)]
    if given:
        raise typer.BadParameter(f"--wipp sets {', '.join(given)}; leave out one of them.")
    return options | CONVERT_OPTIONS


def _side(tile: int | None, height: int | None, width: int | None) -> Any:
    if height is None and width is None:
        return tile
    other = tile or height or width
    return (height or other, width or other)


def _run(paths: list[str], dask: str | None, quiet: bool, options: dict[str, Any]) -> None:
    from bfbridge.cli.terminal.progress import watch
    from bfbridge.cli.terminal.stopping import Stopper
    from bfbridge.convert import convert as convert_images

    *sources, target = paths
    # Without sources, those of the table are converted.
    source: Any = sources[0] if len(sources) == 1 else sources
    stopper = Stopper()
    with _signals(stopper), connected(dask) as client, silenced() if quiet else nullcontext():
        try:
            with watch(stopper, quiet=quiet) as watcher:
                done = convert_images(source, target, watcher=watcher, client=client, **options)
        except KeyboardInterrupt:
            say(
                "interrupted: unfinished files were removed, complete files are kept. Give the "
                "same command with --resume to continue.",
                err=True,
            )
            raise typer.Exit(128 + (stopper.signal or signal.SIGINT)) from None
        except BatchFailed as error:
            done = error.conversion
            if quiet:
                _show_failures(done)
                raise
    if not quiet:
        _summarize(done)
    if done.failed:
        raise typer.Exit(1)


def _show_failures(done: Conversion) -> None:
    for record in done.failed:
        say(f"failed: {record.failure}", err=True)


@contextmanager
def _signals(stopper: Stopper) -> Iterator[None]:
    """End a run at a safe point on Ctrl-C or a scheduler's SIGTERM."""
    before = {}
    # Only the main thread can set handlers; in other threads, those of the caller remain.
    with suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stopper)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _summarize(done: Conversion) -> None:
    """Print a summary; the last line has the counts."""
    counts = {status: sum(r.status == status for r in done.files) for status in STATUSES}
    verified = _is_verified(done)
    if len(done.files) == 1 and done.report is None and counts["done"]:
        say(f"{done.target}: {_amount(done)}{', verified' if verified else ''}")
        for output in done.files[0].outputs:
            if output.crate is not None:
                say(f"certificate: {output.crate}")
        return
    if counts["done"]:
        files = "" if counts["done"] == 1 else f" from {counts['done']} files"
        say(f"{done.target}: {_amount(done, files)}")
    left = [Path(path).name for path, reason in done.skipped.items() if "no image" in reason]
    if left:
        names = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
        say(f"skipped, not images: {len(left)} ({names}); the report has the reasons")
    if done.report is not None:
        say(f"report: {done.report}")
    words = {"done": "converted", "kept": "kept", "failed": "failed"}
    parts = [f"{counts[status]} {words[status]}" for status in STATUSES if counts[status]]
    say(", ".join([*parts, *(["verified"] if verified else [])]) or "nothing to do")


def _amount(done: Conversion, files: str = "") -> str:
    """Images, pixels and throughput of what was converted."""
    seconds = done.seconds - done.search_seconds
    rate = done.pixel_bytes / 1e6 / max(seconds, 1e-9)
    return (
        f"{done.images} image{'' if done.images == 1 else 's'}{files}, "
        f"{done.pixel_bytes / 1e6:,.1f} MB of pixels in {seconds:.1f} s ({rate:,.0f} MB/s)"
    )


def _is_verified(done: Conversion) -> bool:
    """Whether every new file was compared with its source."""
    outputs = [output for record in done.files if record.is_complete for output in record.outputs]
    return bool(outputs) and all(output.verified for output in outputs)
