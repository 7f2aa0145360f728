"""``bfbridge verify``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.options.shared import AsJson
from bfbridge.cli.terminal.text import printable_json, say

__all__ = ["app"]

app = new_app()


@app.command(cls=GroupedHelp)
def verify(
    crate: Annotated[
        str,
        typer.Argument(
            metavar="CRATE", help="The folder that convert --certify wrote, or the new file."
        ),
    ],
    sources: Annotated[
        str | None,
        typer.Option(
            "--sources", metavar="FOLDER", help="Where sources are, if not where they were."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the files of a conversion with its certificate.

    Exit code: 0 if pixels and sources are those of the certificate, 1 if anything differs.
    """
    from bfbridge.curation import verify_crate

    found = verify_crate(crate, sources=sources)
    if as_json:
        content = json.dumps(found.as_dict(), indent=2, ensure_ascii=False)
        typer.echo(printable_json(content))
    else:
        for finding in found.findings:
            say(f"{finding.severity}: {finding.where}: {finding.message} [{finding.code}]")
            if finding.remedy:
                say(f"    {finding.remedy}")
        count = "" if found.pixels is None else f", {found.pixels:,} pixels compared"
        say(f"{found.path}: {'verified' if found.valid else 'not verified'}{count}")
    if not found.valid:
        raise typer.Exit(1)
