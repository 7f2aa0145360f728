"""The examples of the README run unchanged."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_two_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bfbridge import BioReader

    program, _ = blocks("python")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(compile(program, "README.md", "exec"), scope)
    np.testing.assert_array_equal(scope["again"], scope["array"])
    with BioReader("cells.ome.tif") as br:
        assert (br.sizes["C"], br.ps_x, br.channel_names) == (2, (0.325, "µm"), ["DAPI", "GFP"])


@pytest.mark.java
def test_the_ten_lines_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bfbridge import BioReader

    _, program = blocks("python")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(compile(program, "README.md", "exec"), scope)
    assert capsys.readouterr().out.startswith("(2000, 3000, 3, 2) uint16 (None, 'µm')")
    with BioReader(str(scope["source"])) as source, BioReader("demo.ome.tif") as made:
        assert made.backend == "ometiff"
        assert [level.shape[:2] for level in made.levels] == [
            (2000, 3000),
            (1000, 1500),
            (500, 750),
            (250, 375),
        ]
        assert np.array_equal(made[:], source[:])
        assert np.array_equal(scope["corner"], source[:1024, :1024, 0, 1, 0])


@pytest.mark.java
def test_the_two_commands_are_there() -> None:
    install, tests = (block.strip() for block in blocks("sh"))
    assert install.startswith('python -m pip install ./jars ".[all]" && bfbridge convert "demo&')
    assert tests == 'python -m pip install ./jars ".[all,test]" && python -m pytest -n 3'
