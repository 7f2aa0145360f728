"""Checks of OME-Zarr stores. Imports the packages `hierarchy` and `chunked`."""

from __future__ import annotations

from bfbridge_omezarr.validation.stores import validate

__all__ = ["validate"]
