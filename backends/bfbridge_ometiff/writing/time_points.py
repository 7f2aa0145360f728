"""Changes of stored OME-XML for further time points. All other text stays as it is."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from bfbridge.errors import Unsupported
from bfbridge_ometiff.reading.planes import PlaneMap

__all__ = ["extended_xml", "runs"]

_PIXELS: Final = ("OME", "Image", "Pixels")
_TIFF_DATA: Final = (*_PIXELS, "TiffData")
# A tag up to its end; attributes may contain ">".
_TAG: Final = re.compile(rb"<(?:\"[^\"]*\"|'[^']*'|[^\"'>])*>")


@dataclass(frozen=True, slots=True)
class _Tags:
    """Positions of elements in a document, in bytes.

    Attributes
    ----------
    root, pixels
        Start of the start tags of OME and of Pixels.
    tiff_data
        Begin and end of each TiffData element.
    name
        Name of TiffData elements, with the prefix of the document.
    """

    root: int
    pixels: list[int]
    tiff_data: list[tuple[int, int]]
    name: str


def runs(planes: PlaneMap) -> Iterator[dict[str, int]]:
    """Yield the attributes of TiffData elements that describe all planes.

    Each element describes consecutive planes, in the image's DimensionOrder, whose directories are
    consecutive too (the OME model: TiffData, PlaneCount).
    """
    ifds = planes.ifds
    starts = [i for i, ifd in enumerate(ifds) if not i or ifd != ifds[i - 1] + 1]
    for start, stop in zip(starts, [*starts[1:], len(ifds)], strict=True):
        z, c, t = (
            start // stride % size
            for stride, size in zip(planes.strides, planes.sizes, strict=True)
        )
        yield {
            "FirstZ": z, "FirstC": c, "FirstT": t, "IFD": ifds[start], "PlaneCount": stop - start,
        }  # fmt: skip


def extended_xml(xml: str, planes: PlaneMap) -> str:
    """Return the OME-XML of a file of one image that got further time points.

    SizeT, the TiffData elements and the UUID of the document are replaced.

    Parameters
    ----------
    xml
        The document of the file, well-formed.
    planes
        Directory of each plane, old and new.

    Raises
    ------
    Unsupported
        The document has not one Pixels element with TiffData.
    """
    data = xml.encode()
    tags = _find(data)
    if len(tags.pixels) != 1 or not tags.tiff_data:
        raise Unsupported("its OME-XML has not one Pixels element with TiffData")
    new = "".join(
        f"<{tags.name} "
        + " ".join(f"{key}={quoteattr(str(value))}" for key, value in run.items())
        + "/>"
        for run in runs(planes)
    )
    changes = [(start, end, b"") for start, end in tags.tiff_data]
    changes[0] = (*tags.tiff_data[0], new.encode())
    start, end = _tag_at(data, tags.pixels[0])
    changes.append((start, end, _with_value(data[start:end], b"SizeT", str(planes.sizes[2]))))
    start, end = _tag_at(data, tags.root)
    changes.append((start, end, _with_value(data[start:end], b"UUID", f"urn:uuid:{uuid.uuid4()}")))
    for start, end, value in sorted(changes, reverse=True):
        data = data[:start] + value + data[end:]
    return data.decode()


def _find(data: bytes) -> _Tags:
    """Return the positions of the elements that are changed."""
    path: list[str] = []
    starts: dict[tuple[str, ...], list[int]] = {("OME",): [], _PIXELS: [], _TIFF_DATA: []}
    ends: list[int] = []
    names: list[str] = []
    # The text was decoded before, whatever encoding its declaration names.
    parser = expat.ParserCreate("utf-8")

    def opened(name: str, _: Any) -> None:
        path.append(name.rpartition(":")[2])
        key = tuple(path)
        if key in starts:
            starts[key].append(parser.CurrentByteIndex)
            if key == _TIFF_DATA:
                names.append(name)

    def closed(_: str) -> None:
        if tuple(path) == _TIFF_DATA:
            stop = _tag_at(data, starts[_TIFF_DATA][-1])[1]
            if not data.endswith(b"/>", 0, stop):
                stop = _tag_at(data, parser.CurrentByteIndex)[1]
            ends.append(stop)
        path.pop()

    parser.StartElementHandler = opened
    parser.EndElementHandler = closed
    parser.Parse(data, True)
    spans = list(zip(starts[_TIFF_DATA], ends, strict=True))
    return _Tags(starts[("OME",)][0], starts[_PIXELS], spans, names[0] if names else "")


def _tag_at(data: bytes, start: int) -> tuple[int, int]:
    found = _TAG.match(data, start)
    if found is None:
        raise Unsupported(f"its OME-XML has no tag at byte {start}")
    return found.span()


def _with_value(tag: bytes, name: bytes, value: str) -> bytes:
    """Return a start tag with another value of an attribute; unchanged without the attribute."""
    pattern = rb"(\s" + name + rb"\s*=\s*)(\"[^\"]*\"|'[^']*')"
    return re.sub(pattern, lambda found: found[1] + f'"{value}"'.encode(), tag, count=1)
