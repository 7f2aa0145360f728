"""The files that bfbridge keeps in the user's cache folder: class archives and made levels."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from bfbridge.cli.text import say
from bfbridge.errors import MissingExtra, WriteFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cache_app"]

cache_app = typer.Typer(
    help="Files in your cache folder: archives of Java's classes, and levels made of large images.",
    no_args_is_help=True,
)


@cache_app.command("info")
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
    say(f"Levels made of large images: {levels.nbytes / 1e6:.1f} MB in {levels.folder}")


@cache_app.command("clear")
def cache_clear() -> None:
    """Remove the content of the cache folder. It is created again when it is needed."""
    from bfbridge.virtual.pyramid_cache import default_cache

    backend = _bioformats()
    files = [] if backend is None else backend.cached_files()
    left = [] if backend is None else backend.clear_cache()
    gone = [file for file in files if file not in left]
    say(f"Archives of Java's classes: {len(gone)} files removed, {_megabytes(gone)}")
    say(f"Levels made of large images: {default_cache().clear() / 1e6:.1f} MB removed")
    if left:
        raise WriteFailed(
            f"{left[0].path}: it cannot be removed, nor can {len(left) - 1} others: a program uses "
            "it, or the folder may not be written to. End programs that use bfbridge, and try "
            "again."
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
