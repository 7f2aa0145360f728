"""Lower levels added to existing stores: by threads, on a cluster, and after interruptions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr
from ome_types.model import Pixels

from bfbridge import BioReader, BioWriter, convert, imwrite
from bfbridge.convert.execute import levels as level_tasks
from bfbridge.curation import add_pyramid, validate
from bfbridge.engine.pyramid import LevelPlan, reduce_block
from bfbridge.errors import BadArgument, FileMissing, TargetBusy, UnreadableFile, Unsupported
from bfbridge.files.added_levels import levels_begun
from bfbridge.files.in_place import InPlaceTarget
from bfbridge.ome.metadata import new_document
from bfbridge_omezarr.append import OmeZarrWriter
from bfbridge_omezarr.hierarchy.files import FileTree
from tests.support.commands import Run
from tests.support.samples import distinct

PIXELS = distinct((1, 2, 3, 150, 130), np.uint32)
LAYOUTS: dict[str, dict[str, Any]] = {
    "0.4": {"version": "0.4", "chunks": 32},
    "0.5": {"version": "0.5", "chunks": (2, 32, 48), "compression": ("gzip", 3)},
    "shards": {"shards": 64, "chunks": 32},
    "axes": {"drop_axes": True, "chunks": 48, "compression": "none"},
}


def content(path: Path) -> dict[str, bytes]:
    """Return all files of a store."""
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def write(path: Path, pyramid: Any = False, **options: Any) -> Path:
    """Write the image of these tests."""
    imwrite(path, PIXELS, axes="TCZYX", pixel_size=0.5, pyramid=pyramid, **options)
    return path


def pixels(path: Any) -> list[Any]:
    """Return all levels of an image."""
    with BioReader(path) as br:
        return [level[:] for level in br.levels]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_store_is_that_of_a_writer(tmp_path: Path, layout: str) -> None:
    options = LAYOUTS[layout] | ({"downsample": "nearest"} if layout == "0.4" else {})
    made = write(tmp_path / "made.ome.zarr", pyramid=[2, 6] if layout == "axes" else 2, **options)
    store = write(tmp_path / "a.ome.zarr", **LAYOUTS[layout])
    seen: list[tuple[int, int]] = []
    count = add_pyramid(
        store, pyramid=[2, 6] if layout == "axes" else 2, max_workers=1,
        downsample=options.get("downsample", "mean"), progress=lambda *done: seen.append(done),
    )  # fmt: skip
    assert count == 1
    assert seen[-1][0] == seen[-1][1] == sum(level.size for level in pixels(made)[1:])
    if layout == "shards":
        # The order of chunks in a shard may differ.
        assert content(store).keys() == content(made).keys()
    else:
        assert content(store) == content(made)
    assert validate(store).valid
    for one, other in zip(pixels(store), pixels(made), strict=True):
        np.testing.assert_array_equal(one, other)
    before = content(store)
    assert add_pyramid(store) == 0
    assert content(store) == before


def test_stores_of_other_programs(tmp_path: Path) -> None:
    # Axes z, y, x, another name, compression and chunks, an origin, consolidated metadata.
    path = tmp_path / "other.zarr"
    volume = np.random.default_rng(1).integers(0, 60_000, (5, 90, 77), np.uint16)
    group = zarr.create_group(path, zarr_format=2)
    array = group.create_array("s0", shape=volume.shape, chunks=(2, 33, 40), dtype="uint16",
                               chunk_key_encoding={"name": "v2", "separator": "."})  # fmt: skip
    array[:] = volume
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    transforms = [
        {"type": "scale", "scale": [2.0, 0.5, 0.5]},
        {"type": "translation", "translation": [10.0, 0.0, 3.0]},
    ]
    dataset = {"path": "s0", "coordinateTransformations": transforms}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [dataset]}]
    group.attrs["made by"] = "another program"
    zarr.consolidate_metadata(path)
    assert add_pyramid(path, pyramid=[(2, 2, 2)]) == 1
    assert not (path / ".zmetadata").exists()
    found = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(found["s0"][:], volume)  # type: ignore[index]
    np.testing.assert_array_equal(
        found["s1"][:],  # type: ignore[index]
        reduce_block(volume, (2, 2, 2), "mean"),
    )
    (entry,) = found.attrs["multiscales"]  # type: ignore[misc]
    assert entry["datasets"][0] == dataset
    assert entry["datasets"][1]["coordinateTransformations"] == [
        {"type": "scale", "scale": [4.0, 1.0, 1.0]},
        {"type": "translation", "translation": [11.0, 0.25, 3.25]},
    ]
    assert found.attrs["made by"] == "another program"
    assert validate(path).valid


def several(path: Path, **options: Any) -> list[Any]:
    """Write a store of three images; return their pixels (Y, X, Z, C, T)."""
    images = [PIXELS.transpose(3, 4, 2, 1, 0) + field for field in range(3)]
    ome = new_document(3)
    for image in ome.images:
        image.pixels = Pixels(
            dimension_order="XYZCT", type="uint32", size_x=130, size_y=150, size_z=3, size_c=2,
            size_t=1, channels=[{}, {}], tiff_data_blocks=[{}],
        )  # fmt: skip
    with BioWriter(path, metadata=ome, series="all", chunks=64, **options) as bw:
        for view, image in zip(bw.series, images, strict=True):
            view[:] = image
    return images


def test_all_images_of_a_plate_and_labels(tmp_path: Path) -> None:
    store = tmp_path / "a.ome.zarr"
    images = several(store, wells=["A1", "A2", "B1"])
    assert add_pyramid(store, pyramid=1) == 3
    assert validate(store).valid
    with BioReader(store) as br:
        for view, image in zip(br.series, images, strict=True):
            found = view.levels[1].read(keepdims=True)
            wanted = reduce_block(image.transpose(4, 3, 2, 0, 1), 2, "mean")
            np.testing.assert_array_equal(found.transpose(4, 3, 2, 0, 1), wanted)
    single = write(tmp_path / "b.ome.zarr", chunks=64)
    labels = np.arange(150 * 130, dtype=np.uint32).reshape(150, 130, 1, 1, 1)
    with BioWriter(single, labels="cells", Z=1, dtype="uint32") as bw:
        bw[:] = labels
    assert add_pyramid(single, pyramid=1) == 2
    with BioReader(single) as br:
        found = br.labels["cells"].levels[1].read(keepdims=True)
        np.testing.assert_array_equal(found, labels[::2, ::2])


def test_interrupted_runs_leave_the_images_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write(tmp_path / "a.ome.zarr", chunks=32)
    before, whole = content(store), pixels(store)
    wanted = content(write(tmp_path / "made.ome.zarr", pyramid=2, chunks=32))
    computed = level_tasks.compute_level
    calls = 0

    def failing(*given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise OSError("the disk failed")
        computed(*given)
        np.testing.assert_array_equal(pixels(store)[0], whole[0])
        assert len(pixels(store)) == 1

    monkeypatch.setattr(level_tasks, "compute_level", failing)
    monkeypatch.setattr(level_tasks, "LEVEL_PIXELS", 1)
    with pytest.raises(OSError, match="the disk failed"):
        add_pyramid(store, pyramid=2, max_workers=1)
    assert content(store) == before
    # A process that is killed removes nothing; the next one does.
    monkeypatch.setattr(OmeZarrWriter, "discard_levels", lambda place: None)
    calls = 0
    with pytest.raises(OSError, match="the disk failed"):
        add_pyramid(store, pyramid=3, max_workers=1)
    monkeypatch.undo()
    assert len(content(store)) > len(before)
    assert len(pixels(store)) == 1
    bw = BioWriter.open(store)
    with pytest.raises(Unsupported, match="full size cannot"):
        bw[:] = np.zeros((150, 130, 3, 2, 1), np.uint32)
    bw.abort()
    assert add_pyramid(store, pyramid=2) == 1
    assert content(store) == wanted


def test_a_kill_between_the_documents_of_two_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "a.ome.zarr"
    several(store)
    with monkeypatch.context() as patched:
        patched.setattr(OmeZarrWriter, "discard_levels", lambda place: None)
        written = []

        def killed(files: Any, key: str, data: Any) -> None:
            if key == "1/zarr.json":
                raise KeyboardInterrupt
            written.append(key)
            original(files, key, data)

        original = FileTree.write
        patched.setattr(FileTree, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            add_pyramid(store, pyramid=1)
        assert "0/zarr.json" in written
    with BioReader(store) as br:
        assert [len(view.levels) for view in br.series] == [2, 1, 1]
    assert add_pyramid(store, pyramid=1) == 2
    alone = tmp_path / "alone.ome.zarr"
    several(alone, pyramid=1)
    with BioReader(store) as br, BioReader(alone) as other:
        for one, two in zip(br.series, other.series, strict=True):
            np.testing.assert_array_equal(one.levels[1][:], two.levels[1][:])
    assert not (store / ".bfbridge-shared").exists()


def test_a_record_that_does_not_fit_removes_nothing(tmp_path: Path) -> None:
    """A store from somebody else may contain a record that names other folders."""
    made, store, victim = (
        write(tmp_path / f"{name}.ome.zarr", chunks=64) for name in ("made", "store", "victim")
    )
    with levels_begun(made, LevelPlan(1), "mean"):
        document = json.loads((made / ".bfbridge-shared/plan.json").read_bytes())
    for folder in (victim / "1", store / "kept"):
        folder.mkdir()
        (folder / "kept.txt").write_text("kept")
    (store / "link").symlink_to(victim)
    before = content(victim), content(store)
    for change in (
        {"paths": ["0", "../victim.ome.zarr"]}, {"paths": ["0", str(victim)]}, {"paths": 3},
        {"paths": ["0", "kept"]}, {"group": "../victim.ome.zarr"}, {"group": "link"}, {"group": 3},
        {"entry": 9}, {"entry": "x"},
    ):  # fmt: skip
        changed = {**document, "added": [{**document["added"][0], **change}]}
        (store / ".bfbridge-shared").mkdir()
        (store / ".bfbridge-shared/plan.json").write_text(json.dumps(changed))
        with pytest.raises(UnreadableFile, match=r"plan\.json: (names|this record)"):
            add_pyramid(store, pyramid=1)
        shutil.rmtree(store / ".bfbridge-shared")
        assert (content(victim), content(store)) == before, change
    assert add_pyramid(store, pyramid=1) == 1


def test_what_cannot_be_done(tmp_path: Path) -> None:
    store = write(tmp_path / "a.ome.zarr", chunks=64)
    with pytest.raises(FileMissing, match="no such file"):
        add_pyramid(tmp_path / "missing.ome.zarr")
    with pytest.raises(BadArgument, match="downsample='median'"):
        add_pyramid(store, downsample="median")
    with pytest.raises(BadArgument, match="client= is a str"):
        add_pyramid(store, client="tcp://x")
    tiff = tmp_path / "a.ome.tif"
    imwrite(tiff, PIXELS, axes="TCZYX")
    with pytest.raises(Unsupported, match="cannot be given lower levels"):
        add_pyramid(tiff)
    held = InPlaceTarget(store)
    with pytest.raises(TargetBusy):
        add_pyramid(store, pyramid=1)
    held.discard()
    (store / "1").mkdir()
    (store / "1/notes.txt").write_text("mine")
    with pytest.raises(Unsupported, match="does not list it"):
        add_pyramid(store, pyramid=1)
    assert (store / "1/notes.txt").read_text() == "mine"
    document = json.loads((store / "zarr.json").read_text())
    entry = document["attributes"]["ome"]["multiscales"][0]
    del entry["datasets"][0]["coordinateTransformations"]
    (store / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(Unsupported, match=r"NGFF 0\.4 and 0\.5"):
        add_pyramid(store, pyramid=1)
    assert not (store / ".bfbridge-shared").exists()


def test_urls_and_the_command(tmp_path: Path, run: Run) -> None:
    made = write(tmp_path / "made.ome.zarr", pyramid=1, chunks=64)
    store = write(tmp_path / "a.ome.zarr", chunks=64)
    there = fsspec.filesystem("memory")
    there.put(str(store), "/pyramids/a.ome.zarr", recursive=True)
    assert add_pyramid("memory://pyramids/a.ome.zarr", pyramid=1) == 1
    root = "/pyramids/a.ome.zarr/"
    found = {key.removeprefix(root): there.cat(key) for key in there.find(root)}
    assert found == content(made)
    there.rm("/pyramids", recursive=True)
    shown = run("pyramid", store, "--levels", "1")
    assert shown.out == f"{store}: added lower levels to 1 image\n"
    assert content(store) == content(made)
    shown = run("pyramid", store)
    assert shown.out == f"{store}: no image needs further levels\n"


def test_several_processes_share_the_plan(tmp_path: Path) -> None:
    store = write(tmp_path / "a.ome.zarr", chunks=64)
    with levels_begun(store, LevelPlan(2), "mean") as count:
        assert count == 1
        script = (
            "import sys; from bfbridge.convert.execute.levels import *; from functools import "
            "partial; run_levels(sys.argv[1], {}, partial(in_threads, 1))"
        )
        subprocess.run([sys.executable, "-c", script, str(store)], check=True)
    assert content(store) == content(write(tmp_path / "made.ome.zarr", pyramid=2, chunks=64))


CLUSTER = """
import os, random, signal, sys, threading
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import WorkerPlugin
import bfbridge.convert.execute.levels as levels
from bfbridge.curation import add_pyramid

class Chaos(WorkerPlugin):
    '''Kills the first workers a moment after one of their tasks starts.'''
    def setup(self, worker):
        self.random = random.Random(os.getpid())
    def transition(self, key, start, finish, **more):
        if finish == "executing" and self.random.random() < 0.2:
            delay = self.random.choice([0, 0.02])
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

if __name__ == "__main__":
    levels.LEVEL_PIXELS = 1 << 14
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, silence_logs=50,
                      dashboard_address=None) as cluster, Client(cluster) as client:
        client.register_plugin(Chaos())
        for store in sys.argv[1:]:
            print(add_pyramid(store, pyramid=2, client=client))
"""


@pytest.mark.slow(ci=True)
def test_a_cluster_whose_workers_are_killed(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    stores = []
    for layout in ("0.5", "shards"):
        store = write(tmp_path / f"{layout}.ome.zarr", **LAYOUTS[layout])
        stores.append((store, Path(shutil.copytree(store, tmp_path / f"{layout}-alone.ome.zarr"))))
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    done = subprocess.run(
        [sys.executable, str(script), *(store.name for store, _ in stores)],
        capture_output=True, text=True, timeout=250, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "1\n1\n"
    for store, alone in stores:
        add_pyramid(alone, pyramid=2, max_workers=1)
        assert content(store) == content(alone)


def test_convert_copies_the_new_levels(tmp_path: Path) -> None:
    store = write(tmp_path / "a.ome.zarr", chunks=64)
    add_pyramid(store, pyramid=1)
    convert(store, tmp_path / "b.ome.zarr", verify=True)
    for one, other in zip(pixels(store), pixels(tmp_path / "b.ome.zarr"), strict=True):
        np.testing.assert_array_equal(one, other)
