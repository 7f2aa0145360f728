"""What every test may rely on, and the check that Java runs only where a test says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of the backend "bioformats", and run all tests that start Java last.

    They run last because a JVM that runs already would hide a missing marker.
    """
    for item in items:
        call = getattr(item, "callspec", None)
        if call is not None and "bioformats" in map(str, call.params.values()):
            item.add_marker("java")
    items.sort(key=_starts_java)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Hide Java from a test without the marker, its fixtures included."""
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


def _starts_java(item: pytest.Item) -> bool:
    return item.get_closest_marker("java") is not None
