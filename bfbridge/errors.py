"""All errors of bfbridge, as one class hierarchy.

::

    BfbridgeError
    ├── FileMissing            (FileNotFoundError)  no file at that path or URL
    ├── UnreadableFile         (OSError)            damaged, truncated, or not an image
    │   └── UnknownFormat      (OSError)            the format of the content is unknown
    ├── Unsupported            (ValueError)         valid, but this backend does not support it
    ├── ReadFailed             (OSError)            pixels of a region cannot be read
    │   └── FileChanged        (OSError)            a file was changed or replaced while open
    ├── WriteFailed            (OSError)            a target cannot be written; no data were lost
    │   ├── TargetExists       (FileExistsError)    the target exists and overwrite is False
    │   ├── TargetBusy         (BlockingIOError)    another writer holds the target
    │   └── IncompleteImage    (OSError)            close(require_complete=True) found gaps
    ├── BatchFailed            (RuntimeError)       some files of a batch could not be converted
    ├── BadSelection           (IndexError)         a key or range that is not valid
    ├── BadArgument            (ValueError)         an option or property value that is not valid
    ├── BadDtype               (TypeError)          values that the target cannot hold safely
    ├── Closed                 (ValueError)         used after close()
    ├── ReadOnlyProperty       (AttributeError)     set after the first write
    ├── LimitExceeded          (ValueError)         a file declares more than the limits allow
    ├── OutOfMemory            (MemoryError)        not enough memory in Java or Python
    ├── TookTooLong            (TimeoutError)       a deadline passed
    ├── ForkedProcess          (RuntimeError)       Java cannot be used in a forked child
    ├── MissingExtra           (ImportError)        an optional package is not installed
    ├── JavaNotFound           (OSError)            no usable Java runtime
    └── JarNotFound            (FileNotFoundError)  no Bio-Formats jar

Each class also inherits the built-in exception that users would catch. A message states what
failed, where, why, and what to do. Java exceptions leave the Bio-Formats backend only as
``__cause__``.
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
"""Command that installs every optional package of bfbridge; messages contain it."""


class BfbridgeError(Exception):
    """Base class of all errors that bfbridge raises on purpose."""


class FileMissing(BfbridgeError, FileNotFoundError):
    """There is no file at the path or URL."""


class UnreadableFile(BfbridgeError, OSError):
    """A file is damaged, truncated, or not an image in a known format."""


class UnknownFormat(UnreadableFile):
    """No backend knows the format of a file's content; it may not be an image."""


class Unsupported(BfbridgeError, ValueError):
    """A valid file that this backend does not support; another backend may.

    If a native backend raises it when a file is opened, the next backend is tried, and the message
    becomes part of ``backend_reason``. A file that is damaged, inconsistent or incomplete raises
    `UnreadableFile` instead: no other backend is tried, because it would have to invent the missing
    data.
    """


class ReadFailed(BfbridgeError, OSError):
    """The pixels of a region cannot be read."""


class FileChanged(ReadFailed):
    """A file was changed, replaced or removed while it was open for reading.

    Open it again to read its current content.
    """


class WriteFailed(BfbridgeError, OSError):
    """A target cannot be written. A previous file of that name is unchanged."""


class TargetExists(WriteFailed, FileExistsError):
    """The target exists and ``overwrite`` is False."""


class TargetBusy(WriteFailed, BlockingIOError):
    """Another writer holds the target."""


class IncompleteImage(WriteFailed):
    """``close(require_complete=True)`` found pixels that were never written."""


class BatchFailed(BfbridgeError, RuntimeError):
    """Some files of a batch could not be converted; the other files are complete.

    Attributes
    ----------
    conversion
        Result of the whole batch, or None.
    """

    def __init__(self, message: str, conversion: Any = None) -> None:
        super().__init__(message)
        self.conversion = conversion


class BadSelection(BfbridgeError, IndexError):
    """A key, range or index is not valid."""


class BadArgument(BfbridgeError, ValueError):
    """An option or a property value is not valid."""


class BadDtype(BfbridgeError, TypeError):
    """The target cannot store values of this dtype without loss."""


class Closed(BfbridgeError, ValueError):
    """A reader or writer was used after ``close()``."""


class ReadOnlyProperty(BfbridgeError, AttributeError):
    """A property was set on a reader, or on a writer after its first write."""


class LimitExceeded(BfbridgeError, ValueError):
    """A file declares more than `bfbridge.limits.Limits` allows."""


# MemoryError first: libraries that pickle exceptions (tblib, with Dask) call __new__ of the class,
# which Python allows only if it is that of the first base class.
class OutOfMemory(MemoryError, BfbridgeError):
    """There is not enough memory in Java's heap or in Python for a request."""


class TookTooLong(BfbridgeError, TimeoutError):
    """A time limit was exceeded."""


class ForkedProcess(BfbridgeError, RuntimeError):
    """Java was started before this process was forked, and cannot be used in it."""


class MissingExtra(BfbridgeError, ImportError):
    """An optional package is not installed; the message has the command that installs it."""


class JavaNotFound(BfbridgeError, OSError):
    """There is no usable Java runtime."""


class JarNotFound(BfbridgeError, FileNotFoundError):
    """There is no Bio-Formats jar."""
