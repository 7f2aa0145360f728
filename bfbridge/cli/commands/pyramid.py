"""``bfbridge pyramid``."""

from __future__ import annotations

from typing import Annotated

import typer

from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.options.shared import Storage
from bfbridge.cli.options.values import pairs
from bfbridge.cli.terminal.cluster import connected
from bfbridge.cli.terminal.text import say

__all__ = ["app"]

app = new_app()


@app.command(cls=GroupedHelp)
def pyramid(
    stores: Annotated[list[str], typer.Argument(metavar="STORE...", help="OME-Zarr stores.")],
    levels: Annotated[
        int | None,
        typer.Option(
            "--levels",
            min=1,
            metavar="N",
            help="Number of lower levels; default: until the longer side is at most --smallest.",
        ),
    ] = None,
    downsample: Annotated[
        str, typer.Option("--downsample", metavar="METHOD", help="mean, nearest or mode.")
    ] = "mean",
    downsample_z: Annotated[
        str | None,
        typer.Option("--downsample-z", metavar="RULE", help="none (default), 2 or auto."),
    ] = None,
    smallest: Annotated[
        int | None,
        typer.Option("--smallest", min=1, metavar="N", help="See --levels; default: 512."),
    ] = None,
    max_workers: Annotated[
        int | None,
        typer.Option("--max-workers", min=1, metavar="N", help="Threads; default: the CPUs."),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            "--dask",
            metavar="ADDRESS",
            help="Compute on the workers of the Dask scheduler at this address, tcp://...",
        ),
    ] = None,
    storage: Storage = None,
) -> None:
    """Add lower levels to images of OME-Zarr stores that have none."""
    from bfbridge.curation import add_pyramid

    with connected(dask) as client:
        for store in stores:
            count = add_pyramid(
                store, pyramid=levels or True, downsample=downsample, downsample_z=downsample_z,
                smallest=smallest, max_workers=max_workers, client=client,
                storage_options=pairs(storage),
            )  # fmt: skip
            done = f"added lower levels to {count} image{'' if count == 1 else 's'}"
            say(f"{store}: {done if count else 'no image needs further levels'}")
