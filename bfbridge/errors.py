"""Every error bfbridge raises, as one tree.

::

    BfbridgeError
    ├── FileMissing            (FileNotFoundError)  nothing at that path or URL
    ├── UnreadableFile         (OSError)            damaged, truncated, or not an image at all
    │   └── UnknownFormat      (OSError)            its content is of no format that is known
    ├── Unsupported            (ValueError)         sound, but this backend does not handle it
    ├── ReadFailed             (OSError)            pixels of one region cannot be delivered
    │   └── FileChanged        (OSError)            a file was written to or replaced while open
    ├── WriteFailed            (OSError)            a target cannot be written; nothing was lost
    │   ├── TargetExists       (FileExistsError)    overwriting was not asked for
    │   ├── TargetBusy         (BlockingIOError)    another writer holds the target
    │   └── IncompleteImage    (OSError)            close(require_complete=True) found gaps
    ├── BatchFailed            (RuntimeError)       some files of a batch could not be converted
    ├── BadSelection           (IndexError)         a key or range that cannot be answered
    ├── BadArgument            (ValueError)         an option or property value that makes no sense
    ├── BadDtype               (TypeError)          values that the target cannot hold safely
    ├── Closed                 (ValueError)         used after close()
    ├── ReadOnlyProperty       (AttributeError)     set after the first write
    ├── LimitExceeded          (ValueError)         a file declares more than the limits allow
    ├── OutOfMemory            (MemoryError)        Java's or Python's memory was not enough
    ├── TookTooLong            (TimeoutError)       a deadline passed
    ├── ForkedProcess          (RuntimeError)       Java cannot be used in a forked child
    ├── MissingExtra           (ImportError)        an optional package is not installed
    ├── JavaNotFound           (OSError)            no usable Java runtime
    └── JarNotFound            (FileNotFoundError)  no Bio-Formats jar

Each also inherits the Python kind that a user would catch. A message says what failed, where,
why, and what to do; no Java exception leaves the Bio-Formats backend except as ``__cause__``.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BadArgument",
    "BadDtype",
    "BadSelection",
    "BatchFailed",
    "BfbridgeError",
    "Closed",
    "FileChanged",
    "FileMissing",
    "ForkedProcess",
    "IncompleteImage",
    "JarNotFound",
    "JavaNotFound",
    "LimitExceeded",
    "MissingExtra",
    "OutOfMemory",
    "ReadFailed",
    "ReadOnlyProperty",
    "TargetBusy",
    "TargetExists",
    "TookTooLong",
    "UnknownFormat",
    "UnreadableFile",
    "Unsupported",
    "WriteFailed",
]


INSTALL = 'python -m pip install "bfbridge[all]"'
"""What installs every optional package that bfbridge uses; messages name it."""


class BfbridgeError(Exception):
    """Root of every error that bfbridge raises on purpose."""


class FileMissing(BfbridgeError, FileNotFoundError):
    """There is nothing at the path or URL asked for."""


class UnreadableFile(BfbridgeError, OSError):
    """A file is damaged, truncated, or not an image that any backend knows."""


class UnknownFormat(UnreadableFile):
    """The content of a file is of no format that any backend knows; it may be no image."""


class Unsupported(BfbridgeError, ValueError):
    """A sound file that this backend does not handle; another backend may.

    Raised by a native backend at open, it makes the choice fall through to the next backend,
    with the message kept as ``backend_reason``. A file that is damaged, contradicts itself, or
    misses a part is `UnreadableFile` instead: no other reader is asked, which would have to make
    up what is not there.
    """


class ReadFailed(BfbridgeError, OSError):
    """The pixels of one region cannot be delivered."""


class FileChanged(ReadFailed):
    """A file was written to, replaced or removed while it was open for reading.

    Opening it again reads what it holds now.
    """


class WriteFailed(BfbridgeError, OSError):
    """A target cannot be written. What stood under its name is untouched."""


class TargetExists(WriteFailed, FileExistsError):
    """The target exists and ``overwrite=True`` was not given."""


class TargetBusy(WriteFailed, BlockingIOError):
    """Another writer holds the target."""


class IncompleteImage(WriteFailed):
    """``close(require_complete=True)`` found areas that were never written."""


class BatchFailed(BfbridgeError, RuntimeError):
    """Some files of a batch could not be converted; the others are done.

    Attributes
    ----------
    conversion
        The result of the whole batch, or None.
    """

    def __init__(self, message: str, conversion: Any = None) -> None:
        super().__init__(message)
        self.conversion = conversion


class BadSelection(BfbridgeError, IndexError):
    """A key, range or index that cannot be answered."""


class BadArgument(BfbridgeError, ValueError):
    """An option or a property value that makes no sense here."""


class BadDtype(BfbridgeError, TypeError):
    """Values of a type that the target cannot hold safely."""


class Closed(BfbridgeError, ValueError):
    """A reader or writer was used after ``close()``."""


class ReadOnlyProperty(BfbridgeError, AttributeError):
    """A property was set on a reader, or on a writer after its first write."""


class LimitExceeded(BfbridgeError, ValueError):
    """A file declares more than `bfbridge.limits.Limits` allows."""


# MemoryError first: libraries that pickle exceptions (tblib, with Dask) call __new__ of the class,
# which Python allows only where it is that of the first base.
class OutOfMemory(MemoryError, BfbridgeError):
    """Java's heap or Python's memory was not enough for a request."""


class TookTooLong(BfbridgeError, TimeoutError):
    """A deadline passed."""


class ForkedProcess(BfbridgeError, RuntimeError):
    """Java was started before this process was forked, so it cannot be used here."""


class MissingExtra(BfbridgeError, ImportError):
    """An optional package is not installed; the message has the line that installs it."""


class JavaNotFound(BfbridgeError, OSError):
    """There is no usable Java runtime."""


class JarNotFound(BfbridgeError, FileNotFoundError):
    """There is no Bio-Formats jar."""
