"""What `bfbridge.storage.remote.fsspec_paths` relies on in fsspec."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from bfbridge.storage.remote.fsspec_paths import root_of


@pytest.mark.parametrize("end", ["", "/"])
def test_listings_have_paths_below_the_root(end: str) -> None:
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("memory://lab/roots/a/0.bin", b"x")
    try:
        root = root_of(filesystem, f"memory://lab/roots{end}")
        assert filesystem.find("memory://lab/roots") == [f"{root}/a/0.bin"]
        assert filesystem.cat_file(f"{root}/a/0.bin") == b"x"
    finally:
        filesystem.rm("memory://lab/roots", recursive=True)


def test_local_urls_become_absolute_paths(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    root = root_of(fsspec.filesystem("file"), tmp_path.as_uri())
    assert fsspec.filesystem("file").cat_file(f"{root}/a.bin") == b"x"
    assert Path(root) == tmp_path


@pytest.mark.parametrize(
    ("protocol", "url", "root"),
    [
        ("http", "http://host.org/lab/a.zarr/", "http://host.org/lab/a.zarr"),
        ("s3", "s3://bucket/lab/a.zarr/", "bucket/lab/a.zarr"),
    ],
)
def test_web_urls_stay_and_buckets_lose_the_protocol(protocol: str, url: str, root: str) -> None:
    pytest.importorskip({"http": "aiohttp", "s3": "s3fs"}[protocol])
    assert root_of(fsspec.get_filesystem_class(protocol), url) == root
