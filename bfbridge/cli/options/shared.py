"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, Any

import typer

__all__ = ["AsJson", "Backend", "Host", "Index", "ServedSources", "Storage", "option"]


def option(*names: str, help: str, panel: str | None = None, **more: Any) -> Any:  # noqa: A002
    """Return an option of a command.

    Parameters
    ----------
    names
        Its flags, the main one first.
    help
        Its line of the help.
    panel
        Heading of the help that it is under; None for the first one.
    more
        Further arguments of `typer.Option`.
    """
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


AsJson = Annotated[bool, option("--json", help="Print JSON; of several files, a list.")]
Backend = Annotated[
    str | None,
    option(
        "--backend",
        metavar="NAME",
        help="Backend that reads: ometiff, omezarr, czi, lif, nd2, ndpi, pictures or bioformats; "
        "default: chosen by content.",
    ),
]
Index = Annotated[
    bool,
    option(
        "--index",
        help="Keep the metadata that Bio-Formats finds in the cache folder, so that the files open "
        "faster the next time.",
    ),
]
Storage = Annotated[
    list[str] | None,
    option(
        "--storage-option",
        metavar="NAME=VALUE",
        help="For URLs: an option of their fsspec filesystem, such as anon=true.",
    ),
]
ServedSources = Annotated[
    list[str], typer.Argument(metavar="PATH...", help="Files, folders and URLs.")
]
Host = Annotated[str, option("--host", metavar="ADDRESS", help="Address of the network interface.")]
