"""Errors of programs that were started without a terminal, shown as a page in the browser."""

from __future__ import annotations

import html
import io
import os
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["shown_errors"]


@contextmanager
def shown_errors() -> Iterator[None]:
    """Show what the block writes to stderr as a page, if it ends with an error."""
    before: TextIO | None = sys.stderr
    written = io.StringIO()
    sys.stderr = written
    try:
        yield
    except SystemExit as end:
        # 128 and more: ended by a signal.
        if isinstance(end.code, int) and 0 < end.code < 128:
            _show(written.getvalue())
        raise
    finally:
        sys.stderr = before
        if before is not None:
            before.write(written.getvalue())


def _show(text: str) -> None:
    page = (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>bfbridge</title>'
        '<body style="font: 16px/1.5 system-ui; max-width: 44rem; margin: 4rem auto">'
        f"<h1>bfbridge cannot start</h1><p>{html.escape(text.strip())}</p></body></html>\n"
    )
    # The browser reads it after this process has ended.
    handle, path = tempfile.mkstemp(suffix=".html", prefix="bfbridge-error-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(page)
    webbrowser.open(f"file://{path}")
