"""Arrays that zarr-python reads: other chunk grids, codecs around shards, third-party codecs.

zarr-python reads bytes through the same store, so its checks of paths apply.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.errors import INSTALL, BfbridgeError, MissingExtra, ReadFailed, Unsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bfbridge_omezarr.chunked.array_metadata import ArrayInfo
    from bfbridge_omezarr.hierarchy.store import Store

__all__ = ["IndirectReader"]


class IndirectReader:
    """One array, read through zarr-python."""

    def __init__(self, info: ArrayInfo, store: Store) -> None:
        try:
            import zarr

            from bfbridge_omezarr.adapter import Adapter
            from bfbridge_omezarr.chunked.bounded import with_bounds
        except ImportError as error:
            raise MissingExtra(
                f"{store.label(info.key)}: this array needs the package zarr. Install it with: "
                f"{INSTALL}"
            ) from error
        self._where = store.label(info.key)
        try:
            document = json.dumps(with_bounds(info.document)).encode()
            key = f"{info.key}/zarr.json" if info.key else "zarr.json"
            self._array: Any = zarr.open_array(
                Adapter(store, {key: document}), path=info.key, mode="r", zarr_format=3
            )
        except BfbridgeError:
            raise
        except Exception as error:
            raise Unsupported(
                f"zarr-python does not open {self._where} ({type(error).__name__}: {error})"
            ) from error

    def read(self, start: Sequence[int], stop: Sequence[int], out: NDArray[Any]) -> None:
        """Fill `out` with a box, in the array's own axis order."""
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        try:
            values = np.asarray(self._array[box])
        except BfbridgeError:
            raise
        except Exception as error:
            raise ReadFailed(
                f"{self._where}: region {box} cannot be decoded ({type(error).__name__}: {error})."
            ) from error
        out[...] = values.view(np.uint8) if values.dtype == np.bool_ else values
