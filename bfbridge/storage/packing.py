"""A folder as one ZIP file."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Final

__all__ = ["pack_folder"]

_COPIED: Final = 1 << 20
_DOCUMENT: Final = "zarr.json"


def pack_folder(folder: Path) -> None:
    """Put a ZIP file with the contents of a folder in its place, under the same name.

    The file follows NGFF RFC-9 (OME-Zarr zip files, ``.ozx``): ZIP64, entries without compression,
    so that readers fetch them by range; all documents first, those of a folder before those of its
    subfolders, the root's as first entry. For an OME-Zarr store of version 0.5 or later, the
    comment of the ZIP file states its version and this order.

    Raises
    ------
    OSError
        The disk refuses. The folder is as it was.
    """
    packed = folder.with_name(f"{folder.name}.packing")
    try:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for path in sorted(folder.rglob("*"), key=lambda path: _rank(path.relative_to(folder))):
                if path.is_file():
                    _add(archive, path, path.relative_to(folder).as_posix())
            archive.comment = _comment(folder)
    except BaseException:
        packed.unlink(missing_ok=True)
        raise
    shutil.rmtree(folder)
    packed.rename(folder)


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    info = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
    info.compress_type = zipfile.ZIP_STORED
    with path.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
        shutil.copyfileobj(source, target, _COPIED)


def _comment(folder: Path) -> bytes:
    """Return the comment that RFC-9 recommends; empty for stores without a version at the root."""
    document = folder / _DOCUMENT
    if not document.is_file():
        return b""
    ome = json.loads(document.read_bytes()).get("attributes", {}).get("ome", {})
    if "version" not in ome:
        return b""
    content = {"version": ome["version"], "zipFile": {"centralDirectory": {"jsonFirst": True}}}
    return json.dumps({"ome": content}).encode()


def _rank(path: Path) -> tuple[int, int, str]:
    # RFC-9 counts zarr.json only; the documents of version 2 and other JSON files follow.
    is_document = path.suffix == ".json" or path.name.startswith(".z")
    kind = 0 if path.name == _DOCUMENT else 1 if is_document else 2
    return kind, len(path.parts), path.as_posix()
