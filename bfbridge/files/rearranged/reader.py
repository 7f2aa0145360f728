"""`RearrangedReader`: opens a file, and puts the backends of the changes around its backend."""

from __future__ import annotations

from dataclasses import replace

from bfbridge import registry
from bfbridge.backend import OpenOptions, ReaderBackend
from bfbridge.errors import BadArgument
from bfbridge.files.rearranged.axes import SwappedAxes
from bfbridge.files.rearranged.changes import Changes
from bfbridge.files.rearranged.projection import Projected
from bfbridge.files.rearranged.samples import MergedChannels, SplitSamples
from bfbridge.files.rearranged.stitching import Stitched
from bfbridge.files.rearranged.units import PositionUnits
from bfbridge.files.rearranged.wrapper import Wrapper
from bfbridge.storage.source import Source

__all__ = ["RearrangedReader"]


class RearrangedReader(Wrapper):
    """A file with changes. Made by `open`."""

    @classmethod
    def open(cls, source: Source, options: OpenOptions) -> ReaderBackend:
        """Open a file with the changes given in the options."""
        given = dict(options.backend_options)
        changes = given.get("changes")
        if not isinstance(changes, Changes):
            raise BadArgument(f"{source.name}: give BioReader a path, and convert() the changes.")
        inner_options = replace(options, backend_options=given["inner_options"])
        inner, _ = registry.open_reader(source, inner_options, given["inner_backend"])
        try:
            return _changed(inner, changes, source.name)
        except BaseException:
            inner.close()
            raise


def _changed(inner: ReaderBackend, changes: Changes, name: str) -> ReaderBackend:
    if changes.position_unit is not None:
        inner = PositionUnits(inner, changes.position_unit)
    if changes.stitch is not None:
        inner = Stitched(inner, changes.stitch, changes.fill_value, changes.flip_stage, name)
    for pair in changes.swap:
        inner = SwappedAxes(inner, pair)
    if changes.split_rgb:
        inner = SplitSamples(inner)
    if changes.merge_channels:
        inner = MergedChannels(inner)
    if changes.project is not None:
        inner = Projected(inner, *changes.project)
    if changes.wrapper is not None:
        inner = changes.wrapper(inner)
    return inner
