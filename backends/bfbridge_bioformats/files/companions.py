"""Which other files a file may include: none outside its own folder, unless that is allowed.

Names in OME-XML are checked before Java opens the file. For every format, the Java class
bfbridge.Access checks each name that Java is about to open.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from bfbridge.backend import OpenOptions
from bfbridge.errors import BfbridgeError, LimitExceeded, UnreadableFile
from bfbridge.limits import Limits, check
from bfbridge.ome.documents.xml import looks_like_ome_xml, parse_ome_xml
from bfbridge.storage.source import RandomAccess, Source
from bfbridge.tiff.header import HEADER_BYTES, parse_header
from bfbridge.tiff.tags import Tag

__all__ = ["check_named_files", "refusal"]

_MOST_ENTRIES = 4096
_MOST_PATTERN = 65_536

_WHY = {
    "outside": "which is outside its own folder and is not read. If you trust the file, open it "
    "with allow_outside=True.",
    "url": "which is a URL. URLs in a file are never fetched. Download it into the file's folder "
    "and use the name of the downloaded file.",
    "device": "which is a pipe, a device or a socket, not a file.",
    "synthetic": "which is a synthetic image. Those are made only for a path that you give.",
}


def check_named_files(source: Source, options: OpenOptions) -> list[str]:
    """Return the files that an OME-TIFF or companion file names; refuse those outside its folder.

    The text of a ``.pattern`` file is checked too: of a pattern with a path, Bio-Formats searches
    all folders below that path (FilePattern.getAllFiles), relative to the process's folder.

    Reads BinaryOnly/@MetadataFile and TiffData/UUID/@FileName (OMETiffReader.initFile opens
    them), of the file itself and of the companion file that it names.

    Raises
    ------
    UnreadableFile
        A name is outside the folder: by ``..``, ``~``, a URL, a NUL or a symbolic link.
    LimitExceeded
        The document declares more than the limits allow.
    """
    limits = options.limits
    if source.filename.lower().endswith(".pattern") and not options.allow_outside:
        _check_pattern(source)
    xml = _ome_xml(source, limits)
    if xml is None:
        return []
    try:
        document = parse_ome_xml(xml, source.name, limits)
    except LimitExceeded:
        raise
    except BfbridgeError:
        # Java refuses it too, or reads it as another format; the files of that format are checked.
        return []
    names = {data.file_name for image in document.images for data in image.tiff_data}
    found = sorted(filter(None, names))
    if document.binary_only is not None:
        found.append(document.binary_only.metadata_file)
    if not options.allow_outside:
        for name in found:
            _check_name(source, name)
    if document.binary_only is not None:
        companion = source.sibling(_below(found[-1]))
        if companion.exists() and not companion.is_dir():
            found.extend(check_named_files(companion, options))
    return found


def _allowed_roots(path: Path, folder: Path) -> tuple[str, ...]:
    """Real folders that count as a file's own: the folders of its name and of its data."""
    return os.path.realpath(folder), os.path.dirname(os.path.realpath(path))


def _inside(file: str, roots: Sequence[str]) -> bool:
    real = os.path.realpath(file)
    return any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _check_name(source: Source, name: str) -> None:
    plain = name.replace("\\", "/")
    if (
        "\0" in plain
        or ".." in plain.split("/")
        or plain.startswith("~")
        or "://" in plain
        or plain.lower().startswith("file:")
    ):
        raise refusal(source.name, "outside", name)
    if source.path is None:
        return
    below = os.path.join(source.path.parent, _below(name))
    if not _inside(below, _allowed_roots(source.path, source.path.parent)):
        raise refusal(source.name, "outside", name)


def _check_pattern(source: Source) -> None:
    access = source.open()
    try:
        stored = bytes(access.read_at(0, min(access.size, _MOST_PATTERN)))
    finally:
        access.close()
    pattern = stored.decode("utf-8", "replace").strip()
    plain = pattern.replace("\\", "/")
    folder = "" if source.path is None else f"{source.path.parent.absolute().as_posix()}/"
    elsewhere = os.path.isabs(pattern) and not (folder and plain.startswith(folder))
    if elsewhere or not {".", ".."}.isdisjoint(plain.split("/")):
        raise refusal(source.name, "outside", pattern)


def _below(name: str) -> str:
    """Return a name relative to the folder, as in Java: File(folder, "/x") is folder/x."""
    return name.replace("\\", "/").lstrip("/")


def refusal(name: str, objection: str, companion: str) -> UnreadableFile:
    """Return the error for a companion that is not opened.

    Parameters
    ----------
    name
        The file that was opened.
    objection
        "outside", "url", "device" or "synthetic", as the Java class bfbridge.Access says.
    companion
        The name in the file.
    """
    shown = companion.rpartition("\0")[2]
    return UnreadableFile(f"{name}: it names {shown!r} as part of its data, {_WHY[objection]}")


def _ome_xml(source: Source, limits: Limits) -> bytes | None:
    """Return the OME-XML of the first directory of a TIFF, or of a companion file, or None."""
    access = source.open()
    try:
        head = bytes(access.read_at(0, 16))
        if source.filename.lower().endswith("companion.ome"):
            check(access.size, limits.xml_bytes, "metadata length in bytes", source.name)
            return bytes(access.read_at(0, access.size))
        for text in _description(access, head, source.name, limits):
            if looks_like_ome_xml(text):
                return text
        return None
    finally:
        access.close()


def _description(access: RandomAccess, head: bytes, name: str, limits: Limits) -> Iterator[bytes]:
    """Yield ImageDescription of the first directory; nothing for other or damaged files."""
    try:
        header = parse_header(head, strict=False)
    except ValueError:
        return
    if header is None or len(head) < HEADER_BYTES:
        return
    # An offset may be larger than any file, and larger than the system accepts.
    raw = bytes(access.read_at(min(header.first, access.size), header.count_bytes))
    if len(raw) < header.count_bytes:
        return
    entries = min(header.number(header.count_code, raw), _MOST_ENTRIES)
    start = header.first + header.count_bytes
    block = bytes(access.read_at(start, entries * header.entry_bytes))
    whole = len(block) - len(block) % header.entry_bytes
    for tag, entry in header.entries(block[:whole], start):
        if tag != Tag.ImageDescription:
            continue
        check(entry.values, limits.xml_bytes, "ImageDescription length in bytes", name)
        if entry.values > header.offset_bytes:
            data = access.read_at(min(entry.offset, access.size), entry.values)
            yield bytes(data).rstrip(b"\0")
        return
