"""OME-Zarr without the axes of length 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, convert
from bfbridge.errors import BadArgument, BfbridgeError

zarr = pytest.importorskip("zarr")

PIXELS = np.random.default_rng(8).integers(0, 4000, (45, 38, 3, 2, 2)).astype(np.uint16)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("more", [{"version": "0.4"}, {}, {"shards": 32}])
@pytest.mark.parametrize(
    ("cut", "names"),
    [
        ((1, 1, 1), "yx"), ((3, 1, 1), "zyx"), ((1, 2, 1), "cyx"), ((1, 1, 2), "tyx"),
        ((3, 2, 1), "czyx"), ((3, 2, 2), "tczyx"),
    ],
)  # fmt: skip
def test_axes_of_length_1(
    tmp_path: Path, cut: tuple[int, int, int], names: str, more: dict[str, Any]
) -> None:
    z, c, t = cut
    pixels = PIXELS[:, :, :z, :c, :t]
    path = tmp_path / "a.ome.zarr"
    with BioWriter(
        path, shape=pixels.shape, dtype="uint16", drop_axes=True, pyramid=1, chunks=16,
        ps_x=(0.5, "µm"), ps_z=(2, "µm"), downsample="nearest", **more,
    ) as bw:  # fmt: skip
        bw[:] = pixels
    group = zarr.open_group(str(path), mode="r")
    entry = group.attrs.get("ome", group.attrs)["multiscales"][0]
    assert "".join(axis["name"] for axis in entry["axes"]) == names
    scale = dict(zip(names, entry["datasets"][1]["coordinateTransformations"][0]["scale"],
                     strict=True))  # fmt: skip
    assert (scale["x"], scale.get("z", 2.0)) == (1.0, 2.0)
    wanted = pixels.transpose(4, 3, 2, 0, 1).reshape(
        [pixels.shape["yxzct".index(n)] for n in names]
    )
    assert np.array_equal(group["0"][:], wanted)
    assert np.array_equal(group["1"][:], wanted[..., ::2, ::2])
    if "version" not in more:
        assert "".join(group["0"].metadata.dimension_names) == names
    with BioReader(path) as br:
        assert np.array_equal(br.read(keepdims=True), pixels)
        assert np.array_equal(br.levels[1].read(keepdims=True), pixels[::2, ::2])
    convert(path, tmp_path / "b.ome.zarr", drop_axes=True, verify=True)
    with BioReader(tmp_path / "b.ome.zarr") as br:
        assert np.array_equal(br.read(keepdims=True), pixels)


def test_changes_of_such_stores(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    with BioWriter(path, shape=(45, 38), dtype="uint16", drop_axes=True) as bw:
        bw[:] = PIXELS[:, :, 0, 0, 0]
    with (
        pytest.raises(BfbridgeError, match="axes"),
        BioWriter(path, append=True, shape=(45, 38, 1, 1, 2)) as bw,
    ):
        bw[:, :, 0, 0, 1] = PIXELS[:, :, 0, 0, 1]
    with BioReader(path) as br:
        assert np.array_equal(br[:], PIXELS[:, :, 0, 0, 0])


def test_invalid(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="drop_axes"):
        BioWriter(tmp_path / "a.ome.zarr", drop_axes="z")
    with pytest.raises(BadArgument, match="drop_axes"):
        BioWriter(tmp_path / "a.ome.tif", drop_axes=True)
