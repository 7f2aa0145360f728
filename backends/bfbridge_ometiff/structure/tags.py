"""Names of TIFF tags, for original metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bfbridge.errors import BfbridgeError, FileChanged
from bfbridge_ometiff.structure.ifd import Directory

__all__ = ["named_tags"]

NAMES: Final[dict[int, str]] = {
    254: "NewSubfileType",
    255: "SubfileType",
    256: "ImageWidth",
    257: "ImageLength",
    258: "BitsPerSample",
    259: "Compression",
    262: "PhotometricInterpretation",
    266: "FillOrder",
    269: "DocumentName",
    270: "ImageDescription",
    271: "Make",
    272: "Model",
    273: "StripOffsets",
    274: "Orientation",
    277: "SamplesPerPixel",
    278: "RowsPerStrip",
    279: "StripByteCounts",
    280: "MinSampleValue",
    281: "MaxSampleValue",
    282: "XResolution",
    283: "YResolution",
    284: "PlanarConfiguration",
    285: "PageName",
    286: "XPosition",
    287: "YPosition",
    296: "ResolutionUnit",
    297: "PageNumber",
    305: "Software",
    306: "DateTime",
    315: "Artist",
    316: "HostComputer",
    317: "Predictor",
    318: "WhitePoint",
    319: "PrimaryChromaticities",
    320: "ColorMap",
    322: "TileWidth",
    323: "TileLength",
    324: "TileOffsets",
    325: "TileByteCounts",
    330: "SubIFDs",
    338: "ExtraSamples",
    339: "SampleFormat",
    340: "SMinSampleValue",
    341: "SMaxSampleValue",
    347: "JPEGTables",
    529: "YCbCrCoefficients",
    530: "YCbCrSubSampling",
    531: "YCbCrPositioning",
    532: "ReferenceBlackWhite",
    700: "XMP",
    33432: "Copyright",
    33550: "ModelPixelScale",
    34665: "ExifIFD",
    34675: "InterColorProfile",
    50838: "IJMetadataByteCounts",
    50839: "IJMetadata",
}
_MOST_VALUES = 4096


def named_tags(directory: Directory) -> Mapping[str, Any]:
    """Return a directory's values by name; a tag without a name is called by its number.

    Long lists of numbers (where segments lie, colour tables) and values that cannot be read are
    left out; text is kept whatever its length, as long as values do not share their bytes.
    """
    found: dict[str, Any] = {}
    rest = directory.file_size
    for tag, entry in directory.entries.items():
        if entry.kind != 2 and entry.values > _MOST_VALUES:
            continue
        # Together, the values of a sound file are no longer than the file.
        rest -= directory.length(tag)
        if rest < 0:
            break
        try:
            found[NAMES.get(tag, str(tag))] = directory.value(tag)
        except FileChanged:
            raise
        except BfbridgeError:
            continue
    return found
