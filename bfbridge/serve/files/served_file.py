"""An open file with the state from which replies are computed."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Final

import bfbridge
from bfbridge.rendering.contrast import Contrast
from bfbridge.rendering.plan import Drawing, plan_drawing
from bfbridge.runtime import forking
from bfbridge.serve.replies import Refused
from bfbridge.virtual.hierarchy import VirtualHierarchy

if TYPE_CHECKING:
    from bfbridge.reader import BioReader
    from bfbridge.views import ImageView
    from bfbridge.virtual.pyramid import VirtualImage

__all__ = ["SIDE", "ServedFile"]

SIDE: Final = 512
"""Side of the virtual chunks in pixels."""
_MOST_DRAWINGS: Final = 256


class ServedFile:
    """An open file with the state from which replies are computed. Thread-safe.

    Parameters
    ----------
    reader
        The open file.
    name
        Name of the file in messages and documents.
    compression
        Compression of Zarr chunks.

    Attributes
    ----------
    reader, name
        As the parameters.
    version
        Identifies the present content, in 32 hexadecimal digits.
    """

    def __init__(self, reader: BioReader, name: str, compression: Any = "none") -> None:
        self.reader = reader
        self.name = name
        stamp: Hashable = reader._file.stamp
        if reader._file.source.path is None:
            # A change of the content cannot be detected.
            stamp = secrets.token_hex(8)
        state = (bfbridge.__version__, stamp, reader.backend, str(compression))
        self.version = hashlib.blake2b(repr(state).encode(), digest_size=16).hexdigest()
        self._compression = compression
        self._lock = forking.lock()
        self._hierarchies: dict[int, VirtualHierarchy] = {}
        self._drawings: OrderedDict[Hashable, Drawing] = OrderedDict()
        self._drawing_lock = forking.lock()

    def hierarchy(self, version: int = 3) -> VirtualHierarchy:
        """Return the file as an OME-Zarr store, of Zarr version 3 or 2."""
        with self._lock:
            found = self._hierarchies.get(version)
            if found is None:
                found = VirtualHierarchy(
                    self.reader.series[:],
                    version,  # type: ignore[arg-type]
                    self._compression,
                    SIDE,
                    self.reader._file.cache,
                )
                self._hierarchies[version] = found
            return found

    def view(self, series: int) -> ImageView:
        """Return an image at full size.

        Raises
        ------
        Refused
            404: there is no image with this number.
        """
        if not 0 <= series < len(self.reader.series):
            raise Refused(404, f"there is no series {series}; it has {len(self.reader.series)}")
        return self.reader.series[series]

    def image(self, series: int) -> VirtualImage:
        """Return an image as a pyramid whose levels are exact halves.

        Raises
        ------
        Refused
            404: there is no image with this number.
        """
        self.view(series)
        return self.hierarchy().image(series)

    def drawing(self, series: int, style: Any, channels: Any, z: int, t: int) -> Drawing:
        """Return the layers of a plane; the contrast is measured once for equal arguments.

        Parameters
        ----------
        series
            Number of the image.
        style
            A parsed style, or None.
        channels
            Numbers or names, in a tuple, or None.
        z, t
            The plane.
        """
        key = (series, style, channels, z, t)
        found = self._drawings.get(key)
        if found is not None:
            return found
        # One at a time, because other threads would measure the same pixels.
        with self._drawing_lock:
            found = self._drawings.get(key)
            if found is None:
                view = self.view(series)
                found = plan_drawing(view, Contrast(view), style, channels, z, t)
                self._drawings[key] = found
                while len(self._drawings) > _MOST_DRAWINGS:
                    self._drawings.popitem(last=False)
            return found
