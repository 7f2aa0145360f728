"""The change of pixel values to another type.

Without a rule, only changes without loss are made. The rules:

``"clip"``
    Values are not scaled; values outside the range of the new type are set to its limits, and
    fractions are rounded half to even.
``"full"``
    Linear from the range of the old type to that of the new type: 0..65535 to 0..255. Only for
    integers. The old range is that of the significant bits if the file states them.
``"minmax"``
    Linear from the smallest and largest value of the image, found in a first pass.
``(low, high)``
    Linear from low..high to the new type's range (0..1 for floats); values outside
    low..high are set to its limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bfbridge.errors import BadArgument, ReadFailed
from bfbridge.ome.metadata import writable_dtype
from bfbridge.runtime.cached_property import cached_property

__all__ = ["Scaling", "plan_scaling"]

Array = np.ndarray[Any, Any]
RULES = ("clip", "full", "minmax")


@dataclass(frozen=True)
class Scaling:
    """A rule with its parameters.

    Attributes
    ----------
    rule
        "exact", "clip", "full", "minmax" or "range".
    before, after
        Types of the old and new pixels.
    low, high
        Old values that are mapped to the limits of the new range; None if values are not scaled.
    """

    rule: str
    before: np.dtype[Any]
    after: np.dtype[Any]
    low: float | None = None
    high: float | None = None

    @property
    def changes(self) -> bool:
        """Whether values or their type change."""
        return self.before != self.after or self.low is not None

    def describe(self) -> dict[str, Any]:
        """Return the rule as plain data for the report and the file's metadata."""
        description: dict[str, Any] = {
            "rule": self.rule, "from": self.before.name, "to": self.after.name,
        }  # fmt: skip
        if self.low is not None and self.high is not None:
            first, last = _range(self.after)
            description.update({"low": self.low, "high": self.high, "becomes": [first, last]})
        return description

    def __call__(self, values: Array) -> Array:
        """Return new values; the input where nothing changes."""
        if not self.changes:
            return values
        if self.rule == "exact":
            return values.astype(self.after)
        if self._table is not None:
            return self._table[values]
        return self._compute(values)

    @cached_property
    def _table(self) -> Array | None:
        """New value of every old one, for types of at most 16 bits."""
        if self.before.kind != "u" or self.before.itemsize > 2:
            return None
        return self._compute(np.arange(np.iinfo(self.before).max + 1))

    def _compute(self, values: Array) -> Array:
        wide = values.astype(np.float64)
        if np.isnan(wide).any() and self.after.kind in "iu":
            raise ReadFailed(
                f"the pixels contain NaN, which {self.after} cannot store. Choose a float dtype."
            )
        first, last = _range(self.after)
        if self.low is not None and self.high is not None:
            width = self.high - self.low
            wide = (wide - self.low) * ((last - first) / width if width else 0.0) + first
        if self.after.kind in "iu":
            # 64-bit ends are not exact in float64: the largest float below them is taken.
            low, high = float(first), float(last)
            if self.after.itemsize == 8:
                high = float(np.nextafter(high, 0))
            return np.clip(np.rint(wide), low, high).astype(self.after)
        return np.clip(wide, first, last).astype(self.after) if self.low is not None else (
            wide.astype(self.after)
        )  # fmt: skip


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return int(limits.min), int(limits.max)
    return 0.0, 1.0


def plan_scaling(
    before: np.dtype[Any],
    dtype: Any,
    rule: Any,
    significant_bits: int | None,
    extremes: Callable[[], tuple[float, float]],
) -> Scaling:
    """Choose the change of values to another type.

    Parameters
    ----------
    before
        Type of the pixels read.
    dtype, rule
        The conversion options ``dtype`` and ``scaling``; both None for no change.
    significant_bits
        Significant bits of the pixels read, or None.
    extremes
        Returns the smallest and largest value of the image; called for "minmax" only.

    Raises
    ------
    BadArgument
        The change would lose values and no rule was stated, or the rule does not exist.
    """
    after = before if dtype is None else writable_dtype(dtype)
    if rule is None:
        if before != after and not np.can_cast(before, after, "safe"):
            raise BadArgument(
                f"dtype={after.name}: pixels of {before.name} do not fit without loss. State how: "
                "scaling='full' (range to range), 'minmax', 'clip', or (low, high)."
            )
        return Scaling("exact", before, after)
    if "c" in (before.kind, after.kind):
        raise BadArgument("complex pixels cannot be scaled; leave out dtype= and scaling=.")
    if isinstance(rule, str) and ":" in rule:
        rule = tuple(rule.split(":"))
    if rule == "clip":
        return Scaling("clip", before, after)
    if rule == "full":
        if before.kind not in "iu":
            raise BadArgument(
                f"scaling='full': {before.name} has no full range. Use 'minmax' or (low, high)."
            )
        low, high = _range(before)
        if significant_bits and before.kind == "u" and significant_bits < before.itemsize * 8:
            high = (1 << significant_bits) - 1
        return Scaling("full", before, after, low, high)
    if rule == "minmax":
        return Scaling("minmax", before, after, *extremes())
    try:
        low, high = (float(value) for value in rule)
    except (TypeError, ValueError):
        raise BadArgument(
            f"scaling={rule!r}: give {', '.join(RULES)}, or low and high such as 100:4000."
        ) from None
    if not low < high:
        raise BadArgument(f"scaling={rule!r}: low must be below high.")
    return Scaling("range", before, after, low, high)
