"""A new file under a temporary name, which replaces another one only when it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bfbridge.errors import BfbridgeError
from bfbridge.files.writing.write_errors import name_target
from bfbridge.storage.atomic import AtomicTarget

__all__ = ["aside"]


@contextmanager
def aside(target: Path, *, overwrite: bool = False, durable: bool = False) -> Iterator[Path]:
    """Yield the place of a new file or folder; it gets its name after the block.

    After an error it is removed, and what had the name before is unchanged.

    Parameters
    ----------
    target
        The name. Missing folders are created.
    overwrite, durable
        As for `AtomicTarget`.

    Raises
    ------
    BfbridgeError
        As for `AtomicTarget`, or raised by the block; messages name the target.
    """
    # What cannot be made is reported by AtomicTarget, which names the reason and the remedy.
    with suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
    hidden = AtomicTarget(target, overwrite=overwrite, durable=durable)
    try:
        yield hidden.work_path
        hidden.commit()
    except BfbridgeError as error:
        name_target(error, hidden)
        raise
    finally:
        hidden.discard()
