"""Verify that the built site documents every stable name: python docs/check_reference.py SITE.

The stable names are those of docs/stability.md. The names on the site are those of ``objects.inv``,
the inventory that mkdocstrings writes; it is a text header followed by a zlib stream.
"""

from __future__ import annotations

import inspect
import sys
import zlib
from importlib import import_module
from pathlib import Path

import bfbridge

MODULES = (
    "aics",
    "backend",
    "curation",
    "errors",
    "large_image",
    "limits",
    "patches",
    "registry",
    "testing",
    "wipp",
)
# Values, not objects with a page.
VALUES = {"JAR_VERSION", "__version__"}


def stable_names() -> set[str]:
    """Return the stable names, each under the module that exports it."""
    found = {f"bfbridge.{name}" for name in bfbridge.__all__ if name not in VALUES}
    for module in MODULES:
        path = f"bfbridge.{module}"
        exported = import_module(path)
        found.add(path)
        for name in exported.__all__:
            each = getattr(exported, name)
            if inspect.isclass(each) or inspect.isroutine(each):
                found.add(f"{path}.{name}")
    return found


def where_defined(path: str) -> str:
    """Return the name of an object under the module that defines it."""
    module, _, name = path.rpartition(".")
    each = getattr(import_module(module), name)
    if inspect.ismodule(each):  # `bfbridge.convert` is a function and the package that has it
        return f"{path}.{name}"
    return f"{each.__module__}.{each.__qualname__}" if hasattr(each, "__qualname__") else path


def documented_names(site: Path) -> set[str]:
    """Return the names in the inventory of a site, aliases included."""
    data = (site / "objects.inv").read_bytes()
    body = data.split(b"\n", 4)[4]
    return {line.split(" ", 1)[0] for line in zlib.decompress(body).decode().splitlines()}


def main(site: str) -> None:
    """Raise SystemExit that lists the missing names, if there are any."""
    documented = documented_names(Path(site))
    missing = sorted(
        name for name in stable_names() if not {name, where_defined(name)} & documented
    )
    if missing:
        raise SystemExit(f"the reference lacks: {', '.join(missing)}")


if __name__ == "__main__":
    main(sys.argv[1])
