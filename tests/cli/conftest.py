"""Commands and the files that they read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from bfbridge import BioWriter
from tests.support.commands import ARRAY, Done, Run, write


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: Any) -> Done:
        from bfbridge.cli import main

        monkeypatch.setattr(sys, "argv", ["bfbridge", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        shown = capsys.readouterr()
        code = caught.value.code
        assert code is None or isinstance(code, int)
        return Done(code or 0, shown.out, shown.err)

    return command


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "a b.ome.tif"
    with BioWriter(
        path, shape=ARRAY.shape, dtype="uint16", cnames=["DAPI", "[red]", "c"], ps_x=(0.5, "µm"),
        ps_y=(250, "nm"), name="cells", pyramid=1, tile=16,
    ) as bw:  # fmt: skip
        bw[:] = ARRAY
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "in/a.ome.tif", channel_names=["DAPI"])
    write(tmp_path / "in/deep/b.ome.zarr")
    (tmp_path / "in/notes.txt").write_text("notes")
    return tmp_path / "in"
