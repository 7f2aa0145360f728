"""Reference files: the byte ranges of files that are the chunks of an OME-Zarr store.

The format is version 1 of kerchunk's JSON, which fsspec's reference filesystem, kerchunk and
VirtualiZarr read: they fetch the bytes themselves, without bfbridge. This is possible if chunks are
stored separately in an encoding that Zarr has a codec for.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from bfbridge.backend import Level
from bfbridge.errors import BadArgument, Unsupported
from bfbridge.ngff.compression import parse_compression
from bfbridge.ngff.documents import array_document, dimension_names
from bfbridge.runtime.cached_property import cached_property
from bfbridge.virtual.hierarchy import VirtualHierarchy
from bfbridge.virtual.pyramid import Pyramid, VirtualLevel

if TYPE_CHECKING:
    from bfbridge.backend import StoredRanges
    from bfbridge.views import ImageView
    from bfbridge.virtual.hierarchy import ArrayNode

__all__ = ["ReferenceHierarchy", "make_references"]

# Codecs by their names in version 2 and 3; imagecodecs registers its codecs with numcodecs.
_V2: Final[dict[str, dict[str, Any] | None]] = {
    "none": None,
    "deflate": {"id": "zlib", "level": 1},
    "zstd": {"id": "zstd", "level": 1},
    "lzw": {"id": "imagecodecs_lzw"},
    "packbits": {"id": "imagecodecs_packbits"},
}
_V3: Final[dict[str, list[dict[str, Any]]]] = {
    "none": [],
    "deflate": [{"name": "numcodecs.zlib", "configuration": {"level": 1}}],
    "zstd": [{"name": "zstd", "configuration": {"level": 1, "checksum": False}}],
}
_INTERLEAVED: Final = (0, 2, 3, 4, 1)
"""Memory order of T, C, Z, Y, X for interleaved samples."""


class _Stored(Pyramid):
    """The levels that a file stores, in its own chunks, with their byte ranges."""

    def __init__(self, view: ImageView, version: str) -> None:
        self.ranges: list[StoredRanges] = []
        levels = []
        for number, level in enumerate(view._image.levels):
            try:
                found = view._file.backend.stored_ranges(view.index, number)
                _check(found, version)
            except Unsupported as error:
                if number:
                    continue
                reason = str(error).rstrip(".")
                raise Unsupported(
                    f"{view.source_name}: image {view.index} cannot be read by byte ranges: "
                    f"{reason}. Use to_zarr(), or convert the file."
                ) from error
            self.ranges.append(found)
            levels.append(VirtualLevel(level.shape, found.chunk, number))
        super().__init__(view, levels)


def _check(ranges: StoredRanges, version: str) -> None:
    """Raise `Unsupported` unless this version of Zarr can describe the encoding of chunks."""
    if version == "0.4":
        if ranges.interleaved:
            raise Unsupported(
                "the samples of its pixels are interleaved, which Zarr version 2 cannot describe; "
                "use version=3"
            )
        return
    if ranges.predictor != 1 or ranges.compression not in _V3:
        what = "a predictor" if ranges.predictor != 1 else f"{ranges.compression} compression"
        raise Unsupported(f"Zarr version 3 has no codec for {what}; try version=2")


class ReferenceHierarchy(VirtualHierarchy):
    """The documents of a store whose chunks are byte ranges of files."""

    def pyramid(self, number: int) -> _Stored:
        """Return the stored levels of an image.

        Raises
        ------
        Unsupported
            Its full size cannot be read by byte ranges; the message has the reason.
        """
        found = self._stored.get(number)
        if found is None:
            found = self._stored[number] = _Stored(self.views[number], self.version)
        return found

    def level_count(self, number: int) -> int:
        """Return the number of stored levels that can be fetched by range."""
        return len(self.pyramid(number).levels)

    @cached_property
    def _stored(self) -> dict[int, _Stored]:
        return {}

    def _array_content(self, array: ArrayNode) -> dict[str, dict[str, Any]]:
        image = self.pyramid(array.image)
        level, ranges = image.levels[array.level], image.ranges[array.level]
        name, document = array_document(
            Level(level.shape, level.chunk),
            image.dtype,
            self.version,
            parse_compression(None),
        )
        if self.version == "0.4":
            document["dtype"] = ranges.dtype.str
            document["compressor"] = _V2[ranges.compression]
            if ranges.predictor == 2:
                document["filters"] = [_delta(ranges)]
            return {name: document, ".zattrs": {"_ARRAY_DIMENSIONS": dimension_names()}}
        codecs: list[dict[str, Any]] = []
        if ranges.interleaved:
            codecs.append({"name": "transpose", "configuration": {"order": list(_INTERLEAVED)}})
        order = {"endian": "big" if ranges.dtype.str[0] == ">" else "little"}
        plain = {"name": "bytes"}
        codecs.append(plain if ranges.dtype.itemsize == 1 else {**plain, "configuration": order})
        document["codecs"] = codecs + _V3[ranges.compression]
        return {name: document}

    def references(self) -> dict[str, tuple[str, int, int]]:
        """Return file, offset and length of every stored chunk, by key."""
        found: dict[str, tuple[str, int, int]] = {}
        mark = "/c/" if self.version == "0.5" else "/"
        for key, array in self._arrays.items():
            image = self.pyramid(array.image)
            locate = image.ranges[array.level].locate
            for t, c, z, y, x in product(*map(range, image.levels[array.level].counts)):
                where = locate((t, c, z, y, x))
                if where is not None:
                    found[f"{key}{mark}{t}/{c}/{z}/{y}/{x}"] = where
        return found


def _delta(ranges: StoredRanges) -> dict[str, Any]:
    """Return the filter that reverses TIFF's predictor 2: differences along x."""
    return {
        "id": "imagecodecs_delta",
        "axis": -1,
        "dist": 1,
        "shape": list(ranges.chunk),
        "dtype": ranges.dtype.str,
    }


def make_references(
    views: Sequence[ImageView], version: Literal[2, 3] = 2, url: str | None = None
) -> dict[str, Any]:
    """Return the content of a reference file; see `ImageView.to_references`."""
    source = views[0]._file.source
    if source.path is None and source.url is None:
        raise Unsupported(
            f"{source.name}: bytes and open files have no path or URL for references. Open the "
            "image by its path or URL."
        )
    hierarchy = ReferenceHierarchy(views, version)
    chunks = hierarchy.references()
    named = _names(sorted({name for name, _, _ in chunks.values()}), url)
    refs: dict[str, Any] = {}
    for key in hierarchy.document_keys():
        data = hierarchy.document(key)
        if data is not None:
            refs[key] = data.decode()
    for key, (name, offset, length) in chunks.items():
        refs[key] = [named[name], offset, length]
    return {"version": 1, "refs": refs}


def _names(files: Sequence[str], url: str | None) -> dict[str, str]:
    """Return the name of each file in the references."""
    if url is None:
        return {name: _as_url(name) for name in files}
    if url.endswith("/"):
        return {name: url + name.replace("\\", "/").rsplit("/", 1)[-1] for name in files}
    if len(files) > 1:
        raise BadArgument(
            f"url={url!r}: the data set has {len(files)} files; give the URL of their folder, "
            "with a slash at its end."
        )
    return dict.fromkeys(files, url)


def _as_url(name: str) -> str:
    if "://" in name:
        return name
    return f"file://{Path(name).absolute().as_posix()}"
