"""Iterators over tiles, whose pixels are read when they are first looked at."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.engine.workers import prefetch
from bfbridge.errors import BadArgument
from bfbridge.large_image.encoding import TILE_FORMAT_NUMPY, Encoder, formats_of

if TYPE_CHECKING:
    from bfbridge.large_image.tiled_image import TiledImage
    from bfbridge.large_image.tiling import TilePlan

__all__ = ["Tile", "TileIterator", "method_of"]

Array = np.ndarray[Any, Any]
_METHODS: Final = {0: "nearest", 1: "area", 2: "linear", 3: "cubic", 4: "area", 5: "area"}
"""Resampling by Pillow's numbers."""


def method_of(resample: Any, shrink: float) -> str:
    """Return the method of resampling that `resample=` asks for: True, or one of Pillow's numbers.

    Raises
    ------
    BadArgument
        It is neither.
    """
    if resample is True:
        return "area" if shrink >= 1 else "cubic"
    number = int(resample) if isinstance(resample, (int, np.integer)) else -1
    if number not in _METHODS:
        raise BadArgument(
            f"resample={resample!r}: give True, False, None or 0 to 5 as Pillow does."
        )
    return "cubic" if shrink < 1 and _METHODS[number] == "area" else _METHODS[number]


@dataclass(frozen=True, slots=True)
class _Job:
    """Source and position of the pixels of a tile."""

    source: TiledImage
    frame: Any
    halvings: int
    box: tuple[int, int, int, int]
    size: tuple[int, int] | None
    method: str
    formats: tuple[str, ...]
    encoder: Encoder

    def run(self) -> tuple[Any, str]:
        """Return the pixels and their format."""
        picture = TILE_FORMAT_NUMPY not in self.formats
        frames = self.source._frames
        if self.size is None:
            pixels = frames.read(self.frame, self.halvings, self.box, picture=picture)
        else:
            pixels = frames.resampled(
                self.frame, self.halvings, self.box, self.size, self.method, picture=picture
            )
        return self.source._delivered(pixels, self.formats, self.encoder)


class Tile(dict[str, Any]):
    """A tile as a dictionary; its "tile" and "format" are made when they are first looked at.

    "tile" is the array (Y, X, bands), image or picture, "format" what it is. Further keys: x, y,
    width, height in pixels of the level; gx, gy, gwidth, gheight at full size; level, level_x,
    level_y, magnification, mm_x, mm_y, tile_position, iterator_range, tile_overlap. A resampled
    tile has its own width, height, magnification and mm, and those of the level as tile_width and
    so on.
    """

    _LAZY: Final = ("tile", "format")

    def __init__(self, job: _Job, known: dict[str, Any]) -> None:
        super().__init__(known)
        self._job = job
        self.release()

    def release(self) -> None:
        """Forget the pixels, which are read again when they are looked at."""
        self._loaded = False
        self.update(dict.fromkeys(self._LAZY))

    def _load(self) -> None:
        if not self._loaded:
            tile, form = self._job.run()
            self.update(tile=tile, format=form)
            self._loaded = True

    def __getitem__(self, key: str) -> Any:
        if key in self._LAZY:
            self._load()
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default`."""
        # dict.get() does not call __getitem__.
        return self[key] if key in self else default  # noqa: SIM401

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Return the keys and values, with the pixels."""
        self._load()
        return super().items()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """Return the values, with the pixels."""
        self._load()
        return super().values()


class TileIterator:
    """The tiles of a region, row by row; made by `TileSource.tileIterator`.

    Attributes
    ----------
    info
        What is iterated over, or None for nothing.
    """

    def __init__(
        self,
        source: TiledImage,
        plan: TilePlan | None,
        *,
        frame: Any,
        formats: tuple[str, ...],
        encoder: Encoder,
        resample: Any,
    ) -> None:
        source._frames.position(frame)
        self.source = source
        self._plan = plan
        self._frame = frame
        self._formats = formats_of(formats)
        self._encoder = encoder
        self._method = "area" if plan is None else method_of(resample or True, plan.scale)
        self.info = None if plan is None else _info(source, plan, frame, self._formats, encoder)
        self._numbers = iter(() if plan is None else plan.positions)

    def __iter__(self) -> Iterator[Tile]:
        return self

    def __next__(self) -> Tile:
        return self._tile(next(self._numbers))

    def __len__(self) -> int:
        return 0 if self._plan is None else len(self._plan.positions)

    def __repr__(self) -> str:
        return f"TileIterator<{self.source.name}, {len(self)} tiles>"

    def read_ahead(self) -> Iterator[Tile]:
        """Iterate over the remaining tiles with their pixels, read ahead by several threads."""

        def loaded(tile: Tile) -> Tile:
            tile._load()
            return tile

        jobs = ((lambda tile=tile: loaded(tile)) for tile in self)
        return prefetch(jobs, self.source._frames.views[0].max_workers + 1)

    def _tile(self, number: int) -> Tile:
        plan = self._plan
        assert plan is not None  # noqa: S101 - there are no numbers without a plan
        row, column = divmod(number, plan.columns)
        x, y = plan.x.first + column, plan.y.first + row
        left, right, *across = plan.x.box(x)
        top, bottom, *down = plan.y.box(y)
        halvings = self.source.levels - 1 - plan.level
        scale = 1 << halvings
        at = self.source._geometry.at_level(plan.level)
        width, height = right - left, bottom - top
        size = None
        known: dict[str, Any] = {
            "x": left, "y": top, "width": width, "height": height, "level": plan.level,
            "level_x": x, "level_y": y, "magnification": at.magnification, "mm_x": at.mm_x,
            "mm_y": at.mm_y, "frame": self._frame,
            "tile_position": {
                "level_x": x, "level_y": y, "region_x": column, "region_y": row,
                "position": number,
            },
            "iterator_range": {
                "level_x_min": plan.x.first, "level_y_min": plan.y.first,
                "level_x_max": plan.x.last, "level_y_max": plan.y.last,
                "region_x_max": plan.columns, "region_y_max": plan.y.last - plan.y.first,
                "position": plan.count,
            },
            "tile_overlap": {
                "left": across[0], "top": down[0], "right": across[1], "bottom": down[1],
            },
            "gx": left * scale, "gy": top * scale, "gwidth": width * scale,
            "gheight": height * scale,
        }  # fmt: skip
        if plan.is_resampled:
            size = max(1, int(width / plan.scale)), max(1, int(height / plan.scale))
            known.update(_resampled(known, size, plan.scale))
        job = _Job(
            self.source, self._frame, halvings, (top, left, bottom, right), size, self._method,
            self._formats, self._encoder,
        )  # fmt: skip
        return Tile(job, known)


def _resampled(known: dict[str, Any], size: tuple[int, int], scale: float) -> dict[str, Any]:
    """Return the keys of a tile that is resampled to a size."""
    found = {f"tile_{name}": known[name] for name in ("x", "y", "width", "height")}
    found |= {f"tile_{name}": known[name] for name in ("magnification", "mm_x", "mm_y")}
    return {
        **found,
        "scaled": 1 / scale,
        "x": float(known["x"]),
        "y": float(known["y"]),
        "width": size[0],
        "height": size[1],
        "magnification": known["magnification"] and known["magnification"] / scale,
        "mm_x": known["mm_x"] and known["mm_x"] * scale,
        "mm_y": known["mm_y"] and known["mm_y"] * scale,
    }


def _info(
    source: TiledImage, plan: TilePlan, frame: Any, formats: tuple[str, ...], encoder: Encoder
) -> dict[str, Any]:
    """Return what large_image tells of an iterator."""
    x, y = plan.x, plan.y
    return {
        "region": {
            "left": x.start, "top": y.start, "right": x.stop, "bottom": y.stop,
            "width": x.stop - x.start, "height": y.stop - y.start,
        },
        "xmin": x.first, "ymin": y.first, "xmax": x.last, "ymax": y.last,
        "level": plan.level,
        "metadata": source.getMetadata(),
        "output": {"width": plan.output[0], "height": plan.output[1]},
        "frame": frame,
        "format": formats,
        "encoding": encoder.encoding,
        "requestedScale": plan.scale,
        "tile_count": plan.count,
        "tile_overlap": {"x": x.overlap, "y": y.overlap, "edges": x.edges},
        "tile_position": plan.position,
        "tile_size": {"width": x.stride, "height": y.stride},
    }  # fmt: skip
