"""``bfbridge labels``."""

from __future__ import annotations

from typing import Annotated

import typer

from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.terminal.text import say

__all__ = ["app"]

app = new_app(help="Add label images to OME-Zarr stores.")

Store = Annotated[str, typer.Argument(metavar="STORE", help="The OME-Zarr store.")]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the label image.")]
Number = Annotated[int, typer.Option("--image", metavar="N", help="Number of the image.")]
Method = Annotated[
    str, typer.Option("--downsample", metavar="METHOD", help="Lower levels: nearest or mode.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace labels of that name.")]


@app.command(cls=GroupedHelp)
def add(
    store: Store,
    labels: Annotated[
        str, typer.Argument(metavar="LABELS", help="Image file of labels, in any format.")
    ],
    name: Name = "labels",
    image: Number = 0,
    colors: Annotated[
        str | None,
        typer.Option("--colors", metavar="FILE", help="JSON or CSV: label, colour."),
    ] = None,
    properties: Annotated[
        str | None,
        typer.Option("--properties", metavar="FILE", help="JSON or CSV: label, then values."),
    ] = None,
    downsample: Method = "nearest",
    overwrite: Overwrite = False,
) -> None:
    """Add an image of labels to an image of a store."""
    from bfbridge.curation import add_labels

    add_labels(
        store, labels, name, image=image, colors=colors, properties=properties,
        downsample=downsample, overwrite=overwrite,
    )  # fmt: skip
    say(f"{store}: added the labels {name}")


@app.command("from-rois", cls=GroupedHelp)
def from_rois(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="File with regions of interest.")],
    store: Annotated[
        str | None,
        typer.Argument(metavar="[STORE]", help="The OME-Zarr store; default: SOURCE."),
    ] = None,
    name: Name = "rois",
    image: Number = 0,
    downsample: Method = "nearest",
    overwrite: Overwrite = False,
) -> None:
    """Draw the regions of interest of an image as labels of a store."""
    from bfbridge.curation import labels_from_rois

    count = labels_from_rois(
        source, store, name, image=image, downsample=downsample, overwrite=overwrite
    )
    say(f"{store or source}: added the labels {name} of {count} regions")
