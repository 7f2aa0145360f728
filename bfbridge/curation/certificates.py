"""The check of the certificate (RO-Crate) of a conversion against the files that it names."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from bfbridge.backend.findings import COPY_AGAIN, Finding
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.verification.certificate import CRATE_NAME, SPECIFICATION, crate_of
from bfbridge.convert.verification.hashes import hash_path, hash_pixels
from bfbridge.curation.validation import Validation
from bfbridge.errors import BadArgument, BfbridgeError, FileMissing, MissingExtra
from bfbridge.reader import BioReader
from bfbridge.storage.source import path_or_url
from bfbridge.views import ImageView

__all__ = ["verify_crate"]

_LARGEST: Final = 256 << 20
_AGAIN: Final = "Convert the source again with certify=True (--certify)."
_HEX: Final = frozenset("0123456789abcdef")
Entity = Mapping[str, Any]


class _Damaged(Exception):
    """The document is not a certificate; the message is the reason."""


def verify_crate(
    path: str | os.PathLike[str],
    *,
    sources: str | os.PathLike[str] | None = None,
    max_workers: int | None = None,
) -> Validation:
    """Compare the files of a certified conversion with its certificate.

    All pixels of the new file are decoded and compared with the checksums; hashes of the new file
    and of the sources are compared where these files exist.

    Parameters
    ----------
    path
        The folder of the certificate (``<target>.crate``), its ``ro-crate-metadata.json``, or the
        new file.
    sources
        Folder in which the sources are searched by name, if they are not where they were.
    max_workers
        Threads; default: the CPUs this process may use.

    Returns
    -------
    Validation
        It is valid if pixels and sources are those of the certificate. A source that is not found
        is a note. A new file with other bytes but the same pixels, such as one that was compressed
        again, is a warning.

    Raises
    ------
    FileMissing
        There is no certificate.
    BadArgument
        The path is a URL.
    MissingExtra
        A package that is needed to read the new file is not installed.
    """
    crate = _find(path)
    options = ConvertOptions(max_workers=max_workers)
    try:
        checker = _Checker(crate, None if sources is None else Path(sources), options)
        findings = [*checker.check_target(), *checker.check_sources()]
    except _Damaged as error:
        message = f"this is not a certificate, or it is damaged: {error}"
        findings = [Finding("error", "crate-document", str(crate), message, _AGAIN)]
        return Validation(str(crate), None, tuple(findings))
    return Validation(str(crate), checker.backend, tuple(findings), checker.pixels)


def _find(path: str | os.PathLike[str]) -> Path:
    """Return the path of the document."""
    place = path_or_url(path)
    if not isinstance(place, Path):
        raise BadArgument(f"{place}: give the path of a certificate on a disk.")
    for candidate in (place if place.name == CRATE_NAME else place / CRATE_NAME, crate_of(place)):
        if candidate.is_file():
            return candidate
    raise FileMissing(
        f"{place}: there is no certificate ({CRATE_NAME}) here, nor in {place.name}.crate beside "
        "it."
    )


class _Checker:
    """Compares files with a certificate.

    Parameters
    ----------
    crate
        The document.
    folder
        Where sources are searched too, or None.
    options
        Their workers and memory are used.

    Attributes
    ----------
    backend, pixels
        Backend that read the new file, and the number of pixels that were compared.
    """

    def __init__(self, crate: Path, folder: Path | None, options: ConvertOptions) -> None:
        self._crate = crate
        self._folder = folder
        self._options = options
        self._entities = _entities(crate)
        action = self._entity("#conversion")
        self._target = self._entity(_id_of(action.get("result")))
        self._sources = [self._entity(_id_of(ref)) for ref in _listed(action.get("object"))]
        self._images = [self._entity(_id_of(ref)) for ref in _listed(self._target.get("mentions"))]
        for entity in (self._target, *self._sources):
            _hash_of(entity, "sha256")
        for image in self._images:
            _hash_of(image, "pixelSha256")
        self.backend: str | None = None
        self.pixels = 0

    def _entity(self, identifier: str) -> Entity:
        if identifier not in self._entities:
            raise _Damaged(f"it does not describe {identifier}")
        return self._entities[identifier]

    # ---- the new file

    def check_target(self) -> Iterator[Finding]:
        """Yield what differs in the new file."""
        name = unquote(str(self._target["@id"]).rstrip("/"), errors="surrogateescape")
        parts = name.split("/")
        if len(parts) != 2 or parts[0] != ".." or parts[1] in ("", ".", ".."):
            raise _Damaged("the new file is not beside the folder of the certificate")
        path = self._crate.parent.parent / parts[1]
        if not os.path.exists(path):
            message = "the new file does not exist"
            yield Finding("error", "crate-target-missing", str(path), message, COPY_AGAIN)
            return
        try:
            different = yield from self._check_pixels(path)
        except MissingExtra:
            raise
        except BfbridgeError as error:
            yield Finding("error", "crate-pixels", str(path), str(error), COPY_AGAIN)
            return
        if hash_path(path)[0] == self._target["sha256"]:
            if different:
                message = (
                    "the bytes of the file are those of the certificate, so another version of a "
                    "decoder gives other pixels, as those of JPEG do"
                )
                yield Finding("note", "crate-bytes", str(path), message)
        elif not different:
            message = "the file has other bytes than the certificate says, with the same pixels"
            remedy = "Its metadata or its compression were changed; compare them if they matter."
            yield Finding("warning", "crate-bytes", str(path), message, remedy)

    def _check_pixels(self, path: Path) -> Generator[Finding, None, bool]:
        """Yield images that differ; return whether there are any."""
        different = False
        cache = self._options.memory_bytes // 4
        with BioReader(path, max_workers=self._options.workers, cache=cache) as br:
            self.backend = br.backend
            if len(br.series) != len(self._images):
                different = True
                message = f"it has {len(br.series)} images, and the certificate {len(self._images)}"
                yield Finding("error", "crate-images", str(path), message, COPY_AGAIN)
            for view, entity in zip(br.series, self._images, strict=False):
                message = self._compare(view, entity)
                if message:
                    different = True
                    where = f"{path}: image {view.index}"
                    yield Finding("error", "crate-pixels", where, message, COPY_AGAIN)
        return different

    def _compare(self, view: ImageView, entity: Entity) -> str:
        """Return how an image differs from that of the certificate; empty if it does not."""
        shape = ",".join(f"{axis}={size}" for axis, size in view.sizes.items())
        if (shape, view.dtype.name) != (entity.get("shape"), entity.get("dtype")):
            return (
                f"it is {shape} of {view.dtype.name}, and in the certificate {entity.get('shape')} "
                f"of {entity.get('dtype')}"
            )
        found = hash_pixels(view, self._options.workers, self._options.memory_bytes // 2)
        self.pixels += (
            view.sizes["Y"]
            * view.sizes["X"]
            * view.sizes["Z"]
            * (view.sizes["C"] * view.sizes["T"])
        )
        if found != entity["pixelSha256"]:
            return f"its pixels have the checksum {found}, not {entity['pixelSha256']}"
        return ""

    # ---- the sources

    def check_sources(self) -> Iterator[Finding]:
        """Yield sources that differ, or that are not found."""
        for entity in self._sources:
            path = self._source(entity)
            where = str(entity["@id"])
            if path is None:
                message = "the source is not found, so its hash is not compared"
                remedy = "Give the folder that contains it with sources= (--sources)."
                yield Finding("note", "crate-source-missing", where, message, remedy)
                continue
            try:
                found = hash_path(path)[0]
            except BfbridgeError as error:
                yield Finding("error", "crate-source", str(path), str(error), COPY_AGAIN)
                continue
            if found != entity["sha256"]:
                message = f"the source has the SHA-256 {found}, not {entity['sha256']}"
                yield Finding("error", "crate-source", str(path), message, COPY_AGAIN)

    def _source(self, entity: Entity) -> Path | None:
        """Return where a source is: at its former place, or in the folder that was given."""
        identifier = str(entity["@id"])
        try:
            former = path_or_url(identifier.rstrip("/"))
        except BadArgument as error:
            raise _Damaged(f"the source {identifier} is not a path: {error}") from error
        if not identifier.startswith("file:") or not isinstance(former, Path):
            raise _Damaged(f"the source {identifier} is not a file")
        candidates = [former]
        if self._folder is not None:
            candidates.insert(0, self._folder / former.name)
        return next((path for path in candidates if os.path.exists(path)), None)


# ---- the document


def _entities(crate: Path) -> dict[str, Entity]:
    """Return the entities of a document by their identifiers."""
    try:
        if crate.stat().st_size > _LARGEST:
            raise _Damaged("it is too large")
        content = json.loads(crate.read_bytes())
    except OSError as error:
        raise _Damaged(f"it cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise _Damaged(f"it is not valid JSON ({error})") from error
    graph = content.get("@graph") if isinstance(content, dict) else None
    if not isinstance(graph, list):
        raise _Damaged("it has no @graph")
    found: dict[str, Entity] = {}
    for entity in graph:
        identifier = entity.get("@id") if isinstance(entity, dict) else None
        if not isinstance(identifier, str) or identifier in found:
            raise _Damaged("an entity has no @id, or that of another one")
        found[identifier] = entity
    if _id_of(found.get(CRATE_NAME, {}).get("conformsTo")) != SPECIFICATION:
        raise _Damaged(f"it does not conform to {SPECIFICATION}")
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _id_of(reference: Any) -> str:
    identifier = reference.get("@id") if isinstance(reference, dict) else None
    if not isinstance(identifier, str):
        raise _Damaged("a reference is missing")
    return identifier


def _hash_of(entity: Entity, name: str) -> None:
    """Raise if an entity has no SHA-256 under a name."""
    value = entity.get(name)
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= _HEX:
        raise _Damaged(f"{entity['@id']} has no {name}")
