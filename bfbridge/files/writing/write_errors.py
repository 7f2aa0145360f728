"""Errors while a file is written, with the name of its target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bfbridge.errors import BfbridgeError, OutOfMemory, WriteFailed
from bfbridge.storage.atomic import AtomicTarget
from bfbridge.storage.remote.object_store import UrlTarget
from bfbridge.storage.remote.upload import UploadTarget

__all__ = ["Target", "name_target", "reported"]

Target = AtomicTarget | UrlTarget


@contextmanager
def reported(target: Target) -> Iterator[None]:
    """Convert operating system errors and MemoryError to bfbridge's errors, with the target."""
    name = str(target.path)
    try:
        yield
    except BfbridgeError as error:
        name_target(error, target)
        raise
    except MemoryError as error:
        raise OutOfMemory(
            f"{name}: memory ran out while writing. Write smaller regions, use fewer workers, or "
            "lower memory=."
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise WriteFailed(
            f"{name}: cannot be written ({reason}). A previous file of this name is unchanged."
        ) from error


def name_target(error: BfbridgeError, target: Target) -> None:
    """Put the target's name into a message, in place of the private folder it is made in."""
    if isinstance(target, (AtomicTarget, UploadTarget)) and len(error.args) == 1:
        text = str(error.args[0]).replace(str(target.work_path), str(target.path))
        error.args = (text.replace(str(target.folder), str(target.path)),)
