"""A second implementation of S3 beside moto: s3rver (Node.js).

    npm install -g s3rver

Tests are skipped if the command ``s3rver`` is not found.
"""

from __future__ import annotations

import multiprocessing
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("s3fs", reason="s3fs is not installed")
if shutil.which("s3rver") is None:
    pytest.skip("s3rver is not installed", allow_module_level=True)

from bfbridge import BioReader, BioWriter, convert, imwrite
from bfbridge.errors import BfbridgeError, TargetBusy, TargetExists, Unsupported

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow(ci=True)]

PIXELS = np.random.default_rng(5).integers(0, 999, (2, 300, 400), np.uint16)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Storage options of a bucket named "images"."""
    folder = tmp_path_factory.mktemp("s3rver")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        ["s3rver", "-d", str(folder), "-a", "127.0.0.1", "-p", str(port), "--silent",
         "--configure-bucket", "images"],
    )  # fmt: skip
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield {
            "key": "S3RVER", "secret": "S3RVER",
            "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}"},
        }  # fmt: skip
    finally:
        server.terminate()
        server.wait(20)


def pixels(url: str, options: dict[str, Any]) -> Any:
    with BioReader(url, storage_options=options) as br:
        return br.read(keepdims=True)[:, :, 0, :, 0].transpose(2, 0, 1)


def keys(options: dict[str, Any], name: str) -> list[str]:
    import s3fs

    there = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    return sorted(there.find(f"images/{name}"))


@pytest.mark.parametrize("more", [{}, {"version": "0.5", "shards": 256, "chunks": 128}])
def test_a_store_is_written_read_and_replaced(
    options: dict[str, Any], tmp_path: Path, more: dict[str, Any]
) -> None:
    url = f"s3://images/a{len(more)}.ome.zarr"
    imwrite(tmp_path / "a.ome.tif", PIXELS, axes="CYX")
    done = convert(
        tmp_path / "a.ome.tif", url, storage_options=options, verify=True, pyramid=1, **more
    )
    assert done.files[0].outputs[0].verified
    np.testing.assert_array_equal(pixels(url, options), PIXELS)
    before = keys(options, url.removeprefix("s3://images/"))
    assert not [key for key in before if "bfbridge" in key], "nothing is left behind"
    with pytest.raises(TargetExists):
        convert(tmp_path / "a.ome.tif", url, storage_options=options)
    imwrite(tmp_path / "b.ome.tif", PIXELS + 1, axes="CYX")
    convert(tmp_path / "b.ome.tif", url, storage_options=options, overwrite=True, pyramid=1, **more)
    np.testing.assert_array_equal(pixels(url, options), PIXELS + 1)


def test_half_written_stores_never_open(options: dict[str, Any]) -> None:
    url = "s3://images/half.ome.zarr"
    writer = BioWriter(url, image=PIXELS[0], storage_options=options, tile=128)
    writer[:128, :128] = PIXELS[0, :128, :128]
    with pytest.raises(BfbridgeError):
        BioReader(url, storage_options=options)
    with pytest.raises(TargetBusy):
        BioWriter(url, image=PIXELS[0], storage_options=options)
    writer[:] = PIXELS[0]
    writer.close()
    np.testing.assert_array_equal(pixels(url, options)[0], PIXELS[0])
    with pytest.raises(Unsupported):
        BioWriter(url, append=True, storage_options=options)
    with BioWriter(url, append=True, T=2, storage_options=options) as bw:
        bw[..., 1:] = PIXELS[1][:, :, None, None, None]
        with BioReader(url, storage_options=options) as br:
            assert br.T == 1
    with BioReader(url, storage_options=options) as br:
        np.testing.assert_array_equal(br.read(keepdims=True)[:, :, 0, 0].transpose(2, 0, 1), PIXELS)
    assert not [key for key in keys(options, "half.ome.zarr") if "bfbridge" in key]


def _write_half(url: str, options: dict[str, Any], half: int) -> None:
    with BioWriter.open(url, storage_options=options) as bw:
        rows = slice(0, 128) if half == 0 else slice(128, 300)
        bw[rows] = PIXELS[0, rows]


def test_several_processes_write_one_store(options: dict[str, Any]) -> None:
    url = "s3://images/shared.ome.zarr"
    BioWriter.create(url, image=PIXELS[0], tile=128, pyramid=[2], storage_options=options)
    context = multiprocessing.get_context("spawn")
    parts = [context.Process(target=_write_half, args=(url, options, half)) for half in (0, 1)]
    for part in parts:
        part.start()
    for part in parts:
        part.join(60)
        assert part.exitcode == 0
    with pytest.raises(BfbridgeError):
        BioReader(url, storage_options=options)
    BioWriter.finish(url, storage_options=options)
    np.testing.assert_array_equal(pixels(url, options)[0], PIXELS[0])
    assert not [key for key in keys(options, "shared.ome.zarr") if "bfbridge" in key]
