"""bfbridge: one reader and one writer for every microscopy image.

>>> from bfbridge import BioReader, BioWriter
>>> with BioReader("cells.czi") as br:          # doctest: +SKIP
...     tile = br[:1024, :1024, 0, 0, 0]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    JAR_VERSION: str

    from bfbridge import errors
    from bfbridge.convert import convert
    from bfbridge.errors import BfbridgeError
    from bfbridge.files.in_place import recover
    from bfbridge.functions import imread, imwrite
    from bfbridge.limits import Limits
    from bfbridge.reader import BioReader
    from bfbridge.writer import BioWriter

_WHERE = {
    "BfbridgeError": "bfbridge.errors",
    "BioReader": "bfbridge.reader",
    "BioWriter": "bfbridge.writer",
    "Limits": "bfbridge.limits",
    "convert": "bfbridge.convert",
    "imread": "bfbridge.functions",
    "imwrite": "bfbridge.functions",
    "recover": "bfbridge.files.in_place",
}

__all__ = [
    "JAR_VERSION",
    "BfbridgeError",
    "BioReader",
    "BioWriter",
    "Limits",
    "__version__",
    "convert",
    "errors",
    "imread",
    "imwrite",
    "recover",
    "start",
]


def start() -> str:
    """Start Java and return the version of Bio-Formats; later calls only return it.

    Reading and writing start Java by themselves when they need it. Any thread may call this.

    Raises
    ------
    JavaNotFound, JarNotFound, MissingExtra
        A requirement of Bio-Formats is not installed; the message has the command to install it.
    """
    from bfbridge.registry import find

    version: str = find("bioformats").load().start()
    return version


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name == "errors":
        return import_module("bfbridge.errors")
    if name == "JAR_VERSION":
        from bfbridge.registry import find

        return find("bioformats").load().pinned_version()
    raise AttributeError(f"module 'bfbridge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
