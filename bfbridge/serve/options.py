"""The options of a server."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from bfbridge.errors import BadArgument
from bfbridge.limits import MIB, Limits
from bfbridge.ngff.compression import parse_compression

__all__ = ["SERVED_LIMITS", "ServeOptions", "is_loopback", "new_token"]

SERVED_LIMITS: Final = Limits(
    xml_bytes=128 * MIB,
    elements=500_000,
    directories=200_000,
    tag_bytes=128 * MIB,
    chunk_bytes=512 * MIB,
    unpacked_bytes=4096 * MIB,
)
"""Lower than the defaults, so that a hostile file cannot use the memory that others need."""
_ANYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


def new_token() -> str:
    """Return a random token for URLs."""
    return secrets.token_urlsafe(18)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, which other machines cannot reach under that name."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class ServeOptions:
    """Options of a server. Can be pickled, for worker processes.

    Attributes
    ----------
    sources
        Folders, files and URLs to serve.
    host, port
        Address to listen on; port 0 is any free port.
    token
        Part of every URL, as ``/~TOKEN/``; None for none.
    allowed_hosts
        Further names that the Host header may contain.
    cors
        Origins whose pages may read replies; "*" is any.
    compression
        Compression of Zarr chunks in the form of `parse_compression`. Default: none.
    cache_bytes
        Largest size of decoded chunks and encoded replies in one process.
    open_files
        Largest number of files kept open.
    queue
        Largest number of waiting requests of viewers, and of Zarr clients.
    most_pixels
        Largest number of pixels of one picture.
    timeout
        Seconds after which a request fails.
    workers
        Number of processes.
    isolated
        Whether Bio-Formats runs in separate processes.
    index
        Whether metadata that Bio-Formats finds is kept on disk; see `BioReader`.
    storage_options
        For URLs: options of their fsspec filesystem.
    limits
        Limits on what a file may request.
    access_log
        Whether each request is logged.
    extend
        Adds routes of other packages to the application, such as those of the viewer. Worker
        processes import it, so it must be a function of a module.

    Raises
    ------
    BadArgument
        A value is not valid.
    """

    sources: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default_factory=new_token, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    compression: Any = "none"
    cache_bytes: int = 256 * MIB
    open_files: int = 32
    queue: int = 256
    most_pixels: int = 1 << 23
    timeout: float = 60.0
    workers: int = 1
    isolated: bool = False
    index: bool = False
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    limits: Limits = SERVED_LIMITS
    access_log: bool = True
    extend: Callable[[Any, ServeOptions], None] | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise BadArgument("serve: give at least one file, folder or URL.")
        if not 0 <= self.port <= 65_535:
            raise BadArgument(f"port={self.port}: give 0 to 65535; 0 is any free port.")
        least = {
            "workers": 1,
            "open_files": 1,
            "queue": 1,
            "most_pixels": 1 << 16,
            "cache_bytes": 0,
        }
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise BadArgument(f"{name}={getattr(self, name)}: give {smallest} or more.")
        if self.timeout <= 0:
            raise BadArgument(f"timeout={self.timeout}: give a number of seconds above 0.")
        if self.token is not None and not _is_token(self.token):
            raise BadArgument("token: give 8 to 200 letters, digits, '-' or '_'.")
        for origin in self.cors:
            _check_origin(origin)
        parse_compression(self.compression)

    @property
    def prefix(self) -> str:
        """The beginning of the path of every URL: ``/~TOKEN``, or nothing."""
        return "" if self.token is None else f"/~{self.token}"

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the address."""
        return not is_loopback(self.host)

    def allows_host(self, host: str) -> bool:
        """Whether the name in a Host header, without its port, is one of this server.

        Pages of other sites can reach a server on this machine under names that they control (DNS
        rebinding), but never under an IP address.
        """
        name = host.strip("[]").lower()
        if name == self.host.lower() or name in self.allowed_hosts or is_loopback(name):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.host in _ANYWHERE

    def allows_origin(self, origin: str) -> bool:
        """Whether pages of an origin may read replies."""
        return "*" in self.cors or origin in self.cors


def _is_token(token: str) -> bool:
    plain = token.replace("-", "").replace("_", "")
    return 8 <= len(token) <= 200 and token.isascii() and (plain.isalnum() or not plain)


def _check_origin(origin: str) -> None:
    parts = urlsplit(origin)
    bare = not (parts.path or parts.query or parts.fragment)
    if origin != "*" and not (parts.scheme in ("http", "https") and parts.netloc and bare):
        raise BadArgument(
            f"cors={origin!r:.80}: give '*', or an origin such as https://example.org, without a "
            "path."
        )
