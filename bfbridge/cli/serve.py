"""``bfbridge serve``."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Any

import typer

from bfbridge.cli.options import pairs
from bfbridge.cli.text import say, warn
from bfbridge.errors import INSTALL, BadArgument, MissingExtra

__all__ = ["serve"]


def _option(*names: str, help: str, **more: Any) -> Any:  # noqa: A002 - typer's word
    return typer.Option(*names, help=help, **more)


def serve(
    sources: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders, URLs.")],
    host: Annotated[str, _option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, _option("--port", "-p", help="0 is any free port.")] = 8000,
    token: Annotated[
        str | None, _option("--token", help="Part of every URL. Default: a random one.")
    ] = None,
    no_token: Annotated[
        bool, _option("--no-token", help="Whoever reaches the port may read the files.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        _option("--allow-host", metavar="NAME", help="Further name of this server."),
    ] = None,
    cors: Annotated[
        list[str] | None,
        _option("--cors", metavar="ORIGIN", help="Sites whose pages may read; '*' is any."),
    ] = None,
    compression: Annotated[
        str, _option("--compression", help="Of Zarr chunks: none, zstd, blosc-zstd, blosc-lz4.")
    ] = "none",
    cache: Annotated[int, _option("--cache", help="MiB of decoded tiles and replies.")] = 256,
    open_files: Annotated[int, _option("--open-files", help="Most files kept open.")] = 32,
    timeout: Annotated[float, _option("--timeout", help="Seconds for one request.")] = 60.0,
    workers: Annotated[int, _option("--workers", help="Processes.")] = 1,
    isolated: Annotated[
        bool, _option("--isolated", help="Run Bio-Formats in processes of its own.")
    ] = False,
    storage: Annotated[
        list[str] | None,
        _option("--storage-option", metavar="NAME=VALUE", help="For URLs, as in convert."),
    ] = None,
    quiet: Annotated[bool, _option("--quiet", "-q", help="Log no requests.")] = False,
) -> None:
    """Serve images over HTTP: OME-Zarr, tiles, DeepZoom, IIIF, for every format."""
    try:
        from bfbridge.serve.options import ServeOptions, new_token
        from bfbridge.serve.run import run_server
        from bfbridge.viewer.page import add_viewer
    except ImportError as error:
        raise MissingExtra(
            f"serve needs a package that is not installed ({error}). Install it with: {INSTALL}"
        ) from error
    if token is not None and no_token:
        raise BadArgument("--token and --no-token: give one of them.")
    options = ServeOptions(
        sources=tuple(sources),
        host=host,
        port=port,
        token=None if no_token else token or new_token(),
        allowed_hosts=tuple(name.lower() for name in allow_host or ()),
        cors=tuple(cors or ()),
        compression=compression,
        cache_bytes=cache << 20,
        open_files=open_files,
        timeout=timeout,
        workers=workers,
        isolated=isolated,
        storage_options=pairs(storage) or {},
        access_log=not quiet,
        extend=add_viewer,
    )
    if options.is_public and no_token:
        warn(f"without a token, everybody who reaches {host} can read these files.")
    handler = _log_requests(quiet)
    try:
        run_server(options, lambda url: say(f"serving at {url}"))
    finally:
        logging.getLogger("bfbridge.serve.access").removeHandler(handler)


def _log_requests(quiet: bool) -> logging.Handler:
    """Show the access log on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("bfbridge.serve.access")
    if not quiet:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False
    return handler
