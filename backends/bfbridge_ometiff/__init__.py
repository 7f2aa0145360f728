"""OME-TIFF and its family, read and written without Java."""

from bfbridge_ometiff.header import image_size
from bfbridge_ometiff.reader import OmeTiffReader
from bfbridge_ometiff.writer import OmeTiffWriter

__all__ = ["READER", "WRITER", "OmeTiffReader", "OmeTiffWriter", "image_size"]

READER = OmeTiffReader
WRITER = OmeTiffWriter
