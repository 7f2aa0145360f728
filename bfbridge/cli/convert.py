"""``bfbridge convert``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bfbridge.cli.text import say, silenced
from bfbridge.errors import BadArgument, BatchFailed

if TYPE_CHECKING:
    from bfbridge.cli.stopping import Stopper
    from bfbridge.convert import Conversion

__all__ = ["convert", "pairs"]

STATUSES = ("done", "kept", "failed")

Text = str | None
Whole = int | None


def _option(*names: str, help: str, **more: Any) -> Any:  # noqa: A002 - typer's word
    return typer.Option(*names, help=help, **more)


def convert(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="IN... OUT",
            help="Files, folders, globs or file patterns; then the new file, or a folder. A new "
            "file's name may have %s %n (image), %c %w (channel), %z, %t, %A: a file for each.",
        ),
    ],
    overwrite: Annotated[bool, _option("--overwrite", help="Replace what exists.")] = False,
    resume: Annotated[
        bool, _option("--resume", help="Continue an earlier run; redo nothing that is complete.")
    ] = False,
    suffix: Annotated[
        str, _option("--suffix", help="Of new files in a folder: .ome.tif, .ome.zarr, ...")
    ] = ".ome.tif",
    series: Annotated[
        list[str] | None,
        _option("--series", "-s", help="Number or name of an image; more with commas or repeated."),
    ] = None,
    level: Annotated[
        int, _option("--level", min=0, help="Resolution that is read; 0 is full.")
    ] = 0,
    channels: Annotated[
        Text, _option("--channels", "--channel", help="Numbers (0,2 or 0:3) or names.")
    ] = None,
    z: Annotated[Text, _option("--z", help="Slices: 3, 0:10, 0:10:2.")] = None,
    t: Annotated[Text, _option("--t", "--timepoint", help="Time points: 3, 0:10, 0:10:2.")] = None,
    crop: Annotated[Text, _option("--crop", help="X,Y,WIDTH,HEIGHT in pixels.")] = None,
    dtype: Annotated[
        Text, _option("--dtype", help="Type of the new pixels, such as uint8.")
    ] = None,
    scaling: Annotated[
        Text, _option("--scaling", help="How values become it: full, minmax, clip or LOW:HIGH.")
    ] = None,
    split: Annotated[
        Text,
        _option(
            "--split", help="A file for each: some of series,c,t,z with commas; named x_c0_t1."
        ),
    ] = None,
    pyramid: Annotated[
        bool | None,
        _option("--pyramid/--no-pyramid", help="Write lower resolutions; default: if they fit in."),
    ] = None,
    resolutions: Annotated[
        Whole,
        _option(
            "--resolutions",
            "--pyramid-resolutions",
            min=1,
            help="How many resolutions, full size counted.",
        ),
    ] = None,
    downsample: Annotated[
        str,
        _option("--downsample", "--downsample-type", help="mean, nearest or mode (label images)."),
    ] = "mean",
    compression: Annotated[
        Text, _option("--compression", "-c", help="Such as zstd, zstd:5, deflate, none.")
    ] = None,
    tile: Annotated[Whole, _option("--tile", min=1, help="Side of the stored tiles.")] = None,
    tile_width: Annotated[
        Whole, _option("--tile-width", "--tilex", min=1, help="Their width.")
    ] = None,
    tile_height: Annotated[
        Whole, _option("--tile-height", "--tiley", min=1, help="Their height.")
    ] = None,
    chunk_depth: Annotated[
        Whole, _option("--chunk-depth", min=1, help="Slices of an OME-Zarr chunk.")
    ] = None,
    shards: Annotated[Whole, _option("--shards", min=1, help="Side of OME-Zarr's shards.")] = None,
    version: Annotated[Text, _option("--ngff-version", help="Of OME-Zarr: 0.4 or 0.5.")] = None,
    set_: Annotated[
        list[str] | None, _option("--set", metavar="NAME=VALUE", help="More options of the target.")
    ] = None,
    verify: Annotated[
        bool, _option("--verify", help="Read source and target again and compare the pixels.")
    ] = False,
    checksum: Annotated[
        bool, _option("--checksum/--no-checksum", help="Note the pixels' checksum in the report.")
    ] = True,
    original_metadata: Annotated[
        bool, _option("--original-metadata", help="Keep the format's own metadata as annotations.")
    ] = False,
    strict_metadata: Annotated[
        bool,
        _option("--strict-metadata", help="Refuse metadata that break the OME schema."),
    ] = False,
    hcs: Annotated[
        bool | None,
        _option("--hcs/--no-hcs", help="OME-Zarr as a plate; default: of several wells."),
    ] = None,
    recompress: Annotated[
        bool, _option("--recompress", help="Never copy encoded tiles as they are.")
    ] = False,
    durable: Annotated[bool, _option("--durable", help="Flush to disk before naming.")] = False,
    jobs: Annotated[
        int, _option("--jobs", "-j", min=1, help="Processes, started where one leaves CPUs idle.")
    ] = 1,
    part: Annotated[
        Text, _option("--part", "--slurm-array", metavar="I/N", help="Only the I-th of N parts.")
    ] = None,
    dask: Annotated[
        Text, _option("--dask", metavar="ADDRESS", help="Of a Dask scheduler, tcp://...")
    ] = None,
    max_workers: Annotated[
        Whole, _option("--max-workers", min=1, help="Threads; default: the CPUs at hand.")
    ] = None,
    memory: Annotated[Text, _option("--memory", help="For pixels held at once: 512M, 2G.")] = None,
    pattern: Annotated[
        Text, _option("--pattern", help="File pattern that names in folders must match.")
    ] = None,
    recursive: Annotated[
        bool, _option("--recursive/--no-recursive", help="Search folders in folders.")
    ] = True,
    group: Annotated[
        bool, _option("--group/--nogroup", help="Convert files that belong together once.")
    ] = True,
    report: Annotated[
        Text, _option("--report", help="Where the JSON report goes; default: a batch's folder.")
    ] = None,
    quiet: Annotated[bool, _option("--quiet", "-q", help="Print nothing but errors.")] = False,
    backend: Annotated[Text, _option("--backend", help="That reads; default: by content.")] = None,
    target_backend: Annotated[
        Text, _option("--target-backend", help="That writes; default: by suffix.")
    ] = None,
    option: Annotated[
        list[str] | None, _option("--option", metavar="NAME=VALUE", help="Options of the reader.")
    ] = None,
    storage: Annotated[
        list[str] | None,
        _option(
            "--storage-option",
            metavar="NAME=VALUE",
            help="For URLs: options of their fsspec filesystem, such as anon=true or endpoint_url="
            "https://... Keys and secrets are better kept where its package looks for them.",
        ),
    ] = None,
    target_storage: Annotated[
        list[str] | None,
        _option(
            "--target-storage-option",
            metavar="NAME=VALUE",
            help="The same for the target alone, where it differs.",
        ),
    ] = None,
) -> None:
    """Convert images, block by block, into OME-TIFF, OME-Zarr and others; batches with a report."""
    if len(paths) < 2:
        raise typer.BadParameter("name what is converted, and the new file or folder.")
    options = {
        "compression": compression, "tile": _side(tile, tile_height, tile_width), "shards": shards,
        "version": version, "hcs": hcs, **pairs(set_),
    }  # fmt: skip
    if chunk_depth is not None:
        side = options.pop("tile") or 1024
        options["chunks"] = (chunk_depth, *(side if isinstance(side, tuple) else (side, side)))
    wanted: dict[str, Any] = {
        "series": _series(series), "level": level, "channels": channels, "z": z, "t": t,
        "crop": crop, "dtype": dtype, "scaling": scaling, "split": split,
        "pyramid": pyramid if resolutions is None else resolutions - 1,
        "downsample": downsample, "verify": verify, "checksum": checksum,
        "original_metadata": original_metadata, "strict_metadata": strict_metadata,
        "recompress": recompress, "durable": durable,
        "max_workers": max_workers, "memory": memory, "backend": backend,
        "target_backend": target_backend, "overwrite": overwrite, "suffix": suffix,
        "pattern": pattern, "recursive": recursive, "group": group, "resume": resume,
        "jobs": jobs, "part": part,
        "reader_options": {"options": pairs(option)} if option else None,
        "storage_options": pairs(storage),
        "target_storage_options": pairs(target_storage) if target_storage else None,
        **{name: value for name, value in options.items() if value is not None},
    }  # fmt: skip
    _run(paths, report, dask, quiet, wanted)


def _run(
    paths: list[str], report: str | None, dask: str | None, quiet: bool, wanted: dict[str, Any]
) -> None:
    from bfbridge.cli.progress import watch
    from bfbridge.cli.stopping import Stopper
    from bfbridge.convert import convert as convert_images

    *sources, target = paths
    source: Any = sources[0] if len(sources) == 1 else sources
    stopper = Stopper()
    with _signals(stopper), _cluster(dask) as client, silenced() if quiet else nullcontext():
        try:
            with watch(stopper, quiet=quiet) as watcher:
                done = convert_images(
                    source, target, report=report, watcher=watcher, client=client, **wanted
                )
        except KeyboardInterrupt:
            say(
                "interrupted: what was under way was removed, what is complete stays. Give the "
                "same command with --resume to go on.",
                err=True,
            )
            raise typer.Exit(128 + (stopper.signal or signal.SIGINT)) from None
        except BatchFailed as error:
            done = error.conversion
            if quiet:
                _tell_failures(done)
                raise
    if not quiet:
        _tell(done)
    if done.failed:
        raise typer.Exit(1)


def _tell_failures(done: Conversion) -> None:
    for record in done.failed:
        say(f"failed: {record.failure}", err=True)


@contextmanager
def _signals(stopper: Stopper) -> Iterator[None]:
    """Let Ctrl-C and a scheduler's SIGTERM end a run in good order."""
    before = {}
    # Only the main thread may set handlers; elsewhere the caller's stay.
    with suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stopper)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    if address is None:
        yield None
        return
    try:
        import distributed
    except ImportError as error:
        from bfbridge.errors import MissingExtra

        raise MissingExtra(
            "--dask needs Dask's distributed scheduler. Install it with: python -m pip install "
            "'dask[distributed]'"
        ) from error
    cluster: Any = distributed
    try:
        client = cluster.Client(address)
    except (OSError, ValueError) as error:
        raise BadArgument(f"--dask {address}: no scheduler answers there ({error}).") from error
    with client:
        yield client


def _tell(done: Conversion) -> None:
    """Say what was done; the last line has the counts."""
    counts = {status: sum(r.status == status for r in done.files) for status in STATUSES}
    proved = _is_proved(done)
    if len(done.files) == 1 and done.report is None and counts["done"]:
        say(f"{done.target}: {_amount(done)}{', verified' if proved else ''}")
        return
    if counts["done"]:
        files = "" if counts["done"] == 1 else f" from {counts['done']} files"
        say(f"{done.target}: {_amount(done, files)}")
    left = [Path(path).name for path, reason in done.skipped.items() if "no image" in reason]
    if left:
        names = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
        say(f"left out, as no images: {len(left)} ({names}); the report has the reasons")
    if done.report is not None:
        say(f"report: {done.report}")
    words = {"done": "converted", "kept": "kept", "failed": "failed"}
    told = [f"{counts[status]} {words[status]}" for status in STATUSES if counts[status]]
    say(", ".join([*told, *(["verified"] if proved else [])]) or "nothing to do")


def _amount(done: Conversion, files: str = "") -> str:
    """Images, pixels and throughput of what was converted."""
    seconds = done.seconds - done.search_seconds
    rate = done.pixel_bytes / 1e6 / max(seconds, 1e-9)
    return (
        f"{done.images} image{'' if done.images == 1 else 's'}{files}, "
        f"{done.pixel_bytes / 1e6:,.1f} MB of pixels in {seconds:.1f} s ({rate:,.0f} MB/s)"
    )


def _is_proved(done: Conversion) -> bool:
    """Whether every new file was compared with its source."""
    outputs = [output for record in done.files if record.is_complete for output in record.outputs]
    return bool(outputs) and all(output.verified for output in outputs)


def _series(given: list[str] | None) -> list[int | str] | None:
    """Read numbers with commas; anything else is a name, whole."""
    if not given:
        return None
    chosen: list[int | str] = []
    for text in given:
        parts = text.split(",")
        if all(part.strip().isdigit() for part in parts):
            chosen.extend(int(part) for part in parts)
        else:
            chosen.append(text)
    return chosen


def _side(tile: int | None, height: int | None, width: int | None) -> Any:
    if height is None and width is None:
        return tile
    other = tile or height or width
    return (height or other, width or other)


def pairs(given: list[str] | None) -> dict[str, Any]:
    """Read NAME=VALUE; numbers, true and false become what they are in Python."""
    pairs: dict[str, Any] = {}
    for text in given or []:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise BadArgument(f"{text!r}: give NAME=VALUE.")
        pairs[name] = {"true": True, "false": False}.get(value.lower(), value)
        with suppress(ValueError):
            pairs[name] = int(value)
    return pairs
