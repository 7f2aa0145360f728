"""``bfbridge gui``."""

from __future__ import annotations

import signal
import webbrowser
from functools import partial
from typing import Annotated

import typer

from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.options.serving import Browser, Port
from bfbridge.cli.terminal.browser import has_browser, in_background, tunnel
from bfbridge.cli.terminal.text import say
from bfbridge.errors import INSTALL, MissingExtra
from bfbridge.limits import Limits

__all__ = ["app"]

app = new_app()


@app.command(cls=GroupedHelp)
def gui(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH...]",
            help="Files and URLs that are chosen, or the folder that is listed, at the start.",
        ),
    ] = None,
    browser: Browser = True,
    port: Port = 0,
) -> None:
    """Choose, show and convert files in a window in the browser.

    Only this machine can reach it. It ends when the page is closed and no conversion is running.
    """
    try:
        from bfbridge.gui.window import Window
        from bfbridge.serve.options import ServeOptions
        from bfbridge.serve.run import run_server
    except ImportError as error:
        raise MissingExtra(
            f"gui needs a package that is not installed ({error}). Install it with: {INSTALL}"
        ) from error
    shown = browser and has_browser()
    # Closing the page ends the server only if this command opened it.
    stop = partial(signal.raise_signal, signal.SIGINT) if shown else None
    window = Window(sources or (), stop)
    options = ServeOptions(
        sources=(),
        port=port,
        # The files are the user's own, as for the other commands.
        limits=Limits(),
        access_log=False,
        extend=window.add_to,
    )

    def started(url: str) -> None:
        link = f"{url}gui"
        say(link)
        if shown:
            in_background(webbrowser.open, link)
        else:
            say(f"from another machine: {tunnel(url)}")
        say("Press Ctrl-C" + (" or close the page" if shown else "") + " to stop.", err=True)

    run_server(options, started)
