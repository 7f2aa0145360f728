"""The cache folder: archives of Java's classes are few, not large, and removed on demand."""

from __future__ import annotations

import os
import sys
import time

import pytest
from typer.testing import CliRunner

import bfbridge_bioformats
from bfbridge.cli.app import app
from bfbridge_bioformats.runtime import cds_archive as archive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the folder is set as on Linux")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "bfbridge"
    folder.mkdir()
    return folder


def add(folder, name, size=10, age=0.0):
    file = folder / name
    file.write_bytes(bytes(size))
    then = time.time() - age
    os.utime(file, (then, then))
    return file


def test_the_archives_used_last_are_kept(cache):
    for number in range(7):
        add(cache, f"java-{number}.jsa", age=number * 100)
    archive.drop_old()
    assert sorted(file.name for file in cache.iterdir()) == [f"java-{n}.jsa" for n in range(4)]


def test_archives_take_a_bounded_number_of_bytes(cache, monkeypatch):
    monkeypatch.setattr(archive, "MOST_BYTES", 25)
    for number in range(3):
        add(cache, f"java-{number}.jsa", age=number * 100)
    archive.drop_old()
    assert sorted(file.name for file in cache.iterdir()) == ["java-0.jsa", "java-1.jsa"]
    monkeypatch.setattr(archive, "MOST_BYTES", 5)
    archive.drop_old()
    assert [file.name for file in cache.iterdir()] == ["java-0.jsa"]


def test_what_killed_makers_left_is_dropped_and_what_others_put_there_is_not(cache):
    add(cache, "java-1.new", age=10_000)
    add(cache, "java-2.making", age=1)
    add(cache, "mine.txt", age=10_000)
    archive.drop_old()
    assert sorted(file.name for file in cache.iterdir()) == ["java-2.making", "mine.txt"]


def test_the_command_line_shows_and_clears_it(cache):
    add(cache, "java-1.jsa", 3_000_000)
    add(cache, "java-2.jsa", 1_000_000, age=100)
    add(cache, "mine.txt")
    told = CliRunner().invoke(app, ["cache", "info"]).output.splitlines()
    assert told.pop().startswith("Index of files opened by Bio-Formats: 0.0 MB in ")
    assert told.pop().startswith("Computed levels of large images: 0.0 MB in ")
    assert [line.split(", used last")[0] for line in told] == [
        f"{cache}/java-1.jsa: 3.0 MB",
        f"{cache}/java-2.jsa: 1.0 MB",
        "Archives of Java's classes: 2 files, 4.0 MB",
    ]
    assert CliRunner().invoke(app, ["cache", "clear"]).output.splitlines() == [
        "Archives of Java's classes: 2 files removed, 4.0 MB",
        "Computed levels of large images: 0.0 MB removed",
        "Index of files opened by Bio-Formats: 0.0 MB removed",
    ]
    assert [file.name for file in cache.iterdir()] == ["mine.txt"]
    told = CliRunner().invoke(app, ["cache", "info"]).output
    assert told.startswith("Archives of Java's classes: 0 files, 0.0 MB\n")


def test_a_file_that_cannot_be_removed_is_named(cache, monkeypatch):
    add(cache, "java-1.jsa")
    monkeypatch.setattr(archive, "_removed", lambda file: False)
    result = CliRunner().invoke(app, ["cache", "clear"])
    assert result.exit_code != 0
    assert "java-1.jsa cannot be removed" in str(result.exception)


def test_there_may_be_no_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nowhere"))
    assert bfbridge_bioformats.cached_files() == []
    assert bfbridge_bioformats.clear_cache() == []
    archive.drop_old()
