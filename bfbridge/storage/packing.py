"""A folder as one ZIP file."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

__all__ = ["pack_folder"]


def pack_folder(folder: Path) -> None:
    """Put a ZIP file with the contents of a folder in its place, under the same name.

    Entries are not compressed, so that readers fetch them by range; those of a folder come before
    those of its subfolders, documents first (NGFF RFC-9, which also has the name ``.ozx``).

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
                    archive.write(path, path.relative_to(folder).as_posix())
    except BaseException:
        packed.unlink(missing_ok=True)
        raise
    shutil.rmtree(folder)
    packed.rename(folder)


def _rank(path: Path) -> tuple[bool, int, str]:
    is_document = path.suffix == ".json" or path.name.startswith(".z")
    return not is_document, len(path.parts), path.as_posix()
