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


class Companion(NamedTuple):
    """Files that one reader looks for.

    Attributes
    ----------
    reader
        Class in ``loci.formats.in``.
    names
        Function from the absolute path of a TIFF to the paths that the reader looks for.
    marks
        The first megabyte of such a file contains one of these, in lower case; empty if the name is
        sufficient.
    """

    reader: str
    names: Callable[[Path], Iterator[Path]]
    marks: tuple[bytes, ...] = ()


def _here(*names: str) -> Callable[[Path], Iterator[Path]]:
    return lambda path: (path.parent / name for name in names)


def _above(*names: str) -> Callable[[Path], Iterator[Path]]:
    return lambda path: (path.parent.parent / name for name in names)


def _here_and_above(*names: str) -> Callable[[Path], Iterator[Path]]:
    return lambda path: (
        folder / name for folder in (path.parent, path.parent.parent) for name in names
    )


def _same_stem(*suffixes: str) -> Callable[[Path], Iterator[Path]]:
    return lambda path: (path.parent / f"{path.stem}{suffix}" for suffix in suffixes)


def _same_name(*suffixes: str) -> Callable[[Path], Iterator[Path]]:
    return lambda path: (path.parent / f"{path.name}{suffix}" for suffix in suffixes)


def _cut(text: str) -> Iterator[str]:
    """Yield a name and its prefixes: a_b_c, a_b, a."""
    yield text
    while "_" in text:
        text = text.rpartition("_")[0]
        yield text


def _cut_stem(*suffixes: str) -> Callable[[Path], Iterator[Path]]:
    return lambda path: (
        path.parent / f"{name}{suffix}" for name in _cut(path.stem) for suffix in suffixes
    )


def _cut_name(*suffixes: str) -> Callable[[Path], Iterator[Path]]:
    """Return the prefixes without the whole name."""
    return lambda path: (
        path.parent / f"{name}{suffix}"
        for number, name in enumerate(_cut(path.name))
        if number
        for suffix in suffixes
    )


def _micromanager(path: Path) -> Iterator[Path]:
    yield path.parent / "metadata.txt"
    yield path.parent / f"{path.name.split('.')[0] or path.name}_metadata.txt"


def _apl(path: Path) -> Iterator[Path]:
    top = path.parent.parent.parent
    yield top / f"{top.name}.apl"


def _fv1000(path: Path) -> Iterator[Path]:
    """FV1000Reader.findOIFFile: planes are in ``NAME.oif.files``, beside ``NAME.oif``."""
    name, cut, _ = path.name.rpartition("_")
    if not cut:
        return
    for suffix in (".oif", ".OIF"):
        yield path.parent.parent / f"{name}{suffix}"
    stem = path.parent.name.rpartition(".")[0].rpartition(".")[0]
    if stem:
        yield path.parent.parent / f"{stem}.oif"
        yield path.parent.parent / f"{stem}.oif".upper()


def _l2d(path: Path) -> Iterator[Path]:
    name = path.name.rpartition("_")[0] or path.name
    if (path.parent / name).exists():
        yield path.parent / f"{name}.scn"


def _scanr(path: Path) -> Iterator[Path]:
    inside = path.parent.name.lower() == "data"
    yield (path.parent.parent if inside else path.parent) / "experiment_descriptor.xml"


def _visitech(path: Path) -> Iterator[Path]:
    name, space, _ = path.name.rpartition(" ")
    if space:
        yield path.parent / f"{name} 1.xys"


def _zeiss(path: Path) -> Iterator[Path]:
    """ZeissTIFFReader.evalFile."""
    for folder in (f"{path.name}_files", f"{path.name}_Files", ""):
        yield path.parent / folder / "_meta.xml"
    yield path.parent / f"{path.name}_meta.xml"


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
    path = path.absolute()
    for companion in COMPANIONS:
        for found in companion.names(path):
            if os.path.exists(found) and _says(found, companion.marks):
                return found, companion.reader
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
