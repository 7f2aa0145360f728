"""Running commands: in this process, and in a new one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bfbridge import BioWriter
from tests.support.engine import face
from tests.support.memory import distinct

__all__ = [
    "ARRAY",
    "ODD",
    "PIXELS",
    "RAW",
    "SHOWN",
    "Done",
    "Run",
    "failed",
    "process",
    "text_czi",
    "write",
]

ARRAY = face(distinct((2, 3, 4, 45, 70)))


@dataclass
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]
PIXELS = np.arange(600, dtype=np.uint16).reshape(20, 30)
# Red text, a bell, an 8-bit escape, a change of direction, a byte that is no UTF-8, and a line end.
ODD = os.fsdecode("a\x1b[31m\a\x9b\u202eb\n".encode() + b"\xff") + ".ome.tif"
SHOWN = r"a\x1b[31m\x07\x9b\u202eb \udcff.ome.tif"
RAW = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def process(*arguments: Any, **environment: str) -> Done:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from bfbridge.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **environment},
    )
    return Done(done.returncode, done.stdout, done.stderr)


def failed(done: Done, *words: str, code: int = 1) -> None:
    """Check that a command failed as every command should."""
    assert done.code == code
    assert done.out == ""
    assert done.err.startswith("error: "), done.err
    assert done.err.endswith("\n")
    assert done.err.count("\n") == 1, done.err
    assert "fault of bfbridge" not in done.err
    for word in words:
        assert word in done.err


def write(path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with BioWriter(path, image=PIXELS, **options) as bw:
        bw[:] = PIXELS
    return path


def text_czi(folder: Path) -> Path:
    (folder / "text.czi").write_text("This is no image.\n" * 50)
    return folder / "text.czi"
