"""An open file in memory that counts the bytes read from it."""

from __future__ import annotations

import io

__all__ = ["Counting"]


class Counting(io.BytesIO):
    """An open file.

    Attributes
    ----------
    count
        Bytes read so far.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data
