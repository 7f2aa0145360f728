"""The two distributions: what their wheels and source distributions hold, and their metadata."""

from __future__ import annotations

import email
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import bfbridge
from bfbridge_bioformats.jars import download

pytest.importorskip("hatchling", reason="the extra `test` installs it")

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "backends" / "bfbridge_bioformats" / "jars"
GPL = b"GNU GENERAL PUBLIC LICENSE"


def build(root: Path, out: Path, target: str = "wheel", **variables: str) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | variables
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = out.iterdir()
    return made


def metadata(wheel: zipfile.ZipFile, name: str = "METADATA") -> Message:
    (path,) = [each for each in wheel.namelist() if each.endswith(f".dist-info/{name}")]
    return email.message_from_bytes(wheel.read(path))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    with zipfile.ZipFile(build(ROOT, tmp_path_factory.mktemp("base"))) as wheel:
        yield wheel


def test_the_base_wheel_is_bsd_pure_and_small(base):
    about = metadata(base)
    assert about["License-Expression"] == "BSD-3-Clause"
    assert about["Version"] == bfbridge.__version__
    assert about.get_all("License-File") == ["LICENSE"]
    tags = metadata(base, "WHEEL")
    assert tags["Root-Is-Purelib"] == "true"
    assert tags.get_all("Tag") == ["py3-none-any"]
    assert sum(info.compress_size for info in base.infolist()) < 2_000_000


def test_the_base_wheel_holds_no_gpl_file(base):
    names = base.namelist()
    assert [name for name in names if GPL in base.read(name).upper()] == []
    jars = [name for name in names if name.endswith(".jar")]
    assert jars == ["bfbridge_bioformats/runtime/handles/handles.jar"]
    assert not [name for name in names if name.startswith("bfbridge_bioformats_jar/")]
    assert "bfbridge_bioformats/jars/pins.toml" in names
    # Its classes are compiled from the sources beside it, and from nothing else.
    with zipfile.ZipFile(base.open(jars[0])) as handles:
        packages = {name.rpartition("/")[0] for name in handles.namelist()}
    assert packages == {"META-INF", "bfbridge", "jj2000/j2k/codestream/reader"}


def test_only_the_extra_requires_the_jar(base):
    required = [
        line for line in metadata(base).get_all("Requires-Dist") if "bioformats-jar" in line
    ]
    # hatchling writes the extra `all` out.
    line = "bfbridge-bioformats-jar>=7.3.1; extra == "
    assert required == [f"{line}'all'", f"{line}'bioformats'"]


def test_the_metadata_name_bioio_base_once(base):
    # bioio.plugins.get_plugins raises ValueError otherwise, for every file and every reader.
    required = [line for line in metadata(base).get_all("Requires-Dist")
                if line.startswith("bioio-base")]  # fmt: skip
    assert required == ["bioio-base>=3.1; extra == 'bioio'"]


@pytest.fixture
def tree(tmp_path):
    """A source tree of the distribution with the jar, with small jars of two versions."""
    root = tmp_path / "tree"
    shutil.copytree(
        ROOT / "jars", root / "jars", ignore=shutil.ignore_patterns("*.jar", "bioform*")
    )
    shared = root / "backends" / "bfbridge_bioformats" / "jars"
    shared.mkdir(parents=True)
    shutil.copy(SHARED / "download.py", shared)
    document = ""
    for version, names in (("7.3.1", ["bioformats_package.jar"]), ("8.0.0", ["a.jar", "b.jar"])):
        jars = []
        for name in names:
            data = f"{version} {name}".encode()
            jars.append(download.PinnedJar(name, len(data), hashlib.sha256(data).hexdigest()))
        pin = download.Pin(
            version, 2, "https://x.org", "wheel", "no-such", "1", "0" * 64, "f", (*jars,)
        )
        for path in pin.paths(root / "jars"):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(f"{version} {path.name}".encode())
        document += download.pin_document(pin) if not document else pin_without_default(pin)
    (shared / "pins.toml").write_text(document, encoding="utf-8")
    return root


def pin_without_default(pin: download.Pin) -> str:
    return download.pin_document(pin).partition("\n")[2]


def test_the_jar_wheel_carries_the_licence_the_notices_and_the_source_offer(tree, tmp_path):
    with zipfile.ZipFile(build(tree / "jars", tmp_path / "out")) as wheel:
        about = metadata(wheel)
        names = wheel.namelist()
        licences = {Path(n).name: wheel.read(n) for n in names if ".dist-info/licenses/" in n}
    assert (about["Name"], about["Version"]) == ("bfbridge-bioformats-jar", "7.3.1.2")
    assert about["License-Expression"] == "GPL-2.0-or-later"
    assert sorted(licences) == ["LICENSE", "NOTICE.md", "SOURCE.md"]
    assert GPL in licences["LICENSE"]
    assert b"Version 2, June 1991" in licences["LICENSE"]
    assert b"ome-common-java" in licences["SOURCE.md"]
    assert [name for name in names if ".dist-info/" not in name] == [
        "bfbridge_bioformats_jar/__init__.py",
        "bfbridge_bioformats_jar/jars/bioformats_package.jar",
        "bfbridge_bioformats_jar/jars/pins.toml",
    ]


def test_another_version_of_bioformats_is_built_from_the_table(tree, tmp_path):
    variables = {"BFBRIDGE_BUILD_BIOFORMATS": "8.0.0"}
    made = build(tree / "jars", tmp_path / "out", **variables)
    with zipfile.ZipFile(made) as wheel:
        assert metadata(wheel)["Version"] == "8.0.0.2"
        wheel.extract("bfbridge_bioformats_jar/jars/pins.toml", tmp_path)
        assert wheel.read("bfbridge_bioformats_jar/jars/b.jar") == b"8.0.0 b.jar"
    pins = download.read_pins(tmp_path / "bfbridge_bioformats_jar" / "jars" / "pins.toml")
    assert list(pins.versions) == [pins.default] == ["8.0.0"]


def test_a_source_distribution_keeps_the_version_it_was_made_for(tree, tmp_path):
    made = build(tree / "jars", tmp_path / "sdist", "sdist", BFBRIDGE_BUILD_BIOFORMATS="8.0.0")
    with tarfile.open(made) as archive:
        names = archive.getnames()
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert not [name for name in names if name.endswith(".jar")]
    (root,) = (tmp_path / "unpacked").iterdir()
    shutil.copytree(tree / "jars" / "bioformats-8.0.0", root / "bioformats-8.0.0")
    with zipfile.ZipFile(build(root, tmp_path / "out")) as wheel:
        assert metadata(wheel)["Version"] == "8.0.0.2"
        assert "bfbridge_bioformats_jar/jars/a.jar" in wheel.namelist()


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("spoil", "variables", "message"),
    [
        (True, {}, "bfbridge-bioformats-jar: "),
        (False, {"BFBRIDGE_BUILD_BIOFORMATS": "9.9"}, "no pin for Bio-Formats 9.9; the table has"),
    ],
)
def test_a_build_without_the_pinned_jar_fails_with_the_reason(
    tree, tmp_path, spoil, variables, message
):
    if spoil:
        (tree / "jars" / "bioformats_package.jar").write_bytes(b"corrupt")
    with pytest.raises(AssertionError) as caught:
        build(tree / "jars", tmp_path / "out", PIP_NO_INDEX="1", **variables)
    assert message in str(caught.value)
    assert ("was not used: it has 7 bytes" in str(caught.value)) == spoil
