"""``bfbridge serve``."""

from __future__ import annotations

import logging
import sys

from bfbridge.cli.options import serving
from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.options.shared import Host, Index, ServedSources, Storage
from bfbridge.cli.options.values import pairs
from bfbridge.cli.terminal.text import say, warn
from bfbridge.errors import INSTALL, BadArgument, MissingExtra

__all__ = ["app"]

app = new_app()


@app.command(cls=GroupedHelp)
def serve(
    sources: ServedSources,
    host: Host = "127.0.0.1",
    port: serving.Port = 8000,
    storage: Storage = None,
    compression: serving.Compression = "none",
    token: serving.Token = None,
    no_token: serving.NoToken = False,
    allow_host: serving.AllowHost = None,
    cors: serving.Cors = None,
    cache: serving.Cache = 256,
    open_files: serving.OpenFiles = 32,
    timeout: serving.Timeout = 60.0,
    workers: serving.Workers = 1,
    isolated: serving.Isolated = False,
    index: Index = False,
    quiet: serving.AccessQuiet = False,
) -> None:
    """Serve images over HTTP: OME-Zarr, tiles, DeepZoom, IIIF.

    Every format that can be read can be served.
    """
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
        index=index,
        storage_options=pairs(storage) or {},
        access_log=not quiet,
        extend=add_viewer,
    )
    if options.is_public and no_token:
        warn(f"without a token, everybody who can reach {host} can read these files.")
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
