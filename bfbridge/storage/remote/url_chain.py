"""Chained URLs of fsspec: which part of them names a file."""

from __future__ import annotations

import posixpath
from typing import Any, NamedTuple

__all__ = ["UrlChain", "behind_cache", "cached_copy"]


def behind_cache(filesystem: Any) -> Any:
    """Return the file system that knows which files there are.

    fsspec's "filecache" and "blockcache" look for a file in a listing of its folder, and plain web
    servers have none.
    """
    from fsspec.implementations.cached import CachingFileSystem

    while isinstance(filesystem, CachingFileSystem):
        filesystem = filesystem.fs
    return filesystem


def cached_copy(filesystem: Any, path: str) -> str | None:
    """Return the local copy of a file that "simplecache" or "filecache" makes; else None."""
    from fsspec.implementations.cached import WholeFileCacheFileSystem

    if not isinstance(filesystem, WholeFileCacheFileSystem):
        return None
    # Asked first: a failed download leaves an empty copy, which is taken for the file later.
    behind_cache(filesystem).info(path)
    with filesystem.open(path, "rb") as file:
        return str(file.name)


class UrlChain(NamedTuple):
    """A URL of fsspec, "simplecache::zip://a/b.tif::https://host/x.zip", by its parts.

    Attributes
    ----------
    before, link, after
        What comes before the link with the path of the file, this link, and what comes behind it.
    """

    before: str
    link: str
    after: str

    @classmethod
    def of(cls, url: str) -> UrlChain:
        """Take a URL apart. A link without a path ("simplecache") has that of the next one."""
        links = url.split("::")
        number = next((i for i, link in enumerate(links) if link.partition("://")[2]), 0)
        before = "".join(f"{link}::" for link in links[:number])
        return cls(before, links[number], "".join(f"::{link}" for link in links[number + 1 :]))

    def beside(self, name: str) -> str:
        """Return the URL of a file in the same folder."""
        base, query, rest = self.link.partition("?")
        scheme, mark, path = base.partition("://")
        path = posixpath.join(posixpath.dirname(path), name)
        return self._with(f"{scheme}{mark}{path}{query}{rest}")

    def inside(self, name: str) -> str:
        """Return the URL of a file in this folder."""
        base, query, rest = self.link.partition("?")
        return self._with(posixpath.join(base.rstrip("/"), name) + query + rest)

    def _with(self, link: str) -> str:
        return self.before + link + self.after
