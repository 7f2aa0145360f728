"""An OME-TIFF of 100 000 tiny planes, written and opened by bfbridge and tifffile."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from support.harness import interleave, table

__all__ = ["bench_planes"]

PLANES = 100_000


def bench_planes(folder: Path, repeats: int, threads: int) -> None:
    """Write and open an image of many tiny planes, as single-molecule and sensor data have."""
    import tifffile

    from bfbridge import BioReader, BioWriter

    pixels = np.random.default_rng(0).integers(0, 4000, (PLANES, 16, 16)).astype(np.uint16)
    stack = pixels.transpose(1, 2, 0)[:, :, :, None, None]
    made = {"bfbridge": folder / "planes.ome.tif", "tifffile": folder / "planes-tifffile.ome.tif"}

    # New files: ext4 writes a file to the disk at once if it replaces another one by a rename.
    def ours(compression: str) -> None:
        made["bfbridge"].unlink(missing_ok=True)
        options = {"compression": compression, "max_workers": threads}
        with BioWriter(made["bfbridge"], image=stack, **options) as bw:
            bw[:] = stack

    def one_by_one(count: int) -> None:
        options = {"compression": "none", "overwrite": True, "max_workers": threads}
        with BioWriter(folder / "each.ome.tif", image=stack[:, :, :count], **options) as bw:
            for z in range(count):
                bw[:, :, z] = stack[:, :, z]

    def peer(compression: str | None) -> None:
        made["tifffile"].unlink(missing_ok=True)
        options = {} if compression is None else {"tile": (16, 16), "maxworkers": threads}
        tifffile.imwrite(
            made["tifffile"], pixels, ome=True, compression=compression,
            metadata={"axes": "ZYX"}, **options,
        )  # fmt: skip

    def opened(path: Path) -> None:
        with BioReader(path) as br:
            assert br.shape[2] == PLANES

    def opened_by_tifffile(path: Path) -> None:
        with tifffile.TiffFile(path) as file:
            assert file.series[0].shape == pixels.shape

    for ours_name, peer_name in (("none", None), ("deflate", "zlib")):
        contenders = {
            "bfbridge": partial(ours, ours_name),
            "tifffile": partial(peer, peer_name),
        }
        seconds = interleave(contenders, repeats)
        table(f"Write {PLANES:,} planes of 16 x 16, {ours_name}", seconds, "bfbridge")
        contenders = {
            "bfbridge": partial(opened, made["bfbridge"]),
            "tifffile": partial(opened_by_tifffile, made["tifffile"]),
            "bfbridge, tifffile's file": partial(opened, made["tifffile"]),
        }
        table(f"Open them, {ours_name}", interleave(contenders, repeats), "bfbridge")
    each = {"bfbridge": partial(one_by_one, PLANES // 10)}
    table(f"Write {PLANES // 10:,} planes one by one, none", interleave(each, repeats), "bfbridge")
    print("  to reach: tifffile at 1.0, for both")
