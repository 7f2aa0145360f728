"""The tile engine: a selection becomes stored chunks, decoded in parallel into one array.

One thread pool serves the process. Whoever asks for pixels works too: the calling thread takes jobs
beside at most ``workers - 1`` helpers, so a single chunk is decoded without a thread switch, nested
requests cannot deadlock, and memory in flight is bounded by workers x chunk.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bfbridge.backend import Level, ReaderBackend, Region, Shape5
from bfbridge.engine.selection import Axis
from bfbridge.errors import BadArgument, BfbridgeError, OutOfMemory, ReadFailed
from bfbridge.runtime import forking
from bfbridge.runtime.interrupts import checkpoint, deferred

__all__ = [
    "Background",
    "Block",
    "ChunkCache",
    "available_cpus",
    "new_array",
    "plan",
    "prefetch",
    "read_selection",
    "run",
    "shared_pool",
    "worker_count",
]

MAX_THREADS = 64
MET_CHUNKS = 1024
# A chunk of a file at hand is kept for parts of at most 1/SMALL_PART of it.
SMALL_PART = 16
# Requests at once to a server: beyond some 16 the line or the server is busy, not idle.
WAITING_WORKERS = 16
Part = tuple[int, int, Any, Any]
Array = np.ndarray[Any, Any]
T = TypeVar("T")


def available_cpus() -> int:
    """CPUs this process may use: its affinity, cut to the container's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(count, math.ceil(quota)) if quota else count)


def worker_count(max_workers: int | None, *, waits: bool = False) -> int:
    """Return how many threads are meant: None is the CPUs this process may use.

    Parameters
    ----------
    max_workers
        What was asked for.
    waits
        Whether they mostly wait for a server; then None is `WAITING_WORKERS` at least.

    Raises
    ------
    BadArgument
        Not an integer of 1 or more.
    """
    if max_workers is None:
        return max(available_cpus(), WAITING_WORKERS if waits else 1)
    if isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1:
        raise BadArgument(f"max_workers={max_workers!r}: give a number of threads, 1 or more.")
    return max_workers


def _cgroup_quota() -> float | None:
    """CPUs the cgroup (v2, then v1) grants, or None where it sets no limit."""
    with suppress(OSError, ValueError):
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    with suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup/cpu")
        limit = (folder / "cpu.cfs_quota_us").read_text()
        period = (folder / "cpu.cfs_period_us").read_text()
        return int(limit) / int(period) if int(limit) > 0 else None
    return None


_pools: dict[str, ThreadPoolExecutor] = {}
_pool_lock = forking.lock()


def shared_pool(purpose: str = "bfbridge", size: int = MAX_THREADS) -> ThreadPoolExecutor:
    """Return this process's thread pool for a purpose, created on first use with `size` threads."""
    with _pool_lock:
        if purpose not in _pools:
            _pools[purpose] = ThreadPoolExecutor(size, thread_name_prefix=purpose)
        return _pools[purpose]


def _forget_pool() -> None:
    # Threads do not survive a fork: the child makes pools of its own on first use.
    global _pools
    _pools = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


class _Run:
    """Jobs shared by the threads of one request; the first error stops all of them."""

    def __init__(self, jobs: Iterable[Callable[[], object]]) -> None:
        self._jobs = iter(jobs)
        self._lock = forking.lock()
        self.error: BaseException | None = None

    def work(self) -> None:
        while True:
            checkpoint()
            with self._lock:
                if self.error is not None:
                    return
                try:
                    job = next(self._jobs, None)
                except BaseException as error:  # noqa: BLE001 - raised by `run`
                    self.error = error
                    return
            if job is None:
                return
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - raised by `run`
                with self._lock:
                    self.error = self.error or error
                return


def run(jobs: Iterable[Callable[[], object]], workers: int) -> None:
    """Run jobs on the calling thread and up to ``workers - 1`` pool threads.

    Jobs are taken from the iterable as threads become free. The first error stops the taking of
    further jobs and is raised once the jobs under way have ended.
    """
    jobs = iter(jobs)
    first = list(itertools.islice(jobs, 2))
    if workers < 2 or len(first) < 2:
        for job in itertools.chain(first, jobs):
            job()
        return
    shared = _Run(itertools.chain(first, jobs))
    try:
        # An exception from a signal's handler would leave the pool's own locks held.
        with deferred():
            _work_together(shared, workers - 1)
        if shared.error is not None:
            raise shared.error
    finally:
        # These frames are part of the error's traceback, which would keep all of it alive.
        shared.error = None


def _work_together(shared: _Run, count: int) -> None:
    """Run jobs on the calling thread and up to `count` helpers; return when all have ended."""
    helpers: list[Future[None]] = []
    try:
        # While the interpreter ends no thread can be started: then this one does all the work.
        with suppress(RuntimeError):
            helpers.extend(shared_pool().submit(shared.work) for _ in range(count))
        shared.work()
    except BaseException as error:
        # Ctrl-C between two jobs: the helpers are to take no more of them either.
        shared.error = shared.error or error
        raise
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def prefetch(jobs: Iterable[Callable[[], T]], depth: int) -> Iterator[T]:
    """Yield each job's result, in order, while up to `depth` of the next ones run ahead.

    Leaving the loop early cancels what has not begun.
    """
    jobs = iter(jobs)
    ahead: deque[Future[T]] = deque()
    try:
        with deferred():
            for job in itertools.islice(jobs, depth):
                ahead.append(shared_pool().submit(job))
        while ahead:
            with deferred():
                result = ahead.popleft().result()
                for job in itertools.islice(jobs, 1):
                    ahead.append(shared_pool().submit(job))
            yield result
    finally:
        with deferred():
            for future in ahead:
                future.cancel()


class Background:
    """Jobs that go on while the caller prepares the next: at most `limit` at once.

    An error is raised by the next `submit` or by `wait`, once.

    They have threads of their own: a job of `run` may wait here for a free place, so jobs of `run`
    on every thread would leave none to make a place free.
    """

    def __init__(self, limit: int) -> None:
        self._slots = threading.Semaphore(limit)
        self._lock = forking.lock()
        self._pending: set[Future[Any]] = set()
        self._error: BaseException | None = None

    def submit(self, job: Callable[[], object]) -> None:
        """Start a job, waiting for a free place."""
        self._raise_error()
        self._slots.acquire()
        try:
            future = shared_pool("bfbridge-background").submit(job)
        except RuntimeError:
            # The interpreter is ending, and no thread can be started.
            self._slots.release()
            job()
            return
        with self._lock:
            self._pending.add(future)
        future.add_done_callback(self._done)

    def _done(self, future: Future[Any]) -> None:
        self._settle(future)
        self._slots.release()

    def _settle(self, future: Future[Any]) -> None:
        """Note how a job ended, once: `wait` may come before or after the future's own call."""
        error = future.exception()
        with self._lock:
            if future in self._pending:
                self._pending.remove(future)
                self._error = self._error or error

    def wait(self) -> None:
        """Wait until every job has ended; raise the first error."""
        while True:
            with self._lock:
                future = next(iter(self._pending), None)
            if future is None:
                break
            self._settle(future)
        self._raise_error()

    def drain(self) -> None:
        """Wait until every job has ended, whatever happens meanwhile; errors are forgotten."""
        while True:
            with suppress(BaseException):
                self.wait()
                return

    def _raise_error(self) -> None:
        with self._lock:
            error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            error = None  # as in `run`


class ChunkCache(MutableMapping[Hashable, Array]):
    """Decoded chunks, the longest unused dropped first once `max_bytes` is passed. Thread-safe.

    Parameters
    ----------
    max_bytes
        Most bytes of pixels kept.
    """

    def __init__(self, max_bytes: int = 64 << 20) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._lock = forking.lock()
        self._chunks: OrderedDict[Hashable, Array] = OrderedDict()
        self._met: OrderedDict[Hashable, None] = OrderedDict()
        self._coming: dict[Hashable, threading.Event] = {}
        forking.in_child(self._recount)

    def _recount(self) -> None:
        # Another thread of the parent may have been between changing the chunks and the sum.
        self.nbytes = sum(chunk.nbytes for chunk in self._chunks.values())
        # What other threads of the parent were decoding never comes in the child.
        self._coming.clear()

    def met(self, key: Hashable) -> bool:
        """Note that a chunk is asked for; return whether it was before, not long ago."""
        with self._lock:
            before = key in self._met
            self._met[key] = None
            self._met.move_to_end(key)
            if len(self._met) > MET_CHUNKS:
                self._met.popitem(last=False)
            return before

    @contextmanager
    def fetching(self, key: Hashable) -> Iterator[None]:
        """Let one thread at a time decode a chunk; others that need the same chunk wait here.

        The caller then checks the cache again. If the first thread failed, or the chunk was evicted
        already, each waiting thread decodes it.
        """
        with self._lock:
            coming = self._coming.get(key)
            if coming is None:
                mine = self._coming[key] = threading.Event()
        if coming is not None:
            coming.wait()
            yield
            return
        try:
            yield
        finally:
            with self._lock:
                del self._coming[key]
            mine.set()

    def __getitem__(self, key: Hashable) -> Array:
        with self._lock:
            chunk = self._chunks[key]
            self._chunks.move_to_end(key)
            return chunk

    def __setitem__(self, key: Hashable, chunk: Array) -> None:
        with deferred(), self._lock:
            old = self._chunks.pop(key, None)
            self.nbytes += chunk.nbytes - (0 if old is None else old.nbytes)
            self._chunks[key] = chunk
            while self.nbytes > self.max_bytes and self._chunks:
                self.nbytes -= self._chunks.popitem(last=False)[1].nbytes

    def __delitem__(self, key: Hashable) -> None:
        with deferred(), self._lock:
            self.nbytes -= self._chunks.pop(key).nbytes

    def __iter__(self) -> Iterator[Hashable]:
        with self._lock:
            return iter(list(self._chunks))

    def __len__(self) -> int:
        return len(self._chunks)

    def __reduce__(self) -> tuple[type[ChunkCache], tuple[int]]:
        return type(self), (self.max_bytes,)


@dataclass(frozen=True, slots=True)
class Block:
    """The part of a selection that one chunk holds; axes T, C, Z, Y, X.

    Attributes
    ----------
    index
        The chunk's position in the grid.
    start, stop
        The smallest box of the image that holds what is wanted of this chunk.
    inner, outer
        Where the pixels are in that box, and where they go in the result: slices or arrays.
    """

    index: Shape5
    start: Shape5
    stop: Shape5
    inner: tuple[Any, ...]
    outer: tuple[Any, ...]

    @property
    def is_box(self) -> bool:
        """Whether everything in the box is wanted, in its order, at one box of the result."""
        return all(
            isinstance(inner, slice) and isinstance(outer, slice) and inner.step in (None, 1)
            for inner, outer in zip(self.inner, self.outer, strict=True)
        )


def _parts(axis: Axis, chunk: int) -> Iterator[tuple[int, Part]]:
    """Split one axis of a selection by chunks: (chunk number, (start, stop, inner, outer))."""
    if isinstance(axis, range) and axis.step == 1:
        for number in range(axis.start // chunk, -(-axis.stop // chunk) if len(axis) else 0):
            start, stop = max(axis.start, number * chunk), min(axis.stop, (number + 1) * chunk)
            if start < stop:
                outer = slice(start - axis.start, stop - axis.start)
                yield number, (start, stop, slice(0, stop - start), outer)
        return
    indices = np.asarray(axis, dtype=np.intp)
    order = np.argsort(indices // chunk, kind="stable")
    numbers = indices[order] // chunk
    for group in np.split(order, np.flatnonzero(np.diff(numbers)) + 1):
        if len(group):
            wanted = indices[group]
            start, stop = int(wanted.min()), int(wanted.max()) + 1
            yield start // chunk, (start, stop, _as_slice(wanted - start), _as_slice(group))


def _as_slice(positions: np.ndarray[Any, np.dtype[np.intp]]) -> Any:
    """Return the slice that selects the same positions, or the array where there is none."""
    first = int(positions[0])
    if len(positions) == 1:
        return slice(first, first + 1)
    steps = np.diff(positions)
    step = int(steps[0])
    if step <= 0 or np.any(steps != step):
        return positions
    return slice(first, int(positions[-1]) + 1, None if step == 1 else step)


def plan(axes: Sequence[Axis], chunk: Shape5) -> Iterator[Block]:
    """Split a selection into one block for each chunk it meets, in storage order.

    Parameters
    ----------
    axes
        Indices along T, C, Z, Y, X.
    chunk
        Shape of the chunk grid along the same axes.
    """
    split = [list(_parts(axis, length)) for axis, length in zip(axes, chunk, strict=True)]
    for combined in itertools.product(*split):
        parts = [part for _, part in combined]
        yield Block(
            index=tuple(number for number, _ in combined),  # type: ignore[arg-type]
            start=tuple(part[0] for part in parts),  # type: ignore[arg-type]
            stop=tuple(part[1] for part in parts),  # type: ignore[arg-type]
            inner=tuple(part[2] for part in parts),
            outer=tuple(part[3] for part in parts),
        )


def take(array: Array, selectors: tuple[Any, ...]) -> Array:
    """Select orthogonally along every axis; a view where all selectors are slices."""
    if all(isinstance(selector, slice) for selector in selectors):
        view: Array = array[selectors]
        return view
    return array[_orthogonal(array.shape, selectors)]


def put(array: Array, selectors: tuple[Any, ...], values: Array) -> None:
    """Assign orthogonally along every axis."""
    if all(isinstance(selector, slice) for selector in selectors):
        array[selectors] = values
    else:
        array[_orthogonal(array.shape, selectors)] = values


def _orthogonal(shape: tuple[int, ...], selectors: tuple[Any, ...]) -> tuple[Array, ...]:
    return np.ix_(
        *(
            np.arange(length)[selector] if isinstance(selector, slice) else selector
            for selector, length in zip(selectors, shape, strict=True)
        )
    )


@dataclass(frozen=True, slots=True)
class Target:
    """One level of one open image, and what reading from it may use."""

    backend: ReaderBackend
    image: int
    level: int
    workers: int
    cache: MutableMapping[Hashable, Array] | None
    token: Hashable = None
    name: str = ""

    @property
    def record(self) -> Level:
        """The level's shape and chunk."""
        return self.backend.images[self.image].levels[self.level]


def new_array(make: Callable[..., Array], shape: Sequence[int], dtype: Any, name: str) -> Array:
    """Make an array for pixels with `numpy.empty` or `numpy.zeros`.

    Raises
    ------
    OutOfMemory
        There is not so much memory.
    """
    try:
        return make(shape, dtype)
    # ValueError: more than an address can hold.
    except (MemoryError, ValueError, OverflowError) as error:
        wanted = math.prod(int(n) for n in shape) * np.dtype(dtype).itemsize
        raise OutOfMemory(
            f"{name}: {wanted / 2**30:,.1f} GiB are needed for an array of shape {tuple(shape)}. "
            "Ask for smaller regions or fewer pixels."
        ) from error


def read_selection(target: Target, axes: Sequence[Axis], out: Array) -> None:
    """Fill `out` with a selection of one level.

    Parameters
    ----------
    target
        The level, and the workers and cache to use.
    axes
        Indices along T, C, Z, Y, X.
    out
        Array of the selection's shape along T, C, Z, Y, X, in the image's dtype; any strides.

    Raises
    ------
    ReadFailed
        Some chunk cannot be read; `out` is then not to be used.
    """
    reads = (_BlockRead(target, block, out) for block in plan(axes, target.record.chunk))
    # Whoever takes the next job serves what is cached at once: a thread is not woken for a copy.
    run((read for read in reads if not read.from_cache()), target.workers)


class _BlockRead:
    """Reads one block into its place in the result."""

    __slots__ = ("_block", "_out", "_target")

    def __init__(self, target: Target, block: Block, out: Array) -> None:
        self._target = target
        self._block = block
        self._out = out

    def from_cache(self) -> bool:
        """Fill the block's place from the cache, and say whether that could be done."""
        cache = self._target.cache
        if cache is None:
            return False
        try:
            chunk = cache[self._key]
        except KeyError:
            return False
        self._put(chunk)
        return True

    def __call__(self) -> None:
        block = self._block
        chunk = self._keep()
        if chunk is not None:
            self._put(chunk)
        elif block.is_box:
            self._read(block.start, block.stop, self._out[block.outer])
        else:
            region = Region(self._target.image, self._target.level, block.start, block.stop)
            pixels = np.empty(region.shape, self._out.dtype)
            self._read(block.start, block.stop, pixels)
            put(self._out, block.outer, take(pixels, block.inner))

    @property
    def _key(self) -> Hashable:
        target = self._target
        return (target.token, target.image, target.level, self._block.index)

    @property
    def _nbytes(self) -> int:
        """Bytes of the box that is wanted."""
        lengths = (b - a for a, b in zip(self._block.start, self._block.stop, strict=True))
        return int(math.prod(lengths) * self._out.dtype.itemsize)

    def _put(self, chunk: Array) -> None:
        """Put what is wanted of a whole chunk into its place."""
        block = self._block
        corner = (i * n for i, n in zip(block.index, self._target.record.chunk, strict=True))
        offset = tuple(
            slice(a - origin, b - origin)
            for a, b, origin in zip(block.start, block.stop, corner, strict=True)
        )
        put(self._out, block.outer, take(chunk[offset], block.inner))

    def _read(self, start: Shape5, stop: Shape5, out: Array) -> None:
        target = self._target
        region = Region(target.image, target.level, start, stop)
        try:
            target.backend.read(region, out)
        except (BfbridgeError, MemoryError):
            raise
        except Exception as error:
            # Promise R1: right pixels or a BfbridgeError, also where a backend has a fault.
            raise ReadFailed(
                f"{target.name}: {region}: the {target.backend.name} backend failed with "
                f"{type(error).__name__}: {error}. Please report this as a fault of bfbridge."
            ) from error

    def _keep(self) -> Array | None:
        """Read the whole chunk into the cache if a part of it is wanted and it fits."""
        cache = self._target.cache
        if cache is None:
            return None
        box = _chunk_box(self._target.record, self._block.index)
        shape = tuple(b - a for a, b in zip(*box, strict=True))
        nbytes = math.prod(shape) * self._out.dtype.itemsize
        limit = getattr(cache, "max_bytes", nbytes * 2)
        if (self._block.start, self._block.stop) == box or nbytes * 2 > limit:
            return None
        # Crops at random meet most chunks once: what is cheap to read in part is kept only when it
        # is met again, and if the file is at hand only for parts so small that each costs its call.
        target = self._target
        if not isinstance(cache, ChunkCache):
            return self._decode(cache, box, shape)
        if target.backend.reads_parts(target.image, target.level):
            share = nbytes // max(self._nbytes, 1)
            near = not target.backend.waits
            if (near and share < SMALL_PART) or not cache.met(self._key):
                return None
        with cache.fetching(self._key):
            # Another thread may have decoded it since it was looked for.
            found = cache.get(self._key)
            return self._decode(cache, box, shape) if found is None else found

    def _decode(
        self, cache: MutableMapping[Hashable, Array], box: tuple[Shape5, Shape5], shape: Any
    ) -> Array:
        """Read the whole chunk into the cache."""
        # Laid out in memory as what was asked for: samples are not reordered at each crop.
        chunk = np.empty_like(self._out, shape=shape)
        self._read(*box, chunk)
        chunk.flags.writeable = False
        cache[self._key] = chunk
        return chunk


def _chunk_box(level: Level, index: Shape5) -> tuple[Shape5, Shape5]:
    """Return the chunk's start and stop, cut at the level's edge."""
    start = tuple(i * n for i, n in zip(index, level.chunk, strict=True))
    stop = tuple(
        min(a + n, size) for a, n, size in zip(start, level.chunk, level.shape, strict=True)
    )
    return start, stop  # type: ignore[return-value]
