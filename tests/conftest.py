"""What every test may rely on, and the check that Java runs only where a test says so."""

from __future__ import annotations

import gc
import importlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# The tests are of this checkout, whatever is installed: `pythonpath` of pyproject.toml sees to this
# process, and the variable to every process that a test starts.
CHECKOUT = Path(__file__).parents[1]
_paths = [str(CHECKOUT), str(CHECKOUT / "backends"), os.environ.get("PYTHONPATH", "")]
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in _paths if path)

# A shell starts background jobs with Ctrl-C ignored, and Python then leaves it so, here and in
# every process started from here. The tests of interrupts want what a person at a terminal has.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# While a test without the marker "java" runs, no Java is found, in this process and in all that
# the test starts. The error message quotes the variable, so it names the missing marker.
JAVA_VARIABLE = "BFBRIDGE_JAVA"
NO_JAVA = "/a test that starts Java needs the marker java"
JAVA_MODULE = "bfbridge_bioformats.runtime.java"
_searches: list[Any] = []


def pytest_configure() -> None:
    """Count searches for Java in this process while it is hidden; do not wait for the disk."""
    os.fsync = _fsync
    try:
        module: Any = importlib.import_module(JAVA_MODULE)
    except ImportError:
        return
    search = module.java_at

    def counted(place: Path, origin: str) -> Any:
        if str(place) == NO_JAVA:
            _searches.append(place)
        return search(place, origin)

    module.java_at = counted


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect tests without garbage collections: of millions of new objects, nearly all stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of real files and of the backend "bioformats"; run those that start Java last.

    They run last because a JVM that runs already would hide a missing marker.
    """
    for item in items:
        call = getattr(item, "callspec", None)
        # Only strings are compared: `str` of the arrays among the parameters takes seconds.
        values = () if call is None else call.params.values()
        of_bioformats = any(isinstance(value, str) and value == "bioformats" for value in values)
        # Bio-Formats is the reference of all real files.
        if of_bioformats or item.path.parent.name in ("real", "jvm"):
            item.add_marker("java")
    items.sort(key=_starts_java)


def pytest_collection_finish() -> None:
    """Exclude what pytest holds of thousands of tests from garbage collections, for speed."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Hide Java from a test without the marker, its fixtures included."""
    _searches.clear()
    if _starts_java(item):
        return (yield)
    before = os.environ.get(JAVA_VARIABLE)
    os.environ[JAVA_VARIABLE] = NO_JAVA
    try:
        return (yield)
    finally:
        if before is None:
            del os.environ[JAVA_VARIABLE]
        else:
            os.environ[JAVA_VARIABLE] = before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Fail a test without the marker that expects an error, and got it because Java is hidden."""
    result = yield
    if _searches:
        pytest.fail("This test looks for Java: it needs the marker java.", pytrace=False)
    return result


def _fsync(fd: int) -> None:
    """Check the descriptor as `os.fsync` does, without waiting for the disk.

    Tests lose no power. Programs that tests start flush their files. Tests of the order of the
    system calls, and of disks that fail, count or replace calls of this function.
    """
    os.fstat(fd)


def _starts_java(item: pytest.Item) -> bool:
    return item.get_closest_marker("java") is not None
