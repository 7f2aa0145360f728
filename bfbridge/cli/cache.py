"""What bfbridge keeps in the user's cache folder: archives of Java's classes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from bfbridge.errors import WriteFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cache_app"]

cache_app = typer.Typer(
    help="Archives of Java's classes in the user's cache folder, which shorten its start.",
    no_args_is_help=True,
)


@cache_app.command("info")
def cache_info() -> None:
    """Show what is in the cache folder, and how much it takes."""
    from bfbridge.registry import find

    files = find("bioformats").load().cached_files()
    for file in files:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.used))
        typer.echo(f"{file.path}: {_megabytes([file])}, used last {used}")
    typer.echo(f"{len(files)} files, {_megabytes(files)}")


@cache_app.command("clear")
def cache_clear() -> None:
    """Remove what is in the cache folder. Java makes its archive again when it starts next."""
    from bfbridge.registry import find

    backend = find("bioformats").load()
    files = backend.cached_files()
    left = backend.clear_cache()
    gone = [file for file in files if file not in left]
    typer.echo(f"{len(gone)} files removed, {_megabytes(gone)}")
    if left:
        raise WriteFailed(
            f"{left[0].path}: it cannot be removed, nor can {len(left) - 1} others: a program uses "
            "it, or the folder may not be written to. End programs that use bfbridge, and try "
            "again."
        )


def _megabytes(files: Sequence[Any]) -> str:
    return f"{sum(file.size for file in files) / 1e6:.1f} MB"
