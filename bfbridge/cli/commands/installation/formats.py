"""``bfbridge formats``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.plugins import load_plugins
from bfbridge.cli.terminal.text import printable_json
from bfbridge.registry import Entry, find, preferred, read_suffixes, written_suffixes
from bfbridge.runtime.terminal import printable

__all__ = ["app"]

app = new_app()


@app.command(cls=GroupedHelp)
def formats(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the formats that can be read or written.

    For each format: its name, its suffixes, and the suffixes that can be written.
    """
    known = find("bioformats").load().formats()
    plugins = load_plugins()
    if as_json:
        rows = _rows(known, plugins)
        typer.echo(printable_json(json.dumps(rows, indent=2, ensure_ascii=False)))
    else:
        _print(known, plugins)


def _rows(known: Sequence[Any], plugins: list[tuple[Entry, str]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "name": f.name,
            "reader": f.reader,
            "suffixes": list(f.suffixes),
            "domains": list(f.domains),
            "writes": list(f.writes),
        }
        for f in known
    ]
    rows += [
        {
            "plugin": entry.name,
            "module": entry.module,
            "brought_by": entry.distribution,
            "suffixes": list(read_suffixes(entry)),
            "writes": list(written_suffixes(entry)),
        }
        | ({"error": error} if error else {})
        for entry, error in plugins
    ]
    return rows


def _print(known: Sequence[Any], plugins: list[tuple[Entry, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("format", "suffixes", "written"):
        table.add_column(column, overflow="fold")
    for f in sorted(known, key=lambda f: f.name.lower()):
        table.add_row(Text(f.name), Text(" ".join(f.suffixes)), Text(" ".join(f.writes)))
    for entry, _ in plugins:
        read, written = read_suffixes(entry), written_suffixes(entry)
        if read or written:
            name = f"{entry.name} (plug-in)"
            table.add_row(*(Text(printable(t)) for t in (name, " ".join(read), " ".join(written))))
    console = Console(highlight=False)
    console.print(table)
    suffixes = {suffix for f in known for suffix in f.suffixes}
    console.print(
        f"\n{len(known)} formats with {len(suffixes)} suffixes through Bio-Formats; OME-TIFF and "
        "OME-Zarr are read and written natively."
    )
    first = preferred()
    for entry, error in plugins:
        use = "used before the backends of bfbridge" if entry in first else "used for other formats"
        line = error or f"plug-in {entry.name}, of {entry.distribution}: {use}"
        console.print(Text(printable(line), style="red" if error else ""), soft_wrap=True)
