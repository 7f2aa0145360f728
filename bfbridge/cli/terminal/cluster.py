"""The client of a Dask cluster, for ``--dask``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bfbridge.errors import BadArgument, MissingExtra

__all__ = ["connected"]


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Connect to the Dask scheduler of ``--dask``; yield its client, or None without an address.

    Raises
    ------
    MissingExtra
        Dask's distributed scheduler is not installed.
    BadArgument
        No scheduler responds.
    """
    if address is None:
        yield None
        return
    try:
        import distributed
    except ImportError as error:
        raise MissingExtra(
            "--dask needs Dask's distributed scheduler. Install it with: python -m pip install "
            "'dask[distributed]'"
        ) from error
    cluster: Any = distributed
    try:
        client = cluster.Client(address)
    except (OSError, ValueError) as error:
        raise BadArgument(f"--dask {address}: no scheduler responds ({error}).") from error
    with client:
        yield client
