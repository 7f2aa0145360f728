"""``bfbridge view``."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import webbrowser
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

import typer

from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.options.serving import Browser, Port
from bfbridge.cli.options.shared import Host, Index, ServedSources, Storage
from bfbridge.cli.options.values import pairs
from bfbridge.cli.terminal.browser import fetch, has_browser, in_background, tunnel
from bfbridge.cli.terminal.text import say
from bfbridge.errors import INSTALL, BadArgument, MissingExtra
from bfbridge.registry import is_folder_format

__all__ = ["app"]

app = new_app()


@app.command(cls=GroupedHelp)
def view(
    sources: ServedSources,
    browser: Browser = True,
    host: Host = "127.0.0.1",
    port: Port = 0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Continue after the page is closed, until Ctrl-C.")
    ] = False,
    beside: Annotated[
        bool, typer.Option("--beside", help="Show the first two images side by side.")
    ] = False,
    other: Annotated[
        str | None,
        typer.Option(
            "--with", metavar="VIEWER", help="Open in napari, neuroglancer or vizarr instead."
        ),
    ] = None,
    storage: Storage = None,
    index: Index = False,
) -> None:
    """Show images of any format and size in the browser."""
    if other == "napari":
        _napari(sources, browser)
        return
    try:
        from bfbridge.rendering.palettes import distinct_colors
        from bfbridge.serve.files.library import Library
        from bfbridge.serve.options import ServeOptions
        from bfbridge.serve.run import run_server
        from bfbridge.viewer.others import SITES, link_for
        from bfbridge.viewer.page import add_viewer
        from bfbridge.viewer.presence import Presence

        distinct_colors()
    except ImportError as error:
        raise MissingExtra(
            f"view needs a package that is not installed ({error}). Install it with: {INSTALL}"
        ) from error
    if other is not None and other not in SITES:
        link_for(other, "", "")
    options_for_urls = pairs(storage) or {}
    names = _named(Library(tuple(sources), options_for_urls), sources)
    if other is not None and not names:
        raise BadArgument(f"--with {other}: name one file.")
    if beside and len(names) < 2:
        raise BadArgument("--beside: name two files.")
    shown = browser and has_browser()
    # Closing a page ends the server only if this command opened it.
    ends = shown and not keep and other is None
    watch = Presence(partial(signal.raise_signal, signal.SIGINT)) if ends else None
    options = ServeOptions(
        sources=tuple(sources),
        host=host,
        port=port,
        cors=() if other is None else (SITES[other],),
        index=index,
        storage_options=options_for_urls,
        access_log=False,
        extend=partial(add_viewer, watch=watch),
    )

    def started(url: str) -> None:
        link = _page_link(url, names, beside)
        if other is not None:
            link = link_for(other, url, names[0])
        if names:
            # The file is opened, and Java is started if needed, while the browser starts.
            in_background(fetch, f"{url}info/{quote(names[0])}?series=0")
        say(link)
        if not shown or options.is_public:
            say(f"from another machine: {tunnel(url)}")
        say("Press Ctrl-C" + (" or close the page" if ends else "") + " to stop.", err=True)
        if shown:
            in_background(webbrowser.open, link)

    run_server(options, started)


def _named(library: Any, sources: list[str]) -> list[str]:
    """Return the names of the files among the sources, without those of folders."""
    listing = library.list()
    single = len(sources) > 1 or bool(listing.images and not os.path.isdir(sources[0]))
    if not single and not is_folder_format(sources[0]):
        return []
    # In the order of the sources, if names are equal to the last parts of their paths.
    order = {os.path.basename(source.rstrip("/")): i for i, source in enumerate(sources)}
    return sorted(listing.images, key=lambda name: order.get(name, len(order)))


def _page_link(url: str, names: list[str], beside: bool) -> str:
    if not names:
        return f"{url}view/"
    second = f"?beside={quote(names[1], safe='')}" if beside else ""
    return f"{url}view/{quote(names[0])}{second}"


def _napari(sources: list[str], opens: bool) -> None:
    """Open napari with the plug-in of this package."""
    command = ["napari", "--plugin", "bfbridge", *sources]
    found = shutil.which("napari")
    if not opens:
        say(" ".join(command))
        return
    if found is None:
        raise MissingExtra(
            "--with napari: napari is not installed here. Install it with: "
            'python -m pip install "napari[all]"'
        )
    code = subprocess.call([found, *command[1:]])  # noqa: S603 - without a shell
    if code:
        raise typer.Exit(code)
