"""Keys of a Zarr store at an fsspec URL."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from bfbridge.errors import Closed, MissingExtra, ReadFailed
from bfbridge.runtime.thread_buffer import NOT_KEPT, ThreadBuffer
from bfbridge.storage.remote.retries import is_transient, pauses, retried
from bfbridge.storage.remote.url_chain import behind_cache
from bfbridge.storage.source import ProcessFilesystem
from bfbridge_omezarr.hierarchy.store import Stamped, Store, too_long

if TYPE_CHECKING:
    from bfbridge.storage.source import Source

__all__ = ["RemoteStore"]


class _Version(NamedTuple):
    """The version of an object, from the headers of a response."""

    etag: str | None
    modified: str | None
    size: int | None


def _forbidden(error: Exception) -> bool:
    return isinstance(error, PermissionError) or getattr(error, "status", None) == 403


class RemoteStore(Store):
    """An fsspec URL. Each call is one request, which is repeated after transient errors.

    Concurrency is the number of callers.
    """

    is_remote = True

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._filesystem = ProcessFilesystem(source)
        base, query, rest = self._filesystem.path.partition("?")
        self._root = base.rstrip("/")
        # A web server would take a "#" or "?" in a key for the end of the path.
        self._quotes = "http" in self._fs.protocol
        self._query = query + rest
        self._closed = False

    @property
    def _fs(self) -> Any:
        # fsspec's caches keep an empty copy of what is missing, as chunks of zeros are.
        return behind_cache(self._filesystem.here)

    def get(self, key: str, limit: int) -> bytes | None:
        try:
            # One byte above the limit shows that an object is too long, without fetching all of it.
            data: bytes = retried(
                lambda: self._fs.cat_file(self._path(key), start=0, end=limit + 1), self.label(key)
            )
        except (FileNotFoundError, KeyError):
            return None
        except Exception as error:
            raise self._failed(key, error) from error
        if len(data) > limit:
            raise too_long(self.label(key), len(data), limit)
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes | None:
        found = self.read_stamped(key, start, length, NOT_KEPT)
        return None if found is None else bytes(found.data)

    def read_stamped(
        self, key: str, start: int, length: int, buffer: ThreadBuffer
    ) -> Stamped | None:
        del buffer
        path = self._path(key)
        try:
            found = retried(
                lambda: self._answer(path, start, None if start < 0 else start + length),
                self.label(key),
            )
        except (FileNotFoundError, KeyError):
            return None
        except Exception as error:
            raise self._failed(key, error) from error
        data = found.data
        if start < 0:
            # Some servers send the whole object for a suffix range.
            return Stamped(data[start : start + length or None], found.stamp)
        if len(data) > length:
            raise ReadFailed(f"{self.label(key)}: the server ignores byte ranges.")
        return found

    def _answer(self, path: str, start: int, end: int | None) -> Stamped:
        """Fetch a range, with the object's version if the same response states it."""
        filesystem = self._fs
        if _is_http(filesystem):
            seen: list[_Version] = []
            sent: list[str] = []

            async def look(response: Any) -> None:
                seen.append(_version_of(response.headers))
                sent.append(response.headers.get("Content-Range", ""))

            # aiohttp calls it with each response; fsspec raises errors for the status itself.
            data = filesystem.cat_file(path, start=start, end=end, raise_for_status=look)
            size = _misread_suffix(start, sent[-1] if sent else "")
            if size:
                return self._answer(path, size + start, size)
            version = seen[-1] if seen else None
            has_version = version is not None and (version.etag or version.modified)
            return Stamped(data, version if has_version else None)
        if hasattr(filesystem, "call_s3"):
            found = _s3_answer(filesystem, path, start, end)
            if found is not None:
                return found
        return Stamped(filesystem.cat_file(path, start=start, end=end), None)

    def same(self, one: object, other: object) -> bool:
        """Whether two stamps are of one version.

        Servers behind one name may send different ETags of the same file (Apache derives them from
        inode numbers); then its time and its length are compared.
        """
        if not (isinstance(one, _Version) and isinstance(other, _Version)):
            return False
        if one.etag and one.etag == other.etag:
            return True
        known = one.modified is not None and (one.size is not None or one.etag is None)
        return known and one[1:] == other[1:]

    def get_many(self, keys: Iterable[str], limit: int) -> dict[str, Stamped]:
        wanted = list(keys)
        found: dict[str, Stamped] = {}
        for key, answer in zip(wanted, self._answers(wanted, limit), strict=True):
            if isinstance(answer, (FileNotFoundError, KeyError)):
                continue
            if isinstance(answer, Exception):
                failed = self._failed(key, answer)
                if not _forbidden(answer) or not isinstance(failed, ReadFailed):
                    raise failed from answer
                # Servers that do not list objects give this status for missing ones.
                self.refusal = failed
                continue
            if len(answer) > limit:
                raise too_long(self.label(key), len(answer), limit)
            found[key] = Stamped(answer, None)
        return found

    def _answers(self, keys: list[str], limit: int) -> list[bytes | Exception]:
        """Return the bytes or the error of each key, with concurrent requests if possible."""
        paths = [self._path(key) for key in keys]
        try:
            if getattr(self._fs, "async_impl", False) and len(keys) > 1:
                return self._several(paths, limit)
        except Exception as error:
            raise self._failed("", error) from error
        answers: list[bytes | Exception] = []
        for path in paths:
            try:
                whole = partial(self._fs.cat_file, path, start=0, end=limit + 1)
                answers.append(retried(whole, self.name))
            except Exception as error:  # noqa: BLE001 - each file system has its own
                answers.append(error)
        return answers

    def _several(self, paths: list[str], limit: int) -> list[bytes | Exception]:
        """Request objects at the same time; again those that failed with transient errors."""
        answers: list[bytes | Exception] = [KeyError(path) for path in paths]
        left, waits = list(range(len(paths))), pauses()
        while left:
            wanted = [paths[i] for i in left]
            found = self._fs.cat_ranges(wanted, 0, limit + 1, on_error="return")
            for i, answer in zip(left, found, strict=True):
                answers[i] = answer
            failed = [
                i
                for i in left
                if isinstance(answer := answers[i], Exception) and is_transient(answer)
            ]
            pause = next(waits, None)
            if pause is None or not failed:
                break
            left = failed
            time.sleep(pause)
        return answers

    def keys(self) -> Iterator[str]:
        try:
            # Listings that the file system keeps may be older than the objects.
            self._fs.invalidate_cache(self._root)
            files = sorted(self._fs.find(self._root))
        except Exception:  # noqa: BLE001 - each file system has its own
            # Plain web servers cannot list; only keys that were requested are known.
            return
        for file in files:
            if file.startswith(self._root + "/"):
                yield file[len(self._root) + 1 :]

    def close(self) -> None:
        self._closed = True

    def _path(self, key: str) -> str:
        if self._closed:
            raise Closed(f"{self.name}: read after close().")
        name = quote(key) if self._quotes else key
        path = f"{self._root}/{name}" if key else self._root
        return path + self._query

    def _failed(self, key: str, error: Exception) -> Exception:
        if isinstance(error, ImportError):
            return MissingExtra(f"{self.name}: {error}.")
        why = f"{type(error).__name__}: {error}"
        more = ""
        if _forbidden(error):
            more = " Servers that do not list their objects send the same status for missing ones."
        return ReadFailed(f"{self.label(key)}: cannot be fetched ({why}).{more}")


def _is_http(filesystem: Any) -> bool:
    if "http" not in filesystem.protocol:
        return False
    from fsspec.implementations.http import HTTPFileSystem

    return isinstance(filesystem, HTTPFileSystem)


def _version_of(headers: Mapping[str, str]) -> _Version:
    """Return the version in the headers of a response to a range request (RFC 9110, 8.8 and 14.4).

    The length is that of the whole object.
    """
    _, _, total = headers.get("Content-Range", "").partition("/")
    size = int(total) if total.isascii() and total.isdigit() else None
    return _Version(headers.get("ETag"), headers.get("Last-Modified"), size)


def _misread_suffix(start: int, sent: str) -> int:
    """Return the size of an object if a server sent other bytes than the last ones; else 0.

    Some servers read ``bytes=-N`` as the range from 0 to N; their Content-Range says so
    (RFC 9110, 14.4).
    """
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", sent)
    if start >= 0 or found is None:
        return 0
    first, last, size = map(int, found.groups())
    return size if last + 1 != size or first not in (0, size + start) else 0


def _s3_answer(filesystem: Any, path: str, start: int, end: int | None) -> Stamped | None:
    """Fetch a range with its ETag; None if the connection was lost."""
    from fsspec.asyn import sync

    bucket, key, version = filesystem.split_path(path)
    wanted = f"bytes={start}" if start < 0 else f"bytes={start}-{'' if end is None else end - 1}"
    more = {"VersionId": version} if version else {}
    answer = filesystem.call_s3("get_object", Bucket=bucket, Key=key, Range=wanted, **more)
    body = answer["Body"]
    try:
        data = sync(filesystem.loop, body.read)
    except Exception:  # noqa: BLE001 - s3fs knows which of them are worth another try
        return None
    finally:
        body.close()
    size = _misread_suffix(start, answer.get("ContentRange") or "")
    if size:
        return _s3_answer(filesystem, path, size + start, size)
    etag = answer.get("ETag")
    return Stamped(data, _Version(etag, None, None) if etag else None)
