"""The plan of a conversion as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bfbridge.convert import ConversionPlan
    from bfbridge.convert.preview import PlannedFile

__all__ = ["plan_lines"]

NOTES = {
    "convert": "",
    "replace": ", replaces the existing file",
    "compare": ", exists: its pixels would be compared",
}
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def plan_lines(plan: ConversionPlan) -> Iterator[str]:
    """Yield a line for each new file, then the collisions and the totals."""
    for planned in plan.files:
        if planned.action == "keep":
            yield f"{planned.source}: complete, would be kept"
        elif planned.action != "fail":
            yield from _file_lines(planned)
    left = [Path(path).name for path, reason in plan.skipped.items() if "no image" in reason]
    if left:
        names = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
        yield f"not images: {len(left)} ({names})"
    for name, sources in plan.collisions.items():
        yield f"one name for {len(sources)} sources, {Path(name).name}: {', '.join(sources)}"
    words = [f"{count} to {action}" for action, count in plan.counts.items() if count]
    yield f"sources: {', '.join(words)}"
    yield f"pixels to write: {_size(plan.pixel_bytes)}"
    yield f"expected on disk: {_expected(plan.expected_bytes, plan.pixel_bytes)}"
    processes = "" if plan.jobs == 1 else f", in {plan.jobs} processes"
    yield f"memory for pixels: {_size(plan.memory_bytes)} at most{processes}"
    if plan.free_bytes is not None:
        expected = plan.expected_bytes
        short = expected is not None and expected > plan.free_bytes
        yield f"free on the disk: {_size(plan.free_bytes)}{', too little' if short else ''}"


def _file_lines(planned: PlannedFile) -> Iterator[str]:
    stored = "" if planned.input_bytes is None else f" ({_size(planned.input_bytes)})"
    for output in planned.outputs:
        images = len(output.images)
        note = NOTES[planned.action] if output.exists or planned.action == "convert" else ""
        yield (
            f"{planned.source}{stored} -> {output.target}: {images} "
            f"image{'' if images == 1 else 's'}, {_size(output.pixel_bytes)} of pixels, "
            f"{_expected(output.expected_bytes, output.pixel_bytes)}, read by "
            f"{planned.backend}{note}"
        )
    for warning in planned.warnings:
        yield f"{planned.source}: {warning}"


def _expected(size: int | None, most: int) -> str:
    return f"not known (pixels: {_size(most)})" if size is None else f"about {_size(size)}"


def _size(count: float) -> str:
    """Return a number of bytes in decimal units, with three digits."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    digits = 0 if unit == 0 or count >= 99.5 else 1 if count >= 9.95 else 2
    return f"{count:.{digits}f} {_UNITS[unit]}"
