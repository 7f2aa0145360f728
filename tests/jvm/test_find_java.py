"""Where Java is looked for; nothing here starts it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bfbridge.errors import JavaNotFound
from bfbridge_bioformats.runtime import java

LIBRARY = {"linux": "lib/server/libjvm.so", "darwin": "lib/server/libjvm.dylib",
           "win32": "bin/server/jvm.dll"}  # fmt: skip


def install(home: Path, version: str = "25.0.1", platform: str = "linux") -> Path:
    library = home / LIBRARY[platform]
    library.parent.mkdir(parents=True)
    library.touch()
    (home / "release").write_text(f'JAVA_VERSION="{version}"\n', encoding="utf-8")
    return home


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """An environment without any Java; returns its prefix."""
    for name in ("BFBRIDGE_JAVA", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(java, "_bundled", lambda: None)
    return tmp_path / "env"


@pytest.mark.parametrize(
    ("platform", "folder"),
    [("linux", "lib/jvm"), ("darwin", "lib/jvm"), ("win32", "Library/lib/jvm")],
)
def test_openjdk_of_a_conda_environment_that_is_not_activated(bare, monkeypatch, platform, folder):
    monkeypatch.setattr(sys, "platform", platform)
    home = install(bare / folder, platform=platform)
    found = java.find_java()
    assert (found.home, found.version) == (home, "25.0.1")
    assert found.origin == "openjdk of the conda environment"


def test_java_home_comes_before_the_environment(bare, tmp_path, monkeypatch):
    install(bare / "lib" / "jvm")
    monkeypatch.setenv("JAVA_HOME", str(install(tmp_path / "mine")))
    assert java.find_java().home == tmp_path / "mine"


def test_no_java_names_every_place_and_the_remedy(bare):
    with pytest.raises(JavaNotFound) as caught:
        java.find_java()
    message = str(caught.value)
    assert f"JAVA_HOME, {bare / 'lib' / 'jvm'} (conda's openjdk) and java on PATH" in message
    assert "BFBRIDGE_JAVA" in message


def test_an_old_java_is_refused(bare):
    install(bare / "lib" / "jvm", "1.8.0_392")
    with pytest.raises(JavaNotFound, match=r"this is Java 1\.8\.0_392; Bio-Formats needs 11"):
        java.find_java()
