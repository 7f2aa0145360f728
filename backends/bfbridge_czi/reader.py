"""CZI reader: the same scenes as in Bio-Formats; subblocks are decoded into the result."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from bfbridge.backend import (
    Channel,
    Image,
    Level,
    Modulo,
    OpenOptions,
    Placement,
    Region,
)
from bfbridge.errors import (
    LimitExceeded,
    ReadFailed,
    UnreadableFile,
    Unsupported,
)
from bfbridge.ome.documents.xml_tree import Element, descendants, first, first_text, parse_tree
from bfbridge.reader_base import FileReader, plane_parts
from bfbridge_czi.codecs import DamagedSubblock
from bfbridge_czi.layout import PixelKind, Scene, ScenePlan, plan_scenes, scene_rectangles
from bfbridge_czi.metadata import color_of, original_entries, read_metadata
from bfbridge_czi.pixels import BlockCache, TileReader
from bfbridge_czi.segments import Attachment, CziFile

if TYPE_CHECKING:
    from bfbridge.backend import Role
    from bfbridge.storage.source import Source

__all__ = ["CziReader"]

# The attachments that are associated images, as in ZeissCZIReader.
_PICTURES: Final[dict[str, tuple[str, Role]]] = {
    "Label": ("label image", "label"),
    "SlidePreview": ("macro image", "macro"),
}
_AUTOSTITCH: Final = "zeissczi.autostitch"
_LEAST_CACHE: Final = 64 << 20
_MOST_CACHE: Final = 256 << 20


class CziReader(FileReader):
    """One open CZI file. Made by `open`."""

    name: ClassVar[str] = "czi"
    leaves_options: ClassVar[bool] = True
    option_names: ClassVar[tuple[str, ...]] = ("zeissczi.autostitch",)

    def read_structure(self, options: OpenOptions) -> list[Image]:
        """Read the scenes, then the label and the macro image; see `FileReader`."""
        if sys.byteorder != "little":
            raise Unsupported("CZI files are read on little-endian machines only")
        _check_alone(self.source)
        self._file = CziFile(self.access, self.source.name, self.limits)
        grouped = options.group_files is not False
        stitch = _is_stitched(options.backend_options)
        plan = plan_scenes(self._file, grouped=grouped, stitched=stitch)
        self.rectangles = scene_rectangles(self._file.blocks)
        self._kind, self._scenes = plan.kind, plan.images
        pictures = self._pictures()
        stitched = {scene.number: scene for scene in self._scenes}
        places = sum(len(scene.levels) for scene in stitched.values()) + len(pictures)
        self._tree = self._metadata_tree()
        self._metadata = read_metadata(self._tree, places)
        if _is_palm(self._tree, len(self._file.blocks)):
            raise Unsupported("a CZI file of PALM data")
        self._readers: list[list[TileReader]] = []
        images = self._describe_scenes(plan, len(stitched) + len(pictures))
        for picture, (title, role) in pictures:
            images.append(self._describe_picture(picture, title, role))
        return images

    def _metadata_tree(self) -> Element | None:
        xml = self._file.metadata_xml()
        if not xml:
            return None
        return parse_tree(xml, f"{self.source.name}: its metadata", self.limits)

    # ---- records

    def _describe_scenes(self, plan: ScenePlan, images: int) -> list[Image]:
        (dtype, samples), scenes = plan.kind, plan.images
        metadata = self._metadata
        # Brightfield slides are white where nothing was scanned.
        fill = 255 if samples > 1 and any(len(scene.levels) > 1 for scene in scenes) else 0
        cache = BlockCache(_cache_bytes(self._scenes, self._kind))
        found: list[Image] = []
        for scene in scenes:
            readers = [
                TileReader(self._file, self._kind, tiles, fill, cache) for tiles in scene.levels
            ]
            self._readers.append(readers)
            levels = tuple(
                Level(scene.shape(level, samples), (1, samples, 1, *reader.chunk))
                for level, reader in enumerate(readers)
            )
            found.append(
                Image(
                    name=metadata.name_of(scene.number, plan.scenes, images),
                    levels=levels,
                    dtype=dtype,
                    samples=samples,
                    interleaved=samples > 1,
                    pixel_size=metadata.pixel_size,
                    channels=tuple(metadata.channel(c, samples) for c in range(scene.sizes[1])),
                    significant_bits=8 * dtype.itemsize,
                    placement=Placement(scene.number, *scene.origin),
                )
            )
        if metadata.bits is not None and metadata.bits > 0:
            # ZeissCZIReader reports the camera's bits for the first image only.
            found[0] = replace(found[0], significant_bits=metadata.bits)
        return found

    def _pictures(self) -> list[tuple[CziFile, tuple[str, Role]]]:
        """Open the label and the macro image, which are CZI files in attachments."""
        found: dict[str, CziFile] = {}
        for attachment in sorted(self._file.attachments, key=_position):
            if attachment.name in _PICTURES and attachment.name not in found:
                if attachment.kind != "CZI":
                    raise Unsupported(f"a CZI file whose {attachment.name} is no CZI file")
                part = self._file.attachment_data(attachment)
                found[attachment.name] = CziFile(
                    part, f"{self.source.name}: attachment {attachment.name}", self.limits
                )
        return [(file, _PICTURES[name]) for name, file in found.items()]

    def _describe_picture(self, file: CziFile, title: str, role: Role) -> Image:
        kind, scenes, _ = plan_scenes(file)
        scene = scenes[0]
        if len(scenes) > 1 or scene.sizes != (1, 1, 1):
            raise Unsupported("a CZI file whose label or macro image has several planes")
        cache = BlockCache(_LEAST_CACHE)
        reader = TileReader(file, kind, scene.levels[0], 0, cache)
        self._readers.append([reader])
        xml = file.metadata_xml()
        tree = parse_tree(xml, f"{file.name}: its metadata", self.limits) if xml else None
        bits = read_metadata(tree, 1).bits
        samples = kind.samples
        return Image(
            name=title,
            levels=(Level(scene.shape(0, samples), (1, samples, 1, *reader.chunk)),),
            dtype=kind.dtype,
            samples=samples,
            interleaved=samples > 1,
            pixel_size=self._metadata.pixel_size,
            channels=(Channel(samples=samples),),
            role=role,
            photo=role == "label",
            significant_bits=bits or 8 * kind.dtype.itemsize,
        )

    # ---- pixels

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` with a region; see `ReaderBackend.read`.

        Raises
        ------
        ReadFailed
            A subblock is damaged or truncated; the message names it.
        """
        self.check_open()
        samples = self._images[region.image].samples
        scene = self._scenes[region.image] if region.image < len(self._scenes) else None
        reader = self._readers[region.image][region.level]
        corner = region.start[3], region.start[4]
        for t, channel, z, wanted, pixels in plane_parts(region, out, samples):
            plane = 0 if scene is None else scene.plane(t, channel, z)
            try:
                self._fill(reader, plane, corner, wanted.start, np.moveaxis(pixels, 0, -1))
            except (DamagedSubblock, LimitExceeded) as error:
                limited = isinstance(error, LimitExceeded)
                raise (LimitExceeded if limited else ReadFailed)(
                    f"{self.source.name}: image {region.image}, level {region.level}, "
                    f"plane z {z}, c {channel}, t {t}: {str(error).rstrip('.')}."
                ) from error

    def _fill(
        self, reader: TileReader, plane: int, corner: tuple[int, int], first: int, box: Any
    ) -> None:
        """Fill a box of shape (Y, X, samples), which may exclude samples of the pixels."""
        if box.shape[2] == reader.samples:
            reader.read(plane, *corner, box)
            return
        pixels = np.empty((*box.shape[:2], reader.samples), box.dtype)
        reader.read(plane, *corner, pixels)
        box[...] = pixels[:, :, first : first + box.shape[2]]

    def reads_parts(self, image: int, level: int) -> bool:
        """Whether the tiles of a level are uncompressed."""
        return self._readers[image][level].reads_parts

    # ---- metadata

    def lookup_table(self, image: int, channel: int = 0) -> np.ndarray[Any, Any] | None:
        """Return a colour ramp from black to the channel's colour, as ZeissCZIReader does.

        Only grey images of 8 and 16 bits have one.
        """
        if image >= len(self._scenes) or not self._indexed(image):
            return None
        dtype = self._kind.dtype
        channels = self._metadata.channels
        color = color_of(channels[channel].color) if channel < len(channels) else None
        if color is None or dtype.kind != "u" or dtype.itemsize > 2:
            return None
        most = int(np.iinfo(dtype).max)
        ramp = np.arange(most + 1) / most
        ends = [int(most * (part / 255.0)) for part in color[:3]]
        return np.stack([(end * ramp).astype(np.int64) for end in ends]).astype(dtype)

    def _indexed(self, image: int) -> bool:
        # ZeissCZIReader counts levels as images: for a file with pyramids, only the first images
        # have colours.
        before = sum(len(scene.levels) for scene in self._scenes[:image])
        channels = self._metadata.channels
        colored = bool(channels) and channels[0].color is not None
        return colored and self._kind.samples == 1 and before < len(self._scenes)

    def modulo(self, image: int) -> Mapping[str, Modulo]:
        """Return the rotations, illuminations and phases that are folded into Z, C and T."""
        if image >= len(self._scenes):
            return {}
        return self._scenes[image].modulo

    def own_metadata(self) -> str | None:
        return self._file.metadata_xml() or None

    def make_xml(self) -> str:
        """Return the OME-XML, made from the file's metadata and those of its subblocks."""
        from bfbridge_czi.document import document_xml

        # `document_xml` changes the positions.
        metadata = read_metadata(self._tree, len(self._metadata.positions))
        try:
            return document_xml(self._file, metadata, self._scenes, self._images)
        except UnreadableFile as error:
            raise ReadFailed(f"{self.source.name}: {error}") from error

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """Every text and attribute of the file's XML, under its path."""
        root = self._metadata.root
        if root is None:
            return {}
        return dict(sorted(original_entries(root, self.source.name, self.limits).items()))


def _is_stitched(options: Mapping[str, Any]) -> bool:
    """Whether the tiles of a mosaic make one image: Bio-Formats' option ``zeissczi.autostitch``.

    Raises
    ------
    Unsupported
        The value is neither true nor false.
    """
    value = str(options.get(_AUTOSTITCH, True)).lower()
    if value not in ("true", "false"):
        raise Unsupported(f"{_AUTOSTITCH} is neither true nor false")
    return value == "true"


def _position(attachment: Attachment) -> int:
    return attachment.position


def _cache_bytes(scenes: Sequence[Scene], kind: PixelKind) -> int:
    """Return the bytes of one row of decoded mosaic tiles, which the next row needs again."""
    most = 0
    for scene in scenes:
        tiles = scene.levels[0]
        most = max(most, tiles.width * int(tiles.rows.max()))
    wanted = 2 * most * kind.samples * kind.dtype.itemsize
    return min(max(wanted, _LEAST_CACHE), _MOST_CACHE)


def _check_alone(source: Source) -> None:
    """Refuse a file that is split: ``name (1).czi`` is beside ``name.czi``."""
    if source.path is None:
        return
    stem = source.path.stem
    begins = (f"{stem}(", f"{stem} (")
    try:
        names = os.listdir(source.path.parent)
    except OSError:
        # The file can be read but not its folder: other parts could not be found either.
        return
    for name in names:
        if name.startswith(begins) and name[name.rfind("(") + 1 : name.rfind(")")].isdigit():
            raise Unsupported(f"a CZI file that may be split: {name} is beside it")
    master = stem[: stem.rfind("(")].rstrip(" ") if stem.endswith(")") else ""
    if master and f"{master}.czi" in names:
        raise Unsupported(f"a CZI file that may be a part of {master}.czi")


def _is_palm(tree: Element | None, blocks: int) -> bool:
    """Whether a file contains PALM data, whose planes ZeissCZIReader sorts differently."""
    if tree is None or blocks > 2:
        return False
    attributes = first(tree, "CustomAttributes")
    tags = () if attributes is None else descendants(attributes, "LsmTag")
    if any(tag.get("Name", "").lower().startswith("palm") for tag in tags):
        return True
    setup = first(first(tree, "Experiment"), "MultiTrackSetup")
    return (first_text(setup, "PalmSlider") or "").strip().lower() == "true"
