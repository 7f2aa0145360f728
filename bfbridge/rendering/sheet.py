"""Contact sheets: thumbnails of many images on one page, in rows or in the layout of a plate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.engine.workers import prefetch
from bfbridge.errors import (
    BadArgument,
    BfbridgeError,
    JarNotFound,
    JavaNotFound,
    MissingExtra,
)
from bfbridge.rendering.annotate import write_text
from bfbridge.rendering.contrast import Contrast
from bfbridge.rendering.picture import render

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["Cell", "cells_of", "contact_sheet"]

Array = np.ndarray[Any, Any]
MOST_CELLS: Final = 4096
_GAP: Final = 6
_GREY: Final = (32, 32, 32, 255)
_AHEAD: Final = 2


@dataclass(frozen=True)
class Cell:
    """One thumbnail of a sheet.

    Attributes
    ----------
    label
        Text below the thumbnail.
    draw
        Function of a size in pixels that returns the picture, (Y, X, 4) of uint8.
    place
        Row and column, if the sheet has fixed positions (a plate).
    """

    label: str
    draw: Callable[[int], Array]
    place: tuple[int, int] | None = None


def contact_sheet(cells: Sequence[Cell], size: int = 160, columns: int | None = None) -> Array:
    """Return a page of thumbnails with their labels.

    Parameters
    ----------
    cells
        Thumbnails; one that cannot be drawn shows its error instead.
    size
        Pixels along the longer side of a thumbnail.
    columns
        Thumbnails in a row. Default: about as many as rows; the columns of a plate.

    Returns
    -------
    numpy.ndarray
        (Y, X, 4) of uint8.

    Raises
    ------
    BadArgument
        There are no cells, or more than `MOST_CELLS`.
    """
    if not cells:
        raise BadArgument("there are no images to make a contact sheet of.")
    if len(cells) > MOST_CELLS:
        raise BadArgument(f"{len(cells)} images: a contact sheet has at most {MOST_CELLS}.")
    if not isinstance(size, (int, np.integer)) or not 16 <= size <= 1024:
        raise BadArgument(f"size={size!r}: thumbnails are 16 to 1024 pixels.")
    places = _places(cells, columns)
    letters = max(10, size // 12)
    height, width = size + 2 * letters + _GAP, size + _GAP
    rows = 1 + max(row for row, _ in places)
    across = 1 + max(column for _, column in places)
    page = np.empty((rows * height + _GAP, across * width + _GAP, 4), np.uint8)
    page[...] = _GREY
    drawn = prefetch(([_Job(cell, size) for cell in cells]), _AHEAD)
    for cell, (row, column), picture in zip(cells, places, drawn, strict=True):
        top, left = _GAP + row * height, _GAP + column * width
        _put(page, picture, top, left, size)
        write_text(page, cell.label, (left, top + size + 1), letters, size)
    return page


def _places(cells: Sequence[Cell], columns: int | None) -> list[tuple[int, int]]:
    fixed = [cell.place for cell in cells if cell.place is not None]
    if len(fixed) == len(cells) and columns is None:
        return fixed
    if columns is None:
        columns = math.ceil(math.sqrt(len(cells)))
    elif columns < 1:
        raise BadArgument(f"columns={columns!r}: give 1 or more.")
    return [divmod(number, min(columns, len(cells))) for number in range(len(cells))]


class _Job:
    """Draws one cell; an error becomes its picture."""

    def __init__(self, cell: Cell, size: int) -> None:
        self._cell = cell
        self._size = size

    def __call__(self) -> Array:
        try:
            return self._cell.draw(self._size)
        except (MissingExtra, JavaNotFound, JarNotFound):
            raise
        except BfbridgeError as error:
            picture = np.zeros((self._size, self._size, 4), np.uint8)
            picture[...] = (64, 0, 0, 255)
            letters = max(9, self._size // 14)
            for number, line in enumerate(_lines(f"{type(error).__name__}: {error}", 24)):
                top = 2 + number * (letters + 2)
                if top + letters > self._size:
                    break
                write_text(picture, line, (2, top), letters, self._size - 4)
            return picture


def _lines(text: str, width: int) -> Iterator[str]:
    text = " ".join(text.split())
    while text:
        cut = text.rfind(" ", 0, width) if len(text) > width else len(text)
        cut = cut if cut > 0 else width
        yield text[:cut]
        text = text[cut:].lstrip()


def _put(page: Array, picture: Array, top: int, left: int, size: int) -> None:
    """Put a picture into the centre of its place, mixed with the page where it is transparent.

    Small pictures are enlarged by a whole number.
    """
    factor = max(1, size // max(picture.shape[:2]))
    if factor > 1:
        picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = (min(n, size) for n in picture.shape[:2])
    y, x = top + (size - height) // 2, left + (size - width) // 2
    place = page[y : y + height, x : x + width]
    share = picture[:height, :width, 3:].astype(np.float32) / 255
    mixed = picture[:height, :width, :3] * share + place[..., :3] * (1 - share)
    place[..., :3] = np.rint(mixed).astype(np.uint8)


def cells_of(views: Sequence[ImageView], **options: Any) -> list[Cell]:
    """Return a cell for each image of a file; fields of a plate have the layout of its wells.

    Parameters
    ----------
    views
        Images of one file.
    options
        As for `render`. Channels without a stored window share that of the first images with the
        same channels, so that their brightness can be compared.
    """
    wells = _wells(views)
    shared: dict[Any, Contrast] = {}
    cells = []
    for number, view in enumerate(views):
        contrast = Contrast(view)
        if wells is not None:
            group = (view.dtype, view.sizes["C"], tuple(view.channel_names))
            contrast = shared.setdefault(group, contrast)
        label = view.name or f"image {view.index}"
        if len(views) > 1 and wells is None:
            label = f"{view.index} {label}"
        place = None
        if wells is not None:
            place, label = wells[number]
        cells.append(Cell(label, _Drawing(view, contrast, options), place))
    return cells


class _Drawing:
    """Draws one image."""

    def __init__(self, view: ImageView, contrast: Contrast, options: Mapping[str, Any]) -> None:
        self._view = view
        self._contrast = contrast
        self._options = options

    def __call__(self, size: int) -> Array:
        with _named(self._view):
            return np.asarray(
                render(self._view, max_size=size, contrast=self._contrast, **self._options)
            )


@contextmanager
def _named(view: ImageView) -> Iterator[None]:
    """Convert any other error to one of bfbridge's, with the image."""
    try:
        yield
    except (BfbridgeError, MemoryError):
        raise
    except Exception as error:
        raise BfbridgeError(
            f"{view.source_name}: image {view.index} cannot be drawn "
            f"({type(error).__name__}: {error})."
        ) from error


def _wells(views: Sequence[ImageView]) -> list[tuple[tuple[int, int], str]] | None:
    """Return the place on the page and the name of each field; None unless all are in a plate."""
    if len(views) < 2:
        return None
    ome = views[0].ome
    if len(ome.plates) != 1:
        return None
    found: dict[str, tuple[int, int, int]] = {}
    for well in ome.plates[0].wells:
        for number, sample in enumerate(well.well_samples):
            if sample.image_ref is not None:
                found[sample.image_ref.id] = (well.row, well.column, number)
    wanted = [ome.images[view.index].id for view in views]
    if any(image not in found for image in wanted):
        return None
    fields = 1 + max(found[image][2] for image in wanted)
    side = math.ceil(math.sqrt(fields))
    rows = sorted({found[image][0] for image in wanted})
    columns = sorted({found[image][1] for image in wanted})
    cells = []
    for image in wanted:
        row, column, number = found[image]
        down, right = divmod(number, side)
        place = (rows.index(row) * -(-fields // side) + down, columns.index(column) * side + right)
        name = f"{_letters(row)}{column + 1:02d}"
        cells.append((place, name if fields == 1 else f"{name} {number + 1}"))
    return cells


def _letters(row: int) -> str:
    text, row = "", row + 1
    while row:
        row, rest = divmod(row - 1, 26)
        text = chr(ord("A") + rest) + text
    return text
