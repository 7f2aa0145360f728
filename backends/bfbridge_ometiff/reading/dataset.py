"""From a source to a data set: find its OME-XML, list its files, describe its images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from xml.parsers.expat import ExpatError

from bfbridge.backend import Channel, Image, Level, OpenOptions, Role
from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.limits import Limits, check
from bfbridge.ome.documents.xml import (
    OmeDocument,
    OmeImage,
    TiffData,
    looks_like_ome_xml,
    parse_ome_xml,
)
from bfbridge.ome.pixel_types import pixel_type_of
from bfbridge.ome.roles import ImageRole, roles_in_xml
from bfbridge.storage.source import Source
from bfbridge.tiff.tags import Tag
from bfbridge_ometiff.reading.files import FileSet, OpenTiff, companion, inside_name
from bfbridge_ometiff.reading.planes import (
    ABSENT,
    ImagePlan,
    PlaneMap,
    Samples,
    contradiction,
    map_planes,
    samples_of,
)
from bfbridge_ometiff.structure.jpeg_header import check_colors
from bfbridge_ometiff.structure.segment_layout import SegmentLayout, check_samples

__all__ = ["Dataset", "open_dataset"]


COMPANION_SUFFIX: Final = "companion.ome"
# References to control characters.
_CHARACTER_REFERENCE: Final = re.compile(
    r"&#(?:0*(?:[0-8]|1[124-9]|2\d|3[01])|[xX]0*(?:[0-8bBcCeEfF]|1[0-9a-fA-F]));"
)
# Names of the associated images of a slide in files of Bio-Formats' converters.
_ROLES: Final[Mapping[str, Role]] = {
    "label": "label",
    "label image": "label",
    "macro": "macro",
    "macro image": "macro",
    "thumbnail": "thumbnail",
    "thumbnail image": "thumbnail",
}


@dataclass(frozen=True, slots=True)
class Dataset:
    """Everything that a reader needs.

    Attributes
    ----------
    plans
        One for each image.
    files
        The files that contain planes.
    xml
        The stored OME-XML, or None for a plain TIFF.
    used_files
        Names of all files; the opened file is first.
    first_file
        Number of the file whose first directory is used for all files, as in OMETiffReader.
    """

    plans: tuple[ImagePlan, ...]
    files: FileSet
    xml: str | None
    used_files: tuple[str, ...]
    first_file: int


def open_dataset(source: Source, options: OpenOptions) -> Dataset:
    """Read the metadata of an OME-TIFF data set, but no pixels.

    Raises
    ------
    Unsupported
        It is not OME-TIFF, or not supported by this backend.
    UnreadableFile, LimitExceeded
        It is damaged or hostile, or its metadata file is missing.
    """
    limits = options.limits
    if source.filename.lower().endswith(COMPANION_SUFFIX):
        xml, anchor, main = _whole_text(source, limits), source, None
    else:
        main = OpenTiff(source, limits)
    try:
        if main is not None:
            _check_first(main)
            found = _description(main)
            if found is None:
                return _plain(main, options)
            xml, anchor = found, source
        document = _parse(xml, anchor, limits)
        if document.binary_only is not None:
            anchor, xml = _metadata_file(source, document, options)
            document = _parse(xml, anchor, limits)
        if not document.images:
            raise Unsupported("its OME-XML describes no pixels")
        files = FileSet(main, anchor, limits, allow_outside=options.allow_outside)
        try:
            dataset = _Builder(source, anchor, document, files, options).build(xml)
            files.settle()
            return dataset
        except BaseException:
            files.close()
            raise
    except BaseException:
        if main is not None:
            main.close()
        raise


def _check_first(tiff: OpenTiff) -> None:
    """Refuse a first directory that no reader can interpret, before another backend tries."""
    directory = tiff.directory(0)
    entry = directory.entries.get(Tag.SamplesPerPixel)
    if entry is not None and entry.kind in (3, 4):
        check_samples(directory.number(Tag.SamplesPerPixel, 1), f"{tiff.name}: directory 0")


def _plain(tiff: OpenTiff, options: OpenOptions) -> Dataset:
    """Return a TIFF without OME-XML as a data set."""
    from bfbridge_ometiff.reading.aperio import SUFFIX, aperio_images
    from bfbridge_ometiff.reading.plain import plain_images

    try:
        slide = tiff.source.filename.lower().endswith(SUFFIX)
        plans = aperio_images(tiff, thumbnail=options.thumbnails) if slide else plain_images(tiff)
    except Unsupported as error:
        raise Unsupported(
            f"there is no OME-XML in its first directory, and it is {error}"
        ) from error
    files = FileSet(tiff, tiff.source, options.limits, allow_outside=options.allow_outside)
    files.settle()
    return Dataset(tuple(plans), files, None, (tiff.name,), 0)


def _description(tiff: OpenTiff) -> str | None:
    """Return the OME-XML of a file's first directory, or None if it has none."""
    text = tiff.directory(0).text(Tag.ImageDescription)
    if not looks_like_ome_xml(text) or not text.rstrip(b"\0 \t\r\n").endswith(b">"):
        return None
    return _decode(text)


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8-sig").strip("\0 \t\r\n")
    except UnicodeDecodeError:
        return text.decode("latin-1").strip("\0 \t\r\n")


def _parse(xml: str, source: Source, limits: Limits) -> OmeDocument:
    """Parse a document.

    Raises
    ------
    Unsupported
        It is well-formed except for characters that XML does not allow, which Bio-Formats removes.
    UnreadableFile
        It is damaged. Bio-Formats would read the file as a plain TIFF, with planes in file order.
    """
    try:
        return parse_ome_xml(xml, source.name, limits)
    except UnreadableFile as error:
        cause = error.__cause__
        if not isinstance(cause, (ExpatError, UnicodeEncodeError)):
            raise
        from bfbridge.ome.documents.model import without_forbidden

        # XMLTools.sanitizeXML of Bio-Formats.
        clean = _CHARACTER_REFERENCE.sub(" ", without_forbidden(xml))
        if clean == xml:
            raise
        parse_ome_xml(clean, source.name, limits)
        raise Unsupported("its OME-XML contains characters that XML does not allow") from error


def _whole_text(source: Source, limits: Limits) -> str:
    access = source.open()
    try:
        check(access.size, limits.xml_bytes, "OME-XML length in bytes", source.name)
        return _decode(bytes(access.read_at(0, access.size)))
    finally:
        access.close()


def _metadata_file(
    source: Source, document: OmeDocument, options: OpenOptions
) -> tuple[Source, str]:
    """Return the companion of a binary-only file, and the OME-XML in it."""
    if document.binary_only is None:
        raise Unsupported("it is not binary-only")
    name = document.binary_only.metadata_file
    found = companion(source, name, allow_outside=options.allow_outside)
    if not found.exists():
        raise UnreadableFile(
            f"{source.name}: its metadata is in the file {name!r}, which is missing. Put it in the "
            "same folder."
        )
    if found.head(4)[:2] not in (b"II", b"MM"):
        return found, _whole_text(found, options.limits)
    tiff = OpenTiff(found, options.limits)
    try:
        xml = _description(tiff)
    finally:
        tiff.close()
    if xml is None:
        raise UnreadableFile(
            f"{found.name}: {source.name} names it as its metadata file, but it contains none."
        )
    return found, xml


class _Builder:
    """Converts a document to plans."""

    def __init__(
        self,
        source: Source,
        anchor: Source,
        document: OmeDocument,
        files: FileSet,
        options: OpenOptions,
    ) -> None:
        self._source = source
        self._anchor = anchor
        self._document = document
        self._files = files
        self._options = options
        # Whether the document is in the opened file, so that "this file" means that file.
        self._own = anchor is source and not source.filename.lower().endswith(COMPANION_SUFFIX)
        self._has_folder = source.path is not None or source.url is not None
        self._uuid = document.uuid
        # If all planes are in one file, it is this file, whatever its name is now.
        targets = {(d.file_name, d.uuid) for image in document.images for d in image.tiff_data}
        self._alone = len(targets) == 1
        self._known: dict[tuple[str | None, str | None], int] = {}
        self._exists: dict[int, bool] = {0: True} if self._own else {}

    def build(self, xml: str) -> Dataset:
        try:
            return self._build(xml)
        except Unsupported:
            # Another reader would return black planes for missing files and directories.
            self._check_parts()
            raise

    def _build(self, xml: str) -> Dataset:
        maps: list[PlaneMap] = []
        counts: list[Samples] = []
        first_layout: SegmentLayout | None = None
        first_file = planes = 0
        adjusted = False
        for index, image in enumerate(self._document.images):
            if not image.tiff_data and not (self._own and len(self._document.images) == 1):
                raise self._contradiction(index, "has no TiffData")
            if first_layout is None:
                first_file = 0 if self._own else self._file_of(image.tiff_data[0])
                with self._files.opened(first_file) as tiff:
                    first_layout = tiff.layout(0)
            planes += image.size_t * image.size_c * image.size_z
            check(planes, self._options.limits.planes, "number of planes", self._source.name)
            samples, plane_map = self._mapped(index, image, first_layout.samples, adjusted)
            adjusted = samples.adjusted
            counts.append(samples)
            maps.append(plane_map)
        if len(self._known_numbers()) > 1 and self._options.group_files is False:
            raise Unsupported("group_files=False with a file of a set")
        self._check_gaps(maps, counts)
        self._check_chain(maps)
        roles = roles_in_xml(xml, [image.id for image in self._document.images])
        plans = tuple(
            self._plan(index, image, counts[index], maps[index], roles[index])
            for index, image in enumerate(self._document.images)
        )
        return Dataset(plans, self._files, xml, self._used_files(), first_file)

    def _contradiction(self, index: int, what: str) -> UnreadableFile:
        return contradiction(self._anchor.name, index, what)

    def _mapped(
        self, index: int, image: OmeImage, stored: int, adjusted: bool
    ) -> tuple[Samples, PlaneMap]:
        """Return the structure of an image's C axis, and the positions of its planes."""
        try:
            samples = samples_of(image, stored, index, adjusted=adjusted)
        except Unsupported:
            # Many writers declare the samples of RGB pixels as channels of one sample each.
            if image.size_c % stored == 0:
                counted = Samples(image.size_c // stored, stored, adjusted=True)
                planes = self._complete(index, image, counted.channels)
                if planes is not None:
                    return counted, planes
            if self._complete(index, image, image.size_c) is None:
                raise self._contradiction(
                    index,
                    f"has {image.size_c} channels in {len(image.channels)} Channel elements, which "
                    f"do not fit its TiffData and the {stored} samples a pixel of its TIFF",
                ) from None
            raise
        return samples, self._map(index, image, samples.channels)

    def _map(self, index: int, image: OmeImage, channels: int) -> PlaneMap:
        return map_planes(image, index, channels, self._file_of, self._anchor.name)

    def _complete(self, index: int, image: OmeImage, channels: int) -> PlaneMap | None:
        """Return the positions of these channels' planes, or None if TiffData do not name all."""
        try:
            planes = self._map(index, image, channels)
        except (Unsupported, UnreadableFile):
            return None
        return None if ABSENT in planes.files else planes

    def _check_parts(self) -> None:
        """Check all files and directories that the document names.

        Raises
        ------
        UnreadableFile
            One is missing.
        """
        last: dict[int, int] = {}
        for image in self._document.images:
            for data in image.tiff_data:
                number, ifd = self._file_of(data), (data.ifd or 0) + (data.plane_count or 1) - 1
                last[number] = max(last.get(number, 0), ifd)
        for number, ifd in last.items():
            if not ifd and self._is_there(number):
                continue
            with self._files.opened(number) as tiff:
                # OMETiffReader does not number thumbnails.
                count = tiff.tiff.count() - len(tiff.tiff.skipped)
                if ifd >= count:
                    raise UnreadableFile(
                        f"{tiff.name}: its metadata name directory {ifd}, but it has {count}; it "
                        "is truncated or its metadata is wrong."
                    )

    def _known_numbers(self) -> set[int]:
        return set(self._known.values())

    def _file_of(self, data: TiffData) -> int:
        """Return the number of the file that a TiffData refers to, as in OMETiffReader."""
        key = (data.file_name, data.uuid)
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = self._find(data)
        return number

    def _find(self, data: TiffData) -> int:
        if data.uuid is None and data.file_name is None:
            return self._this_file()
        if data.file_name is not None and not self._options.allow_outside:
            inside_name(self._anchor, data.file_name)
        if self._own and data.uuid is not None and data.uuid == self._uuid:
            # The identifier is that of the opened file, whatever its name was when it was written.
            return 0
        if self._own and self._uuid is None and self._alone and not self._has_folder:
            return 0
        number = None if data.file_name is None else self._files.find(data.file_name)
        if number is not None and self._is_there(number):
            if number == 0 and self._uuid is None:
                self._uuid = data.uuid
            return number
        if self._own and self._alone and (self._uuid is None or number is None):
            return 0
        if number is None:
            raise UnreadableFile(
                f"{self._anchor.name}: it names planes of a file with the UUID {data.uuid!r}, but "
                "not the name of that file; its metadata is damaged."
            )
        return number

    def _this_file(self) -> int:
        if not self._own:
            raise UnreadableFile(
                f"{self._anchor.name}: it has a TiffData that names no file, though the file is "
                "metadata alone; it is damaged."
            )
        return 0

    def _is_there(self, number: int) -> bool:
        if number not in self._exists:
            self._exists[number] = self._files.exists(number)
        return self._exists[number]

    def _check_gaps(self, maps: list[PlaneMap], counts: list[Samples]) -> None:
        """Refuse a single file with planes that no TiffData names.

        Raises
        ------
        Unsupported
            OMETiffReader then counts directories, and the result fits the planes that are named.
            UnreadableFile
            The result would not fit.
        """
        if len(self._known_numbers()) > 1:
            return
        for index, planes in enumerate(maps):
            if ABSENT not in planes.files:
                continue
            named = sum(number != ABSENT for number in planes.files)
            with self._files.opened(0) as tiff:
                count = tiff.tiff.count() - len(tiff.tiff.skipped)
            if len(maps) == 1 and _fits_when_counted(planes, count, counts[index]):
                raise Unsupported(f"image {index} has planes that no TiffData names")
            raise self._contradiction(
                index,
                f"names {named:,} of its {len(planes.files):,} planes, which its {count:,} "
                "directories do not explain",
            )

    def _check_chain(self, maps: list[PlaneMap]) -> None:
        """Read the chain of directories of the opened file as far as planes need it."""
        if not self._own:
            return
        last = max(
            (
                ifd
                for planes in maps
                for number, ifd in zip(planes.files, planes.ifds, strict=True)
                if number == 0
            ),
            default=0,
        )
        with self._files.opened(0) as tiff:
            if tiff.is_local:
                tiff.tiff.walk_available(last)
            if any(position <= last for position in tiff.tiff.skipped) and last > 0:
                # OMETiffReader numbers directories without these; the specification includes them.
                raise Unsupported("thumbnail directories between its planes")

    def _plan(
        self, index: int, image: OmeImage, samples: Samples, planes: PlaneMap, role: ImageRole
    ) -> ImagePlan:
        if image.dimension_order != "XYZCT" and self._is_omero_export(image):
            raise Unsupported("an OMERO export with a wrong dimension order")
        layout, levels = self._levels(index, image, samples, planes)
        self._check_type(index, image, layout)
        total = samples.channels * samples.per_pixel
        stored = image.channels[: samples.channels]
        channels = [
            Channel(c.name, c.color, c.emission, c.excitation, samples.per_pixel) for c in stored
        ]
        missing = samples.channels - len(channels)
        channels += [Channel(samples=samples.per_pixel)] * missing
        if index and role.role == "image":
            known = _ROLES.get((image.name or "").strip().lower(), "image")
            role = ImageRole(known, photo=known == "label")
        record = Image(
            name=image.name,
            levels=tuple(
                Level(
                    shape=(image.size_t, total, image.size_z, level.length, level.width),
                    chunk=(1, level.segment_samples, 1, *level.band),
                )
                for level in levels
            ),
            dtype=layout.dtype,
            byteorder="<" if layout.byteorder == "<" else ">",
            samples=samples.per_pixel,
            interleaved=samples.per_pixel > 1 and not layout.planar,
            pixel_size=image.pixel_size,
            channels=tuple(channels),
            significant_bits=image.significant_bits,
            **role._asdict(),
            time_step=image.time_step,
        )
        return ImagePlan(record, planes)

    @staticmethod
    def _is_omero_export(image: OmeImage) -> bool:
        named = bool(image.channels) and image.channels[0].name is not None
        return not named and "__omero_export" in (image.tiff_data[0].file_name or "")

    def _levels(
        self, index: int, image: OmeImage, samples: Samples, planes: PlaneMap
    ) -> tuple[SegmentLayout, list[SegmentLayout]]:
        """Return the layout of an image's first available plane, and of all its levels."""
        place = next(
            (
                (number, ifd)
                for number, ifd in zip(planes.files, planes.ifds, strict=True)
                if number != ABSENT and self._is_there(number)
            ),
            None,
        )
        if place is None:
            raise UnreadableFile(
                f"{self._source.name}: none of the files that contain image {index} exists; the "
                f"first is {image.tiff_data[0].file_name!r}. Put them in the same folder."
            )
        number, ifd = place
        with self._files.opened(number) as tiff:
            layout = tiff.layout(ifd)
            entry = tiff.directory(ifd).entries.get(Tag.SubIFDs)
            below = 0 if entry is None else entry.values
            where = f"{tiff.name}: directory {ifd}"
            check(below + 1, self._options.limits.levels, "number of resolutions", where)
            levels = [layout, *(tiff.layout(ifd, sub) for sub in range(below))]
            for level in levels:
                check_colors(tiff, level)
        if (layout.width, layout.length) != (image.size_x, image.size_y):
            sizes = f"{image.size_x} x {image.size_y}", f"{layout.width} x {layout.length}"
            if image.size_x > layout.width or image.size_y > layout.length:
                raise self._contradiction(index, f"has {sizes[0]} pixels, its TIFF {sizes[1]}")
            # OMETiffReader reads the top left part.
            raise Unsupported(
                f"image {index} is {sizes[0]} in the OME-XML and {sizes[1]} in the TIFF"
            )
        for number, level in enumerate(levels):
            if (level.samples, level.dtype) != (samples.per_pixel, layout.dtype):
                raise self._contradiction(
                    index,
                    f"has pixels of {samples.per_pixel} x {layout.dtype}, level {number} of its "
                    f"TIFF has {level.samples} x {level.dtype}",
                )
        return layout, levels

    def _check_type(self, index: int, image: OmeImage, layout: SegmentLayout) -> None:
        # OMETiffReader uses the type in the TIFF for the first image, and the type in the XML for
        # the other images, whatever the bytes are.
        if index and image.pixel_type != pixel_type_of(layout.dtype):
            raise self._contradiction(
                index, f"has pixels of type {image.pixel_type}, its TIFF {layout.dtype}"
            )

    def _used_files(self) -> tuple[str, ...]:
        names = self._files.names
        used = [self._source.name, self._anchor.name]
        used += [names[number] for number in sorted(self._exists) if self._exists[number]]
        return tuple(dict.fromkeys(used))


def _fits_when_counted(planes: PlaneMap, count: int, samples: Samples) -> bool:
    """Whether consecutive planes are consecutive directories, as OMETiffReader then assumes.

    It uses the sizes of the document if there are enough directories; otherwise only the axis that
    has as many positions as there are directories.
    """
    placed = zip(planes.files, planes.ifds, strict=True)
    if any(number != ABSENT and ifd != place for place, (number, ifd) in enumerate(placed)):
        return False
    if count >= len(planes.files):
        return True
    if samples.per_pixel > 1 or samples.adjusted:
        return False
    axes = zip(planes.sizes, planes.strides, strict=True)
    return count == 1 or next((stride == 1 for size, stride in axes if size == count), False)
