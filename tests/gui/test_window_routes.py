"""What the routes of the window do: list, describe, plan, convert, cancel."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("cmap")

import tifffile
import zarr

from bfbridge import BioReader
from bfbridge.analysis.description import describe
from bfbridge.errors import BadArgument, FileMissing
from bfbridge.gui import window as module
from bfbridge.gui.folders import list_folder, places
from bfbridge.gui.formats import Order
from bfbridge.gui.jobs import Job, Queue
from bfbridge.gui.window import Window
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr
from tests.support.windows import Client, opened, order, paused

PIXELS = distinct((2, 3, 4, 40, 50))
HTML = "<img src=x onerror=alert(1)>&.ome.tif"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    names = {"Channel": {"Name": ["a", "b", "c"]}, "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    write_ome_tiff(made / "cells.ome.tif", PIXELS, metadata=names)
    write_ome_zarr(made / "store.ome.zarr", [PIXELS])
    tifffile.imwrite(made / HTML, PIXELS[0, 0, 0])
    (made / "inner").mkdir()
    (made / "notes.txt").write_text("text")
    (made / ".hidden.tif").write_bytes(b"II*\0")
    (made / "broken.ome.tif").write_bytes(b"II*\0" + b"\xff" * 100)
    return made


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with opened() as window:
        yield window


def test_a_folder_is_listed(client: Client, folder: Path) -> None:
    found = client.post("folder", {"path": str(folder)}).json
    entries = {entry["name"]: entry for entry in found["entries"]}
    assert {name: (e["kind"], e["label"]) for name, e in entries.items()} == {
        "inner": ("folder", "Folder"),
        "broken.ome.tif": ("image", "OME.TIF"),
        "cells.ome.tif": ("image", "OME.TIF"),
        HTML: ("image", "OME.TIF"),
        "notes.txt": ("file", ""),
        "store.ome.zarr": ("image", "OME.ZARR"),
    }
    assert found["entries"][0]["name"] == "inner"
    cells = folder / "cells.ome.tif"
    assert entries["cells.ome.tif"]["size"] == cells.stat().st_size
    assert abs(entries["cells.ome.tif"]["modified"] - cells.stat().st_mtime * 1000) < 1
    assert entries["inner"]["size"] is None
    assert (found["parent"], found["truncated"]) == (str(folder.parent), False)
    assert found["parts"][-1] == {"name": folder.name, "path": str(folder)}
    assert found["parts"][0]["path"] == folder.anchor
    hidden = client.post("folder", {"path": str(folder), "hidden": True}).json["entries"]
    assert ".hidden.tif" in {entry["name"] for entry in hidden}


def test_paths_that_are_typed(client: Client, folder: Path, monkeypatch: Any) -> None:
    image = folder / "cells.ome.tif"
    for text in (image, f' "{image}" ', image.as_uri()):
        assert client.post("folder", {"path": str(text)}).json == {"source": str(image)}
    store = folder / "store.ome.zarr"
    assert client.post("folder", {"path": str(store)}).json == {"source": str(store)}
    url = "https://example.org/a.ome.tif"
    assert client.post("folder", {"path": url}).json == {"source": url}
    monkeypatch.setenv("HOME", str(folder))
    assert client.post("folder", {"path": "~"}).json["path"] == str(folder)
    for path, wanted in (
        (folder / "none", f"{folder / 'none'}: there is no such folder."),
        ("", "the path is empty; give the path or URL of an image."),
        (3, "path: give a text."),
    ):
        answer = client.post("folder", {"path": path if path == 3 else str(path)})
        assert (answer.status, answer.json["error"]) == (422, wanted)


def test_long_folders_and_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bfbridge.gui.folders.MOST_ENTRIES", 3)
    for number in range(5):
        (tmp_path / f"{number}.tif").touch()
    found = list_folder(str(tmp_path))
    assert (len(found["entries"]), found["truncated"]) == (3, True)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "Downloads").mkdir()
    names = {place["name"]: place["path"] for place in places(str(tmp_path))}
    assert names["Home"] == str(tmp_path)
    assert names["Downloads"] == str(tmp_path / "Downloads")
    assert "Desktop" not in names


def test_the_start(folder: Path) -> None:
    image = str(folder / "cells.ome.tif")
    with opened(image) as client:
        state = client.get("state")
        assert (state["start"], state["chosen"]) == (str(folder), [image])
        assert state["switches"]["verify"]["on"]
        assert state["switches"]["pyramid"]["on"]
        assert not state["switches"]["overwrite"]["on"]
        levels = {each["name"]: each["levels"] for each in state["formats"]}
        assert levels == {
            "ome-tiff": True, "ome-zarr": True, "ome-zarr-0.4": True, "ozx": True, "png": False
        }  # fmt: skip
    with opened(str(folder)) as client:
        state = client.get("state")
        assert (state["start"], state["chosen"]) == (str(folder), [])
    with pytest.raises(FileMissing, match="no such file or folder"):
        Window([str(folder / "none.tif")])


def test_a_chosen_file_is_described_and_shown(client: Client, folder: Path) -> None:
    path = folder / "cells.ome.tif"
    found = client.post("choose", {"path": str(path)}).json
    with BioReader(path) as br:
        wanted = json.loads(json.dumps(describe(br)))
    assert found["series"] == [{**wanted["series"][0], "picture": False}]
    for name in ("file", "backend", "backend_reason", "used_files", "interrupted"):
        assert found[name] == wanted[name]
    assert (found["images"], found["files"]) == (1, 1)
    assert found["bytes"] == path.stat().st_size
    # The same name each time; the viewer and thumbnails use it.
    assert client.post("choose", {"path": str(path)}).json["view"] == found["view"]
    assert client.send("GET", f"/view/{found['view']}").status == 200
    thumbnail = client.send("GET", f"/thumbnail/{found['view']}/0.png")
    assert (thumbnail.status, thumbnail.headers["Content-Type"]) == (200, "image/png")
    assert client.post("choose", {"path": str(folder / "inner")}).json == {
        "path": str(folder / "inner"), "name": "inner", "folder": True,
    }  # fmt: skip
    assert client.post("choose", {"path": str(folder / HTML)}).json["series"][0]["picture"]


def test_errors_name_the_file(client: Client, folder: Path) -> None:
    for name in ("broken.ome.tif", "none.tif"):
        answer = client.post("choose", {"path": str(folder / name)})
        assert answer.status == 422
        assert answer.json["error"].startswith(f"{folder / name}: ")


def test_orders() -> None:
    def made(*sources: str, **options: Any) -> Order:
        return Order.of(sources, "/out", {"format": "ome-tiff", **options})

    plain = made("/a/x.czi", verify=False, pyramid=True, overwrite=False)
    assert (plain.target, dict(plain.options)) == ("/out/x.ome.tif", {})
    assert plain.command == "bfbridge convert /a/x.czi /out/x.ome.tif"
    several = made("/a/x y.czi", "/b/z.nd2", format="ome-zarr-0.4", pyramid=False, verify=True)
    assert several.command == (
        "bfbridge convert '/a/x y.czi' /b/z.nd2 /out/ --ngff-version 0.4 --no-pyramid --verify "
        "--suffix .ome.zarr"
    )
    one = made("/a/x.czi", compression="jpeg", level=80, series=0, overwrite=True)
    assert one.command.endswith(
        "/out/x.ome.tif --compression jpeg --level 80 --series 0 --overwrite"
    )
    at_url = Order.of(["s3://a/x.czi"], "s3://b/c", {"format": "ome-zarr"})
    assert at_url.target == "s3://b/c/x.ome.zarr"
    for sources, options in (
        ((), {}), (("/a.tif",), {"format": "exe"}), (("/a.tif",), {"jobs": 4}),
        (("/a.tif",), {"verify": "yes"}), (("/a.tif",), {"report": "/etc/passwd"}),
    ):  # fmt: skip
        with pytest.raises(BadArgument):
            made(*sources, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"format": "ome-tiff", "compression": "jpeg", "level": 80, "series": 1, "overwrite": True},
        {"format": "ome-zarr-0.4", "compression": "zstd", "pyramid": False, "verify": True},
        {"format": "ozx", "verify": False},
    ],
)
@pytest.mark.parametrize("sources", [("/a/x.czi",), ("/a/x y.czi", "/b/z.nd2")])
def test_the_command_line_has_the_same_options(
    sources: tuple[str, ...], options: dict[str, Any]
) -> None:
    from typer.main import get_command

    from bfbridge.cli.commands.convert import app
    from bfbridge.cli.options.conversion import chosen_options
    from bfbridge.convert.options import read_options

    made = Order.of(sources, "/out", options)
    words = shlex.split(made.command)
    assert words[:2] == ["bfbridge", "convert"]
    command = get_command(app)
    usual = command.make_context("convert", ["a", "b"]).params
    given = command.make_context("convert", words[2:]).params
    paths = given["paths"]
    assert (tuple(paths[:-1]), paths[-1]) == (sources, made.target)
    changed = {name: value for name, value in given.items() if value != usual[name]}
    del changed["paths"]
    theirs = chosen_options(changed)
    assert read_options(theirs) == read_options(made.arguments)


def test_a_plan_writes_nothing(client: Client, folder: Path, tmp_path: Path) -> None:
    sources = [folder / "cells.ome.tif", folder / "broken.ome.tif"]
    answer = client.post("plan", order(sources, tmp_path, format="ome-tiff"))
    good, bad = answer.json["files"]
    assert (good["action"], good["outputs"][0]["target"]) == (
        "convert", str(tmp_path / "cells.ome.tif")
    )  # fmt: skip
    assert good["outputs"][0]["pixel_bytes"] == PIXELS.nbytes
    assert (bad["action"], bad["error"].startswith(str(sources[1]))) == ("fail", True)
    assert list(tmp_path.iterdir()) == []


def test_one_file_is_converted(client: Client, folder: Path, tmp_path: Path) -> None:
    source = folder / "cells.ome.tif"
    job = client.ended(client.convert([source], tmp_path))
    assert (job["state"], job["error"], job["fraction"]) == ("done", None, 1)
    (output,) = job["outputs"]
    target = tmp_path / "cells.ome.zarr"
    assert (output["target"], output["verified"], output["lost"]) == (str(target), True, [])
    np.testing.assert_array_equal(zarr.open_group(target, mode="r")["0"][:], PIXELS)
    with BioReader(target) as br:
        assert br.channel_names == ["a", "b", "c"]
        np.testing.assert_array_equal(br.asarray("TCZYX"), PIXELS)
    assert client.send("GET", f"/view/{output['view']}").status == 200
    # No report, and nothing else, is left in the user's folder.
    assert [path.name for path in tmp_path.iterdir()] == ["cells.ome.zarr"]
    # Again: it is there already.
    job = client.ended(client.convert([source], tmp_path))
    assert (job["state"], job["error_type"], job["outputs"]) == ("failed", "TargetExists", [])
    assert client.ended(client.convert([source], tmp_path, overwrite=True))["state"] == "done"
    client.post("clear")
    assert client.get("jobs") == []


def test_several_files_are_a_batch(client: Client, folder: Path, tmp_path: Path) -> None:
    sources = [folder / name for name in ("cells.ome.tif", "broken.ome.tif", "store.ome.zarr")]
    job = client.ended(client.convert(sources, tmp_path / "new", format="ome-tiff", series=0))
    assert (job["state"], job["files"], job["ended"], job["failed"]) == ("failed", 3, 3, 1)
    (failure,) = job["failures"]
    assert failure["error"].startswith(str(sources[1]))
    names = sorted(Path(output["target"]).name for output in job["outputs"])
    assert names == ["cells.ome.tif", "store.ome.tif"]
    assert Path(job["report"]).is_file()
    for name in names:
        with BioReader(tmp_path / "new" / name) as br:
            np.testing.assert_array_equal(br.asarray("TCZYX"), PIXELS)


@pytest.mark.parametrize("single", [True, False])
def test_cancelling_leaves_nothing(
    client: Client, folder: Path, tmp_path: Path, monkeypatch: Any, single: bool
) -> None:
    sources = [folder / "cells.ome.tif", folder / "store.ome.zarr"][: 1 if single else 2]
    with paused(monkeypatch):
        first = client.convert(sources, tmp_path, format="ome-zarr-0.4")
        second = client.convert(sources, tmp_path, format="ome-tiff")
        deadline = time.monotonic() + 30
        while not client.job(first)["bytes"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert client.job(first)["state"] == "running"
        assert client.job(second)["state"] == "waiting"
        for number in (second, first):
            assert client.post("cancel", {"number": number}).status == 200
        assert client.ended(second)["state"] == client.ended(first)["state"] == "cancelled"
    left = [path.name for path in tmp_path.iterdir() if "report" not in path.name]
    assert left == []
    answer = client.post("cancel", {"number": 10**6})
    assert (answer.status, "there is no conversion" in answer.json["error"]) == (422, True)
    client.post("clear")


def test_a_file_that_was_not_verified_is_named(
    client: Client, folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    def moved(self: Job, number: int, done: int, total: int) -> None:
        # Writing is the first of three parts of the same size; two are the comparison.
        if 3 * done > total:
            self.cancel()
        self._check()

    monkeypatch.setattr(Job, "moved", moved)
    job = client.ended(client.convert([folder / "cells.ome.tif"], tmp_path))
    target = tmp_path / "cells.ome.zarr"
    assert (job["state"], job["unverified"]) == ("cancelled", str(target))
    with BioReader(target) as br:
        np.testing.assert_array_equal(br.asarray("TCZYX"), PIXELS)


def test_the_end_of_the_server_cancels(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    with paused(monkeypatch), opened() as client:
        number = client.convert([folder / "cells.ome.tif"], tmp_path)
        while not client.job(number)["bytes"]:
            time.sleep(0.01)
    assert list(tmp_path.iterdir()) == []
    queue = Queue()
    queue.close()
    assert not queue.busy


def test_the_folder_of_a_conversion_is_opened(
    client: Client, folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    opened_folders: list[str] = []
    monkeypatch.setattr(module, "_open_folder", opened_folders.append)
    number = client.convert([folder / "broken.ome.tif"], tmp_path)
    assert client.ended(number)["state"] == "failed"
    # The number of a conversion, not a path: the page cannot open anything else.
    assert client.post("reveal", {"number": number}).status == 200
    assert client.post("reveal", {"number": number, "path": "/etc"}).status == 200
    assert opened_folders == [str(tmp_path)] * 2
    assert client.post("reveal", {"number": str(tmp_path)}).status == 422
    os.rmdir(tmp_path)
    assert client.post("reveal", {"number": number}).status == 422
