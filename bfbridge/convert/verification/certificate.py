"""The certificate of a conversion: an RO-Crate 1.1 with hashes, pixel checksums and versions.

It is in the folder ``<target>.crate``, because an RO-Crate is a folder with the file
``ro-crate-metadata.json``, and neither a TIFF nor a Zarr store is a place for other files.
`bfbridge.curation.verify_crate` compares it with the files.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import bfbridge
from bfbridge.convert.locations import Url, files_of, is_url
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan.pieces import Output
from bfbridge.convert.reports.record import FileRecord, OutputRecord, now, stamp
from bfbridge.convert.reports.writer import library_versions, package_versions
from bfbridge.convert.verification.hashes import PIXEL_HASH, hash_path, hash_pixels
from bfbridge.errors import BadArgument, FileChanged, TargetExists
from bfbridge.reader import BioReader
from bfbridge.storage.atomic import write_bytes_atomically

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["CRATE_NAME", "SPECIFICATION", "TERMS", "certify", "check_certifiable", "crate_of"]

CRATE_NAME: Final = "ro-crate-metadata.json"
SPECIFICATION: Final = "https://w3id.org/ro/crate/1.1"
TERMS: Final = "urn:bfbridge:certificate:"
"""Prefix of the properties of images that neither schema.org nor RO-Crate defines."""
_CONTEXT: Final = [
    f"{SPECIFICATION}/context",
    {
        "sha256": "https://w3id.org/ro/terms/workflow-run#sha256",
        **{
            name: f"{TERMS}{name}"
            for name in ("pixelSha256", "shape", "dtype", "series", "lost", "verified")
        },
    },
]
Entity = dict[str, Any]


def crate_of(target: str | os.PathLike[str]) -> Path:
    """Return the path of the certificate of a new file."""
    place = Path(target)
    return place.with_name(f"{place.name}.crate") / CRATE_NAME


def check_certifiable(
    br: BioReader,
    outputs: Sequence[Output],
    options: ConvertOptions,
    *,
    overwrite: bool,
    resume: bool,
) -> None:
    """Check before a conversion that a certificate can be written, if one is requested.

    Raises
    ------
    BadArgument
        The source or a new file is not on a disk.
    TargetExists
        There is a certificate already.
    """
    if not options.certify:
        return
    for path in files_of(br, options.source_storage):
        if is_url(path) or not os.path.exists(path):
            raise BadArgument(
                f"{path}: certify=True (--certify) needs a source that is a file or folder on a "
                "disk, whose content can be hashed. Download it first."
            )
    for output in outputs:
        if isinstance(output.target, Url):
            raise BadArgument(
                f"{output.target}: certify=True (--certify) writes a folder beside the new file, "
                "so this must be on a disk."
            )
        crate = crate_of(output.target)
        if os.path.lexists(crate) and not (overwrite or resume):
            raise TargetExists(
                f"{crate}: there is a certificate already. Pass overwrite=True (--overwrite) to "
                "replace it, or choose another name."
            )


def certify(record: FileRecord, options: ConvertOptions) -> None:
    """Write the certificate of each new file of a source, if that is requested.

    Parameters
    ----------
    record
        The record of the source; the paths of the certificates are added.
    options
        The conversion options.

    Raises
    ------
    FileChanged
        A file of the source was changed during the conversion.
    ReadFailed
        A file cannot be read.
    WriteFailed
        A certificate cannot be written.
    """
    if not options.certify:
        return
    sources = [_source_entity(entry) for entry in record.inputs]
    for output in record.outputs:
        crate = crate_of(output.target)
        if not (output.kept and crate.is_file()):
            content = _crate(record, output, sources, options)
            crate.parent.mkdir(exist_ok=True)
            text = json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"
            write_bytes_atomically(crate, text.encode("utf-8", "backslashreplace"))
        output.crate = str(crate)


def _source_entity(entry: dict[str, Any]) -> Entity:
    """Describe a file or folder of the source, after checking that it was not changed."""
    path = Path(entry["path"])
    digest, size = hash_path(path)
    (after,) = stamp([str(path)], {})
    if any(after[key] != entry[key] for key in ("bytes", "mtime_ns")):
        raise FileChanged(
            f"{path}: it was changed during the conversion, so the new file is not certified. "
            "Convert it again."
        )
    return _file_entity(path.as_uri(), path, digest, size)


def _file_entity(identifier: str, path: Path, digest: str, size: int) -> Entity:
    folder = path.is_dir()
    return {
        "@id": f"{identifier.rstrip('/')}/" if folder else identifier,
        "@type": "Dataset" if folder else "File",
        "name": path.name, "contentSize": str(size), "sha256": digest,
    }  # fmt: skip


def _crate(
    record: FileRecord, output: OutputRecord, sources: Sequence[Entity], options: ConvertOptions
) -> dict[str, Any]:
    """Return the document: the root, its files, the images, the conversion and its software."""
    path = Path(output.target)
    target = _file_entity(f"../{quote(os.fsencode(path.name))}", path, *hash_path(path))
    with BioReader(path, max_workers=options.workers, cache=options.memory_bytes // 4) as made:
        images = [
            _image_entity(view, source, options)
            for view, source in zip(made.series, _series_of(output, len(made.series)), strict=True)
        ]
    target["mentions"] = _references(images)
    software = _software(record, output)
    entities = [target, *sources]
    action = {
        "@id": "#conversion", "@type": "CreateAction", "name": f"Conversion to {path.name}",
        "description": json.dumps(_given(options), ensure_ascii=False, default=str),
        "endTime": now(), "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        "object": _references(sources), "result": {"@id": target["@id"]},
        "instrument": _references(software),
        "verified": bool(output.verified),
        "lost": "not compared" if output.lost is None else output.lost or "nothing",
    }  # fmt: skip
    root = {
        "@id": "./", "@type": "Dataset", "name": f"Certificate of {path.name}",
        "description": "Hashes, pixel checksums, software and options of a conversion of images. "
        f"pixelSha256: {PIXEL_HASH}",
        "datePublished": now(),
        "license": "No licence is stated here; that of the source applies.",
        "hasPart": _references(entities), "mentions": {"@id": "#conversion"},
    }  # fmt: skip
    descriptor = {
        "@id": CRATE_NAME, "@type": "CreativeWork", "about": {"@id": "./"},
        "conformsTo": {"@id": SPECIFICATION},
    }  # fmt: skip
    return {
        "@context": _CONTEXT,
        "@graph": [descriptor, root, *entities, *images, action, *software],
    }


def _series_of(output: OutputRecord, count: int) -> list[Any]:
    """Return the number of the source's image for each image of a new file; None if not known."""
    known = [image.get("series") for image in output.images]
    return known if len(known) == count else [None] * count


def _image_entity(view: ImageView, series: Any, options: ConvertOptions) -> Entity:
    entity = {
        "@id": f"#image-{view.index}", "@type": "PropertyValue",
        "name": f"Pixels of image {view.index}, level 0", "position": view.index,
        "pixelSha256": hash_pixels(view, options.workers, options.memory_bytes // 2),
        # Text, because lists have no order in JSON-LD.
        "shape": ",".join(f"{axis}={size}" for axis, size in view.sizes.items()),
        "dtype": view.dtype.name,
    }  # fmt: skip
    return entity if series is None else {**entity, "series": series}


def _software(record: FileRecord, output: OutputRecord) -> list[Entity]:
    """Describe bfbridge, its backends, and the libraries that they use."""
    versions: dict[str, str | None] = {
        "bfbridge": bfbridge.__version__,
        f"bfbridge reader {record.backend}": bfbridge.__version__,
        f"bfbridge writer {output.backend}": bfbridge.__version__,
        "Python": platform.python_version(),
        **package_versions(),
    }
    for name, version in library_versions({record.backend}).items():
        versions[f"{name} jar"] = version
    return [
        {
            "@id": f"#{quote(name.replace(' ', '-'))}", "@type": "SoftwareApplication",
            "name": name, "version": version,
        }
        for name, version in versions.items()
        if version is not None
    ]  # fmt: skip


def _given(options: ConvertOptions) -> dict[str, Any]:
    """Return the options that are not at their defaults."""
    default = ConvertOptions().describe()
    return {name: value for name, value in options.describe().items() if value != default[name]}


def _references(entities: Sequence[Entity]) -> list[dict[str, str]]:
    return [{"@id": entity["@id"]} for entity in entities]
