"""OME-TIFF and its family, read and written without Java."""

from bfbridge_ometiff.reader import OmeTiffReader

__all__ = ["READER", "OmeTiffReader"]

READER = OmeTiffReader
