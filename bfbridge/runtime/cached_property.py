"""`functools.cached_property` without a lock, as in Python 3.12 and newer.

In Python 3.11 one lock for all objects of a class is held while the value is computed. A child of
`os.fork` waits for it without end if another thread of the parent held it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["cached_property"]

if TYPE_CHECKING:
    from functools import cached_property
else:

    class cached_property:  # noqa: N801 - the name of the standard library
        """A property that is computed once for each object. Threads may compute it twice.

        Parameters
        ----------
        function
            Returns the value.
        """

        def __init__(self, function: Any) -> None:
            self.func = function
            self.__doc__ = function.__doc__

        def __set_name__(self, owner: Any, name: str) -> None:
            self._name = name

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is None:
                return self
            value = self.func(instance)
            # Found before this descriptor from now on.
            instance.__dict__[self._name] = value
            return value
