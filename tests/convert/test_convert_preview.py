"""The plan of a conversion agrees with the conversion, and writes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, convert, imwrite
from bfbridge.cli.terminal.planned import plan_lines
from bfbridge.convert import plan_conversion
from bfbridge.errors import BatchFailed, BfbridgeError, MissingExtra

ACTIONS = {"convert": 0, "replace": 0, "compare": 0, "keep": 0, "fail": 0}


def noisy(*shape: int) -> Any:
    return np.random.default_rng(7).poisson(90, shape).astype(np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of one name, one in a folder, a damaged one, and a text."""
    (tmp_path / "in/deep").mkdir(parents=True)
    imwrite(tmp_path / "in/a.ome.tif", noisy(2, 600, 500), axes="CYX")
    imwrite(tmp_path / "in/a.ome.zarr", noisy(600, 500), axes="YX")
    imwrite(tmp_path / "in/deep/a.ome.tif", noisy(40, 50), axes="YX")
    (tmp_path / "in/bad.tif").write_bytes(b"II*\0\xff\xff\xff\xff")
    (tmp_path / "in/notes.txt").write_text("none")
    return tmp_path / "in"


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.java
@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_the_plan_is_what_the_conversion_does(folder: Path, tmp_path: Path, suffix: str) -> None:
    before = listing(tmp_path)
    plan = plan_conversion(folder, tmp_path / "out", suffix=suffix, recompress=True)
    assert listing(tmp_path) == before, "nothing is written"
    with pytest.raises(BatchFailed) as failure:
        convert(folder, tmp_path / "out", suffix=suffix, recompress=True)
    done = failure.value.conversion
    assert [(p.source, p.target) for p in plan.files] == [(r.source, r.target) for r in done.files]
    assert plan.counts == ACTIONS | {"convert": 3, "fail": 1}
    assert [p.error for p in plan.failed] == [r.error for r in done.failed]
    assert plan.pixel_bytes == done.pixel_bytes
    assert plan.skipped == done.skipped
    for planned, record in zip(plan.files, done.files, strict=True):
        for guess, made in zip(planned.outputs, record.outputs, strict=True):
            assert guess.target == made.target
            # Documents are not counted; small images consist of little else.
            assert guess.expected_bytes == pytest.approx(made.file_bytes, rel=0.1, abs=6000)
            for old, new in zip(guess.images, made.images, strict=True):
                assert old == {name: new[name] for name in old}


@pytest.mark.java
def test_names_that_collide_are_listed(folder: Path, tmp_path: Path) -> None:
    plan = plan_conversion(folder, tmp_path / "out", suffix=".ome.zarr")
    name = str(tmp_path / "out/a.ome.zarr")
    assert plan.collisions == {name: [str(folder / "a.ome.tif"), str(folder / "a.ome.zarr")]}
    assert len({planned.target for planned in plan.files}) == 4
    lines = list(plan_lines(plan))
    assert any("one name for 2 sources, a.ome.zarr" in line for line in lines)
    assert "not images: 1 (notes.txt)" in lines
    assert "sources: 3 to convert, 1 to fail" in lines


def test_what_exists_is_kept_compared_replaced_or_fails(folder: Path, tmp_path: Path) -> None:
    sources, out = [folder / "a.ome.tif"], tmp_path / "out"

    def action(**options: Any) -> str:
        (planned,) = plan_conversion(sources, out, **options).files
        return planned.action

    assert action() == "convert"
    convert(sources, out)
    assert action() == "fail"
    assert action(overwrite=True) == "replace"
    assert action(resume=True) == "keep"
    assert action(resume=True, pyramid=3) == "replace", "an earlier run made it otherwise"
    plan = plan_conversion(sources, out, resume=True)
    assert plan.files[0].outputs[0].expected_bytes == (out / "a.ome.tif").stat().st_size
    assert plan.pixel_bytes == plan.expected_bytes == 0
    os.remove(out / "bfbridge-report.json")
    assert action(resume=True) == "compare"
    (planned,) = plan_conversion(sources, out).files
    with pytest.raises(BatchFailed) as failure:
        convert(sources, out)
    assert planned.error_type == failure.value.conversion.files[0].error_type == "TargetExists"


def test_a_single_source_has_a_plan_too(folder: Path, tmp_path: Path) -> None:
    source, target = folder / "a.ome.tif", tmp_path / "b.ome.zarr"
    whole = plan_conversion(source, target)
    assert (whole.counts, whole.jobs) == (ACTIONS | {"convert": 1}, 1)
    small = plan_conversion(source, target, dtype="uint8", scaling="minmax")
    assert small.pixel_bytes * 2 == whole.pixel_bytes == 2 * 2 * 600 * 500
    split = plan_conversion(source, target, split="c")
    names = ["b_c0.ome.zarr", "b_c1.ome.zarr"]
    assert [Path(output.target).name for output in split.files[0].outputs] == names
    lost = plan_conversion(source, target, dtype="uint8")
    assert lost.files[0].error_type == "BadArgument"
    assert "scaling=" in lost.files[0].failure
    own = plan_conversion(source, source, overwrite=True)
    assert own.files[0].error_type == "TargetExists"
    assert 0 < plan_conversion(source, target, memory="16M").memory_bytes <= 16 << 20


def test_copied_chunks_are_expected_to_keep_their_size(folder: Path, tmp_path: Path) -> None:
    (planned,) = plan_conversion(folder / "a.ome.zarr", tmp_path / "b.ome.zarr").files
    stored = sum(p.stat().st_size for p in (folder / "a.ome.zarr").rglob("*") if p.is_file())
    assert planned.input_bytes == stored
    (made,) = convert(folder / "a.ome.zarr", tmp_path / "b.ome.zarr").files[0].outputs
    assert made.images[0]["copied"]["levels"] == 1
    assert planned.outputs[0].expected_bytes == pytest.approx(made.file_bytes, rel=0.1)


def test_options_of_a_table_and_levels_along_z_are_planned(tmp_path: Path) -> None:
    for name in "ab":
        imwrite(tmp_path / f"in/{name}.ome.tif", noisy(20, 300, 300), axes="ZYX")
    table = [
        {"source": "a.ome.tif", "dtype": "uint8", "scaling": "0:255"},
        {"source": "b.ome.tif", "pixel_size": "1,1,1", "z": "0:18"},
    ]
    options: dict[str, Any] = {
        "suffix": ".ome.zarr", "table": table, "downsample_z": "auto", "smallest": 64,
    }  # fmt: skip
    plan = plan_conversion(tmp_path / "in", tmp_path / "out", **options)
    done = convert(tmp_path / "in", tmp_path / "out", **options)
    made = [record.outputs[0] for record in done.files]
    for planned, new in zip(plan.files, made, strict=True):
        (guess,) = planned.outputs
        assert [image["dtype"] for image in guess.images] == [i["dtype"] for i in new.images]
        assert [image["shape"] for image in guess.images] == [i["shape"] for i in new.images]
        assert guess.expected_bytes == pytest.approx(new.file_bytes, rel=0.15)
    wanted = [20 * 300 * 300, 2 * 18 * 300 * 300]
    assert [planned.outputs[0].pixel_bytes for planned in plan.files] == wanted
    again = plan_conversion(tmp_path / "in", tmp_path / "out", resume=True, **options)
    assert again.counts == ACTIONS | {"keep": 2}
    checked = plan_conversion(
        tmp_path / "in", tmp_path / "out", resume=True, verify=True, **options
    )
    assert checked.counts == ACTIONS | {"compare": 2}
    single = tmp_path / "in/a.ome.tif"
    plan = plan_conversion(single, tmp_path / "a.ome.zarr", table=table[:1])
    assert plan.files[0].outputs[0].images[0]["dtype"] == "uint8"


@pytest.mark.parametrize(
    "options",
    [
        {"downsample_z": 2},
        {"channel_names": "x,y,z"},
        {"fill_value": 1 << 20},
        {"name": ["x", "y"]},
    ],
)
def test_options_that_do_not_fit_are_errors_of_the_plan(
    folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    imwrite(tmp_path / "z.ome.tif", noisy(3, 40, 50), axes="ZYX")
    target = tmp_path / "b.ome.tif"
    (planned,) = plan_conversion(tmp_path / "z.ome.tif", target, pyramid=1, **options).files
    with pytest.raises(BfbridgeError) as failure:
        convert(tmp_path / "z.ome.tif", target, pyramid=1, **options)
    assert (planned.action, planned.error) == ("fail", str(failure.value))


def test_a_source_without_its_backend_is_in_the_plan(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> BioReader:
        raise MissingExtra("install it")

    monkeypatch.setattr("bfbridge.convert.preview.open_source", missing)
    plan = plan_conversion(folder / "a.ome.tif", tmp_path / "b.ome.tif")
    assert [p.error_type for p in plan.failed] == ["MissingExtra"]
