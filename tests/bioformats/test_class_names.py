"""Bio-Formats classes that this library names are in the installed jar.

A class that another version of Bio-Formats renames would silently drop out of a table.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import bfbridge_bioformats
from bfbridge_bioformats.jars.locate import find_jar
from bfbridge_bioformats.readers import pool
from bfbridge_ometiff.reading.neighbours import COMPANIONS

ROOT = Path(bfbridge_bioformats.__file__).parent
# In a string of Python or Java: "loci.formats.in.LIFReader", or "loci/formats/..." of Java's file.
QUALIFIED = re.compile(r'"(?:L)?((?:loci|ome)[./][a-z]+(?:[./][a-z0-9]+)*[./][A-Z]\w*)(?:\.class)?')
IMPORTED = re.compile(r"^import (?:static )?((?:loci|ome)\.[a-z0-9.]+\.[A-Z]\w*)", re.MULTILINE)
SIMPLE = re.compile(r'"([A-Z]\w*Reader)"')


@pytest.fixture(scope="module")
def classes() -> set[str]:
    with zipfile.ZipFile(find_jar().paths[0]) as jar:
        names = {name.removesuffix(".class") for name in jar.namelist() if name.endswith(".class")}
    return {name.replace("/", ".") for name in names}


def qualified() -> Iterator[tuple[str, str]]:
    for path in sorted((*ROOT.rglob("*.py"), *ROOT.rglob("*.java"))):
        text = path.read_text(encoding="utf-8")
        for pattern in (QUALIFIED, IMPORTED):
            for name in pattern.findall(text):
                yield path.name, name.replace("/", ".")


def test_the_sources_name_classes() -> None:
    assert len(set(qualified())) > 15


def test_every_class_that_is_named_is_in_the_jar(classes: set[str]) -> None:
    assert [(path, name) for path, name in qualified() if name not in classes] == []


@pytest.mark.parametrize("table", ["_COUNTED", "_RAW"])
def test_tables_of_readers(classes: set[str], table: str) -> None:
    names = getattr(pool, table)
    assert len(names) > 5
    assert set(names) <= classes


def test_readers_of_companions(classes: set[str]) -> None:
    names = {f"loci.formats.in.{companion.reader}" for companion in COMPANIONS}
    assert len(names) > 15
    assert names <= classes


def test_simple_names_in_java_sources(classes: set[str]) -> None:
    simple = {name.rpartition(".")[2] for name in classes}
    found = {
        name
        for path in ROOT.rglob("*.java")
        for name in SIMPLE.findall(path.read_text(encoding="utf-8"))
    }
    assert found
    assert found <= simple
