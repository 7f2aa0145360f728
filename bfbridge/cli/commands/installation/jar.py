"""``bfbridge jar``."""

from __future__ import annotations

from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.terminal.text import say
from bfbridge.registry import find

__all__ = ["app"]

app = new_app(help="Show or download the Bio-Formats jar.")


@app.command(cls=GroupedHelp)
def path() -> None:
    """Show which jar is used."""
    for jar in find("bioformats").load().find_jar().paths:
        say(str(jar))


@app.command(cls=GroupedHelp)
def fetch() -> None:
    """Download the pinned jar into your data folder, and check its hashes."""
    say(str(find("bioformats").load().fetch_jar(say)))
