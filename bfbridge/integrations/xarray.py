"""The engine "bfbridge" of xarray: `xarray.open_dataset` and `xarray.open_datatree` for images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from xarray import Dataset, DataTree, Variable
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from bfbridge.analysis.dask_arrays import LazyImage, default_chunks, labels, lazy_image
from bfbridge.analysis.modulo import UnfoldedImage
from bfbridge.errors import BadArgument
from bfbridge.reader import BioReader

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["BfbridgeBackend"]

ORDER = "TCZYX"
DIMS = tuple(ORDER.lower())
VARIABLE = "image"
SUFFIXES = (
    ".ome.tif", ".ome.tiff", ".ome.tf2", ".ome.tf8", ".ome.btf", ".ome.zarr", ".ozx", ".czi",
    ".lif", ".nd2", ".oib", ".oif", ".ims", ".lsm", ".dv", ".r3d", ".vsi", ".svs", ".ndpi", ".scn",
    ".mrxs", ".lof", ".xlef", ".sld", ".zvi", ".stk", ".ics", ".ids", ".companion.ome", ".ome.xml",
)  # fmt: skip
"""Names that are always images. A .tif or .zarr may be any array, and is not claimed."""


class _Pixels(BackendArray):
    """Array for xarray: the tile engine handles outer indices, numpy all others."""

    def __init__(self, lazy: LazyImage | UnfoldedImage) -> None:
        self._lazy = lazy
        self.shape = lazy.shape
        self.dtype = lazy.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._lazy.__getitem__
        )
        return found


def _dataset(
    view: ImageView, drop: Iterable[str] | None, origin: str, unfold: bool | str
) -> Dataset:
    lazy = lazy_image(view, ORDER, unfold)
    coordinates, attributes = labels(view, origin)
    chunks = default_chunks(view, ORDER)
    dims: tuple[str, ...] = DIMS
    if isinstance(lazy, UnfoldedImage):
        dims, chunks, coordinates = lazy.dims, lazy.chunks(chunks), lazy.coordinates(coordinates)
    image = Variable(
        dims,
        indexing.LazilyIndexedArray(_Pixels(lazy)),
        attrs=attributes,
        encoding={"preferred_chunks": dict(zip(dims, chunks, strict=True))},
    )
    dataset = Dataset({VARIABLE: image}, coords=coordinates, attrs=attributes)
    return dataset.drop_vars(drop or (), errors="ignore")


@contextmanager
def _closed_on_error(reader: BioReader) -> Iterator[None]:
    try:
        yield
    except BaseException:
        reader.close()
        raise


class BfbridgeBackend(BackendEntrypoint):
    """Microscopy images, read by bfbridge.

    ``xarray.open_dataset`` gives one image as the variable ``image``, ``xarray.open_datatree`` all
    of them as ``/series_0/level_0``, ``/series_0/level_1``, ... Parameters beyond xarray's own are
    those of `BioReader`, and `origin` and `unfold` of `ImageView.to_xarray`.
    """

    description = "Microscopy images of every format, read by bfbridge"
    url = ""
    open_dataset_parameters: ClassVar[tuple[str, ...] | None] = (
        "filename_or_obj", "drop_variables", "series", "level", "origin", "unfold",
        "backend", "storage_options", "max_workers", "options",
    )  # fmt: skip
    supports_groups = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether the name is always that of an image."""
        if not isinstance(filename_or_obj, (str, os.PathLike)):
            return False
        name = os.fspath(filename_or_obj)
        return str(name).split("?", 1)[0].rstrip("/").lower().endswith(SUFFIXES)

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        series: int | str | None = None,
        level: int | None = None,
        origin: str = "file",
        unfold: bool | str = False,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        max_workers: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """Open one level of one image; see `BioReader` and the class for the parameters."""
        reader = BioReader(
            filename_or_obj,
            max_workers,
            backend,
            level=level,
            series=series,
            storage_options=storage_options,
            options=options,
        )
        with _closed_on_error(reader):
            dataset = _dataset(reader, _as_list(drop_variables), origin, unfold)
        dataset.set_close(reader.close)
        return dataset

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        origin: str = "file",
        unfold: bool | str = False,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        max_workers: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> dict[str, Dataset]:
        """Open every level of every image: group path -> dataset."""
        reader = BioReader(
            filename_or_obj,
            max_workers,
            backend,
            storage_options=storage_options,
            options=options,
        )
        root = Dataset(attrs={"source": reader.source_name})
        root.set_close(reader.close)
        groups = {"/": root}
        with _closed_on_error(reader):
            for view in reader.series:
                attributes = {"role": view.role, **({"name": view.name} if view.name else {})}
                groups[f"/series_{view.index}"] = Dataset(attrs=attributes)
                for level in view.levels:
                    path = f"/series_{view.index}/level_{level.level}"
                    groups[path] = _dataset(level, _as_list(drop_variables), origin, unfold)
        return groups

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        origin: str = "file",
        unfold: bool | str = False,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        max_workers: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> DataTree:
        """Open every level of every image as a tree."""
        groups = self.open_groups_as_dict(
            filename_or_obj,
            drop_variables=drop_variables,
            origin=origin,
            unfold=unfold,
            backend=backend,
            storage_options=storage_options,
            max_workers=max_workers,
            options=options,
        )
        tree: DataTree = DataTree.from_dict(groups)
        tree.set_close(groups["/"]._close)
        return tree


def _as_list(names: str | Iterable[str] | None) -> list[str]:
    if names is None or isinstance(names, str):
        return [] if names is None else [names]
    if not np.iterable(names):
        raise BadArgument(f"drop_variables={names!r}: give a name, or a list of names.")
    return [str(name) for name in names]
