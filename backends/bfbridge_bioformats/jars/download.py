"""The pinned versions of Bio-Formats: read the table of pins, check files against it, download.

The build of ``bfbridge-bioformats-jar`` loads this file by its path, before any dependency is
installed, so it imports nothing outside the standard library. Which jars a running program uses is
decided in :mod:`bfbridge_bioformats.jars.locate`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

__all__ = [
    "DISTRIBUTION",
    "PINS_NAME",
    "JarProblem",
    "Pin",
    "PinnedJar",
    "Pins",
    "ensure_jars",
    "pin_document",
    "problem_with",
    "read_pins",
]

DISTRIBUTION = "bfbridge-bioformats-jar"
PINS_NAME = "pins.toml"

_BLOCK = 1 << 20

# These settings of an outer pip would make the inner download refuse or select other files;
# index, proxy, certificate and cache settings are kept.
_OUTER_PIP_SETTINGS = ("PIP_CONSTRAINT", "PIP_REQUIREMENT", "PIP_PLATFORM", "PIP_PYTHON_VERSION")


class JarProblem(Exception):
    """The pinned jars cannot be obtained; the message says why and what to do."""


@dataclass(frozen=True)
class PinnedJar:
    """One jar of a pinned version.

    Attributes
    ----------
    name : str
        File name.
    size : int
        Size in bytes.
    sha256 : str
        SHA-256 of the file.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Pin:
    """One version of Bio-Formats in the table of pins.

    Attributes
    ----------
    version : str
        Version of Bio-Formats.
    build : int
        Build number of the distribution that carries this version.
    source : str
        Where the source code of this version is.
    kind : {"wheel", "sdist"}
        Kind of the archive that holds the jars.
    archive, archive_version, archive_sha256 : str
        Name and version of the project that published the archive, and the archive's hash.
    Folder of the jars in the archive.
        Folder of the jars in the archive.
    jars : tuple of PinnedJar
        All jars of this version: one that contains everything, or Bio-Formats and its dependencies.
    """

    version: str
    build: int
    source: str
    kind: str
    archive: str
    archive_version: str
    archive_sha256: str
    folder: str
    jars: tuple[PinnedJar, ...]

    @property
    def distribution_version(self) -> str:
        """Version of the distribution ``bfbridge-bioformats-jar`` for this pin."""
        return f"{self.version}.{self.build}"

    def paths(self, root: Path) -> tuple[Path, ...]:
        """Return the jars' paths below `root`; several jars have a separate folder."""
        folder = root if len(self.jars) == 1 else root / f"bioformats-{self.version}"
        return tuple(folder / jar.name for jar in self.jars)


@dataclass(frozen=True)
class Pins:
    """The table of pins.

    Attributes
    ----------
    default : str
        The version that bfbridge is built and tested with.
    versions : dict of str to Pin
        All pins, by version.
    """

    default: str
    versions: dict[str, Pin]

    def pin(self, version: str | None = None) -> Pin:
        """Return the pin of a version; by default of the default version.

        Raises
        ------
        JarProblem
            If the table has no such version.
        """
        wanted = version or self.default
        if wanted not in self.versions:
            raise JarProblem(
                f"there is no pin for Bio-Formats {wanted}; the table has "
                f"{', '.join(self.versions)}."
            )
        return self.versions[wanted]


def read_pins(path: Path) -> Pins:
    """Read a table of pins.

    Parameters
    ----------
    path : pathlib.Path
        A ``pins.toml``.

    Returns
    -------
    Pins
        The table.

    Raises
    ------
    JarProblem
        If the file is missing, is not TOML, or is incomplete.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        versions = {name: _pin(name, each) for name, each in table["bioformats"].items()}
        pins = Pins(table["default"], versions)
        pins.pin()
    except (OSError, ValueError, KeyError, TypeError, JarProblem) as error:
        raise JarProblem(
            f"the table of Bio-Formats versions cannot be read from {path}: "
            f"{type(error).__name__}: {error}. Reinstall bfbridge or restore the file."
        ) from error
    return pins


def _pin(version: str, table: dict[str, Any]) -> Pin:
    archive = table["archive"]
    return Pin(
        version=version,
        build=table["build"],
        source=table["source"],
        kind=archive["kind"],
        archive=archive["name"],
        archive_version=archive["version"],
        archive_sha256=archive["sha256"],
        folder=archive["folder"],
        jars=tuple(
            PinnedJar(name, jar["size"], jar["sha256"]) for name, jar in table["jars"].items()
        ),
    )


def pin_document(pin: Pin) -> str:
    """Return a ``pins.toml`` with one pin, for the distribution that carries its jars."""
    key = f'bioformats."{pin.version}"'
    lines = [
        f'default = "{pin.version}"',
        f"[{key}]",
        f"build = {pin.build}",
        f'source = "{pin.source}"',
        f"[{key}.archive]",
        f'kind = "{pin.kind}"',
        f'name = "{pin.archive}"',
        f'version = "{pin.archive_version}"',
        f'sha256 = "{pin.archive_sha256}"',
        f'folder = "{pin.folder}"',
        f"[{key}.jars]",
    ]
    lines += [f'"{j.name}" = {{ size = {j.size}, sha256 = "{j.sha256}" }}' for j in pin.jars]
    return "\n".join(lines) + "\n"


def problem_with(path: Path, jar: PinnedJar) -> str | None:
    """Return what is wrong with a file that should be a pinned jar.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    jar : PinnedJar
        What it should be.

    Returns
    -------
    str or None
        None if size and SHA-256 are the pinned ones.
    """
    try:
        size = path.stat().st_size
        if size != jar.size:
            return f"it has {size} bytes, not {jar.size}"
        found = _sha256(path)
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"
    if found != jar.sha256:
        return f"its SHA-256 is {found}, not {jar.sha256}"
    return None


def ensure_jars(
    pin: Pin, folder: Path, say: Callable[[str], None] | None = None
) -> tuple[Path, ...]:
    """Put the pinned jars into `folder`, downloading them only if one is missing.

    Several processes may do this at once: each writes separate files and renames them.

    Parameters
    ----------
    pin : Pin
        The version wanted.
    folder : pathlib.Path
        Where the jars are put; see :meth:`Pin.paths`. A file there that is not the pinned jar is
        replaced, and only after the new one was verified.
    say : callable, optional
        Called with one line of text per step.

    Returns
    -------
    tuple of pathlib.Path
        The jars.

    Raises
    ------
    JarProblem
        If the jars cannot be downloaded, fail verification, or cannot be written.
    """
    report = say or (lambda _line: None)
    targets = pin.paths(folder)
    wrong = [
        (path, problem_with(path, jar) if path.exists() else None)
        for path, jar in zip(targets, pin.jars, strict=True)
        if not path.exists() or problem_with(path, jar) is not None
    ]
    if not wrong:
        report(f"Bio-Formats {pin.version}: using the verified jar {_shown(targets)}")
        return targets
    present = [(path, problem) for path, problem in wrong if problem is not None]
    for path, problem in present:
        report(f"{path} is not the pinned Bio-Formats jar and will be replaced: {problem}")
    report(f"downloading {pin.archive} {pin.archive_version} for its Bio-Formats {pin.version} jar")
    try:
        targets[0].parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bfbridge-jar-") as scratch:
            _extract_jars(pin, _download(pin, Path(scratch)), targets)
    except OSError as error:
        total = sum(jar.size for jar in pin.jars)
        raise JarProblem(
            f"the Bio-Formats jar cannot be written to {_shown(targets)}: {error}. Make the folder "
            f"writable and free {total // 1_000_000} MB, then try again."
        ) from error
    except JarProblem as error:
        if not present:
            raise
        notes = "".join(f"\nThe file now at {path} was not used: {why}." for path, why in present)
        raise JarProblem(f"{error}{notes}") from error
    report(f"Bio-Formats {pin.version}: verified and written to {_shown(targets)}")
    return targets


def _shown(paths: tuple[Path, ...]) -> Path:
    return paths[0] if len(paths) == 1 else paths[0].parent


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remedy(pin: Pin) -> str:
    paths = pin.paths(Path("jars"))
    hashes = f" (SHA-256 {pin.jars[0].sha256})" if len(paths) == 1 else ""
    return (
        "What to do: check the network and pip's index settings and try again; or get the jar of "
        f"Bio-Formats {pin.version}{hashes} by other means and save it as "
        f"{_shown(paths).as_posix()} in the checkout, or point BFBRIDGE_JAR at it when bfbridge "
        "runs."
    )


def _download(pin: Pin, folder: Path) -> Path:
    """Download the archive with pip, which has the user's index, proxy and cache settings."""
    import subprocess

    name = f"{pin.archive}=={pin.archive_version}"
    if importlib.util.find_spec("pip") is None:
        raise JarProblem(
            f"{name}, which carries the Bio-Formats jar, cannot be downloaded: pip is not "
            f"installed for {sys.executable}. Install it (python -m ensurepip, or "
            f"uv pip install pip). {_remedy(pin)}"
        )
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{name} --hash=sha256:{pin.archive_sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps"]
    # pip runs the build script of an sdist for its metadata, after checking the hash. Its
    # dependencies have no hashes, so --require-hashes is omitted there.
    command += (
        ["--require-hashes", "--only-binary", ":all:"]
        if pin.kind == "wheel"
        else ["--no-binary", pin.archive]
    )
    command += ["--no-input", "--progress-bar", "off"]
    command += ["--disable-pip-version-check", "--dest", str(folder), "-r", str(requirements)]
    environment = {k: v for k, v in os.environ.items() if k not in _OUTER_PIP_SETTINGS}
    environment["PIP_REQUIRE_VIRTUALENV"] = "0"
    done = subprocess.run(  # noqa: S603 - a fixed command; the pin is our own file
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise JarProblem(_download_message(pin, name, done.stdout))
    archives = [path for path in folder.iterdir() if path != requirements]
    if len(archives) != 1:
        raise JarProblem(f"pip downloaded {len(archives)} files for {name}, not 1. {_remedy(pin)}")
    found = _sha256(archives[0])
    if found != pin.archive_sha256:
        raise JarProblem(
            f"the download of {name} was refused: the {pin.kind}'s SHA-256 is {found}, "
            f"not {pin.archive_sha256}. {_remedy(pin)}"
        )
    return archives[0]


def _download_message(pin: Pin, name: str, output: str) -> str:
    if "DO NOT MATCH THE HASHES" in output:
        what = f"the download of {name} was refused: its SHA-256 is not {pin.archive_sha256}"
    else:
        what = f"{name}, which carries the Bio-Formats jar, could not be downloaded"
    said = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in said if line.startswith("ERROR")] or said[-3:]
    return f"{what}. pip said: {' '.join(errors[:6])}\n{_remedy(pin)}"


@contextmanager
def _members(pin: Pin, archive: Path) -> Iterator[Callable[[str], IO[bytes]]]:
    """Open an archive; yields a function that opens a member, KeyError if there is none."""
    if pin.kind == "wheel":
        with zipfile.ZipFile(archive) as wheel:
            yield wheel.open
        return
    import tarfile

    with tarfile.open(archive) as sdist:

        def member(name: str) -> IO[bytes]:
            stream = sdist.extractfile(name)
            if stream is None:
                raise KeyError(f"{name} is not a file")
            return stream

        yield member


def _extract_jars(pin: Pin, archive: Path, targets: tuple[Path, ...]) -> None:
    """Extract, verify, and then rename: an unverified jar never has the final name."""
    import tarfile

    try:
        with _members(pin, archive) as member:
            for jar, target in zip(pin.jars, targets, strict=True):
                with member(f"{pin.folder}/{jar.name}") as stream:
                    _write_verified(stream, jar, target, pin, archive.name)
    except (zipfile.BadZipFile, tarfile.TarError, KeyError) as error:
        raise JarProblem(
            f"{archive.name} does not contain the jars in {pin.folder}: {error}. {_remedy(pin)}"
        ) from error


def _write_verified(
    stream: IO[bytes], jar: PinnedJar, target: Path, pin: Pin, archive: str
) -> None:
    part = target.with_name(f".{target.name}.{os.urandom(8).hex()}.part")
    try:
        with part.open("xb") as out:
            shutil.copyfileobj(stream, out, _BLOCK)
            out.flush()
            os.fsync(out.fileno())
        wrong = problem_with(part, jar)
        if wrong is not None:
            raise JarProblem(
                f"the jar {jar.name} in {archive} was refused: {wrong}. {_remedy(pin)}"
            )
        try:
            part.replace(target)
        except PermissionError:
            # Windows does not replace an open file; another build may have just written it.
            if problem_with(target, jar) is not None:
                raise
    finally:
        with suppress(OSError):
            part.unlink()
