"""``bfbridge validate``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.options.shared import AsJson, Storage
from bfbridge.cli.options.values import pairs
from bfbridge.cli.terminal.text import printable_json, say, show_error
from bfbridge.errors import BfbridgeError

if TYPE_CHECKING:
    from bfbridge.curation import Validation

__all__ = ["app"]

app = new_app()


@app.command(cls=GroupedHelp)
def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files, stores and URLs.")],
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Decode all pixels of all levels.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Count warnings as errors.")] = False,
    as_json: AsJson = False,
    storage: Storage = None,
) -> None:
    """Check OME-TIFF and OME-Zarr files against their specifications.

    Exit code: 0 if all files are valid, 1 if one is not, or cannot be read, 2 for wrong arguments.
    """
    from bfbridge.curation import validate as check

    reports = []
    good = True
    for path in files:
        try:
            found = check(path, pixels=pixels, storage_options=pairs(storage))
        except BfbridgeError as error:
            good = False
            show_error(str(error))
            reports.append({"path": path, "valid": False, "error": str(error)})
            continue
        good = good and found.valid and not (strict and found.warnings)
        reports.append(found.as_dict())
        if not as_json:
            _show(found)
    if as_json:
        content = reports[0] if len(files) == 1 else reports
        typer.echo(printable_json(json.dumps(content, indent=2, ensure_ascii=False)))
    if not good:
        raise typer.Exit(1)


def _show(found: Validation) -> None:
    for finding in found.findings:
        say(f"{finding.severity}: {finding.where}: {finding.message} [{finding.code}]")
        if finding.remedy and finding.severity != "note":
            say(f"    {finding.remedy}")
    decoded = "" if found.pixels is None else f", {found.pixels:,} pixels decoded"
    result = "valid" if found.valid else "not valid"
    say(
        f"{found.path}: {result} ({len(found.errors)} errors, {len(found.warnings)} warnings"
        f"{decoded})"
    )
