"""Units of length and time: OME's symbols, and the names and spellings used in files.

The symbols are those of the OME schema (UnitsLength and UnitsTime, 2016-06). NGFF names units as
UDUNITS-2 does ("micrometer"); programs also write plurals, British spellings, symbols and
abbreviations ("seconds", "metre", "um", "sec").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

__all__ = ["LENGTHS", "NOT_LENGTHS", "TIMES", "length_symbol", "ngff_name", "time_symbol"]

_PREFIXES: Final = (
    ("yotta", "Y", 1e24), ("zetta", "Z", 1e21), ("exa", "E", 1e18), ("peta", "P", 1e15),
    ("tera", "T", 1e12), ("giga", "G", 1e9), ("mega", "M", 1e6), ("kilo", "k", 1e3),
    ("hecto", "h", 1e2), ("deca", "da", 1e1), ("", "", 1.0), ("deci", "d", 1e-1),
    ("centi", "c", 1e-2), ("milli", "m", 1e-3), ("micro", "µ", 1e-6), ("nano", "n", 1e-9),
    ("pico", "p", 1e-12), ("femto", "f", 1e-15), ("atto", "a", 1e-18), ("zepto", "z", 1e-21),
    ("yocto", "y", 1e-24),
)  # fmt: skip

LENGTHS: Final[Mapping[str, float]] = {
    **{f"{symbol}m": factor for _, symbol, factor in _PREFIXES},
    "Å": 1e-10, "in": 0.0254, "ft": 0.3048, "yd": 0.9144, "mi": 1609.344, "li": 0.0254 / 12,
    "thou": 2.54e-5, "pt": 0.0254 / 72, "ua": 149_597_870_700.0, "ly": 9_460_730_472_580_800.0,
    "pc": 3.0856776e16,
}  # fmt: skip
"""OME's symbols of lengths, in metres."""

NOT_LENGTHS: Final = ("pixel", "reference frame")
"""Units of length in the OME schema that have no fixed length."""

TIMES: Final[Mapping[str, float]] = {
    **{f"{symbol}s": factor for _, symbol, factor in _PREFIXES},
    "min": 60.0, "h": 3600.0, "d": 86_400.0,
}  # fmt: skip
"""OME's symbols of times, in seconds."""

_NAMED: Final[Mapping[str, str]] = {
    "Å": "angstrom", "in": "inch", "ft": "foot", "yd": "yard", "mi": "mile", "pc": "parsec",
    "min": "minute", "h": "hour", "d": "day",
}  # fmt: skip
# NGFF 0.4 and 0.5 list the allowed units of axes: all prefixes except this one.
_NOT_IN_NGFF: Final = frozenset({"dam", "das"})
_NGFF: Final[Mapping[str, str]] = {
    **_NAMED,
    **{
        symbol + base: name + unit
        for name, symbol, _ in _PREFIXES
        for base, unit in (("m", "meter"), ("s", "second"))
        if symbol + base not in _NOT_IN_NGFF
    },
}

_LENGTH_WORDS: Final = {
    "micron": "µm", "ångström": "Å", "ångstrom": "Å", "angstroem": "Å", "ang": "Å", "inches": "in",
    "feet": "ft", "line": "li", "mil": "thou", "point": "pt", "astronomical_unit": "ua",
    "au": "ua", "lightyear": "ly", "light_year": "ly", "px": "pixel",
}  # fmt: skip
_TIME_WORDS: Final = {"sec": "s", "min": "min", "hr": "h"}


def _spellings(
    units: Mapping[str, float], bases: tuple[str, ...], short: str, words: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield names in lower case, singular and plural, with their symbols."""
    names = {symbol: name for symbol, name in _NAMED.items() if symbol in units}
    for name, symbol, _ in _PREFIXES:
        for known in (name, "deka") if name == "deca" else (name,):
            for base in bases:
                yield f"{known}{base}", symbol + short
                yield f"{known}{base}s", symbol + short
    for symbol, name in (*names.items(), *((symbol, word) for word, symbol in words.items())):
        yield name, symbol
        yield f"{name}s", symbol


_LENGTH_NAMES: Final = {
    **dict(_spellings(LENGTHS, ("meter", "metre"), "m", _LENGTH_WORDS)),
    **{name: name for name in NOT_LENGTHS}, "pixels": "pixel",
}  # fmt: skip
_TIME_NAMES: Final = {
    **dict(_spellings(TIMES, ("second", "sec"), "s", _TIME_WORDS)),
    "msec": "ms", "usec": "µs", "µsec": "µs", "nsec": "ns", "psec": "ps",
}  # fmt: skip


def _symbol(text: str, units: Mapping[str, float], names: Mapping[str, str]) -> str | None:
    """Search for a symbol, which is case-sensitive, then for a name."""
    # Each of µ and Å has two code points in Unicode.
    text = text.strip().replace("\N{GREEK SMALL LETTER MU}", "µ").replace("\N{ANGSTROM SIGN}", "Å")
    if text in units:
        return text
    if f"µ{text[1:]}" in units and text[:1] == "u":
        return f"µ{text[1:]}"
    return names.get(text.lower())


def length_symbol(text: str) -> str | None:
    """Return OME's symbol of a unit of length in any spelling, or None for another unit.

    Includes "pixel" and "reference frame".
    """
    return _symbol(text, LENGTHS, _LENGTH_NAMES)


def time_symbol(text: str) -> str | None:
    """Return OME's symbol of a unit of time in any spelling, or None for another unit."""
    return _symbol(text, TIMES, _TIME_NAMES)


def ngff_name(symbol: str) -> str | None:
    """Return NGFF's name of a unit given by its symbol, or None if NGFF has none."""
    return _NGFF.get(symbol)
