"""Conversion to and from URLs: in memory, and a local S3 that asks for a key."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

fsspec = pytest.importorskip("fsspec")

from bfbridge import BioReader, BioWriter, convert  # noqa: E402
from bfbridge.convert import convert_many  # noqa: E402
from bfbridge.convert.options import ConvertOptions  # noqa: E402
from bfbridge.convert.plan.sources import find_sources, name_targets  # noqa: E402
from bfbridge.convert.reports.writer import REPORT_NAME  # noqa: E402
from bfbridge.errors import (  # noqa: E402
    BadArgument,
    BatchFailed,
    FileMissing,
    TargetExists,
)
from bfbridge.storage.source import as_source  # noqa: E402
from tests.support.s3server import serve_s3  # noqa: E402

# What moto and botocore warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

SHAPE = (150, 210, 3, 2)
KEY = "somebody"


def image(number: int) -> Any:
    return np.random.default_rng(number).integers(1, 60_000, SHAPE).astype(np.uint16)


def write(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with BioWriter(path, image=image(number)) as bw:
        bw[:] = image(number)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, one of them deeper, one that is broken, and one that is none."""
    root = tmp_path_factory.mktemp("local")
    write(root / "in/a.ome.tif", 1)
    write(root / "in/deep er/b.ome.zarr", 2)
    (root / "in/bad.ome.tif").write_bytes((root / "in/a.ome.tif").read_bytes()[:200])
    (root / "in/notes.txt").write_text("no image")
    return root


# moto takes seconds to import.
@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow(ci=True))])
def place(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """URL of a place that holds what is in `folder`, and its storage options."""
    if request.param == "memory":
        there = fsspec.filesystem("memory")
        there.put(str(folder), "/images", recursive=True)
        yield "memory://images", {}
        there.store.clear()
        there.pseudo_dirs[:] = [""]
        return
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    pytest.importorskip("moto.server", reason="moto[server], a local S3, is not installed")
    with serve_s3(folder, KEY) as (web, options):
        yield web.url, options


def pixels(place: str | Path, storage: dict[str, Any]) -> Any:
    with BioReader(place, storage_options=storage) as br:
        return br[:]


@pytest.mark.slow(ci=True)
def test_one_file(place: tuple[str, dict[str, Any]], folder: Path, tmp_path: Path) -> None:
    url, storage = place
    target, how = f"{url}/new/a b.ome.zarr", {"storage_options": storage, "verify": True}
    done = convert(folder / "in/a.ome.tif", target, report=f"{target}.json", **how)
    assert done.target == target
    np.testing.assert_array_equal(pixels(target, storage), image(1))
    there = as_source(f"{target}.json", storage)
    told = json.loads(there.head(100_000))
    assert told["files"][0]["outputs"][0]["verified"] is True
    assert told["file_bytes"] == there.filesystem().du(target) > 10_000
    assert "hush" not in json.dumps(told), "secrets are not for reports"
    assert not list(tmp_path.parent.glob("*:*")), "a URL is no path"
    with pytest.raises(TargetExists):
        convert(folder / "in/a.ome.tif", target, **how)
    kept = convert(folder / "in/a.ome.tif", target, resume=True, **how)
    assert kept.files[0].outputs[0].verified
    with pytest.raises(TargetExists, match="overwrite"):
        convert(folder / "in/deep er/b.ome.zarr", target, resume=True, **how)
    convert(folder / "in/deep er/b.ome.zarr", target, overwrite=True, **how)
    np.testing.assert_array_equal(pixels(target, storage), image(2))
    with pytest.raises(TargetExists, match="source itself"):
        convert(target, target, overwrite=True, **how)
    with pytest.raises(TargetExists, match="inside the source"):
        convert(target, f"{target}/0/b.ome.zarr", **how)


@pytest.mark.slow(ci=True)
def test_the_source_is_a_url(place: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    url, storage = place
    convert(
        f"{url}/in/a.ome.tif", tmp_path / "a.ome.tif", storage_options=storage, verify=True,
        recompress=True,
    )  # fmt: skip
    np.testing.assert_array_equal(pixels(tmp_path / "a.ome.tif", {}), image(1))
    done = convert(
        f"{url}/in/deep er/b.ome.zarr", f"{url}/c.ome.zarr", verify=True,
        reader_options={"storage_options": storage}, target_storage_options=storage,
        report=tmp_path / "report.json",
    )  # fmt: skip
    np.testing.assert_array_equal(pixels(f"{url}/c.ome.zarr", storage), image(2))
    (entry,) = done.files[0].inputs
    assert entry["path"] == f"{url}/in/deep er/b.ome.zarr"
    assert entry["bytes"] > 10_000
    assert entry["tag"]


def batch(sources: Any, target: str, storage: dict[str, Any], **more: Any) -> Any:
    return convert_many(
        sources, target, storage_options=storage, verify=True, suffix=".ome.zarr", **more
    )


@pytest.mark.java
def test_a_batch_at_urls_is_resumed(place: tuple[str, dict[str, Any]], folder: Path) -> None:
    url, storage = place
    out = f"{url}/out"
    done = batch(f"{url}/in/", out, storage)
    assert {f.source: f.status for f in done.files} == {
        f"{url}/in/a.ome.tif": "done",
        f"{url}/in/bad.ome.tif": "failed",
        f"{url}/in/deep er/b.ome.zarr": "done",
    }
    assert list(done.skipped) == [f"{url}/in/notes.txt"]
    assert str(done.report) == f"{out}/{REPORT_NAME}"
    np.testing.assert_array_equal(pixels(f"{out}/a.ome.zarr", storage), image(1))
    np.testing.assert_array_equal(pixels(f"{out}/deep er/b.ome.zarr", storage), image(2))

    # The damaged source is repaired, and another source has changed: those two are converted.
    there = as_source(url, storage).filesystem()
    there.put(str(folder / "in/a.ome.tif"), f"{url}/in/bad.ome.tif")
    again = batch(f"{url}/in/", out, storage, resume=True)
    assert [f.status for f in again.files] == ["kept", "done", "kept"]
    there.rm(f"{url}/in/deep er/b.ome.zarr", recursive=True)
    shutil.copytree(folder / "in/deep er/b.ome.zarr", folder / "other.ome.zarr", dirs_exist_ok=True)
    with BioWriter(folder / "other.ome.zarr", append=True) as bw:
        bw[:] = image(3)
    there.put(f"{folder / 'other.ome.zarr'}/", f"{url}/in/deep er/b.ome.zarr/", recursive=True)
    again = batch(f"{url}/in/", out, storage, resume=True)
    assert [f.status for f in again.files] == ["kept", "kept", "done"]
    np.testing.assert_array_equal(pixels(f"{out}/deep er/b.ome.zarr", storage), image(3))
    # A target with other content may belong to others: it is replaced only with overwrite=True.
    chunk = next(key for key in there.find(f"{out}/a.ome.zarr") if "/c/" in key)
    there.rm(chunk)
    again = batch(f"{url}/in/", out, storage, resume=True)
    assert [f.error_type for f in again.files] == ["TargetExists", None, None]
    again = batch(f"{url}/in/", out, storage, resume=True, overwrite=True)
    assert [f.status for f in again.files] == ["done", "kept", "kept"]
    np.testing.assert_array_equal(pixels(f"{out}/a.ome.zarr", storage), image(1))


@pytest.mark.slow(ci=True)
def test_without_its_report_a_batch_is_proved(
    place: tuple[str, dict[str, Any]], folder: Path
) -> None:
    url, storage = place
    sources = [str(folder / "in/a.ome.tif"), f"{url}/in/deep er/b.ome.zarr"]
    batch(sources, f"{url}/out/", storage)
    as_source(url, storage).filesystem().rm(f"{url}/out/{REPORT_NAME}")
    again = batch(sources, f"{url}/out/", storage, resume=True)
    assert [f.outputs[0].seconds for f in again.files] == [0, 0], "kept as they are"
    assert all(f.outputs[0].verified for f in again.files)


def test_what_is_found_at_a_url(place: tuple[str, dict[str, Any]]) -> None:
    url, storage = place
    request = ConvertOptions(storage_options=storage)

    def found(*sources: str, **options: Any) -> list[str]:
        chosen = find_sources(sources, request, group=False, **options)
        assert all(f.path.startswith(f"{url}/in/") for f in chosen)
        return [f.path.removeprefix(f"{url}/in/") for f in chosen]

    everything = ["a.ome.tif", "bad.ome.tif", "notes.txt", "deep er/b.ome.zarr"]
    assert found(f"{url}/in") == everything
    assert found(f"{url}/in/") == everything
    assert found(f"{url}/in/", recursive=False) == everything[:3]
    assert found(f"{url}/in/", pattern=r"{x:c+}\.ome\..*") == ["a.ome.tif", "bad.ome.tif",
                                                               "deep er/b.ome.zarr"]  # fmt: skip
    assert found(f"{url}/in/*.tif") == ["a.ome.tif", "bad.ome.tif"]
    assert found(f"{url}/in/*/*.zarr") == ["deep er/b.ome.zarr"]
    assert found(f"{url}/in/deep er/b.ome.zarr", f"{url}/in/a.ome.tif") == [
        "deep er/b.ome.zarr", "a.ome.tif",
    ]  # fmt: skip
    for missing in (f"{url}/in/*.czi", f"{url}/none/"):
        with pytest.raises(FileMissing):
            found(missing)


def test_targets_at_urls_have_their_names() -> None:
    from bfbridge.convert.locations import place_of

    request = ConvertOptions()
    found = find_sources(["memory://x/a.tif", "memory://y/a.tif?v=2"], request, group=False)
    made = name_targets(found, place_of("s3://bucket/out/"), ".ome.zarr")
    assert [str(target) for target in made] == [
        "s3://bucket/out/x/a.ome.zarr", "s3://bucket/out/y/a.ome.zarr",
    ]  # fmt: skip


def test_a_url_of_this_machine_is_a_path(folder: Path, tmp_path: Path) -> None:
    convert(f"file://{folder}/in/a.ome.tif", f"file://{tmp_path}/a.ome.tif", verify=True)
    np.testing.assert_array_equal(pixels(tmp_path / "a.ome.tif", {}), image(1))


@pytest.mark.slow(ci=True)
def test_split_and_patterns_of_names(place: tuple[str, dict[str, Any]], folder: Path) -> None:
    url, storage = place
    source = folder / "in/a.ome.tif"
    done = convert(source, f"{url}/s.ome.zarr", split="c", storage_options=storage)
    names = [output.target for output in done.files[0].outputs]
    assert names == [f"{url}/s_c0.ome.zarr", f"{url}/s_c1.ome.zarr"]
    done = convert(source, f"{url}/p/z%z.ome.zarr", z="1:", storage_options=storage)
    names = [output.target for output in done.files[0].outputs]
    assert names == [f"{url}/p/z1.ome.zarr", f"{url}/p/z2.ome.zarr"]
    np.testing.assert_array_equal(pixels(names[1], storage), image(1)[:, :, 2:3])


def test_a_tiff_is_converted_to_a_url(folder: Path) -> None:
    source = folder / "in/a.ome.tif"
    convert(source, "memory://tiffs/a.ome.tif", overwrite=True, verify=True)
    with BioReader("memory://tiffs/a.ome.tif") as made, BioReader(source) as br:
        assert made.backend == "ometiff"
        np.testing.assert_array_equal(made[:], br[:])


@pytest.mark.java
def test_what_cannot_be_done_is_said(folder: Path) -> None:
    for options in ({"jobs": 2}, {"client": SimpleNamespace(submit=None)}):
        with pytest.raises(BadArgument, match="memory of one process"):
            convert(folder / "in", "memory://x/", suffix=".ome.zarr", **options)
    with pytest.raises(BatchFailed, match="memory://nowhere/none"):
        convert(["memory://nowhere/none.tif"], "memory://x/", suffix=".ome.zarr")


@pytest.mark.slow(ci=True)
def test_the_command(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    pytest.importorskip("moto.server", reason="moto[server], a local S3, is not installed")
    with serve_s3(folder, KEY) as (web, options):
        endpoint = options["client_kwargs"]["endpoint_url"]

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-c", "from bfbridge.cli import main; main()", "convert",
                 *arguments, "--storage-option", f"endpoint_url={endpoint}"],
                capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path,
                env={**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": "hush-hush"},
            )  # fmt: skip

        done = run(f"{folder}/in/a.ome.tif", f"{web.url}/one.ome.zarr", "--verify", "--report",
                   f"{web.url}/one.ome.zarr.report.json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        many = [f"{web.url}/in/*.tif", str(folder / "in/deep er/b.ome.zarr"), f"{web.url}/out/",
                "--suffix", ".ome.zarr", "--jobs", "2", "--verify"]  # fmt: skip
        done = run(*many)
        assert done.returncode == 1
        assert "bad.ome.tif" in done.stderr
        np.testing.assert_array_equal(pixels(f"{web.url}/out/b.ome.zarr", options), image(2))
        np.testing.assert_array_equal(pixels(f"{web.url}/one.ome.zarr", options), image(1))
        told = json.loads(as_source(f"{web.url}/one.ome.zarr.report.json", options).head(100_000))
        assert told["counts"] == {"done": 1, "kept": 0, "failed": 0}
        told = subprocess.run(
            [sys.executable, "-c", "from bfbridge.cli import main; main()", "info", "--json",
             f"{web.url}/one.ome.zarr", "--storage-option", f"endpoint_url={endpoint}",
             "--storage-option", f"key={KEY}", "--storage-option", "secret=hush-hush"],
            capture_output=True, text=True, timeout=100, check=True,
        )  # fmt: skip
        assert json.loads(told.stdout)["backend"] == "omezarr"
        done = run(*many, "--resume")
        assert "kept" in done.stderr
        assert not list(tmp_path.iterdir())


@pytest.mark.slow(ci=True)
def test_a_cluster_writes_one_image_to_a_url(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    pytest.importorskip("moto.server", reason="moto[server], a local S3, is not installed")
    script = tmp_path / "run.py"
    script.write_text(
        "import json, sys\n"
        "from distributed import Client, LocalCluster\n"
        "from bfbridge.convert import convert\n"
        "from bfbridge.errors import BfbridgeError\n"
        "if __name__ == '__main__':\n"
        "    source, url, storage = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])\n"
        "    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True,\n"
        "                      dashboard_address=None) as cluster, Client(cluster) as client:\n"
        "        how = {'client': client, 'storage_options': storage}\n"
        "        convert(source, url + '/big.ome.zarr', verify=True, **how)\n"
        "        for wrong in (source, source.replace('a.ome', 'bad.ome')):\n"
        "            try:\n"
        "                convert(wrong, url + '/big.ome.zarr', **how)\n"
        "            except BfbridgeError as error:\n"
        "                print(type(error).__name__)\n"
    )
    with serve_s3(folder, KEY) as (web, options):
        done = subprocess.run(
            [sys.executable, str(script), str(folder / "in/a.ome.tif"), web.url,
             json.dumps(options)],
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.split() == ["TargetExists", "UnreadableFile"]
        np.testing.assert_array_equal(pixels(f"{web.url}/big.ome.zarr", options), image(1))
