"""Hamamatsu's TIFF tags, with the names that Bio-Formats' NDPIReader and tifffile have for them."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["NdpiTag"]


class NdpiTag(IntEnum):
    """Private tags of NDPI files.

    Attributes
    ----------
    OffsetHighBytes, ByteCountHighBytes
        Upper 32 bits of the offsets and lengths of several strips.
    Version
        Number of the format; the mark of an NDPI file.
    SourceLens
        Magnification of the objective; -1 for the photograph of the slide (macro), -2 for the map.
    XPosition, YPosition, ZPosition
        Centre of the image, relative to that of the slide, in nm.
    McuStarts, McuStartsHighBytes
        Offsets of the restart intervals of the JPEG stream from its beginning.
    Reference
        Text of the slide's label.
    FilterSetName
        Name of the channel.
    CaptureMode
        Kind of illumination, and bits of the camera.
    PropertyMap
        Lines "name=value".
    """

    OffsetHighBytes = 65324
    ByteCountHighBytes = 65325
    Version = 65420
    SourceLens = 65421
    XPosition = 65422
    YPosition = 65423
    ZPosition = 65424
    TissueIndex = 65425
    McuStarts = 65426
    Reference = 65427
    McuStartsHighBytes = 65432
    FilterSetName = 65434
    ExposureRatio = 65435
    RedMultiplier = 65436
    GreenMultiplier = 65437
    BlueMultiplier = 65438
    CaptureMode = 65441
    SerialNumber = 65442
    JpegQuality = 65444
    RefocusInterval = 65445
    FocusOffset = 65446
    FirmwareVersion = 65448
    PropertyMap = 65449
    LabelObscured = 65450
    Wavelength = 65451
    LampAge = 65453
    ExposureTime = 65454
    FocusTime = 65455
    ScanTime = 65456
    WriteTime = 65457
    FullyAutoFocus = 65458
    DefaultGamma = 65500
