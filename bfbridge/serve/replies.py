"""What a request is answered with, apart from HTTP: a body, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bfbridge.errors import BfbridgeError

__all__ = ["Plan", "Refused", "Reply"]


class Refused(BfbridgeError):
    """A request that is not answered with what it asks for.

    Attributes
    ----------
    status
        Of HTTP.
    retry_after
        Seconds after which it may succeed, or None.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Reply:
    """The body of a reply, with its type and further headers.

    Attributes
    ----------
    body
        Empty if `found` is false.
    content_type
        MIME type, with its charset.
    headers
        Further ones.
    found
        False for a chunk of zeros, which a Zarr store leaves out.
    """

    body: bytes | memoryview
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    found: bool = True

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in a cache."""
        return len(self.body) + 512


@dataclass(frozen=True, slots=True)
class Plan:
    """A request that was checked, and how it is computed.

    Attributes
    ----------
    make
        Computes the reply; takes a worker thread.
    content_type
        Of the reply.
    length
        Bytes of its body, where that is known before.
    headers
        Further ones that are known before.
    """

    make: Callable[[], Reply]
    content_type: str
    length: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
