"""Options of ``bfbridge render``."""

from __future__ import annotations

from typing import Annotated

import typer

from bfbridge.cli.options.shared import option

__all__ = [
    "Channels",
    "Columns",
    "Crop",
    "LevelNumber",
    "NewPicture",
    "Overwrite",
    "PlaneText",
    "Projection",
    "Quality",
    "ScaleBar",
    "Series",
    "Sheet",
    "Size",
    "SourceFile",
    "StyleJson",
    "TimePoint",
    "Units",
    "ZRange",
]

SELECTION = "Selection"
COLORS = "Contrast and colors"
OUTPUT = "Output"
OptionalText = str | None
OptionalNumber = int | None

SourceFile = Annotated[str, typer.Argument(metavar="IN", help="File, URL or folder.")]
NewPicture = Annotated[str, typer.Argument(metavar="OUT", help="New picture: .png, .jpg or .webp.")]
Series = Annotated[
    OptionalText,
    option("--series", "-s", metavar="NAME", panel=SELECTION, help="Number or name of an image."),
]
Channels = Annotated[
    OptionalText,
    option(
        "--channels",
        "--channel",
        metavar="LIST",
        panel=SELECTION,
        help="Channels: numbers (0,2) or names, separated by commas.",
    ),
]
ZRange = Annotated[
    OptionalText,
    option(
        "--z",
        metavar="RANGE",
        panel=SELECTION,
        help="Z position (3), or a range (0:10) with --projection.",
    ),
]
TimePoint = Annotated[
    int, option("--t", "--timepoint", metavar="N", panel=SELECTION, help="Time point.")
]
Projection = Annotated[
    OptionalText,
    option("--projection", metavar="METHOD", panel=SELECTION, help="Projection along z: max."),
]
Crop = Annotated[
    OptionalText,
    option("--crop", metavar="BOX", panel=SELECTION, help="X,Y,WIDTH,HEIGHT in --units."),
]
Units = Annotated[
    OptionalText,
    option(
        "--units",
        metavar="UNIT",
        panel=SELECTION,
        help="Unit of --crop: px, um, mm or fraction; default: px.",
    ),
]
LevelNumber = Annotated[
    OptionalNumber,
    option(
        "--level",
        min=0,
        metavar="N",
        panel=SELECTION,
        help="Resolution level; 0 is full size; default: chosen by --size.",
    ),
]
StyleJson = Annotated[
    OptionalText,
    option(
        "--style",
        metavar="JSON",
        panel=COLORS,
        help="Style of large_image as JSON, or @FILE with the JSON.",
    ),
]
Size = Annotated[
    OptionalNumber,
    option(
        "--size",
        min=1,
        metavar="N",
        panel=OUTPUT,
        help="Largest width and height in pixels; default: 1024, 160 for the thumbnails of "
        "a contact sheet.",
    ),
]
ScaleBar = Annotated[bool, option("--scale-bar", panel=OUTPUT, help="Draw a scale bar.")]
PlaneText = Annotated[
    bool, option("--text", panel=OUTPUT, help="Write the Z position and the time point.")
]
Sheet = Annotated[
    bool,
    option(
        "--sheet",
        panel=OUTPUT,
        help="Draw a contact sheet: thumbnails of all images. Always done for folders.",
    ),
]
Columns = Annotated[
    OptionalNumber,
    option("--columns", min=1, metavar="N", panel=OUTPUT, help="Columns of a contact sheet."),
]
Quality = Annotated[
    OptionalNumber,
    option(
        "--quality",
        metavar="N",
        panel=OUTPUT,
        help="Quality of JPEG and WebP, 1 to 100; compression effort of PNG, 0 to 9.",
    ),
]
Overwrite = Annotated[
    bool, option("--overwrite", panel=OUTPUT, help="Replace the file if it exists.")
]
