"""Contact sheets, and ``bfbridge render``."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

pytest.importorskip("cmap")
PIL_Image = pytest.importorskip("PIL.Image")

from bfbridge import BioReader, BioWriter  # noqa: E402
from bfbridge.errors import BadArgument, ReadFailed  # noqa: E402
from bfbridge.rendering.sheet import Cell, cells_of, contact_sheet  # noqa: E402
from tests.support.samples import distinct, write_ome_tiff  # noqa: E402

Array = np.ndarray[Any, Any]
Run = Callable[..., tuple[int, str]]
RED, BLUE = (255, 0, 0, 255), (0, 0, 255, 255)


def filled(color: tuple[int, ...]) -> Callable[[int], Array]:
    return lambda size: np.full((size, size // 2, 4), color, np.uint8)


def opened(path: Path) -> Array:
    with PIL_Image.open(io.BytesIO(path.read_bytes())) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``bfbridge render`` in this process; return its exit code and what it said."""

    def command(*arguments: Any) -> tuple[int, str]:
        from bfbridge.cli import main

        monkeypatch.setattr(sys, "argv", ["bfbridge", "render", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        shown = capsys.readouterr()
        return int(caught.value.code or 0), shown.out + shown.err

    return command


# ---- pages


def test_thumbnails_lie_in_rows() -> None:
    cells = [Cell(f"image {i}", filled(RED if i % 2 else BLUE)) for i in range(5)]
    page = contact_sheet(cells, 32, 3)
    reds = np.argwhere((page == RED).all(2))
    blues = np.argwhere((page == BLUE).all(2))
    assert len(reds) == 2 * 32 * 16
    assert len(blues) == 3 * 32 * 16
    assert sorted(set(reds[:, 0] // 60)) == [0, 1]
    # Second place of the first row, first place of the second one.
    assert (page[6 + 10, 6 + 38 + 16] == RED).all()
    assert (page[6 + 58 + 10, 6 + 16] == RED).all()
    assert contact_sheet(cells, 32).shape[1] == 6 + 3 * 38


def test_small_pictures_are_enlarged_by_a_whole_number() -> None:
    page = contact_sheet([Cell("a", lambda size: np.full((5, 7, 4), RED, np.uint8))], 32)
    assert ((page == RED).all(2)).sum() == 20 * 28


def test_what_cannot_be_drawn_says_so_in_its_place() -> None:
    def fail(size: int) -> Array:
        raise ReadFailed("b.tif: it is damaged.")

    page = contact_sheet([Cell("a", filled(BLUE)), Cell("b", fail)], 64)
    assert (page == BLUE).all(2).any()
    assert ((page == (64, 0, 0, 255)).all(2)).sum() > 2000


def test_sheets_have_bounds() -> None:
    cell = Cell("a", filled(RED))
    with pytest.raises(BadArgument, match="no images"):
        contact_sheet([])
    with pytest.raises(BadArgument, match="at most 4096"):
        contact_sheet([cell] * 5000)
    for size in (8, 2000, 1.5):
        with pytest.raises(BadArgument, match="16 to 1024"):
            contact_sheet([cell], size)  # type: ignore[arg-type]
    with pytest.raises(BadArgument, match="columns=0"):
        contact_sheet([cell], 32, 0)


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wells A2 and C1 with two fields each, one much brighter than the others."""
    path = tmp_path_factory.mktemp("plate") / "plate.ome.zarr"
    from ome_types import OME, model

    names = ["A2", "A2", "C1", "C1"]
    images = [
        model.Image(
            id=f"Image:{i}",
            name=name,
            pixels=model.Pixels(
                id=f"Pixels:{i}", dimension_order="XYZCT", type="uint16",
                size_x=40, size_y=30, size_z=1, size_c=1, size_t=1,
                channels=[model.Channel(id=f"Channel:{i}:0", samples_per_pixel=1)],
            ),
        )
        for i, name in enumerate(names)
    ]  # fmt: skip
    wells = []
    for number, (row, column) in enumerate([(0, 1), (2, 0)]):
        samples = [
            model.WellSample(
                id=f"WellSample:0:{number}:{k}", index=2 * number + k,
                image_ref=model.ImageRef(id=f"Image:{2 * number + k}"),
            )
            for k in range(2)
        ]  # fmt: skip
        wells.append(
            model.Well(id=f"Well:0:{number}", row=row, column=column, well_samples=samples)
        )
    ome = OME(images=images, plates=[model.Plate(id="Plate:0", wells=wells)])
    with BioWriter(path, metadata=ome, series="all") as writer:
        for number, view in enumerate(writer.series):
            values = np.arange(1200).reshape(30, 40) * (10 if number == 3 else 1)
            view[:] = values.astype(np.uint16)
    for document in path.rglob("zarr.json"):
        told = json.loads(document.read_text())
        told.get("attributes", {}).get("ome", {}).pop("omero", None)
        document.write_text(json.dumps(told))
    return path


def test_fields_lie_as_the_wells_do(plate: Path) -> None:
    with BioReader(plate) as br:
        cells = cells_of(br.series[:])
        assert [cell.label for cell in cells] == ["A02 1", "A02 2", "C01 1", "C01 2"]
        # Two fields a well, side by side; rows and columns that are not used take no room.
        assert [cell.place for cell in cells] == [(0, 2), (0, 3), (1, 0), (1, 1)]
        page = contact_sheet(cells, 32)
        first, last = cells[0].draw(40), cells[3].draw(40)
    assert page.shape[1] == 6 + 4 * 38
    # One contrast for all: the brighter field is brighter.
    assert last.mean() > first.mean() + 50


# ---- command line


def test_render_an_image(tmp_path: Path, run: Run) -> None:
    pixels = distinct((1, 2, 3, 40, 50))
    source = write_ome_tiff(tmp_path / "a.ome.tif", pixels, metadata={"PhysicalSizeX": 0.5})
    target = tmp_path / "a.png"
    assert run(source, target, "--size", 25)[0] == 0
    with BioReader(source) as br:
        np.testing.assert_array_equal(opened(target), br.render(max_size=25)[..., :3])
        code, said = run(source, target)
        assert (code, "exists already" in said) == (1, True)
        arguments = (
            *("--overwrite", "--channels", "1", "--z", "2", "--crop", "10,5,20,30", "--level", "0"),
            *("--style", '{"min": 0, "max": 65535, "palette": "red"}'),
        )
        assert run(source, target, *arguments)[0] == 0
        wanted = np.rint(pixels[0, 1, 2, 5:35, 10:30] / 257)
        assert np.abs(opened(target)[..., 0] - wanted).max() <= 1
        style = tmp_path / "style.json"
        style.write_text('{"palette": "viridis"}')
        more = ("--projection", "max", "--z", "0:2", "--style", f"@{style}", "--channels", "0")
        assert run(source, tmp_path / "b.jpg", *more)[0] == 0
        assert opened(tmp_path / "b.jpg").shape == (40, 50, 3)
        bar = ("--scale-bar", "--text", "--quality", "80", "--units", "fraction",
               "--crop", "0,0,0.5,0.5")  # fmt: skip
        assert run(source, tmp_path / "c.webp", *bar)[0] == 0
        assert opened(tmp_path / "c.webp").shape == (20, 25, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("b.gif",), "pictures are written as"),
        (("b.png", "--crop", "1,2"), "give X,Y,WIDTH,HEIGHT"),
        (("b.png", "--z", "a:b"), "give a slice"),
        (("b.png", "--style", "{"), "not valid JSON"),
        (("b.png", "--style", "@missing.json"), "cannot be read"),
        (("b.png", "--style", '{"function": "os.abort"}'), "names code to run"),
        (("b.png", "--series", "9"), "there is no series 9"),
        (("b.png", "--channels", "x"), "no channel 'x'"),
        (("b.png", "--sheet", "--text"), "not for a contact sheet"),
        (("no-folder/b.png",), "no-folder"),
    ],
)
def test_failures_are_one_line(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_ome_tiff(tmp_path / "a.ome.tif", distinct((1, 1, 1, 20, 30)))
    code, said = run("a.ome.tif", *arguments)
    assert code != 0
    assert message in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ome.tif"]


@pytest.mark.java
def test_render_a_folder_and_a_plate(tmp_path: Path, run: Run, plate: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, value in (("a", 50), ("b", 90)):
        values = np.full((30, 40, 3), value, np.uint8)
        tifffile.imwrite(folder / f"{name}.tif", values, photometric="rgb")
    (folder / "damaged.tif").write_bytes(b"II*\0\xff\xff\xff\xff")
    (folder / "notes.txt").write_text("nothing to see")
    target = tmp_path / "sheet.png"
    assert run(folder, target, "--size", "64", "--columns", "2")[0] == 0
    page = opened(target)
    assert page.shape[1] == 6 + 2 * 70
    assert ((page == 50).all(2)).sum() >= 1200 <= ((page == 90).all(2)).sum()
    assert ((page == (64, 0, 0)).all(2)).any()
    assert run(plate, tmp_path / "plate.png", "--size", "32")[0] == 0
    assert opened(tmp_path / "plate.png").shape[1] == 6 + 4 * 38
    assert run(plate, tmp_path / "one.png", "--series", "1")[0] == 0
    assert opened(tmp_path / "one.png").shape == (30, 40, 3)
    assert run(folder / "a.tif", tmp_path / "a.png", "--sheet", "--size", "64")[0] == 0
