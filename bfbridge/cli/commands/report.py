"""``bfbridge report``."""

from __future__ import annotations

from typing import Annotated

import typer

from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.options.shared import Storage
from bfbridge.cli.options.values import pairs
from bfbridge.cli.terminal.text import say

__all__ = ["app"]

app = new_app()


@app.command(cls=GroupedHelp)
def report(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="The folder of the new files; also a URL.")
    ],
    storage: Storage = None,
) -> None:
    """Merge the reports of the parts of a batch into one.

    The exit code is 1 if a part is missing or unfinished, or a file failed.
    """
    from bfbridge.convert import merge_reports

    merged = merge_reports(folder, storage_options=pairs(storage))
    for record in merged.failed:
        say(f"failed: {record.failure}", err=True)
    for word, numbers in (("no report", merged.missing), ("not finished", merged.unfinished)):
        if numbers:
            listed = ", ".join(map(str, numbers))
            say(f"{word}, parts of {merged.parts}: {listed}. Run them with --resume.", err=True)
    counts = ", ".join(f"{count} {status}" for status, count in merged.counts.items() if count)
    parts = f" from {merged.parts} parts" if merged.parts else ""
    say(f"{merged.report}: {counts or 'no files'}{parts}")
    if not merged.is_complete:
        raise typer.Exit(1)
