"""Open the files whose paths arrive on standard input; print how each attempt ended."""

from __future__ import annotations

import resource
import sys
import warnings

from bfbridge import BioReader
from bfbridge.errors import BfbridgeError

MOST_PIXELS = 1 << 22


def look(path: str) -> str:
    """Open a file, read its metadata and the first plane of its first images."""
    try:
        with BioReader(path, cache=0) as br:
            _ = br.ome
            for view in list(br.series)[:4]:
                height, width = view.sizes["Y"], view.sizes["X"]
                if height * width <= MOST_PIXELS:
                    view.read(Z=0, T=0)
    except BfbridgeError as error:
        return type(error).__name__
    except Exception as error:  # noqa: BLE001 - a finding
        return f"!{type(error).__name__}: {error}".replace("\n", " ")[:300]
    return "read"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        ended = look(line.rstrip("\n"))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, ended, flush=True)  # noqa: T201 - the protocol
