"""Selection of the backend for a file: a static table, and tests of the content.

Order: omezarr for a Zarr store, ndpi for a TIFF with Hamamatsu's tag, ometiff for a TIFF it fully
understands, czi, lif and nd2 for files of these formats they fully understand, pictures for GIF,
PNG, BMP, Targa, JPEG, JPEG 2000, WebP and PNM, Bio-Formats for all else; geo for GeoTIFFs that none
of them reads, and where a projection is requested.
Backends of third parties come from the entry-point group ``bfbridge.backends``. Those whose module
has a ``PRIORITY`` above 0 are tried before ours. The others are used only when a name asks for one,
or when none of ours reads the file: Bio-Formats, which claims all content, knows no such format or
is not installed.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bfbridge.errors import (
    INSTALL,
    BadArgument,
    BfbridgeError,
    FileMissing,
    JarNotFound,
    JavaNotFound,
    MissingExtra,
    OutOfMemory,
    UnknownFormat,
    UnreadableFile,
    Unsupported,
)
from bfbridge.runtime.entry_points import may_have, search_path
from bfbridge.storage.ownership import is_partial
from bfbridge.storage.signatures import (
    ZARR_KEYS,
    is_anything,
    is_companion,
    is_lif,
    is_picture,
    is_tiff,
    is_zarr,
)
from bfbridge.tiff.coordinates import has_coordinates
from bfbridge.tiff.hamamatsu import is_ndpi

if TYPE_CHECKING:
    from bfbridge.backend import OpenOptions, ReaderBackend, WriterBackend
    from bfbridge.storage.source import Source

__all__ = [
    "BACKENDS",
    "Entry",
    "find",
    "is_folder_format",
    "is_zipped_folder",
    "open_reader",
    "preferred",
    "read_suffixes",
    "suffixes_of_writers",
    "third_party",
    "writer_for",
    "written_suffixes",
]

log = logging.getLogger("bfbridge")

ENTRY_POINT_GROUP = "bfbridge.backends"


@dataclass(frozen=True, slots=True)
class Entry:
    """One backend: its names, how it recognises a file, and where its code is.

    Attributes
    ----------
    name, aliases
        Values of ``backend=``, in lower case.
    module
        Imported on use; it has ``READER`` and ``WRITER``, classes of `bfbridge.backend` or None.
    claims
        (source, first bytes) -> whether the content looks like a format of this backend.
    suffixes
        Suffixes of the files that it writes by default.
    zip_suffixes
        Suffixes of images that are a folder in a ZIP file.
    makes_folders
        Whether it writes a folder instead of a file.
    extra
        Extra of the distribution, for the command that installs the required packages.
    mime_types
        MIME types of formats that it reads, with the names that large_image has for them.
    distribution
        Name and version of the distribution of a third-party backend; otherwise empty.
    """

    name: str
    module: str
    claims: Callable[[Source, bytes], bool]
    aliases: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    makes_folders: bool = False
    zip_suffixes: tuple[str, ...] = ()
    extra: str = ""
    mime_types: tuple[str, ...] = ()
    distribution: str = ""

    def load(self) -> Any:
        """Import the backend's module.

        Raises
        ------
        MissingExtra
            A required package is not installed.
        Unsupported
            The module of the backend is broken.
        """
        try:
            module = importlib.import_module(self.module)
        except ImportError as error:
            remedy = (
                f"Install it with: {INSTALL}"
                if self.extra
                else "Install it, or see the backend's own documentation."
            )
            raise MissingExtra(
                f"the {self.name} backend needs a package that is not installed ({error}). {remedy}"
            ) from error
        except Exception as error:
            raise self._broken(f"{type(error).__name__}: {error}") from error
        if self.distribution and not (hasattr(module, "READER") and hasattr(module, "WRITER")):
            raise self._broken("it lacks READER or WRITER: a class, or None")
        return module

    def load_priority(self) -> int:
        """Import a third party's module, and return its ``PRIORITY``; 0 without one.

        Raises
        ------
        MissingExtra, Unsupported
            The module cannot be used, or its priority is no integer.
        """
        priority = getattr(self.load(), "PRIORITY", 0)
        if not isinstance(priority, int):
            raise self._broken(f"its PRIORITY is {priority!r}, not an integer")
        return priority

    def _broken(self, why: str) -> Unsupported:
        whose = f" of {self.distribution}" if self.distribution else ""
        return Unsupported(
            f"the {self.name} backend{whose} is broken: its module {self.module} cannot be used "
            f"({why}). Upgrade or uninstall it."
        )


BACKENDS: tuple[Entry, ...] = (
    Entry(
        name="omezarr",
        module="bfbridge_omezarr",
        claims=is_zarr,
        aliases=("zarr", "zarr3", "tensorstore", "ome-zarr"),
        suffixes=(".zarr",),
        makes_folders=True,
        zip_suffixes=(".zarr.zip", ".ozx"),
        extra="omezarr",
        mime_types=("application/vnd+zarr", "application/x-zarr", "application/zip+zarr"),
    ),
    # Before ometiff: in files of 4 GiB and more, offsets are not those of TIFF.
    Entry("ndpi", "bfbridge_ndpi", is_ndpi, extra="ndpi", mime_types=("image/x-ndpi",)),
    Entry(
        name="ometiff",
        module="bfbridge_ometiff",
        claims=lambda source, head: is_tiff(source, head) or is_companion(source, head),
        aliases=("python", "tiff", "ome-tiff", "tensorstore"),
        # Also without ".ome": a plain TIFF cannot store channel names and most sizes.
        suffixes=(
            *(".ome.tif", ".ome.tiff", ".ome.tf2", ".ome.tf8", ".ome.btf"),
            *(".tif", ".tiff", ".tf2", ".tf8", ".btf"),
        ),
        extra="ometiff",
        mime_types=("image/tiff", "image/x-tiff"),
    ),
    Entry(
        name="czi",
        module="bfbridge_czi",
        claims=lambda source, head: head.startswith(b"ZISRAWFILE"),
        extra="czi",
    ),
    Entry(
        name="lif",
        module="bfbridge_lif",
        claims=is_lif,
        extra="lif",
        mime_types=("image/x-leica-lif",),
    ),
    Entry(
        name="nd2",
        module="bfbridge_nd2",
        claims=lambda source, head: head.startswith(b"\xda\xce\xbe\x0a"),
        extra="nd2",
    ),
    Entry(
        name="pictures",
        module="bfbridge_pictures",
        claims=is_picture,
        suffixes=(".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp"),
        extra="pictures",
        mime_types=(
            *("image/bmp", "image/gif", "image/jp2", "image/jpeg", "image/png", "image/webp"),
            *("image/x-portable-anymap", "image/x-portable-graymap", "image/x-portable-pixmap"),
            "image/x-tga",
        ),
    ),
    Entry(
        name="geo",
        module="bfbridge_geotiff",
        # Plain images are read by other backends. This one is used by name, with the option
        # "projection", and for GeoTIFFs that no other reads; see `open_reader`.
        claims=lambda source, head: False,
        aliases=("geotiff", "rasterio"),
        extra="geo",
        mime_types=("image/geotiff", "image/tiff", "image/x-tiff"),
    ),
    Entry(
        name="fileseries",
        module="bfbridge.files.file_series",
        # Only by name: BioReader makes it from a pattern or a list of files.
        claims=lambda source, head: False,
    ),
    Entry(
        name="rearranged",
        module="bfbridge.files.rearranged",
        # Only by name: convert() makes it from a file and changes of its axes.
        claims=lambda source, head: False,
    ),
    Entry(
        name="array",
        module="bfbridge.files.array_images",
        # Only by name: AICSImage makes it from arrays.
        claims=lambda source, head: False,
    ),
    Entry(
        name="bioformats",
        module="bfbridge_bioformats",
        claims=is_anything,
        aliases=("java", "bio-formats"),
        extra="bioformats",
        mime_types=(
            *("image/tiff", "image/x-tiff", "image/scn", "image/x-metamorph-stk", "image/x-ndpi"),
            *("image/x-leica-lif", "image/x-svs", "image/x-zeiss-lsm", "image/x-zeiss-zvi"),
        ),
    ),
)


def find(name: str, fits: Callable[[Entry], bool] | None = None) -> Entry:
    """Return the backend with a name, in any case, of bfbridge or of a third party.

    Parameters
    ----------
    name
        Name or alias of the backend. bfio's "tensorstore" is an alias of two backends.
    fits
        Selects between several: the first that fits is returned.

    Raises
    ------
    BadArgument
        There is no backend of that name; the message lists all names.
    """
    wanted = name.lower() if isinstance(name, str) else None
    others: tuple[Entry, ...] = ()
    meant = [entry for entry in BACKENDS if wanted == entry.name or wanted in entry.aliases]
    if not meant:
        others = third_party()
        meant = [entry for entry in others if wanted == entry.name]
    if meant:
        return next((entry for entry in meant if fits and fits(entry)), meant[0])
    names = ", ".join(
        f"{e.name} (also {', '.join(e.aliases)})" if e.aliases else e.name
        for e in (*BACKENDS, *others)
    )
    raise BadArgument(f"backend={name!r}: there is no such backend. There are: {names}.")


def third_party() -> tuple[Entry, ...]:
    """Return the backends of other distributions, from the entry-point group ``bfbridge.backends``.

    Their code is not imported. Names of bfbridge's own backends have priority.
    """
    path = search_path()
    if "importlib.metadata" not in sys.modules and not may_have(ENTRY_POINT_GROUP, path):
        return ()
    from importlib.metadata import entry_points

    return _third_party(entry_points, path)


@lru_cache(maxsize=1)
def _third_party(read: Callable[..., Any], path: tuple[tuple[str, int], ...]) -> tuple[Entry, ...]:
    """Read the entry points, which takes milliseconds, once for each state of the search path."""
    del path
    found: dict[str, Entry] = {}
    ours = {name for entry in BACKENDS for name in (entry.name, *entry.aliases)}
    for point in read(group=ENTRY_POINT_GROUP):
        name = point.name.lower()
        if name in ours or name in found:
            log.debug("the plug-in %r (%s) is left out: its name is taken", name, point.value)
            continue
        brought = "" if point.dist is None else f"{point.dist.name} {point.dist.version}"
        # A value that is not a module name raises an error when it is loaded.
        module = point.value.partition(":")[0].strip()
        found[name] = Entry(name, module, claims=lambda source, head: True, distribution=brought)
    return tuple(found.values())


def preferred() -> tuple[Entry, ...]:
    """Return the backends of third parties that are tried before ours, highest priority first."""
    found = []
    for entry in third_party():
        # `doctor`, and backend= with the name of the plug-in, report a plug-in that fails to load.
        with suppress(BfbridgeError):
            priority = entry.load_priority()
            if priority > 0:
                found.append((priority, entry))
    return tuple(entry for _, entry in sorted(found, key=lambda pair: -pair[0]))


def open_reader(
    source: Source, options: OpenOptions, backend: str | None = None
) -> tuple[ReaderBackend, str]:
    """Open a source with the first backend that supports it.

    Parameters
    ----------
    source, options
        Source and options for opening it.
    backend
        Name of the only backend to try. None selects by content.

    Returns
    -------
    (reader, reason)
        The open file, and one line with the reason for this backend.

    Raises
    ------
    FileMissing
        There is no file at the path or URL.
    Unsupported
        The named backend does not support the file; the message has the reason and the remedy.
    UnreadableFile
        No backend reads the file.
    """
    # A store by URL first: servers answer requests for a folder in different ways, or not at all.
    store = source.url is not None and is_zarr(source, b"")
    head = b"" if store else _head_of(source)
    wanted = backend
    if wanted is None and "projection" in options.backend_options:
        wanted = "geo"
    if wanted is not None:
        return _open_named(source, options, find(wanted, lambda entry: entry.claims(source, head)))
    reasons: list[str] = []
    unknown: BfbridgeError | None = None
    first = preferred() if head or store or source.is_dir() else ()
    for entry in first:
        opened = _try(entry, source, options, reasons)
        if opened is not None:
            return opened
    for entry in (each for each in BACKENDS if each.claims(source, head)):
        try:
            opened = _try(entry, source, options, reasons)
        except (UnknownFormat, JavaNotFound, JarNotFound) as error:
            # A plug-in may know the format. If none does, report the error of Bio-Formats.
            unknown = unknown or error
            reasons.append(f"{entry.name} does not read it.")
            continue
        if opened is not None:
            return opened
    # A GeoTIFF, if Bio-Formats is not installed or does not read this variant.
    last = (find("geo"),) if is_tiff(source, head) and has_coordinates(source) else ()
    for entry in (*last, *(each for each in third_party() if each not in first)):
        opened = _try(entry, source, options, reasons)
        if opened is not None:
            return opened
    if unknown is not None:
        raise unknown
    if source.is_dir() and not reasons:
        raise UnreadableFile(
            f"{source.name}: this folder is not an image: it is not an OME-Zarr store (it has none "
            f"of {', '.join(ZARR_KEYS)}). Open the image file inside it."
        )
    raise UnreadableFile(f"{source.name}: no backend reads this file. " + " ".join(reasons))


def _head_of(source: Source) -> bytes:
    """Return the first bytes of a file that exists and is complete; none of a folder."""
    if not source.exists() and not _is_synthetic(source):
        raise FileMissing(f"{source.name}: no such file or folder.")
    if source.path is not None and is_partial(source.path):
        raise UnreadableFile(
            f"{source.name}: this is the unfinished file of a writer that is still open, or was "
            "killed. Open the finished image; the next writer of it clears this folder."
        )
    head = source.head() if source.exists() else b""
    empty = not head and source.exists() and not source.is_dir()
    if empty and not _is_synthetic(source):
        raise UnreadableFile(f"{source.name}: the file is empty (0 bytes).")
    return head


def _is_synthetic(source: Source) -> bool:
    # Bio-Formats' FakeReader makes an image from the name only.
    return source.is_local and source.name.lower().endswith(".fake")


def _open_named(source: Source, options: OpenOptions, entry: Entry) -> tuple[ReaderBackend, str]:
    reader = entry.load().READER
    if reader is None:
        raise Unsupported(f"backend={entry.name!r} cannot read, only write.")
    try:
        opened = _open(reader, source, options)
        return opened, _with_note(f"backend={entry.name!r} was requested", opened)
    except Unsupported as error:
        raise Unsupported(
            f"{source.name}: the {entry.name} backend does not read this file: "
            f"{_sentence(error)} Leave backend= out to let bfbridge choose."
        ) from error


def _sentence(error: BfbridgeError) -> str:
    return str(error).removesuffix(".") + "."


def _open(reader: type[ReaderBackend], source: Source, options: OpenOptions) -> ReaderBackend:
    """Open; convert unexpected errors of a backend to `Unsupported`, so that others are tried."""
    try:
        return reader.open(source, options)
    except BfbridgeError:
        raise
    except MemoryError as error:
        raise OutOfMemory(
            f"{source.name}: memory ran out while the {reader.name} backend opened it. Close "
            "other readers, or lower the limits with BioReader(..., limits=Limits(...))."
        ) from error
    except Exception as error:
        log.debug("%s: %s failed", source.name, reader.name, exc_info=True)
        raise Unsupported(f"it failed with {type(error).__name__}: {error}") from error


def _try(
    entry: Entry, source: Source, options: OpenOptions, reasons: list[str]
) -> tuple[ReaderBackend, str] | None:
    """Open with one backend; on failure add the reason and return None."""
    try:
        reader = entry.load().READER
        if reader is None:
            return None
        opened = _open(reader, source, options)
    except (Unsupported, MissingExtra) as error:
        log.debug("%s: not read by %s: %s", source.name, entry.name, error)
        reasons.append(f"{entry.name}: {_sentence(error)}")
        return None
    except UnreadableFile as error:
        if reasons and not isinstance(error, UnknownFormat):
            error.args = (f"{_sentence(error)} Other backends: {' '.join(reasons)}",)
        raise
    reason = " ".join(reasons) if reasons else f"{entry.name} claims this content"
    return opened, _with_note(reason, opened)


def _with_note(reason: str, opened: ReaderBackend) -> str:
    return f"{reason.removesuffix('.')}; {opened.note}" if opened.note else reason


def suffixes_of_writers(fits: Callable[[type[WriterBackend]], bool]) -> str:
    """Return the suffixes of the native writers that fit, for messages.

    Parameters
    ----------
    fits
        Returns whether the suffixes of a writer class are listed.
    """
    found: list[str] = []
    for entry in BACKENDS:
        if entry.suffixes:
            with suppress(BfbridgeError):
                found.extend(entry.suffixes if fits(entry.load().WRITER) else ())
    return ", ".join(found) or "of no installed backend"


def is_folder_format(name: str) -> bool:
    """Return whether an image of this name, by its suffix, is a folder.

    Parameters
    ----------
    name
        File name, path or URL; a slash at the end and the case are ignored.
    """
    name = name.rstrip("/").lower()
    return any(entry.makes_folders and name.endswith(entry.suffixes) for entry in BACKENDS)


def is_zipped_folder(name: str) -> bool:
    """Return whether an image of the name `name`, by its suffix, is a folder in a ZIP file."""
    name = name.lower()
    return any(entry.zip_suffixes and name.endswith(entry.zip_suffixes) for entry in BACKENDS)


def writer_for(name: str, backend: str | None = None) -> type[WriterBackend]:
    """Return the writer for a file name's suffix.

    Parameters
    ----------
    name
        File name, path or URL.
    backend
        Name or alias of the backend that writes; None: the backend of the suffix.

    Raises
    ------
    BadArgument
        There is no writer for it; the message lists the suffixes that can be written.
    """
    lowered = name.lower()
    writer: type[WriterBackend]
    if backend is not None:
        entry = find(backend, lambda entry: lowered.endswith(entry.suffixes + entry.zip_suffixes))
        writer = entry.load().WRITER
        if writer is None:
            raise BadArgument(f"backend={backend!r} cannot write, only read.")
        return writer
    first = preferred()
    found = next((each for each in first if lowered.endswith(written_suffixes(each))), None)
    if found is None:
        ours = ((entry, entry.suffixes + entry.zip_suffixes) for entry in BACKENDS)
        found = next((entry for entry, suffixes in ours if lowered.endswith(suffixes)), None)
    plug_ins = third_party()
    if found is None:
        found = next((each for each in plug_ins if lowered.endswith(written_suffixes(each))), None)
    if found is not None:
        writer = found.load().WRITER
        return writer
    native = {suffix for entry in BACKENDS for suffix in entry.suffixes}
    native.update(suffix for entry in plug_ins for suffix in written_suffixes(entry))
    # Which suffixes Bio-Formats writes only its jar knows.
    try:
        java = BACKENDS[-1].load()
        others: tuple[str, ...] = java.writable_suffixes()
    except BfbridgeError as error:
        raise BadArgument(
            f"{name}: no writer for this suffix among {', '.join(sorted(native))}; "
            f"Bio-Formats, which writes other formats, is not available: {error}"
        ) from error
    if lowered.endswith(others):
        writer = java.WRITER
        return writer
    raise BadArgument(
        f"{name}: no writer for this suffix. Suffixes that can be written: "
        f"{', '.join(sorted({*native, *others}))}."
    )


def written_suffixes(entry: Entry) -> tuple[str, ...]:
    """Return the suffixes that the third-party backend `entry` writes, in lower case."""
    with suppress(BfbridgeError):
        module = entry.load()
        if module.WRITER is not None:
            return _suffixes(module, "SUFFIXES")
    return ()


def read_suffixes(entry: Entry) -> tuple[str, ...]:
    """Return the suffixes that the third-party backend `entry` reads, in lower case."""
    with suppress(BfbridgeError):
        module = entry.load()
        if module.READER is not None:
            return _suffixes(module, "READ_SUFFIXES") or _suffixes(module, "SUFFIXES")
    return ()


def _suffixes(module: Any, name: str) -> tuple[str, ...]:
    return tuple(str(suffix).lower() for suffix in getattr(module, name, ()))
