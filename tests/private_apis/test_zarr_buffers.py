"""What `bfbridge.ngff.zarr_buffers` and the bounded codecs rely on in zarr-python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.registry import get_codec_class

from bfbridge.ngff.zarr_buffers import Buffer, default_buffer_prototype


def test_a_buffer_is_made_of_bytes_and_back() -> None:
    made = default_buffer_prototype().buffer.from_bytes(b"abc")
    assert isinstance(made, Buffer)
    assert made.to_bytes() == b"abc"


@pytest.mark.parametrize("name", ["blosc", "gzip", "zstd"])
def test_codecs_decode_by_the_method_that_is_replaced(name: str) -> None:
    assert callable(getattr(get_codec_class(name), "_decode_single", None))


def test_a_store_of_ours_is_read(tmp_path: Path) -> None:
    """Through the adapter, with a compressor that is replaced by a bounded one."""
    from bfbridge import BioReader

    pixels = np.arange(40 * 50, dtype="u2").reshape(1, 1, 1, 40, 50)
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="w", zarr_format=3)
    array = group.create_array("0", shape=pixels.shape, chunks=(1, 1, 1, 16, 16), dtype="u2")
    array[...] = pixels
    axes = [{"name": n, "type": {"t": "time", "c": "channel"}.get(n, "space")} for n in "tczyx"]
    scale = [{"type": "scale", "scale": [1.0] * 5}]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
        ],
    }
    with BioReader(tmp_path / "a.ome.zarr") as reader:
        np.testing.assert_array_equal(np.squeeze(reader[:]), pixels[0, 0, 0])
