"""Options of ``bfbridge serve``."""

from __future__ import annotations

from typing import Annotated

from bfbridge.cli.options.shared import option

__all__ = [
    "AccessQuiet",
    "AllowHost",
    "Browser",
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

Browser = Annotated[
    bool,
    option(
        "--browser/--no-browser", show_default=False,
        help="Open the browser, or only print the link; default: open it.",
    ),
]  # fmt: skip
Port = Annotated[int, option("--port", "-p", metavar="N", help="Port; 0 is any free port.")]
Compression = Annotated[
    str,
    option(
        "--compression", metavar="CODEC",
        help="Codec of Zarr chunks: none, zstd, gzip, blosc-zstd or blosc-lz4.",
    ),
]  # fmt: skip
AccessQuiet = Annotated[bool, option("--quiet", "-q", help="Do not log requests.")]
Token = Annotated[
    str | None,
    option(
        "--token", metavar="TEXT", panel=ACCESS, show_default=False,
        help="Secret part of every URL; default: a random one.",
    ),
]  # fmt: skip
NoToken = Annotated[
    bool,
    option(
        "--no-token", panel=ACCESS,
        help="Serve without a token: everybody who can reach the port can read the files.",
    ),
]  # fmt: skip
AllowHost = Annotated[
    list[str] | None,
    option(
        "--allow-host", metavar="NAME", panel=ACCESS,
        help="Another host name of this server.",
    ),
]  # fmt: skip
Cors = Annotated[
    list[str] | None,
    option(
        "--cors", metavar="ORIGIN", panel=ACCESS,
        help="Origin whose pages may read replies, such as https://example.org; '*' is any.",
    ),
]  # fmt: skip
Cache = Annotated[
    int,
    option(
        "--cache", metavar="MIB", panel=RESOURCES,
        help="Memory for decoded tiles and replies of each process, in MiB.",
    ),
]  # fmt: skip
OpenFiles = Annotated[
    int,
    option(
        "--open-files", metavar="N", panel=RESOURCES,
        help="Largest number of files kept open.",
    ),
]  # fmt: skip
Timeout = Annotated[
    float,
    option(
        "--timeout", metavar="SECONDS", panel=RESOURCES,
        help="Longest time for one request.",
    ),
]  # fmt: skip
Workers = Annotated[
    int,
    option("--workers", metavar="N", panel=RESOURCES, help="Number of processes."),
]
Isolated = Annotated[
    bool,
    option("--isolated", panel=RESOURCES, help="Run Bio-Formats in separate processes."),
]
