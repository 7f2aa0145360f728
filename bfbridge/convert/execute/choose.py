"""The choice of an executor: serial, processes, or a Dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bfbridge.convert.execute.executor import SerialExecutor

if TYPE_CHECKING:
    from bfbridge.convert.execute.executor import Executor
    from bfbridge.convert.options import RunOptions

__all__ = ["choose_executor"]


def choose_executor(options: RunOptions, count: int) -> Executor:
    """Return what converts `count` files.

    Raises
    ------
    MissingExtra, BadArgument
        ``client`` cannot be used; see `ClusterExecutor`.
    """
    if options.client is not None:
        from bfbridge.convert.execute.cluster import ClusterExecutor

        return ClusterExecutor(options.client)
    if min(options.jobs, count) > 1:
        from bfbridge.convert.execute.processes import ProcessExecutor

        return ProcessExecutor(min(options.jobs, count))
    return SerialExecutor()
