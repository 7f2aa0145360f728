"""Paths of URLs inside their fsspec filesystem.

The only module that calls ``AbstractFileSystem._strip_protocol``, the method of fsspec that
converts a URL to the form of the paths in listings. fsspec has no public method for it.
tests/private_apis/test_fsspec_paths.py tests it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["root_of"]


def root_of(filesystem: Any, url: str | None) -> str:
    """Return the path of a URL in its filesystem, without a slash at its end.

    Parameters
    ----------
    filesystem
        The fsspec filesystem of the URL.
    url
        URL of a folder.
    """
    return str(filesystem._strip_protocol(url)).rstrip("/")
