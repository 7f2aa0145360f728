"""Options of ``bfbridge serve``."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "AccessQuiet",
    "AllowHost",
    "Cache",
    "Compression",
    "Cors",
    "Isolated",
    "NoToken",
    "OpenFiles",
    "Port",
    "Timeout",
    "Token",
    "Workers",
]

ACCESS = "Access"
RESOURCES = "Resources"

Port = Annotated[int, typer.Option("--port", "-p", metavar="N", help="Port; 0 is any free port.")]
Compression = Annotated[
    str,
    typer.Option(
        "--compression", metavar="CODEC",
        help="Codec of Zarr chunks: none, zstd, gzip, blosc-zstd or blosc-lz4.",
    ),
]  # fmt: skip
AccessQuiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not log requests.")]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", metavar="TEXT", rich_help_panel=ACCESS, show_default=False,
        help="Secret part of every URL; default: a random one.",
    ),
]  # fmt: skip
NoToken = Annotated[
    bool,
    typer.Option(
        "--no-token", rich_help_panel=ACCESS,
        help="Serve without a token: everybody who can reach the port can read the files.",
    ),
]  # fmt: skip
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host", metavar="NAME", rich_help_panel=ACCESS,
        help="Another host name of this server.",
    ),
]  # fmt: skip
Cors = Annotated[
    list[str] | None,
    typer.Option(
        "--cors", metavar="ORIGIN", rich_help_panel=ACCESS,
        help="Origin whose pages may read replies, such as https://example.org; '*' is any.",
    ),
]  # fmt: skip
Cache = Annotated[
    int,
    typer.Option(
        "--cache", metavar="MIB", rich_help_panel=RESOURCES,
        help="Memory for decoded tiles and replies of each process, in MiB.",
    ),
]  # fmt: skip
OpenFiles = Annotated[
    int,
    typer.Option(
        "--open-files", metavar="N", rich_help_panel=RESOURCES,
        help="Largest number of files kept open.",
    ),
]  # fmt: skip
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", metavar="SECONDS", rich_help_panel=RESOURCES,
        help="Longest time for one request.",
    ),
]  # fmt: skip
Workers = Annotated[
    int,
    typer.Option("--workers", metavar="N", rich_help_panel=RESOURCES, help="Number of processes."),
]
Isolated = Annotated[
    bool,
    typer.Option(
        "--isolated", rich_help_panel=RESOURCES, help="Run Bio-Formats in separate processes."
    ),
]
