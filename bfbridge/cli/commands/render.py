"""``bfbridge render``."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bfbridge.cli.options import drawing
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


@app.command(cls=GroupedHelp)
def render(
    source: drawing.SourceFile,
    target: drawing.NewPicture,
    series: drawing.Series = None,
    channels: drawing.Channels = None,
    z: drawing.ZRange = None,
    t: drawing.TimePoint = 0,
    projection: drawing.Projection = None,
    crop: drawing.Crop = None,
    units: drawing.Units = None,
    level: drawing.LevelNumber = None,
    style: drawing.StyleJson = None,
    size: drawing.Size = None,
    scale_bar: drawing.ScaleBar = False,
    text: drawing.PlaneText = False,
    sheet: drawing.Sheet = False,
    columns: drawing.Columns = None,
    quality: drawing.Quality = None,
    overwrite: drawing.Overwrite = False,
    backend: Backend = None,
    storage: Storage = None,
) -> None:
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
