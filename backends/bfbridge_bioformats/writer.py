"""Writing through Bio-Formats: formats that only it writes, and OME-TIFF if requested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bfbridge.backend import Image, ImageSpec, Shape5, WriterBackend
from bfbridge.errors import BadArgument, BfbridgeError, Closed, Unsupported, WriteFailed
from bfbridge.runtime.writer_options import refuse_unknown
from bfbridge_bioformats.isolation.plane_buffer import PlaneBuffer
from bfbridge_bioformats.readers.failures import write_failure
from bfbridge_bioformats.readers.pixels import JAVA_ARRAY_LIMIT, JAVA_NAMES
from bfbridge_bioformats.runtime.calls import call, check_wanted
from bfbridge_bioformats.runtime.machine import machine

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["BioFormatsWriter", "writable_suffixes"]

_CHUNK = 1024
"""Sides of a block, and of a tile of an OME-TIFF, as in bfio."""
# Seconds for which an interrupted caller waits until Java has closed the file.
_PATIENCE = 3.0
# The 32-bit offsets of TIFF do not reach further; headers and directories need some space.
_BIG_TIFF = 3_900_000_000
_OME_TIFF = (".ome.tif", ".ome.tiff", ".ome.tf2", ".ome.tf8", ".ome.btf")
# These keep all metadata and every image unchanged, so they are not compared after writing.
_PLAIN_TIFF = (".tif", ".tiff", ".tf2", ".tf8", ".btf")
_WHOLE = (*_OME_TIFF, ".ome", ".ome.xml")
_LOSSY = ("JPEG", "JPEG-2000 Lossy")
_LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jpe")


class BioFormatsWriter(WriterBackend):
    """One file being written through Java. See `bfbridge.backend.WriterBackend`.

    Java's writers need whole planes in order, so blocks are stored in a temporary file beside the
    target until `finish`. A file in a lossless format is then read again and compared: several
    of Bio-Formats' writers accept pixels that their format cannot store.
    """

    name: ClassVar[str] = "bioformats"
    option_names: ClassVar[tuple[str, ...]] = ("compression",)

    def __init__(
        self, target: Path, images: Sequence[ImageSpec], ome: OME, options: Mapping[str, Any]
    ) -> None:
        self._target = target
        self._images = images
        self._ome = ome
        self._compression: str | None = options.get("compression")
        self._planes: PlaneBuffer | None = PlaneBuffer(
            target.parent / f".{target.name}.spool", images
        )

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Refuse options other than ``compression``, the name of one of the format's codecs."""
        refuse_unknown(options, cls.option_names, "Bio-Formats")
        value = options.get("compression")
        if value is not None and not isinstance(value, str):
            raise BadArgument(f"compression={value!r}: give the name of a codec.")

    @classmethod
    def supports_levels(cls, target: str) -> bool:
        """Whether this is a name of OME-TIFF, the only format that Java writes with levels."""
        return target.lower().endswith(_OME_TIFF)

    @classmethod
    def default_chunk(cls, image: Image, options: Mapping[str, Any]) -> Shape5:
        """Return blocks of 1024 x 1024 with all samples of a pixel."""
        del options
        if image.dtype.name not in JAVA_NAMES:
            raise Unsupported(f"Bio-Formats does not support pixels of type {image.dtype}")
        _, _, _, y, x = image.levels[0].shape
        return (1, image.samples, 1, min(y, _CHUNK), min(x, _CHUNK))

    @classmethod
    def prepare(
        cls,
        target: Path,
        images: Sequence[ImageSpec],
        ome: OME | None,
        options: Mapping[str, Any],
    ) -> BioFormatsWriter:
        """Check that the format of the target's suffix can store the images, and start the file.

        Raises
        ------
        Unsupported
            It cannot; the message says what it can store.
        BadArgument
            There is no writer for the suffix, or no such codec.
        """
        from ome_types.model import Pixels_DimensionOrder

        cls.check(options)
        if ome is None:
            raise Unsupported(f"{target.name}: Bio-Formats cannot store pixels of this type.")
        stacks = call(partial(_check_format, target, images, options), target.name, "beginning it")
        planes = sum(_plane_count(spec.image) for spec in images)
        if planes > 1 and not stacks:
            raise Unsupported(f"{target.name}: this format holds one plane, not {planes}.")
        lowered = target.name.lower()
        if len(images) > 1 and not lowered.endswith(_WHOLE):
            raise Unsupported(f"{target.name}: this format holds one image, not {len(images)}.")
        if lowered.endswith(_PLAIN_TIFF) and not lowered.endswith(_WHOLE):
            # Its planes are numbered as in ImageJ, whatever the document says.
            ome = ome.model_copy(deep=True)
            for element in ome.images:
                element.pixels.dimension_order = Pixels_DimensionOrder.XYCZT
        return cls(target, images, ome, options)

    def write_block(
        self, image: int, level: int, index: Shape5, block: np.ndarray[Any, Any]
    ) -> None:
        """Store a block in the temporary file. Thread-safe."""
        self._open_spool().write(image, level, index, block)

    def read_block(self, image: int, level: int, index: Shape5) -> np.ndarray[Any, Any] | None:
        """Return a block written before, or None. Thread-safe."""
        return self._open_spool().read(image, level, index)

    def finish(self) -> None:
        """Write all planes with Java, in order, and compare the file with them.

        Raises
        ------
        WriteFailed
            Java's writer failed, or the format does not store these pixels unchanged.
        """
        spool = self._open_spool()
        # The caller of an interrupted call removes the folder that Java still writes to.
        call(partial(self._finish, spool), self._target.name, "finishing it", patience=_PATIENCE)
        self.abort()

    def _finish(self, spool: PlaneBuffer) -> None:
        with machine.attached():
            try:
                self._write(spool)
                if not self._target.name.lower().endswith(_WHOLE):
                    self._compare(spool)
            except BfbridgeError:
                raise
            except Exception as error:
                raise write_failure(error, str(self._target), "finishing the file") from error

    def abort(self) -> None:
        """Remove the temporary file."""
        spool, self._planes = self._planes, None
        if spool is not None:
            spool.close()

    def _open_spool(self) -> PlaneBuffer:
        if self._planes is None:
            raise Closed(f"{self._target.name}: this writer is already finished.")
        return self._planes

    def _write(self, spool: PlaneBuffer) -> None:
        levels = max(len(spec.image.levels) for spec in self._images)
        java = _java_writer(self._target, levels)
        try:
            java.setMetadataRetrieve(self._store())
            codec = _codec(java, self._compression, self._target)
            if codec is not None:
                java.setCompression(codec)
            tiled = self._target.name.lower().endswith(_OME_TIFF)
            if tiled:
                height, width = self._tile()
                java.setTileSizeX(width)
                java.setTileSizeY(height)
                if codec is None:
                    java.setCompression("zlib")
            java.setInterleaved(True)
            java.setWriteSequentially(True)
            if _bytes(self._images) > _BIG_TIFF and hasattr(java, "setBigTiff"):
                java.setBigTiff(True)
            java.setId(str(self._target))
            for number, spec in enumerate(self._images):
                java.setSeries(number)
                for level in range(len(spec.image.levels)):
                    if levels > 1:
                        java.setResolution(level)
                    for plane, position in enumerate(self._positions(number)):
                        check_wanted()
                        pixels = spool.plane(number, level, *position)
                        if tiled:
                            _save_tiles(java, plane, pixels, (height, width))
                        else:
                            java.saveBytes(plane, machine.bytes(_plane_data(pixels)))
        finally:
            java.close()

    def _tile(self) -> tuple[int, int]:
        """Return rows and columns of a tile: 1024, or less for small images."""
        shapes = [spec.image.levels[0].shape for spec in self._images]
        height, width = (max(shape[axis] for shape in shapes) for axis in (3, 4))
        return _tile_side(height), _tile_side(width)

    def _store(self) -> Any:
        """Return the metadata store for Java's writers; pixels are little-endian there."""
        ome = self._ome.model_copy(deep=True)
        for spec, element in zip(self._images, ome.images, strict=True):
            element.pixels.big_endian = False
            element.pixels.interleaved = spec.image.samples > 1
        factory = machine.type("loci.common.services.ServiceFactory")()
        service = factory.getInstance(machine.type("loci.formats.services.OMEXMLService").class_)
        store = service.createOMEXMLMetadata(ome.to_xml())
        positive = machine.type("ome.xml.model.primitives.PositiveInteger")
        for number, spec in enumerate(self._images):
            for level, record in enumerate(spec.image.levels[1:], start=1):
                size = machine.type("java.lang.Integer").valueOf
                store.setResolutionSizeX(positive(size(record.shape[4])), number, level)
                store.setResolutionSizeY(positive(size(record.shape[3])), number, level)
        return store

    def _positions(self, image: int) -> list[tuple[int, int, int]]:
        """Return (t, channel, z) of every plane, in the order of their numbers in the document."""
        record = self._images[image].image
        t, c, z, _, _ = record.levels[0].shape
        sizes = {"T": t, "C": c // record.samples, "Z": z}
        fast, middle, slow = tuple(self._ome.images[image].pixels.dimension_order.value[2:])
        found = []
        for place in np.ndindex(sizes[slow], sizes[middle], sizes[fast]):
            at = dict(zip((slow, middle, fast), map(int, place), strict=True))
            found.append((at["T"], at["C"], at["Z"]))
        return found

    def _is_lossy(self) -> bool:
        lowered = self._target.name.lower()
        return (self._compression or "") in _LOSSY or lowered.endswith(_LOSSY_SUFFIXES)

    def _compare(self, spool: PlaneBuffer) -> None:
        """Read every plane and compare it; formats may order planes differently."""
        java = machine.type("loci.formats.ImageReader")()
        try:
            java.setGroupFiles(False)
            java.setId(str(self._target))
            positions = self._positions(0)
            tools = machine.type("loci.formats.FormatTools")
            wanted = f"{len(positions)} planes of {JAVA_NAMES[self._images[0].image.dtype.name]}"
            kind = tools.getPixelTypeString(java.getPixelType())
            found = f"{java.getImageCount()} planes of {kind}"
            if found != wanted:
                raise self._changed(f"it has {found}, not {wanted}")
            record = self._images[0].image
            t, c, z, _, _ = record.levels[0].shape
            sizes = java.getSizeT(), java.getEffectiveSizeC(), java.getSizeZ()
            if tuple(map(int, sizes)) != (t, c // record.samples, z):
                raise self._changed(
                    f"its sizes along T, C, Z are {tuple(map(int, sizes))}, not "
                    f"{(t, c // record.samples, z)}"
                )
            if self._is_lossy():
                return
            for number, position in enumerate(positions):
                check_wanted()
                at, channel, az = position
                there = java.getIndex(az, channel, at)
                expected = spool.plane(0, 0, *position)
                plane = _plane_of(java, there, expected)
                if plane is None or not np.array_equal(plane, expected, equal_nan=True):
                    raise self._changed(f"plane {number} is not what was written")
        finally:
            java.close()

    def _changed(self, what: str) -> WriteFailed:
        return WriteFailed(
            f"{self._target.name}: this format does not store these pixels unchanged: {what}. "
            "Write them as .ome.tiff or .ome.zarr instead."
        )


def writable_suffixes() -> tuple[str, ...]:
    """Return the suffixes for which the jar has writers, with their dot. Starts Java."""
    return call(_writable_suffixes, "Bio-Formats", "its writers")


def _writable_suffixes() -> tuple[str, ...]:
    with machine.attached():
        writers = machine.type("loci.formats.ImageWriter")().getWriters()
        found = {f".{suffix}" for writer in writers for suffix in writer.getSuffixes() if suffix}
    return tuple(sorted(found))


def _check_format(target: Path, images: Sequence[ImageSpec], options: Mapping[str, Any]) -> bool:
    """Refuse what the format of a name cannot store; return whether it stores several planes."""
    with machine.attached():
        java = _java_writer(target, levels=max(len(spec.image.levels) for spec in images))
        codec = _codec(java, options.get("compression"), target)
        for spec in images:
            _check_image(java, codec, spec.image, target)
        return bool(java.canDoStacks())


def _java_writer(target: Path, levels: int) -> Any:
    """Return a new Java writer for a file name."""
    if levels > 1:
        if not target.name.lower().endswith(_OME_TIFF):
            raise Unsupported(f"{target.name}: this format holds no lower levels.")
        return machine.type("loci.formats.out.PyramidOMETiffWriter")()
    try:
        return type(machine.type("loci.formats.ImageWriter")().getWriter(target.name))()
    except machine.type("loci.formats.FormatException") as error:
        raise BadArgument(
            f"{target.name}: Bio-Formats has no writer for this suffix. It writes: "
            f"{', '.join(writable_suffixes())}."
        ) from error


def _codec(java: Any, requested: str | None, target: Path) -> str | None:
    """Return Java's name of a codec, ignoring case."""
    if requested is None:
        return None
    names = [str(name) for name in java.getCompressionTypes() or ()]
    for name in names:
        if name.lower() == requested.lower():
            return name
    raise BadArgument(
        f"compression={requested!r}: the format of {target.name} does not support it. "
        f"Supported: {', '.join(names) or 'none'}."
    )


def _check_image(java: Any, codec: str | None, image: Image, target: Path) -> None:
    tools = machine.type("loci.formats.FormatTools")
    kinds = [str(tools.getPixelTypeString(kind)) for kind in java.getPixelTypes(codec)]
    if JAVA_NAMES[image.dtype.name] not in kinds:
        raise Unsupported(
            f"{target.name}: this format holds no pixels of type {image.dtype}, only "
            f"{', '.join(kinds)}."
        )
    _, _, _, y, x = image.levels[0].shape
    if x * y * image.samples * image.dtype.itemsize > JAVA_ARRAY_LIMIT:
        raise Unsupported(
            f"{target.name}: planes of {x} x {y} pixels are too large for Java's writers; write "
            ".ome.tiff or .ome.zarr."
        )


def _plane_count(image: Image) -> int:
    t, c, z, _, _ = image.levels[0].shape
    return t * z * c // image.samples


def _bytes(images: Sequence[ImageSpec]) -> int:
    return sum(
        int(np.prod(level.shape, dtype=object)) * spec.image.dtype.itemsize
        for spec in images
        for level in spec.image.levels
    )


def _tile_side(size: int) -> int:
    """Return the side of a tile; TIFF wants multiples of 16."""
    return min(_CHUNK, -(-size // 16) * 16)


def _save_tiles(java: Any, number: int, plane: np.ndarray[Any, Any], tile: tuple[int, int]) -> None:
    """Write a plane, samples x Y x X, by tiles; Java misplaces the samples if it divides planes."""
    _, height, width = plane.shape
    for y in range(0, height, tile[0]):
        for x in range(0, width, tile[1]):
            box = plane[:, y : y + tile[0], x : x + tile[1]]
            _, rows, columns = box.shape
            java.saveBytes(number, machine.bytes(_plane_data(box)), x, y, columns, rows)


def _plane_data(plane: np.ndarray[Any, Any]) -> bytes:
    """Return samples x Y x X as bytes, little-endian, with the samples of a pixel adjacent."""
    return plane.transpose(1, 2, 0).astype(plane.dtype.newbyteorder("<"), copy=False).tobytes()


def _plane_of(java: Any, number: int, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Return a plane of a reader as samples x Y x X; None if it has another size."""
    raw = np.asarray(java.openBytes(number)).view(np.uint8)
    if raw.size != like.nbytes or int(java.getRGBChannelCount()) != len(like):
        return None
    order = "<" if java.isLittleEndian() else ">"
    values: np.ndarray[Any, Any] = raw.view(like.dtype.newbyteorder(order))
    samples, y, x = like.shape
    if samples > 1 and java.isInterleaved():
        return values.reshape(y, x, samples).transpose(2, 0, 1)
    return values.reshape(samples, y, x)
