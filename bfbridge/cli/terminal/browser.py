"""The browser of the user, for commands that start a server and open its page."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

__all__ = ["fetch", "has_browser", "in_background", "tunnel"]


def in_background(work: Callable[[str], object], argument: str) -> None:
    """Call a function in a thread that does not delay the end of the process."""
    threading.Thread(target=work, args=(argument,), daemon=True).start()


def fetch(url: str) -> None:
    """Request a URL of our own server; its pages report errors."""
    try:
        urllib.request.urlopen(url, timeout=300).close()  # noqa: S310 - our own server
    except (OSError, ValueError):
        return


def has_browser() -> bool:
    """Whether a graphical browser can be opened."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def tunnel(url: str) -> str:
    """Return the ssh command with which a link works on another machine."""
    port = urlsplit(url).port
    # SSH_CONNECTION: client's address and port, server's address and port.
    parts = os.environ.get("SSH_CONNECTION", "").split()
    machine = parts[2] if len(parts) == 4 else socket.getfqdn()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "USER"
    return f"ssh -N -L {port}:127.0.0.1:{port} {user}@{machine}"
