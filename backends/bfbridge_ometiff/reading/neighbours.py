"""Files beside a TIFF that make it a part of another format's data set in Bio-Formats.

Each row is a reader of Bio-Formats 7.3.1 whose `isThisType(String, boolean)` looks for files with
names derived from the TIFF's name or folder. No reader uses other files beside a TIFF. Readers that
test the TIFF's own tags, software or description are covered by the rules in
`bfbridge_ometiff.reading.plain`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["COMPANIONS", "Companion", "companion_of"]

# Bytes of a file that MicromanagerReader and PrairieReader search.
_LOOKED_AT: Final = 1 << 20


class _Place(NamedTuple):
    """Where a TIFF is. Text, because paths take most of the time of opening a small file.

    Attributes
    ----------
    path
        Absolute path of the TIFF.
    name, stem
        Its name, with and without the suffix.
    here, above
        Its folder and the folder of that, each with a separator at the end.
    """

    path: Path
    name: str
    stem: str
    here: str
    above: str

    @classmethod
    def of(cls, path: Path) -> _Place:
        """Return the place of an absolute path."""
        folder = path.parent
        return cls(
            path, path.name, path.stem, os.path.join(folder, ""), os.path.join(folder.parent, "")
        )


class Companion(NamedTuple):
    """Files that one reader looks for.

    Attributes
    ----------
    reader
        Class in ``loci.formats.in``.
    names
        Function from the place of a TIFF to the paths that the reader looks for.
    marks
        The first megabyte of such a file contains one of these, in lower case; empty if the name is
        sufficient.
    """

    reader: str
    names: Callable[[_Place], Iterator[str]]
    marks: tuple[bytes, ...] = ()


def _here(*names: str) -> Callable[[_Place], Iterator[str]]:
    return lambda place: (place.here + name for name in names)


def _here_and_above(*names: str) -> Callable[[_Place], Iterator[str]]:
    return lambda place: (folder + name for folder in (place.here, place.above) for name in names)


def _same_stem(*suffixes: str) -> Callable[[_Place], Iterator[str]]:
    return lambda place: (place.here + place.stem + suffix for suffix in suffixes)


def _same_name(*suffixes: str) -> Callable[[_Place], Iterator[str]]:
    return lambda place: (place.here + place.name + suffix for suffix in suffixes)


def _cut(text: str) -> Iterator[str]:
    """Yield a name and its prefixes: a_b_c, a_b, a."""
    yield text
    while "_" in text:
        text = text.rpartition("_")[0]
        yield text


def _cut_stem(*suffixes: str) -> Callable[[_Place], Iterator[str]]:
    return lambda place: (
        place.here + name + suffix for name in _cut(place.stem) for suffix in suffixes
    )


def _cut_name(*suffixes: str) -> Callable[[_Place], Iterator[str]]:
    """Return the prefixes without the whole name."""
    return lambda place: (
        place.here + name + suffix
        for number, name in enumerate(_cut(place.name))
        if number
        for suffix in suffixes
    )


def _micromanager(place: _Place) -> Iterator[str]:
    yield f"{place.here}metadata.txt"
    yield f"{place.here}{place.name.split('.')[0] or place.name}_metadata.txt"


def _apl(place: _Place) -> Iterator[str]:
    top = place.path.parent.parent.parent
    yield str(top / f"{top.name}.apl")


def _fv1000(place: _Place) -> Iterator[str]:
    """FV1000Reader.findOIFFile: planes are in ``NAME.oif.files``, beside ``NAME.oif``."""
    name, cut, _ = place.name.rpartition("_")
    if not cut:
        return
    for suffix in (".oif", ".OIF"):
        yield f"{place.above}{name}{suffix}"
    stem = place.path.parent.name.rpartition(".")[0].rpartition(".")[0]
    if stem:
        yield f"{place.above}{stem}.oif"
        yield place.above + f"{stem}.oif".upper()


def _l2d(place: _Place) -> Iterator[str]:
    name = place.name.rpartition("_")[0] or place.name
    if os.path.exists(place.here + name):
        yield f"{place.here}{name}.scn"


def _scanr(place: _Place) -> Iterator[str]:
    inside = place.path.parent.name.lower() == "data"
    yield f"{place.above if inside else place.here}experiment_descriptor.xml"


def _visitech(place: _Place) -> Iterator[str]:
    name, space, _ = place.name.rpartition(" ")
    if space:
        yield f"{place.here}{name} 1.xys"


def _zeiss(place: _Place) -> Iterator[str]:
    """ZeissTIFFReader.evalFile."""
    for folder in (f"{place.name}_files/", f"{place.name}_Files/", ""):
        yield f"{place.here}{folder}_meta.xml"
    yield f"{place.here}{place.name}_meta.xml"


COMPANIONS: Final = (
    Companion("MicromanagerReader", _micromanager, (b"micro-manager", b"micromanager")),
    Companion("NRRDReader", _same_name(".nhdr")),
    Companion("NRRDReader", _same_stem(".nhdr")),
    Companion("APLReader", _apl),
    Companion("BDReader", _here_and_above("Experiment.exp")),
    Companion("ColumbusReader", _here_and_above("MeasurementIndex.ColumbusIDX.xml")),
    Companion("FV1000Reader", _fv1000),
    Companion("HitachiReader", _same_stem(".txt"), (b"[semimagefile]",)),
    Companion("InveonReader", _same_name(".hdr"), (b"header file for data file",)),
    Companion("L2DReader", _l2d),
    Companion("LeicaReader", _cut_stem(".lei", ".LEI")),
    Companion("MetamorphReader", _cut_name(".nd", ".ND", ".scan", ".SCAN")),
    Companion("MetaxpressTiffReader", _cut_name(".htd", ".HTD")),
    Companion("NiftiReader", _same_stem(".hdr"), (b"ni1", b"n+1")),
    Companion("UnisokuReader", _same_stem(".hdr", ".HDR"), (b":stm data",)),
    Companion("OperettaReader", _here("Index.idx.xml", "Index.ref.xml", "Index.xml")),
    Companion("PerkinElmerReader", _cut_stem(".htm", ".HTM")),
    Companion("PrairieReader", _cut_stem(".xml"), (b"<pv",)),
    Companion("ScanrReader", _scanr),
    Companion("TillVisionReader", _same_stem(".pst")),
    Companion("VisitechReader", _visitech),
    Companion("ZeissTIFFReader", _zeiss),
    Companion("CellVoyagerReader", _here_and_above("MeasurementResult.xml")),
)


def companion_of(path: Path) -> tuple[Path, str] | None:
    """Return a file that makes a TIFF part of a data set, and the reader, or None.

    Parameters
    ----------
    path
        Path of the TIFF; links are not followed, as in Bio-Formats.
    """
    place = _Place.of(path.absolute())
    for companion in COMPANIONS:
        for found in companion.names(place):
            if os.path.exists(found) and _says(Path(found), companion.marks):
                return Path(found), companion.reader
    return None


def _says(path: Path, marks: tuple[bytes, ...]) -> bool:
    """Whether a file contains what a reader requires; True for a file that cannot be read."""
    if not marks:
        return True
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            # Without the zero bytes, UTF-16 reads as ASCII.
            text = file.read(_LOOKED_AT).replace(b"\0", b"").lower()
    except OSError:
        return True
    return any(mark in text for mark in marks)
