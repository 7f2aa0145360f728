"""Units of length and time in the spellings that files have."""

from __future__ import annotations

import pytest
from ome_types.model import UnitsLength, UnitsTime

from bfbridge.ome import units

LENGTHS = {
    "µm": "µm μm um micrometer micrometers Micrometre micrometres micron microns MICRON",
    "nm": "nm nanometer nanometers nanometre nanometres",
    "mm": "mm millimeter millimetres",
    "Mm": "Mm megameter",
    "m": "m meter meters metre metres",
    "dam": "dam decameter dekametre decameters",
    "Å": "Å \N{ANGSTROM SIGN} angstrom angstroms Angstrom ångström ångströms angstroem",
    "in": "in inch inches",
    "ft": "ft foot feet",
    "mi": "mi mile miles",
    "pixel": "pixel pixels px Pixel",
    "pc": "pc parsec parsecs",
}
TIMES = {
    "s": "s second seconds Seconds sec secs",
    "ms": "ms millisecond milliseconds msec",
    "µs": "µs μs us microsecond microseconds usec µsec",
    "Ms": "Ms megasecond",
    "min": "min mins minute minutes",
    "h": "h hr hrs hour hours",
    "d": "d day days",
    "das": "das decasecond dekaseconds",
}


@pytest.mark.parametrize(
    ("text", "symbol"), [(t, symbol) for symbol, texts in LENGTHS.items() for t in texts.split()]
)
def test_lengths(text: str, symbol: str) -> None:
    assert units.length_symbol(text) == units.length_symbol(f" {text} ") == symbol
    assert units.time_symbol(text) is None


@pytest.mark.parametrize(
    ("text", "symbol"), [(t, symbol) for symbol, texts in TIMES.items() for t in texts.split()]
)
def test_times(text: str, symbol: str) -> None:
    assert units.time_symbol(text) == symbol
    assert units.length_symbol(text) is None


@pytest.mark.parametrize(
    "text", ["", " ", "furlong", "MM", "frame", "a.u.", "S", "u", "metermeter"]
)
def test_what_is_no_unit(text: str) -> None:
    assert units.length_symbol(text) is None
    assert units.time_symbol(text) is None


def test_every_unit_of_the_schema() -> None:
    assert {u.value for u in UnitsLength} == {*units.LENGTHS, *units.NOT_LENGTHS}
    assert {u.value for u in UnitsTime} == set(units.TIMES)
    for unit in UnitsLength:
        assert units.length_symbol(unit.value) == unit.value
    for unit in UnitsTime:
        assert units.time_symbol(unit.value) == unit.value


def test_names_of_ngff_are_those_of_its_specification() -> None:
    """Section "axes" of NGFF 0.4 and 0.5 lists them."""
    lengths = {units.ngff_name(symbol) for symbol in units.LENGTHS}
    times = {units.ngff_name(symbol) for symbol in units.TIMES}
    prefixes = "atto centi deci exa femto giga hecto kilo mega micro milli nano peta pico tera"
    prefixes += " yocto yotta zepto zetta"
    named = {"angstrom", "foot", "inch", "mile", "parsec", "yard"}
    assert lengths - {None} == {f"{p}meter" for p in prefixes.split()} | {"meter"} | named
    named = {"day", "hour", "minute"}
    assert times - {None} == {f"{p}second" for p in prefixes.split()} | {"second"} | named
    for symbol in (*units.LENGTHS, *units.TIMES):
        name = units.ngff_name(symbol)
        assert name is None or (units.length_symbol(name) or units.time_symbol(name)) == symbol
