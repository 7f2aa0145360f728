"""File series: many files as one image, by a pattern of names or a list.

``img_t{t:d}_c{c}_z{z:d}.tif`` names one image whose files differ in t, c and z: ``{t:d}`` is a
number of any width, ``{t:ddd}`` a number of three digits, ``{c}`` a word of letters and digits.
The files of a list are consecutive time points.
"""

from __future__ import annotations

import dataclasses
import glob
import math
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bfbridge import registry
from bfbridge.backend import AXES, Image, Level, OpenOptions, ReaderBackend, Region, Shape5
from bfbridge.engine.workers import run, worker_count
from bfbridge.errors import BadArgument, BfbridgeError, Closed, FileMissing, UnreadableFile
from bfbridge.files.file_pattern import FilePattern
from bfbridge.ome import metadata
from bfbridge.runtime import forking
from bfbridge.storage.source import Source, as_source, path_or_url

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["READER", "WRITER", "FileSeries", "Plan", "plan_series"]

NAME = "fileseries"
FILES_OPEN = 32
"""Most files kept open at once, without those that are being read."""
NAMED = 20
"""Most missing files that a message names."""
_VARIABLE = re.compile(r"\{([A-Za-z]\w*)(?::(0?[0-9]*d\+?|d+\+?|c+\+?|s))?\}")
WORD = "[A-Za-z0-9]+"
Array = np.ndarray[Any, Any]
Place = tuple[int, int, int]


@dataclass(frozen=True)
class Plan:
    """The files that make an image, and the position of each.

    Attributes
    ----------
    name
        The pattern, or the first file of a list.
    members
        Files by position: numbers along T, C, Z; every combination is present.
    channels
        Name of each position along C, if the pattern has words for them.
    """

    name: str
    members: tuple[tuple[Place, Source], ...]
    channels: tuple[str, ...] = ()

    @property
    def source(self) -> Source:
        """Source that represents the series: the first file, under the name of the series."""
        return dataclasses.replace(self.members[0][1], name=self.name)


def plan_series(target: Any, storage_options: Mapping[str, Any] | None = None) -> Plan | None:
    """Return the plan of a list of files or a pattern; None for anything else.

    Raises
    ------
    FileMissing
        No file matches the pattern, or some combinations are missing; the message names them.
        Files of a list are looked for when they are opened.
    BadArgument
        The list is empty, or the pattern has variables other than t, c and z.
    """
    if isinstance(target, (list, tuple)):
        if not target:
            raise BadArgument("the list of files is empty.")
        sources = [as_source(one, storage_options) for one in target]
        places = tuple(((t, 0, 0), source) for t, source in enumerate(sources))
        return Plan(f"{sources[0].name} and {len(sources) - 1} more", places)
    if not isinstance(target, (str, os.PathLike)):
        return None
    text = os.fspath(path_or_url(target))
    if not _VARIABLE.search(text) or os.path.exists(text):
        return None
    return _plan_pattern(text, storage_options)


def _plan_pattern(text: str, storage_options: Mapping[str, Any] | None) -> Plan:
    names = [name for name, _ in _VARIABLE.findall(text)]
    other = {name for name in names if name.lower() not in ("t", "c", "z")}
    if other:
        raise BadArgument(
            f"{text}: the pattern has the variables {', '.join(sorted(other))}; the files of one "
            "image may differ in t, c and z only."
        )
    pattern = FilePattern(_translate(text))
    found = []
    for name in _candidates(text, storage_options):
        values = pattern.match(name.replace(os.sep, "/"))
        if values is not None:
            found.append(({key.lower(): value for key, value in values.items()}, name))
    if not found:
        raise FileMissing(f"{text}: no file matches this pattern.")
    axes = [_sorted({values.get(axis) for values, _ in found}) for axis in "tcz"]
    members: dict[Place, str] = {}
    for values, name in sorted(found, key=lambda pair: pair[1]):
        t, c, z = (axes[i].index(values.get(letter)) for i, letter in enumerate("tcz"))
        if (t, c, z) in members:
            raise BadArgument(f"{text}: {members[t, c, z]} and {name} have the same t, c and z.")
        members[t, c, z] = name
    counts = [range(len(axis)) for axis in axes]
    everywhere = list(product(counts[0], counts[1], counts[2]))
    missing = [place for place in everywhere if place not in members]
    if missing:
        shown = [
            ", ".join(f"{n}={axis[i]}" for n, axis, i in zip("tcz", axes, place, strict=True)
                      if axis[i] is not None)
            for place in missing[:NAMED]
        ]  # fmt: skip
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise FileMissing(
            f"{text}: {len(missing)} of {len(everywhere)} files are missing: {'; '.join(shown)}"
            f"{more}. An image needs every combination."
        )
    channels = tuple(axes[1]) if all(isinstance(name, str) for name in axes[1]) else ()
    sources = tuple((p, as_source(members[p], storage_options)) for p in everywhere)
    return Plan(text, sources, channels)


def _sorted(values: set[Any]) -> list[Any]:
    return sorted(values, key=lambda value: (isinstance(value, str), value or 0))


def _translate(text: str) -> str:
    """Return the pattern as `FilePattern` reads it: text outside the variables is literal."""
    parts, at, seen = [], 0, set()
    for found in _VARIABLE.finditer(text):
        parts.append(re.escape(text[at : found.start()].replace(os.sep, "/")))
        name, code = found.group(1), found.group(2)
        if name in seen:
            parts.append(f"(?P={name})")
        elif code is None or code == "s":
            parts.append(f"(?P<{name}>{WORD})")
        elif code.rstrip("+") == "d" or code[0].isdigit():
            parts.append(f"{{{name}:d+}}")
        else:
            parts.append(f"{{{name}:{code}}}")
        seen.add(name)
        at = found.end()
    return "".join([*parts, re.escape(text[at:].replace(os.sep, "/"))])


def _candidates(text: str, storage_options: Mapping[str, Any] | None) -> list[str]:
    """Return names that may match: those with any text at the variables."""
    pieces = _VARIABLE.sub("\0", text).split("\0")
    if "://" in text:
        filesystem = as_source(text, storage_options).filesystem()
        begin = text[: text.index("://") + 3]
        # Some file systems add a slash before a path.
        return [
            begin + path.split("://")[-1].lstrip("/") for path in filesystem.glob("*".join(pieces))
        ]
    return glob.glob("*".join(glob.escape(piece) for piece in pieces))


class _Member:
    """One file; the first thread that reads it opens it, and others wait."""

    def __init__(self) -> None:
        self.opening = forking.lock()
        self.reader: ReaderBackend | None = None
        self.users = 0


class FileSeries(ReaderBackend):
    """A series as one image: the first file defines size and dtype of all.

    `open` opens every file once, several at a time, to compare its size with that of the first.

    Raises
    ------
    BfbridgeError
        A file cannot be opened, or differs in size or dtype: the error of the first such file, in
        the order T, C, Z.
    """

    name: ClassVar[str] = NAME

    def __init__(self, plan: Plan, options: OpenOptions, backend: str | None) -> None:
        self._plan = plan
        self._sources = dict(plan.members)
        self._options = options
        self._backend = backend
        self._lock = forking.lock()
        self._open: OrderedDict[Place, _Member] = OrderedDict()
        self._closed = False
        try:
            with self._reading((0, 0, 0)) as first:
                self._member = first.images[0]
                self.waits = first.waits
            self._image = self._whole()
            self._check_members()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, source: Source, options: OpenOptions) -> FileSeries:
        """Open a series whose plan is given in the options."""
        given = dict(options.backend_options)
        plan = given.pop("plan", None)
        if not isinstance(plan, Plan):
            raise BadArgument(f"{source.name}: give BioReader a pattern or a list of files.")
        backend = given.pop("member_backend", None)
        return cls(plan, dataclasses.replace(options, backend_options=given), backend)

    def _counts(self) -> Place:
        t, c, z = (max(place[i] for place in self._sources) + 1 for i in range(3))
        return t, c, z

    def _whole(self) -> Image:
        """Describe the image that all files make together."""
        member = self._member
        t, c, z = self._counts()
        levels = []
        for level in member.levels:
            shape, chunk = list(level.shape), list(level.chunk)
            for axis, count in enumerate((t, c, z)):
                if count > 1 and shape[axis] % chunk[axis]:
                    # No chunk may extend over two files.
                    chunk[axis] = math.gcd(shape[axis], chunk[axis])
                shape[axis] *= count
            levels.append(Level(_five(shape), _five(chunk)))
        channels = member.channels * c
        if self._plan.channels and len(member.channels) == 1:
            channels = tuple(
                dataclasses.replace(channel, name=name)
                for channel, name in zip(channels, self._plan.channels, strict=True)
            )
        return dataclasses.replace(member, levels=tuple(levels), channels=channels)

    def _check_members(self) -> None:
        """Open every file; raise the error of the first that fails, in the order of the files."""
        options = self._options
        workers = options.max_workers
        if not options.workers_chosen and self._plan.source.url is not None:
            workers = worker_count(None, waits=True)
        failed: dict[int, BaseException] = {}

        def check(number: int, place: Place) -> None:
            try:
                self._check(place)
            except BaseException as error:
                failed[number] = error
                raise

        jobs = (partial(check, number, place) for number, place in enumerate(self._sources))
        try:
            run(jobs, workers)
        except BfbridgeError:
            # Files are opened in their order: those before a file that fails have been tried.
            raise failed[min(failed)] from None
        finally:
            failed.clear()

    def _check(self, place: Place) -> None:
        """Raise if the size or dtype of a file differs from that of the first."""
        first = self._member
        with self._reading(place) as reader:
            image = reader.images[0]
        wanted = ([level.shape for level in first.levels], first.dtype, first.samples)
        found = ([level.shape for level in image.levels], image.dtype, image.samples)
        if wanted != found:
            raise UnreadableFile(
                f"{self._sources[place].name}: its size {_shown(image)} differs from that of "
                f"{self._sources[0, 0, 0].name}, {_shown(first)}. All files of one image must "
                "have the same size and dtype."
            )

    @contextmanager
    def _reading(self, place: Place) -> Iterator[ReaderBackend]:
        """Yield the reader of a file; the least recently used beyond `FILES_OPEN` are closed."""
        with self._lock:
            if self._closed:
                raise Closed(f"{self._plan.name}: the reader is closed.")
            member = self._open.setdefault(place, _Member())
            member.users += 1
            self._open.move_to_end(place)
        try:
            # Not under the lock of the series: other threads open and read other files meanwhile.
            with member.opening:
                if member.reader is None:
                    source = self._sources[place]
                    member.reader, _ = registry.open_reader(source, self._options, self._backend)
            yield member.reader
        finally:
            with self._lock:
                member.users -= 1
                dropped = self._drop_idle()
            _close(dropped)

    def _drop_idle(self) -> list[_Member]:
        """Remove the files beyond `FILES_OPEN` that nobody reads, and return them to be closed."""
        idle = [place for place, member in self._open.items() if not member.users]
        kept = 0 if self._closed else FILES_OPEN
        return [self._open.pop(place) for place in idle[: max(0, len(self._open) - kept)]]

    @property
    def images(self) -> Sequence[Image]:
        """The one image that all files make together."""
        return (self._image,)

    def read(self, region: Region, out: Array) -> None:
        """Fill `out` from the files that the region overlaps."""
        size = self._member.levels[region.level].shape
        parts = [
            list(_split(region.start[axis], region.stop[axis], size[axis])) for axis in range(3)
        ]
        for along in product(*parts):
            place = (along[0][0], along[1][0], along[2][0])
            start = (*(part[1] for part in along), *region.start[3:])
            stop = (*(part[2] for part in along), *region.stop[3:])
            target = out[tuple(part[3] for part in along)]
            with self._reading(place) as reader:
                reader.read(Region(0, region.level, _five(start), _five(stop)), target)

    def ome_xml(self) -> str | None:
        """Return `ome` as XML."""
        return self.ome().to_xml()

    def ome(self) -> OME:
        """Return the metadata of the first file, with the sizes and channels of the series."""
        with self._reading((0, 0, 0)) as reader:
            ome = metadata.carry(reader.ome(), [0])
        pixels = ome.images[0].pixels
        shape = self._image.levels[0].shape
        pixels.size_t, pixels.size_c, pixels.size_z = shape[:3]
        metadata.settle(ome)
        if self._plan.channels:
            for channel, record in zip(pixels.channels, self._image.channels, strict=True):
                channel.name = record.name
        return ome

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """Original metadata of the first file."""
        with self._reading((0, 0, 0)) as reader:
            return dict(reader.original_metadata)

    @property
    def used_files(self) -> Sequence[str]:
        """All files, in the order T, C, Z."""
        return [source.name for source in self._sources.values()]

    def close(self) -> None:
        """Close every file; a file that is being read is closed when the read ends."""
        with self._lock:
            self._closed = True
            dropped = self._drop_idle()
        _close(dropped)


def _close(members: Sequence[_Member]) -> None:
    for member in members:
        if member.reader is not None:
            member.reader.close()


def _split(start: int, stop: int, size: int) -> Iterator[tuple[int, int, int, slice]]:
    """Split a range by files: (file, start and stop in it, slice of the result)."""
    for number in range(start // size, -(-stop // size)):
        first, last = max(start, number * size), min(stop, (number + 1) * size)
        begin = number * size
        yield number, first - begin, last - begin, slice(first - start, last - start)


def _five(values: Sequence[int]) -> Shape5:
    t, c, z, y, x = values
    return t, c, z, y, x


def _shown(image: Image) -> str:
    sizes = zip(AXES, image.levels[0].shape, strict=True)
    return f"{', '.join(f'{axis} {n}' for axis, n in sizes)}, {image.dtype}"


READER = FileSeries
WRITER = None
