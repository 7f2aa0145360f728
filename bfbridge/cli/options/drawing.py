"""Options of ``bfbridge render``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

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


def _option(*names: str, panel: str, help: str, **more: Any) -> Any:  # noqa: A002 - typer's word
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


SourceFile = Annotated[str, typer.Argument(metavar="IN", help="File, URL or folder.")]
NewPicture = Annotated[str, typer.Argument(metavar="OUT", help="New picture: .png, .jpg or .webp.")]
Series = Annotated[
    OptionalText,
    _option("--series", "-s", metavar="NAME", panel=SELECTION, help="Number or name of an image."),
]
Channels = Annotated[
    OptionalText,
    _option(
        "--channels",
        "--channel",
        metavar="LIST",
        panel=SELECTION,
        help="Channels: numbers (0,2) or names, separated by commas.",
    ),
]
ZRange = Annotated[
    OptionalText,
    _option(
        "--z",
        metavar="RANGE",
        panel=SELECTION,
        help="Z position (3), or a range (0:10) with --projection.",
    ),
]
TimePoint = Annotated[
    int, _option("--t", "--timepoint", metavar="N", panel=SELECTION, help="Time point.")
]
Projection = Annotated[
    OptionalText,
    _option("--projection", metavar="METHOD", panel=SELECTION, help="Projection along z: max."),
]
Crop = Annotated[
    OptionalText,
    _option("--crop", metavar="BOX", panel=SELECTION, help="X,Y,WIDTH,HEIGHT in --units."),
]
Units = Annotated[
    OptionalText,
    _option(
        "--units",
        metavar="UNIT",
        panel=SELECTION,
        help="Unit of --crop: px, um, mm or fraction; default: px.",
    ),
]
LevelNumber = Annotated[
    OptionalNumber,
    _option(
        "--level",
        min=0,
        metavar="N",
        panel=SELECTION,
        help="Resolution level; 0 is full size; default: chosen by --size.",
    ),
]
StyleJson = Annotated[
    OptionalText,
    _option(
        "--style",
        metavar="JSON",
        panel=COLORS,
        help="Style of large_image as JSON, or @FILE with the JSON.",
    ),
]
Size = Annotated[
    OptionalNumber,
    _option(
        "--size",
        min=1,
        metavar="N",
        panel=OUTPUT,
        help="Largest width and height in pixels; default: 1024, 160 for the thumbnails of "
        "a contact sheet.",
    ),
]
ScaleBar = Annotated[bool, _option("--scale-bar", panel=OUTPUT, help="Draw a scale bar.")]
PlaneText = Annotated[
    bool, _option("--text", panel=OUTPUT, help="Write the Z position and the time point.")
]
Sheet = Annotated[
    bool,
    _option(
        "--sheet",
        panel=OUTPUT,
        help="Draw a contact sheet: thumbnails of all images. Always done for folders.",
    ),
]
Columns = Annotated[
    OptionalNumber,
    _option("--columns", min=1, metavar="N", panel=OUTPUT, help="Columns of a contact sheet."),
]
Quality = Annotated[
    OptionalNumber,
    _option(
        "--quality",
        metavar="N",
        panel=OUTPUT,
        help="Quality of JPEG and WebP, 1 to 100; compression effort of PNG, 0 to 9.",
    ),
]
Overwrite = Annotated[
    bool, _option("--overwrite", panel=OUTPUT, help="Replace the file if it exists.")
]
