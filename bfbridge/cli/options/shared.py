"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Backend", "Host", "ServedSources", "Storage"]

Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="Backend that reads: ometiff, omezarr, czi, lif, nd2, pictures or bioformats; "
        "default: chosen by content.",
    ),
]
Storage = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option",
        metavar="NAME=VALUE",
        help="For URLs: an option of their fsspec filesystem, such as anon=true.",
    ),
]
ServedSources = Annotated[
    list[str], typer.Argument(metavar="PATH...", help="Files, folders and URLs.")
]
Host = Annotated[
    str, typer.Option("--host", metavar="ADDRESS", help="Address of the network interface.")
]
