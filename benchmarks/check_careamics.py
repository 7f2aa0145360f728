"""`ImageStack` in a data set of CAREamics, read by a PyTorch loader with four workers.

    python benchmarks/check_careamics.py

A manual check, for an environment with careamics, torch and bfbridge. bfbridge itself needs neither
careamics nor torch. For an OME-TIFF, an OME-Zarr and a file of Bio-Formats, every patch
of the loader is compared with the pixels that were written.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from careamics.config.factories.data_factory import create_data_configuration
from careamics.dataset.factory.factory import ImageStackLoading, create_dataset
from careamics.dataset.image_stack import InMemoryImageStack
from torch.utils.data import DataLoader

import bfbridge
from bfbridge.patches import ImageStack

PATCH = (32, 32)


def load(source: Any, axes: str, **options: Any) -> list[ImageStack]:
    """Load image stacks, as CAREamics calls its loaders."""
    del axes  # said by the files
    return [ImageStack(path, **options) for path in source]


def check(path: Path, pixels: np.ndarray[Any, Any], method: str, **options: Any) -> int:
    """Compare all patches of a loader with `pixels`: S, C, Y, X. Return how many there were."""
    config = create_data_configuration(
        data_type="custom", axes="SCYX", patch_size=list(PATCH), batch_size=4, augmentations=[],
        normalization={"name": "none"},
    )  # fmt: skip
    loading = ImageStackLoading(load, options)
    data = create_dataset(config, [path], None, loading)
    loader = DataLoader(
        data, batch_size=None, num_workers=4, multiprocessing_context=method, shuffle=True
    )
    count = 0
    for item in loader:
        region = item[0] if isinstance(item, (tuple, list)) else item
        spec = region.region_spec
        y, x = (int(c) for c in spec["coords"])
        expected = pixels[int(spec["sample_idx"]), :, y : y + PATCH[0], x : x + PATCH[1]]
        np.testing.assert_array_equal(np.asarray(region.data), expected)
        count += 1
    assert count == len(data) > 20, count
    return count


def main() -> None:
    pixels = np.arange(6 * 2 * 131 * 157, dtype=np.uint32).reshape(6, 2, 131, 157) % 65521
    pixels = pixels.astype(np.uint16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {
            folder / "a.ome.tif": {},
            folder / "a.ome.zarr": {},
            folder / "b.ome.tif": {"backend": "bioformats", "isolated": True},
        }
        for path, options in files.items():
            with bfbridge.BioWriter(path, Y=131, X=157, C=2, T=6, dtype=np.uint16) as bw:
                bw[:] = pixels.transpose(2, 3, 1, 0)[:, :, np.newaxis]
            # Processes that are spawned load torch and CAREamics first: once is enough.
            for method in ("fork",) if options else ("fork", "spawn"):
                count = check(path, pixels, method, **options)
                print(f"{path.name} {options}: {count} patches by 4 workers ({method})")
        ours = ImageStack(folder / "a.ome.tif")
        theirs = InMemoryImageStack.from_array(pixels, "SCYX")
        for corner in [(-5, -7), (0, 0), (110, 140), (60, -1), (120, 3)]:
            np.testing.assert_array_equal(
                ours.extract_patch(4, None, corner, PATCH),
                theirs.extract_patch(4, None, corner, PATCH),
            )
        print("borders as CAREamics' own stack pads them")


if __name__ == "__main__":
    main()
