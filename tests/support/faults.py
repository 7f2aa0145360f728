"""Ordering faults from the zygote, and telling what a fault has left behind."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bfbridge import BioReader
from bfbridge.errors import BfbridgeError

ROOT = Path(__file__).parents[2]
ZYGOTE = ROOT / "tests" / "faults" / "zygote.py"
Array = np.ndarray[Any, Any]


class Zygote:
    """A running `tests/faults/zygote.py`."""

    def __init__(self) -> None:
        paths = [str(ROOT), str(ROOT / "backends"), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, str(ZYGOTE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the zygote did not start"

    def order(self, **order: Any) -> dict[str, Any]:
        """Have one child write, and return its answer (see `zygote.child`)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order["path"] = str(order["path"])
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


def read_by_us(path: Path) -> Array:
    """All pixels along Y, X, Z, C, T, five axes."""
    with BioReader(path, max_workers=1) as reader:
        return np.asarray(reader.read(keepdims=True))


def read_by_peer(path: Path) -> Array:
    """The same through tifffile or zarr."""
    if path.is_dir():
        import zarr

        group = zarr.open_group(str(path), mode="r")
        # The first array of the first image, as its multiscales attribute names it.
        attributes = dict(group.attrs)
        multiscales = attributes.get("ome", attributes).get("multiscales")
        if multiscales is None:
            group = group["0"]
            attributes = dict(group.attrs)
            multiscales = attributes.get("ome", attributes)["multiscales"]
        stored = np.asarray(group[multiscales[0]["datasets"][0]["path"]][...])
        names = [axis["name"].upper() for axis in multiscales[0]["axes"]]
    else:
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            stored = tiff.series[0].asarray()
            names = list(tiff.series[0].axes)
    for axis in "YXZCT":
        if axis not in names:
            stored = stored[np.newaxis]
            names.insert(0, axis)
    return stored.transpose([names.index(axis) for axis in "YXZCT"])


def all_levels(path: Path) -> list[Array]:
    """All levels of the only image, five axes each; its OME metadata have the same T."""
    with BioReader(path, max_workers=1) as reader:
        assert reader.metadata.images[0].pixels.size_t == reader.T
        return [level.read(keepdims=True) for level in reader.levels]


def state_of_levels(path: Path, known: dict[str, list[Array]]) -> str:
    """Return the name of the content of a path: one of `known`, in all levels.

    Raises
    ------
    AssertionError
        It has other content.
    """
    found = all_levels(path)
    for name, expected in known.items():
        if len(found) == len(expected) and all(map(np.array_equal, found, expected)):
            return name
    raise AssertionError(f"{path.name} is neither what it was nor what it was to be")


def state(path: Path, known: dict[str, Array], *, peer: bool = True) -> str:
    """Return the name of the content of a path: one of `known`, complete, or "absent".

    Raises
    ------
    AssertionError
        It has other content.
    """
    if not os.path.lexists(path):
        return "absent"
    try:
        found = read_by_us(path)
    except BfbridgeError as error:
        raise AssertionError(f"{path.name} exists and cannot be read: {error}") from error
    for name, expected in known.items():
        if found.shape == expected.shape and np.array_equal(found, expected):
            if peer:
                np.testing.assert_array_equal(read_by_peer(path), expected)
            return name
    raise AssertionError(
        f"{path.name} is none of {list(known)}: {found.shape}, {np.count_nonzero(found)} non-zero"
    )


def refused_by_us(path: Path) -> bool:
    """Whether bfbridge refuses a path with an error of its own."""
    try:
        read_by_us(path)
    except BfbridgeError:
        return True
    return False


def found_by_peers(path: Path) -> Array | None:
    """Pixels that tifffile or zarr gives for a path, as stored; None where it is no image."""
    with contextlib.suppress(Exception):
        if path.is_dir():
            import zarr

            node = zarr.open(str(path), mode="r")
            return np.asarray(node[...]) if isinstance(node, zarr.Array) else read_by_peer(path)
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            return np.asarray(tiff.series[0].asarray()) if tiff.pages else None
    return None


def leftovers(target: Path) -> list[Path]:
    """Everything beside a target that is not the target."""
    return sorted(entry for entry in target.parent.iterdir() if entry != target)


def assert_harmless(target: Path, *whole: Array) -> None:
    """What was left has our name, bfbridge opens none of it, and others at most one of `whole`.

    A kill can strike when everything is written and only the rename is missing, or when the old
    image was exchanged and not yet removed; whoever then digs in the hidden folder with another
    program finds a whole image, never a part of one.
    """
    for entry in leftovers(target):
        assert entry.name == f".{target.name}.bfbridge-partial", f"{entry.name} was left behind"
        for inner in [entry, *entry.rglob("*")]:
            shown = inner.relative_to(target.parent)
            assert refused_by_us(inner), f"{shown} opens as an image"
            found = found_by_peers(inner)
            if found is not None:
                values = np.sort(found, axis=None)
                assert any(np.array_equal(values, np.sort(image, axis=None)) for image in whole), (
                    f"{shown} opens in part"
                )
