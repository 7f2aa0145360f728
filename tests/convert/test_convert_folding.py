"""Names of new files differ also where the file system ignores case and Unicode's forms."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from bfbridge import convert, imread, imwrite
from bfbridge.errors import BadArgument
from bfbridge.runtime.systems import folded_name

SAME = [
    ("cells", "CELLS"),
    ("Gr\u00f6\u00dfe", "gro\u0308sse"),  # composed, and with a combining mark
    ("4\u212a", "4k"),  # the sign for kelvin is folded to k
    ("\u03a3\u03c3", "\u03c2\u03c2"),  # the three forms of sigma
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_names_that_a_file_system_may_equate_are_folded_alike(one, other):
    assert one != other
    assert folded_name(one) == folded_name(other)


def test_other_names_are_not_folded_alike():
    names = ["cells", "cells1", "cell", "cellš", "IMAGES~1", "IMAGES~2", "ce lls"]
    assert len({folded_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_batch_writes_a_file_for_each_source(tmp_path: Path, one: str, other: str) -> None:
    try:
        os.fsencode(one + other)
    except UnicodeEncodeError:
        pytest.skip("the file system's encoding lacks these characters")
    source = tmp_path / "in"
    source.mkdir()
    for number, name in enumerate((one, other)):
        imwrite(source / f"{name}.ome.tif", np.full((3, 4), number, np.uint8), axes="YX")
    if len(list(source.iterdir())) < 2:
        pytest.skip("this file system takes the two names for one")
    record = convert(source, tmp_path / "out", suffix=".ome.zarr")
    targets = [output.target for file in record.files for output in file.outputs]
    made = [path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".zarr"]
    assert len({folded_name(name) for name in made}) == len(targets) == 2
    values = {int(imread(tmp_path / "out" / name).max()) for name in made}
    assert values == {0, 1}


def test_a_pattern_that_gives_two_channels_one_folded_name_is_refused(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "GRÜN")
    imwrite(
        tmp_path / "in.ome.tif", np.zeros((2, 4, 5), np.uint8), axes="CYX",
        channel_names=["grün", decomposed],
    )  # fmt: skip
    with pytest.raises(BadArgument, match="two new files would be called"):
        convert(tmp_path / "in.ome.tif", tmp_path / "%w.ome.tif")


def test_a_name_that_cannot_be_encoded_is_refused(tmp_path: Path) -> None:
    code = (
        "import sys, bfbridge\n"
        "for make in (bfbridge.BioReader, bfbridge.BioWriter):\n"
        "    try:\n"
        "        make('\\u212a.ome.tif')\n"
        "    except bfbridge.errors.BadArgument as error:\n"
        "        print(error)\n"
    )
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = os.environ | variables | {"PYTHONPATH": os.pathsep.join(sys.path)}
    encoding = subprocess.run(
        [sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    if encoding == "utf-8":
        pytest.skip("file names are UTF-8 in every locale of this system")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.count(f"file names are encoded as {encoding} here") == 2, done.stderr
    assert "Set PYTHONUTF8=1" in done.stdout
