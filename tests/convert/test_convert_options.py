"""Conversion options: declared once, and the same for Python, the command line and `BioWriter`."""

from __future__ import annotations

import ast
import inspect
import pickle
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import typer
import zarr

import bfbridge
from bfbridge import BioReader, BioWriter, convert, imwrite, registry
from bfbridge.cli.app import app
from bfbridge.convert.options import (
    TARGET_OPTIONS,
    ConvertOptions,
    Option,
    RunOptions,
    option_of,
    read_options,
)
from bfbridge.errors import BadArgument
from tests.support.memory import distinct

PIXELS = distinct((90, 110), np.uint16)
INTERNAL = {"names", "target_options"}
DECLARED: dict[str, Option] = {
    **{f.name: option_of(f) for kind in (ConvertOptions, RunOptions) for f in fields(kind)},
    **TARGET_OPTIONS,
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.ome.tif"
    with BioWriter(path, image=PIXELS, pyramid=1) as bw:
        bw[:] = PIXELS
    return path


# ---- one declaration


def test_every_option_is_an_argument_of_convert_with_its_documentation() -> None:
    function = inspect.unwrap(bfbridge.convert.convert)  # type: ignore[attr-defined]
    names = set(inspect.signature(function).parameters) - {"source", "target", "options"}
    assert names == set(DECLARED) - INTERNAL
    for name in names:
        assert f"\n{name}\n    {DECLARED[name].help}" in (inspect.getdoc(function) or "")
    assert inspect.signature(bfbridge.convert) == inspect.signature(function)


def test_every_flag_is_an_option_of_the_command_line() -> None:
    command: Any = typer.main.get_command(app)
    shown = {
        flag: parameter
        for parameter in command.commands["convert"].params
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    for name, option in DECLARED.items():
        for flag in (part for joined in option.flags for part in joined.split("/")):
            assert shown[flag].help == option.help, flag
            assert shown[flag].name == name


def test_options_are_checked_however_they_are_made() -> None:
    options, run = read_options({"crop": "1,2,3,4", "memory": "32M", "part": "2/3", "split": "t,c"})
    assert (options.crop, options.memory, options.split) == ((1, 2, 3, 4), 32 << 20, ("c", "t"))
    assert run.part == (2, 3)
    assert replace(options, max_workers=2).crop == (1, 2, 3, 4)
    assert pickle.loads(pickle.dumps(options)) == options
    with pytest.raises(BadArgument, match="max_workers=0: give an integer, 1 or more"):
        ConvertOptions(max_workers=0)
    with pytest.raises(BadArgument, match="source_level=None"):
        ConvertOptions(source_level=None)  # type: ignore[arg-type]
    assert ConvertOptions(storage_options=None).storage_options == {}  # type: ignore[arg-type]
    with pytest.raises(BadArgument, match="reader_options has 'sires'"):
        ConvertOptions(reader_options={"sires": 1})


@pytest.mark.parametrize("kind", [ConvertOptions])
def test_the_fingerprint_has_what_changes_files(kind: type[ConvertOptions]) -> None:
    other: dict[str, Any] = {
        "crop": (0, 0, 1, 1), "split": ("c",), "scaling": "clip", "pyramid": 2, "series": 1,
        "downsample": "mode", "memory": 1 << 30, "max_workers": 3, "source_level": 1,
        "reader_options": {"group_files": False}, "target_options": {"level": 3},
        "storage_options": {"key": "k"}, "target_storage_options": {"key": "k"}, "checksum": False,
        "factors": (2, 4), "downsample_z": "2", "smallest": 5, "pixel_size": (1, 1), "time_step": 2,
        "channel_colors": "red", "swap": "zt", "stitch": "max", "project": ("max", "z"),
        "fill_value": 1, "autostitch": True, "compare_metadata": True,
        "position_unit": "um", "flip_stage": "y",
    }  # fmt: skip
    plain = kind()
    for field in fields(kind):
        old = getattr(plain, field.name)
        new = other.get(field.name, (not old) if isinstance(old, bool) else "other")
        changed = replace(plain, **{field.name: new})
        differs = changed.fingerprint != plain.fingerprint
        assert differs == option_of(field).affects_file, field.name


def test_reports_hold_no_credentials() -> None:
    secret = {"key": "hush"}
    options = ConvertOptions(
        storage_options=secret, target_storage_options=secret,
        reader_options={"storage_options": secret},
    )  # fmt: skip
    told = options.describe()
    assert "hush" not in repr(told)
    assert told["storage_options"] == ["key"]
    assert told["reader_options"] == ["storage_options"]


# ---- the same names and forms for every target


def stored(path: Path) -> tuple[Any, Any]:
    """The codec and the chunk of level 0, by the libraries of the formats."""
    if path.suffix == ".zarr":
        level = zarr.open_group(path, mode="r")["0"]
        assert isinstance(level, zarr.Array)
        return repr(level.compressors[0]), level.chunks[-2:]
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        return page.compression.name, page.tile


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd", "level": 5, "chunks": (32, 48)},
        {"compression": "zstd:5", "tile": (32, 48)},
        {"compression": ("zstd", 5), "chunks": (1, 1, 1, 32, 48)},
        {"compression": "zstd:5", "level": 5, "chunks": (32, 48), "tile": (32, 48)},
    ],
)
def test_bio_writer_and_convert_take_the_same_options(
    source: Path, tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    with BioWriter(tmp_path / f"w{suffix}", image=PIXELS, pyramid=1, **options) as bw:
        bw[:] = PIXELS
    convert(source, tmp_path / f"c{suffix}", pyramid=1, verify=True, **options)
    codec, chunk = stored(tmp_path / f"w{suffix}")
    assert chunk == (32, 48)
    assert "level=5" in codec if suffix == ".ome.zarr" else codec == "ZSTD"
    assert stored(tmp_path / f"c{suffix}") == (codec, chunk)


def test_the_level_reaches_the_codec(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(512), np.arange(512)).astype("u2") // 3
    sizes = []
    for level in (1, 19):
        with BioWriter(
            tmp_path / "a.ome.tif", image=smooth, compression="zstd", level=level, overwrite=True
        ) as bw:
            bw[:] = smooth
        sizes.append((tmp_path / "a.ome.tif").stat().st_size)
    assert sizes[0] > sizes[1]


@pytest.mark.java
@pytest.mark.parametrize(
    ("suffix", "options", "message"),
    [
        (".ome.tif", {"chunks": (4, 32, 32)}, "a TIFF tile is part of one plane"),
        (".ome.tif", {"chunks": 32, "tile": 64}, "differ"),
        (".ome.zarr", {"chunks": 32, "tile": 64}, "differ"),
        (".ome.tif", {"shards": 64}, "shards: there is no such option"),
        (".ome.tif", {"compression": "zstd:5", "level": 6}, "Give one"),
        (".ome.zarr", {"compression": ("zstd", 5), "level": 6}, "Give one"),
        (".ome.zarr", {"compression": "zstd:x"}, "a level is a number"),
        (".ome.tif", {"bigtif": True}, "Did you mean bigtiff"),
        (".ome.zarr", {"version": "0.5", "chunk": 5}, "Did you mean chunks"),
        (".png", {"tile": 32}, "tile: there is no such option"),
    ],
)
def test_contradictions_and_unknown_options_are_refused(
    source: Path, tmp_path: Path, suffix: str, options: dict[str, Any], message: str
) -> None:
    target = tmp_path / f"t{suffix}"
    with pytest.raises(BadArgument, match=message):
        BioWriter(target, image=PIXELS, **options)
    with pytest.raises(BadArgument, match=message):
        convert(source, target, **options)
    assert not target.exists()


def test_close_names_of_arguments_are_suggested(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="verfiy: there is no such option. Did you mean verify"):
        convert(source, tmp_path / "t.ome.tif", verfiy=True)
    with pytest.raises(BadArgument, match="Did you mean recursive"):
        convert([source], tmp_path / "out", recusive=True)
    with pytest.raises(BadArgument, match="Did you mean channel_names"):
        BioWriter(tmp_path / "t.ome.tif", chanel_names=["a"])
    with pytest.raises(BadArgument, match="Did you mean overwrite"):
        BioWriter(tmp_path / "t.ome.zarr", overwite=True)


def test_unknown_options_are_refused_when_appending(tmp_path: Path) -> None:
    store = tmp_path / "a.ome.zarr"
    for _ in range(2):  # no store yet, then an existing one
        with pytest.raises(BadArgument, match="Did you mean compression"):
            BioWriter(store, append=True, compresion="zstd")
        with BioWriter(store, image=PIXELS, overwrite=True) as bw:
            bw[:] = PIXELS


# ---- old names


def test_old_names_work_with_a_warning(source: Path, tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="source_level") as caught:
        convert(source, tmp_path / "a.ome.tif", level=1)
    assert caught[0].filename == __file__
    with BioReader(tmp_path / "a.ome.tif") as br:
        assert br.shape == (45, 55)
    with pytest.warns(DeprecationWarning, match="compression_level= is an old name of level="):
        convert(source, tmp_path / "b.ome.zarr", compression="zstd", compression_level=7)
    assert "level=7" in stored(tmp_path / "b.ome.zarr")[0]
    with pytest.raises(BadArgument, match="source_level="):
        convert(source, tmp_path / "c.ome.tif", level=1, source_level=1)


# ---- no format names

PACKAGE = Path(bfbridge.__file__).parent
FORMATS = ("omezarr", "ometiff", "bioformats", "pictures", ".zarr", ".ome.zarr", ".ome.tif", ".tif")


def compared(tree: ast.AST) -> set[str]:
    """Texts that code compares something with, or looks for at the end of a name."""
    found: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            found += [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in (
            "endswith", "startswith", "removesuffix",
        ):  # fmt: skip
            found += node.args
    constants = (inner for node in found for inner in ast.walk(node))
    return {
        node.value
        for node in constants
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize("part", ["convert", "cli", "integrations", "writer.py"])
def test_no_module_tests_for_a_format(part: str) -> None:
    path = PACKAGE / part
    for module in [path] if path.is_file() else sorted(path.rglob("*.py")):
        texts = compared(ast.parse(module.read_text(encoding="utf-8")))
        assert not texts & set(FORMATS), f"{module}: query the writer backend instead"


@pytest.mark.parametrize("batch", [False, True])
def test_a_conversion_looks_for_its_writer_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: bool
) -> None:
    callers = []
    writer_for = registry.writer_for

    def counted(*arguments: Any) -> Any:
        callers.append(sys._getframe(1).f_globals["__name__"])
        return writer_for(*arguments)

    (tmp_path / "in").mkdir()
    for name in "ab":
        imwrite(tmp_path / "in" / f"{name}.ome.tif", np.arange(600, dtype="u2").reshape(20, 30))
    monkeypatch.setattr(registry, "writer_for", counted)
    if batch:
        convert(tmp_path / "in", tmp_path / "out", suffix=".ome.zarr")
    else:
        convert(tmp_path / "in" / "a.ome.tif", tmp_path / "a.ome.zarr")
    assert [name for name in callers if name.startswith("bfbridge.convert")] == [
        "bfbridge.convert.execute.search"
    ]
