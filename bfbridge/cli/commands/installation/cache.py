"""``bfbridge cache``: class archives of Java, computed levels, and the index of opened files."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.terminal.text import say
from bfbridge.errors import MissingExtra, WriteFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app"]

app = new_app(help="Show or clear the files in the cache folder.")


@app.command("info", cls=GroupedHelp)
def cache_info() -> None:
    """Show the content and the size of the cache folder."""
    from bfbridge.virtual.pyramid_cache import default_cache

    backend = _bioformats()
    files = [] if backend is None else backend.cached_files()
    for file in files:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.used))
        say(f"{file.path}: {_megabytes([file])}, used last {used}")
    say(f"Archives of Java's classes: {len(files)} files, {_megabytes(files)}")
    levels = default_cache()
    say(f"Computed levels of large images: {levels.nbytes / 1e6:.1f} MB in {levels.folder}")
    if backend is not None:
        index = backend.index_at(True).cache
        say(f"Index of files opened by Bio-Formats: {index.nbytes / 1e6:.1f} MB in {index.folder}")


@app.command("clear", cls=GroupedHelp)
def cache_clear() -> None:
    """Remove the content of the cache folder. It is created again when it is needed."""
    from bfbridge.virtual.pyramid_cache import default_cache

    backend = _bioformats()
    files = [] if backend is None else backend.cached_files()
    left = [] if backend is None else backend.clear_cache()
    gone = [file for file in files if file not in left]
    say(f"Archives of Java's classes: {len(gone)} files removed, {_megabytes(gone)}")
    say(f"Computed levels of large images: {default_cache().clear() / 1e6:.1f} MB removed")
    if backend is not None:
        gone_bytes = backend.index_at(True).cache.clear()
        say(f"Index of files opened by Bio-Formats: {gone_bytes / 1e6:.1f} MB removed")
    if left:
        others = f" and {len(left) - 1} other files" if len(left) > 1 else ""
        raise WriteFailed(
            f"{left[0].path}{others} cannot be removed: a program uses them, or their folder is "
            "read-only. End programs that use bfbridge, and try again."
        )


def _bioformats() -> Any:
    """Return the backend that keeps class archives, or None where it is not installed."""
    from bfbridge.registry import find

    try:
        return find("bioformats").load()
    except MissingExtra:
        return None


def _megabytes(files: Sequence[Any]) -> str:
    return f"{sum(file.size for file in files) / 1e6:.1f} MB"
