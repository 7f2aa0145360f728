"""Files with a marker in every place of metadata, and the search for it in all bytes of a file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from bfbridge import BioReader
from tests.support.samples import distinct

__all__ = ["COLORS", "MARKER", "PIXELS", "holds", "jpeg", "planted"]

MARKER = "Zaphod4711"
PIXELS = distinct((2, 3, 2, 40, 50))
COLORS = distinct((1, 3, 1, 32, 48)).astype(np.uint8)
XML = f"""<?xml version="1.0" encoding="UTF-8"?><!-- {MARKER} -->
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" Creator="{MARKER}">
<Experimenter ID="Experimenter:{MARKER}" FirstName="{MARKER}" Email="{MARKER}@example.org"/>
<Instrument ID="Instrument:{MARKER}"><Microscope SerialNumber="{MARKER}"/>
<Objective ID="Objective:{MARKER}" SerialNumber="{MARKER}" Model="{MARKER}" LensNA="0.8"
 NominalMagnification="20" Immersion="Oil"/></Instrument>
<Image ID="Image:{MARKER}" Name="{MARKER}"><AcquisitionDate>2011-11-11T11:11:11</AcquisitionDate>
<Description>{MARKER}</Description><ExperimenterRef ID="Experimenter:{MARKER}"/>
<InstrumentRef ID="Instrument:{MARKER}"/><ObjectiveSettings ID="Objective:{MARKER}"/>

<StageLabel Name="{MARKER}"/>
<Pixels ID="Pixels:{MARKER}" DimensionOrder="XYCZT" Type="uint8" SizeX="48" SizeY="32" SizeZ="1"
 SizeC="3" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.25" PhysicalSizeYUnit="nm">
<Channel ID="Channel:{MARKER}" Name="{{channel}}" Fluor="{MARKER}" SamplesPerPixel="3"/>
<TiffData/><Plane TheZ="0" TheC="0" TheT="0" DeltaT="5" PositionX="7.5" PositionXUnit="mm"/>
</Pixels><ROIRef ID="ROI:0"/><AnnotationRef ID="Annotation:0"/></Image>
<StructuredAnnotations><CommentAnnotation ID="Annotation:0" Namespace="{MARKER}">
<Value>{MARKER}</Value></CommentAnnotation></StructuredAnnotations>
<ROI ID="ROI:0"><Union><Label ID="Shape:0" X="1" Y="2" Text="{MARKER}"/></Union></ROI></OME>"""


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    """One JPEG stream with the marker in a comment, in Exif, and after its end."""
    exif = Image.Exif()
    exif[0x010E] = MARKER
    data = io.BytesIO()
    Image.fromarray(pixels).save(
        data, "JPEG", comment=MARKER, exif=exif, icc_profile=MARKER.encode(), **options
    )
    return data.getvalue() + MARKER.encode()


def planted(path: Path, channel: str = "Bright field") -> Path:
    """A colour OME-TIFF with the marker in every place of metadata."""
    rows = np.moveaxis(COLORS[0, :, 0], 0, -1)
    tiles = [jpeg(np.pad(rows[:, x : x + 32], ((0, 0), (0, -rows[:, x : x + 32].shape[1] % 32),
             (0, 0)))) for x in (0, 32)]  # fmt: skip
    tifffile.imwrite(
        path, iter(tiles), shape=rows.shape, dtype="u1", tile=(32, 32), compression="jpeg",
        photometric="ycbcr", subsampling=(2, 2), metadata=None, software=MARKER,
        description=XML.replace("{channel}", channel).encode(),
        datetime="2011:11:11 11:11:11",
        extratags=[
            (tag, "s", 0, MARKER, True) for tag in (269, 271, 272, 285, 315, 316, 33432, 65000)
        ] + [(700, "B", len(MARKER), MARKER.encode(), True)],
    )  # fmt: skip
    with open(path, "ab") as file:
        file.write(MARKER.encode())
    return path


def contents(path: Path) -> Iterator[bytes]:
    """All bytes of a file or store: stored, decompressed, and names."""
    paths = [path] if path.is_file() else sorted(path.rglob("*"))
    for one in paths:
        yield str(one.relative_to(path.parent)).encode()
        if one.is_file():
            yield one.read_bytes()
    if path.is_file():
        with tifffile.TiffFile(path) as tiff:
            for page in tiff.pages:
                assert isinstance(page, tifffile.TiffPage)
                yield str([(tag.name, tag.value) for tag in page.tags]).encode()
                yield page.asarray().tobytes()
    else:
        with BioReader(path) as br:
            yield from (np.asarray(image[:]).tobytes() for image in br.series)


def holds(path: Path, text: str) -> bool:
    forms = [text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be")]
    return any(form in data for data in contents(path) for form in forms)
