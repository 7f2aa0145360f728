"""Options of ``bfbridge convert`` that only the command line has.

Most are forms of `bfconvert` and `bioformats2raw`. `bfbridge.cli.commands.convert` translates them
to options of `bfbridge.convert.convert`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from bfbridge.cli.options.shared import option
from bfbridge.convert.options import ADVANCED, OUTPUT, RUN, SOURCES

__all__ = [
    "AsJson",
    "ChunkDepth",
    "Dask",
    "DryRun",
    "Index",
    "Paths",
    "Quiet",
    "ReaderOption",
    "Resolutions",
    "TileHeight",
    "TileWidth",
    "Wipp",
    "WriterOption",
]

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="IN... OUT", rich_help_panel=SOURCES,
        help="Files, folders, URLs, globs or file patterns; then the new file, or a folder. The "
        "name of a new file may contain %s %n (image), %c %w (channel), %z, %t, %A (acquisition "
        "time): one file is written for each.",
    ),
]  # fmt: skip
Resolutions = Annotated[
    int | None,
    option(
        "--resolutions", "--pyramid-resolutions", min=1, metavar="N", panel=OUTPUT,
        help="Number of resolution levels, full size included.",
    ),
]  # fmt: skip
TileWidth = Annotated[
    int | None,
    option(
        "--tile-width", "--tilex", min=1, metavar="N", panel=ADVANCED,
        help="Width of the tiles.",
    ),
]  # fmt: skip
TileHeight = Annotated[
    int | None,
    option(
        "--tile-height", "--tiley", min=1, metavar="N", panel=ADVANCED,
        help="Height of the tiles.",
    ),
]  # fmt: skip
ChunkDepth = Annotated[
    int | None,
    option(
        "--chunk-depth", min=1, metavar="N", panel=ADVANCED,
        help="Z positions of a chunk, in formats with such chunks.",
    ),
]  # fmt: skip
Wipp = Annotated[
    bool,
    option(
        "--wipp", panel=ADVANCED,
        help="Make OME-TIFF files for WIPP.",
    ),
]  # fmt: skip
WriterOption = Annotated[
    list[str] | None,
    option(
        "--set", metavar="NAME=VALUE", panel=ADVANCED,
        help="Another option of the writer backend; lists as 1,1,8,256,256.",
    ),
]  # fmt: skip
ReaderOption = Annotated[
    list[str] | None,
    option(
        "--option", metavar="NAME=VALUE", panel=ADVANCED,
        help="An option of the reader backend.",
    ),
]  # fmt: skip
Index = Annotated[
    bool,
    option(
        "--index", panel=ADVANCED,
        help="Keep the metadata that Bio-Formats finds in the cache folder, so that sources open "
        "faster the next time.",
    ),
]  # fmt: skip
Dask = Annotated[
    str | None,
    option(
        "--dask", metavar="ADDRESS", panel=RUN,
        help="Convert on the workers of the Dask scheduler at this address, tcp://...",
    ),
]  # fmt: skip
DryRun = Annotated[
    bool,
    option(
        "--dry-run", panel=RUN,
        help="Show what would be written; write nothing.",
    ),
]  # fmt: skip
AsJson = Annotated[bool, option("--json", panel=RUN, help="Print the plan of --dry-run as JSON.")]
Quiet = Annotated[bool, option("--quiet", "-q", panel=RUN, help="Print only errors.")]
