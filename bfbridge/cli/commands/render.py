"""``bfbridge render``."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.options.shared import Backend, Storage
from bfbridge.cli.options.values import pairs
from bfbridge.errors import BadArgument, TargetExists
from bfbridge.rendering.encode import format_of_name
from bfbridge.storage.atomic import write_bytes_atomically

if TYPE_CHECKING:
    from bfbridge.rendering.sheet import Cell

__all__ = ["app"]

app = new_app()

SELECTION = "Selection"
COLORS = "Contrast and colors"
OUTPUT = "Output"
OptionalText = str | None
OptionalNumber = int | None


def _option(*names: str, panel: str, help: str, **more: Any) -> Any:  # noqa: A002 - typer's word
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


@app.command(cls=GroupedHelp)
def render(
    source: Annotated[str, typer.Argument(metavar="IN", help="File, URL or folder.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="New picture: .png, .jpg or .webp.")],
    series: Annotated[
        OptionalText,
        _option(
            "--series", "-s", metavar="NAME", panel=SELECTION, help="Number or name of an image."
        ),
    ] = None,
    channels: Annotated[
        OptionalText,
        _option(
            "--channels", "--channel", metavar="LIST", panel=SELECTION,
            help="Channels: numbers (0,2) or names, separated by commas.",
        ),
    ] = None,
    z: Annotated[
        OptionalText,
        _option(
            "--z", metavar="RANGE", panel=SELECTION,
            help="Z position (3), or a range (0:10) with --projection.",
        ),
    ] = None,
    t: Annotated[
        int, _option("--t", "--timepoint", metavar="N", panel=SELECTION, help="Time point.")
    ] = 0,
    projection: Annotated[
        OptionalText,
        _option("--projection", metavar="METHOD", panel=SELECTION, help="Projection along z: max."),
    ] = None,
    crop: Annotated[
        OptionalText,
        _option("--crop", metavar="BOX", panel=SELECTION, help="X,Y,WIDTH,HEIGHT in --units."),
    ] = None,
    units: Annotated[
        OptionalText,
        _option(
            "--units", metavar="UNIT", panel=SELECTION,
            help="Unit of --crop: px, um, mm or fraction; default: px.",
        ),
    ] = None,
    level: Annotated[
        OptionalNumber,
        _option(
            "--level", min=0, metavar="N", panel=SELECTION,
            help="Resolution level; 0 is full size; default: chosen by --size.",
        ),
    ] = None,
    style: Annotated[
        OptionalText,
        _option(
            "--style", metavar="JSON", panel=COLORS,
            help="Style of large_image as JSON, or @FILE with the JSON.",
        ),
    ] = None,
    size: Annotated[
        OptionalNumber,
        _option(
            "--size", min=1, metavar="N", panel=OUTPUT,
            help="Largest width and height in pixels; default: 1024, 160 for the thumbnails of "
            "a contact sheet.",
        ),
    ] = None,
    scale_bar: Annotated[
        bool, _option("--scale-bar", panel=OUTPUT, help="Draw a scale bar.")
    ] = False,
    text: Annotated[
        bool, _option("--text", panel=OUTPUT, help="Write the Z position and the time point.")
    ] = False,
    sheet: Annotated[
        bool,
        _option(
            "--sheet", panel=OUTPUT,
            help="Draw a contact sheet: thumbnails of all images. Always done for folders.",
        ),
    ] = False,
    columns: Annotated[
        OptionalNumber,
        _option(
            "--columns", min=1, metavar="N", panel=OUTPUT, help="Columns of a contact sheet."
        ),
    ] = None,
    quality: Annotated[
        OptionalNumber,
        _option(
            "--quality", metavar="N", panel=OUTPUT,
            help="Quality of JPEG and WebP, 1 to 100; compression effort of PNG, 0 to 9.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, _option("--overwrite", panel=OUTPUT, help="Replace the file if it exists.")
    ] = False,
    backend: Backend = None,
    storage: Storage = None,
) -> None:  # fmt: skip
    """Draw an image, or a contact sheet of a plate or a folder."""
    options: dict[str, Any] = {
        "channels": _channels(channels), "style": _style(style), "z": _z(z), "t": t,
        "projection": projection,
    }  # fmt: skip
    single = {
        "crop": crop, "units": units, "level": level, "scale_bar": scale_bar, "text": text,
    }  # fmt: skip
    opening = {"backend": backend, "storage_options": pairs(storage), "cache": 0}
    form = format_of_name(target)
    if os.path.exists(target) and not overwrite:
        raise TargetExists(f"{target}: exists already; use --overwrite to replace it.")
    with ExitStack() as files:
        cells = _cells(files, source, series, sheet, opening, options)
        if cells is None:
            view = _open(files, source, opening, series)
            data = _picture(view, single, options, size, form, quality)
        else:
            data = _sheet(cells, single, size, columns, form, quality)
    write_bytes_atomically(target, data)


def _picture(
    view: Any, single: dict[str, Any], options: dict[str, Any], size: int | None, form: str,
    quality: int | None,
) -> bytes:  # fmt: skip
    x, y = _crop(single.pop("crop"))
    units = single.pop("units") or "px"
    data: bytes = view.render(
        **options, **single, x=x, y=y, units=units, max_size=size, format=form, quality=quality
    )
    return data


def _sheet(
    cells: list[Cell], single: dict[str, Any], size: int | None, columns: int | None, form: str,
    quality: int | None,
) -> bytes:  # fmt: skip
    from bfbridge.rendering.encode import encode_picture
    from bfbridge.rendering.sheet import contact_sheet

    given = [name for name, value in single.items() if value not in (None, False)]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise BadArgument(f"{options}: this is for one image, and not for a contact sheet.")
    return encode_picture(contact_sheet(cells, size or 160, columns), form, quality)


def _open(files: ExitStack, source: str, opening: dict[str, Any], series: str | None) -> Any:
    from bfbridge.reader import BioReader

    number = int(series) if series is not None and series.lstrip("-").isdigit() else series
    return files.enter_context(BioReader(source, series=number, **opening))


def _cells(
    files: ExitStack,
    source: str,
    series: str | None,
    sheet: bool,
    opening: dict[str, Any],
    options: dict[str, Any],
) -> list[Cell] | None:
    """Return the cells of a contact sheet; None if a single image is drawn."""
    from bfbridge.convert.plan.sources import is_one_image
    from bfbridge.rendering.sheet import cells_of

    if not is_one_image(source):
        return _cells_of_folder(source, opening, options)
    if series is not None:
        return None
    reader = _open(files, source, opening, None)
    if not sheet and not (len(reader.series) > 1 and reader.ome.plates):
        return None
    return cells_of(reader.series[:], **options)


def _cells_of_folder(source: str, opening: dict[str, Any], options: dict[str, Any]) -> list[Cell]:
    """Return one cell for each data set of a folder: its first image."""
    from bfbridge.convert.options import ConvertOptions
    from bfbridge.convert.plan.sources import find_sources
    from bfbridge.rendering.sheet import Cell

    searched = ConvertOptions(storage_options=opening["storage_options"])
    return [
        Cell(os.path.basename(found.path.rstrip("/")), _Later(found.path, opening, options))
        for found in find_sources([source], searched)
    ]


class _Later:
    """Opens a file only while its thumbnail is drawn: a folder may contain thousands of files."""

    def __init__(self, path: str, opening: dict[str, Any], options: dict[str, Any]) -> None:
        self._path = path
        self._opening = opening
        self._options = options

    def __call__(self, size: int) -> Any:
        from bfbridge.reader import BioReader
        from bfbridge.rendering.sheet import cells_of

        with BioReader(self._path, **self._opening) as reader:
            return cells_of([reader.series[0]], **self._options)[0].draw(size)


def _channels(text: str | None) -> list[int | str] | None:
    if text is None:
        return None
    return [int(part) if part.strip().isdigit() else part.strip() for part in text.split(",")]


def _style(text: str | None) -> Any:
    from bfbridge.rendering.style import parse_style

    if text is None:
        return None
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadArgument(f"--style {text}: cannot be read ({error}).") from error
    return parse_style(text)


def _z(text: str | None) -> Any:
    if text is None:
        return None
    start, colon, stop = text.partition(":")
    try:
        return (int(start), int(stop)) if colon else int(start)
    except ValueError:
        raise BadArgument(f"--z {text}: give a slice such as 3, or 0:10.") from None


def _crop(text: str | None) -> tuple[Any, Any]:
    if text is None:
        return None, None
    try:
        left, top, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise BadArgument(f"--crop {text}: give X,Y,WIDTH,HEIGHT.") from None
    return (left, left + width), (top, top + height)
