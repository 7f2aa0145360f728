"""Parts of reader backends: a base class for readers of one file, and the planes of a region.

Backends import this module; bfbridge itself uses `bfbridge.backend.ReaderBackend` only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from bfbridge.backend import Image, OpenOptions, ReaderBackend, Region
from bfbridge.errors import BadArgument, Closed, Unsupported
from bfbridge.ome.objectives import magnifications_in

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.storage.source import RandomAccess, Source

__all__ = ["FileReader", "PlanePart", "plane_parts", "refuse_options"]


class FileReader(ReaderBackend):
    """A reader of one file that stays open from `open` to `close`.

    A subclass defines ``name``, `read_structure`, ``read`` and ``original_metadata``. ``read`` and
    everything else that reads the file call `check_open` first. The document of ``ome`` is made
    from the `Image` records unless the subclass defines `make_xml`.

    Attributes
    ----------
    leaves_options
        Whether a file that is opened with ``backend_options`` is left to another backend
        (`Unsupported`). Otherwise options are an error (`BadArgument`).
    option_names
        Options that the backend reads itself.
    source
        The file, for its name.
    access
        The open file.
    limits
        Limits on what the file declares.
    """

    leaves_options: ClassVar[bool] = False
    option_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, source: Source, access: RandomAccess, options: OpenOptions) -> None:
        self.source = source
        self.access = access
        self.limits = options.limits
        self.waits = source.url is not None
        self._closed = False
        self._xml: str | None = None
        self._images = tuple(self.read_structure(options))

    @classmethod
    def open(cls, source: Source, options: OpenOptions) -> Self:
        """Open a file and read its structure, but no pixels.

        Raises
        ------
        Unsupported
            The file has another format, or a variant of the format that this backend does not
            read.
        UnreadableFile
            The file is truncated or damaged.
        LimitExceeded
            The file declares more than the limits allow.
        BadArgument
            ``options.backend_options`` has other names than `option_names`; `Unsupported` if
            `leaves_options`.
        """
        given = options.backend_options
        others = {name: value for name, value in given.items() if name not in cls.option_names}
        refuse_options(cls.name, replace(options, backend_options=others), leave=cls.leaves_options)
        access = cls.open_access(source, options)
        try:
            return cls(source, access, options)
        except BaseException:
            access.close()
            raise

    @classmethod
    def open_access(cls, source: Source, options: OpenOptions) -> RandomAccess:
        """Open the bytes of the file."""
        del options
        return source.open()

    @abstractmethod
    def read_structure(self, options: OpenOptions) -> Sequence[Image]:
        """Read everything but pixels, keep what ``read`` needs, and return the images.

        Called once, by `open`. The errors are those of `open`.
        """

    @property
    def images(self) -> Sequence[Image]:
        """The images that `read_structure` returned."""
        return self._images

    def make_xml(self) -> str:
        """Return the OME-XML. `ome_xml` calls this method once and keeps the result."""
        from bfbridge.ome.documents.model import document_of, xml_from_model

        return xml_from_model(document_of(self._images))

    def ome_xml(self) -> str | None:
        """Return the OME-XML, made from the file's metadata."""
        self.check_open()
        if self._xml is None:
            self._xml = self.make_xml()
        return self._xml

    def ome(self) -> OME:
        """Return the OME-XML as an ome_types document."""
        from bfbridge.ome.documents.model import model_from_xml

        return model_from_xml(self.ome_xml() or "", self.source.name)

    def magnifications(self) -> Sequence[float | None]:
        """Return the magnifications that the OME-XML states."""
        return magnifications_in(self.ome_xml() or "<OME/>")

    @property
    def used_files(self) -> Sequence[str]:
        """The file."""
        return (self.source.name,)

    def check_open(self) -> None:
        """Raise `Closed` after `close`."""
        if self._closed:
            raise Closed(f"{self.source.name}: this reader is closed; open the file again.")

    def close(self) -> None:
        """Close the file. Reads that have started finish first."""
        self._closed = True
        self.access.close()


def refuse_options(backend: str, options: OpenOptions, *, leave: bool = False) -> None:
    """Refuse ``options.backend_options``, for a backend that has none.

    Parameters
    ----------
    backend
        Name of the backend, for the message.
    options
        The options of ``open``.
    leave
        Whether to raise `Unsupported`, so that another backend is tried.

    Raises
    ------
    BadArgument, Unsupported
        There are options; the message names them.
    """
    if options.backend_options:
        names = ", ".join(sorted(options.backend_options))
        reason = f"the {backend} backend has no option named {names}"
        raise Unsupported(reason) if leave else BadArgument(f"{reason}.")


class PlanePart(NamedTuple):
    """The part of a region that lies in one stored plane.

    Attributes
    ----------
    t, channel, z
        Position of the plane; `channel` does not count samples.
    samples
        The samples of the plane's pixels that the region includes.
    pixels
        The part of the result to fill, shape (samples, Y, X).
    """

    t: int
    channel: int
    z: int
    samples: slice
    pixels: np.ndarray[Any, Any]


def plane_parts(region: Region, out: np.ndarray[Any, Any], samples: int = 1) -> Iterator[PlanePart]:
    """Yield each stored plane that a region includes, with the part of the result it fills.

    Parameters
    ----------
    region
        The region to read.
    out
        The result, shape ``region.shape`` (T, C, Z, Y, X).
    samples
        Samples per pixel; a stored plane contains all samples of one channel.
    """
    (t0, c0, z0, _, _), (t1, c1, z1, _, _) = region.start, region.stop
    for t in range(t0, t1):
        for channel in range(c0 // samples, -(-c1 // samples)):
            first, last = max(c0, channel * samples), min(c1, (channel + 1) * samples)
            part = slice(first - channel * samples, last - channel * samples)
            for z in range(z0, z1):
                yield PlanePart(t, channel, z, part, out[t - t0, first - c0 : last - c0, z - z0])
