"""Buffer classes of zarr-python, for stores that it reads through.

The only module that imports ``zarr.core``: zarr 3.0 has no public name for them.
tests/private_apis/test_zarr_buffers.py tests it. Imports zarr, so it is imported when needed only.
"""

from __future__ import annotations

from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

__all__ = ["Buffer", "BufferPrototype", "default_buffer_prototype"]
