"""Graphs of the results that run.py writes: horizontal bars of ratios, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

__all__ = ["bars", "ratios"]

WIDTH, MARGIN, LEFT = 720, 20, 192
VALUE = 52
"""Width of the number at the end of a bar."""
TOP, HEAD, ROW, SPACE = 62, 34, 22, 14
MOST_MARKS = 7
TIMES = "\N{MULTIPLICATION SIGN}"
# The background is part of the graph: the colours of a page do not apply to its images.
STYLE = """
.ground{fill:#ffffff}.text{fill:#1f2328}.quiet{fill:#59636e}
.grid{stroke:#d8dee4}.base{stroke:#59636e}
.longer{fill:#2f7abf}.shorter{fill:#d9701f}
@media (prefers-color-scheme:dark){
.ground{fill:#1b1f27}.text{fill:#e6e9ee}.quiet{fill:#a3acb8}
.grid{stroke:#343b46}.base{stroke:#a3acb8}
.longer{fill:#57a0e5}.shorter{fill:#ef9247}}
"""


def ratios(table: Mapping[str, Any]) -> dict[str, float]:
    """Return the median time of each contender, relative to that of ``table["against"]``.

    Tables of memory alone have no times and no ratios.
    """
    medians = {name: row["median"] for name, row in table["rows"].items() if "median" in row}
    return {name: median / medians[table["against"]] for name, median in medians.items()}


def bars(heading: str, tables: Iterable[Mapping[str, Any]]) -> str:
    """Draw the ratios of several tables on one logarithmic scale.

    Parameters
    ----------
    heading
        The text above the graph.
    tables
        Tables as in ``benchmarks.json``: "title", "against", and "rows" with the "median" of each
        contender. The one in "against" is the line at 1; each other one is a bar.

    Returns
    -------
    str
        An SVG document. Bars to the right of the line took more time than "against", bars to the
        left less.
    """
    groups = [(str(table["title"]), str(table["against"]), _others(table)) for table in tables]
    bases = {against for _, against, _ in groups}
    marks = _marks([ratio for _, _, rows in groups for _, ratio in rows])
    low, high = math.log(marks[0]), math.log(marks[-1])

    def across(ratio: float) -> float:
        share = (math.log(ratio) - low) / (high - low)
        return LEFT + VALUE + (WIDTH - LEFT - 2 * VALUE) * share

    drawn = [_text(MARGIN, 30, heading, "text", 'font-size="16" font-weight="600"')]
    drawn.append(_text(across(1) - 10, TOP - 6, "◀ less time", "quiet", 'text-anchor="end"'))
    drawn.append(_text(across(1) + 10, TOP - 6, "more time ▶", "quiet"))
    y = TOP
    for title, against, rows in groups:
        drawn.append(_text(MARGIN, y + 22, title, "text", 'font-weight="600"'))
        if len(bases) > 1:
            end = 'text-anchor="end"'
            drawn.append(_text(WIDTH - MARGIN, y + 22, f"1{TIMES} = {against}", "quiet", end))
        y += HEAD
        drawn += [_line(across(mark), y, ROW * len(rows), mark == 1) for mark in marks]
        for name, ratio in rows:
            drawn += _bar(name, ratio, across(1), across(ratio), y)
            y += ROW
        y += SPACE
    for mark in marks:
        drawn.append(
            _text(across(mark), y + 6, f"{mark:g}{TIMES}", "quiet", 'text-anchor="middle"')
        )
    height = y + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" font-family="system-ui,sans-serif" font-size="13">\n'
        f"<title>{escape(heading)}</title>\n<style>{STYLE}</style>\n"
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="8"/>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def _others(table: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the ratios of a table without the contender they are relative to, fastest first."""
    found = ratios(table)
    found.pop(table["against"])
    return sorted(found.items(), key=lambda item: item[1])


def _marks(values: list[float]) -> list[float]:
    """Return 1, 2, 5, 10 (or 1, 3, 10) and so on, from below all values to above them."""
    least, most = min([0.5, *values]), max([2.0, *values])
    decades = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    for steps in ((1, 2, 5), (1, 3)):
        every = [float(f"{step}e{decade}") for decade in decades for step in steps]
        first = max([mark for mark in every if mark <= least], default=every[0])
        last = min([mark for mark in every if mark >= most], default=every[-1])
        found = [mark for mark in every if first <= mark <= last]
        if len(found) <= MOST_MARKS:
            break
    return found


def _line(x: float, y: float, height: float, is_base: bool) -> str:
    """Draw the part of a mark's line beside one group of bars."""
    kind, thick = ("base", 1.5) if is_base else ("grid", 1)
    return f'<path class="{kind}" stroke-width="{thick}" d="M{x:.1f},{y}v{height}"/>'


def _bar(name: str, ratio: float, base: float, end: float, y: float) -> list[str]:
    """Draw one bar from the line at 1, with its name and value."""
    longer = end >= base
    x, anchor = (end + 6, "start") if longer else (end - 6, "end")
    value = f"{ratio:.{0 if ratio >= 10 else 2}f}{TIMES}"
    drawn = (
        f'<rect class="{"longer" if longer else "shorter"}" x="{min(base, end):.1f}" y="{y + 3}" '
        f'width="{abs(end - base):.1f}" height="{ROW - 7}" rx="2"/>'
    )
    return [
        _text(LEFT - 8, y + 15, name, "text", 'text-anchor="end"'),
        drawn,
        _text(x, y + 15, value, "text", f'text-anchor="{anchor}"'),
    ]


def _text(x: float, y: float, words: str, kind: str, more: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>'
