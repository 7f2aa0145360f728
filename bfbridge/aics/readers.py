"""AICSImageIO's readers by name: `AICSImage` that reads one kind of file.

They differ from `AICSImage` in what they accept, and in arrays, whose axes stay as they were given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bfbridge.aics.image import Reader

__all__ = [
    "ArrayLikeReader",
    "BioformatsReader",
    "CziReader",
    "DefaultReader",
    "LifReader",
    "ND2Reader",
    "OmeTiffReader",
    "OmeZarrReader",
    "Reader",
    "TiffReader",
]


class TiffReader(Reader):
    """TIFF files without OME-XML."""

    _backends = ("ometiff",)
    _is_ome = False


class OmeTiffReader(Reader):
    """OME-TIFF files."""

    _backends = ("ometiff",)
    _is_ome = True


class OmeZarrReader(Reader):
    """OME-Zarr stores."""

    _backends = ("omezarr",)


class CziReader(Reader):
    """CZI files read natively."""

    _backends = ("czi",)


class LifReader(Reader):
    """LIF files read natively."""

    _backends = ("lif",)


class ND2Reader(Reader):
    """ND2 files read natively."""

    _backends = ("nd2",)


class DefaultReader(Reader):
    """Pictures: PNG, JPEG, GIF, BMP and others."""

    _backends = ("pictures",)


class BioformatsReader(Reader):
    """Any file, through Bio-Formats."""

    _backends = ("bioformats",)
    _options: ClassVar[Mapping[str, Any]] = {"backend": "bioformats"}


class ArrayLikeReader(Reader):
    """Arrays of numpy, dask and xarray, and lists of them."""

    _backends = ("array",)
