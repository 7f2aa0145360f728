"""What every test may rely on."""

from __future__ import annotations

import signal

# A shell starts background jobs with Ctrl-C ignored, and Python then leaves it so, here and in
# every process started from here. The tests of interrupts want what a person at a terminal has.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
