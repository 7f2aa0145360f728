"""Buffer classes of zarr-python, for stores that zarr-python reads.

The only module that imports ``zarr.core``, because zarr 3.0 has no public name for these classes.
tests/private_apis/test_zarr_buffers.py tests it. It imports zarr, so import it only when needed.
"""

from __future__ import annotations

from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

__all__ = ["Buffer", "BufferPrototype", "default_buffer_prototype"]
