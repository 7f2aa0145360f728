"""What every test may rely on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# The tests are of this checkout, whatever is installed: `pythonpath` of pyproject.toml sees to this
# process, and the variable to every process that a test starts.
CHECKOUT = Path(__file__).parents[1]
_paths = [str(CHECKOUT), str(CHECKOUT / "backends"), os.environ.get("PYTHONPATH", "")]
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in _paths if path)

# A shell starts background jobs with Ctrl-C ignored, and Python then leaves it so, here and in
# every process started from here. The tests of interrupts want what a person at a terminal has.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
