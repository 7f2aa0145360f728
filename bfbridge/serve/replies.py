"""Types of replies, independent of HTTP: a body, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bfbridge.errors import BfbridgeError

__all__ = ["Plan", "Refused", "Reply"]


class Refused(BfbridgeError):
    """A request that is refused; the message is sent to the client.

    Attributes
    ----------
    status
        Status code of HTTP.
    retry_after
        Seconds after which the request may succeed, or None.
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
        Further headers.
    found
        False for a chunk of zeros, which a Zarr store omits.
    """

    body: bytes | memoryview
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    found: bool = True

    @property
    def nbytes(self) -> int:
        """Size in a cache, in bytes."""
        return len(self.body) + 512


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked request, and the function that computes its reply.

    Attributes
    ----------
    make
        Computes the reply; runs in a worker thread.
    content_type
        MIME type of the reply.
    length
        Length of the body in bytes, if it is known before the computation.
    headers
        Further headers that are known before the computation.
    """

    make: Callable[[], Reply]
    content_type: str
    length: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
