"""Runs programs in processes of their own: what is tested here would not survive in one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

PRELUDE = """
import os, signal, sys, threading, time
import numpy as np
from bfbridge.backend import OpenOptions, Region
from bfbridge.errors import *
from bfbridge.storage.source import as_source
import bfbridge_bioformats as backend

def open_(name, **options):
    return backend.READER.open(as_source(name), OpenOptions(**options))

def read(reader, image=0, level=0, start=(0,) * 5, stop=None):
    stop = stop or reader.images[image].levels[level].shape
    region = Region(image, level, start, stop)
    out = np.empty(region.shape, reader.images[image].dtype)
    reader.read(region, out)
    return out

SMALL = "small&sizeX=64&sizeY=48&sizeZ=2&pixelType=uint16.fake"
"""


@dataclass
class Program:
    """A Python program in a process of its own."""

    folder: Path

    def write(self, code: str) -> Path:
        """Save the program, after the common prelude."""
        file = self.folder / "program.py"
        file.write_text(PRELUDE + textwrap.dedent(code), encoding="utf-8")
        return file

    def start(self, code: str, **environment: str) -> subprocess.Popen[str]:
        """Start it; its working folder is the test's."""
        paths = [str(CHECKOUT), str(CHECKOUT / "backends"), os.environ.get("PYTHONPATH", "")]
        return subprocess.Popen(
            [sys.executable, str(self.write(code))],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "BFBRIDGE_ARCHIVE": "0",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, timeout: float = 60, **environment: str) -> str:
        """Run it to its end; it must end well and say nothing on stderr. Returns its stdout."""
        process = self.start(code, **environment)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"did not end within {timeout} s\n{out}\n{err}")
        assert (process.returncode, err) == (0, ""), f"{process.returncode}\n{out}\n{err}"
        return out

    def crash_reports(self) -> list[Path]:
        """Files that a dying JVM leaves."""
        return [*self.folder.glob("hs_err*"), *self.folder.glob("core*")]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A program to be written and run in the test's own folder."""
    return Program(tmp_path)


@pytest.fixture
def until() -> Callable[[subprocess.Popen[str], str], None]:
    """Wait until a process has printed a line."""

    def wait(process: subprocess.Popen[str], line: str) -> None:
        assert process.stdout is not None
        for printed in process.stdout:
            if printed.strip() == line:
                return
        assert process.stderr is not None
        pytest.fail(f"ended without printing {line!r}: {process.stderr.read()}")

    return wait
