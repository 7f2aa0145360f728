"""The output of ``bfbridge info``: the description of a file as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from bfbridge.runtime.terminal import printable

__all__ = ["print_description"]


def print_description(console: Console, description: dict[str, Any]) -> None:
    """Print the result of `bfbridge.analysis.description.describe` as tables."""
    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim")
    head.add_column(overflow="fold")
    head.add_row("file", Text(printable(description["file"])))
    head.add_row(
        "read by", Text(printable(f"{description['backend']} ({description['backend_reason']})"))
    )
    count = len(description["used_files"])
    if count > 1:
        head.add_row("files", f"{count} belong to this data set")
    if description["interrupted"]:
        head.add_row("warning", Text(description["interrupted"]))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("#", "name", "X", "Y", "Z", "C", "T", "dtype", "pixel size", "levels"):
        right = column in "#XYZCT"
        table.add_column(column, justify="right" if right else "left", no_wrap=right)
    for series in description["series"]:
        table.add_row(*_row(series))
    console.print(Group(head, Text(), table))
    for series in description["series"]:
        names = [c["name"] for c in series["channels"]]
        if any(names):
            shown = ", ".join("-" if name is None else str(name) for name in names)
            console.print(Text(printable(f"channels of {series['index']}: {shown}")))
    for series in description["series"]:
        found = series["magnification"]
        if found is not None:
            shown = f"{found['value']:.3g}x"
            if found["approximate"]:
                shown = f"about {shown} (estimated from the pixel size)"
            console.print(f"magnification of {series['index']}: {shown}")


def _row(series: dict[str, Any]) -> list[Any]:
    sizes = series["sizes"]
    role = "" if series["role"] == "image" else f" ({series['role']})"
    dtype = series["dtype"] + (" RGB" if series["samples_per_pixel"] == 3 else "")
    return [
        str(series["index"]),
        Text(printable((series["name"] or "-") + role)),
        *(f"{sizes[axis]}" for axis in "XYZCT"),
        dtype,
        Text(printable(_shown_size(series["pixel_size"]))),
        " ".join(f"{level['sizes']['X']}x{level['sizes']['Y']}" for level in series["levels"]),
    ]


def _shown_size(size: dict[str, Any]) -> str:
    known = [size[axis] for axis in "xyz" if size[axis] is not None]
    if not known:
        return "-"
    units = {quantity["unit"] for quantity in known}
    if len(units) == 1:
        return " x ".join(f"{q['value']:.4g}" for q in known) + f" {units.pop()}"
    return " x ".join(f"{q['value']:.4g} {q['unit']}" for q in known)
