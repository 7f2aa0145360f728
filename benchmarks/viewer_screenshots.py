"""Pictures of the viewer for the documentation.

    python benchmarks/viewer_screenshots.py OUTPUT FILE...

Each file is shown wide and narrow, dark and light.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bfbridge.viewer.page import add_viewer
from tests.support.chromium import Page, browser
from tests.support.liveserver import live

SIZES = {"wide": (1280, 800), "narrow": (420, 800)}


def shoot(chromium: Any, url: str, target: Path, scheme: str, size: str, script: str = "") -> None:
    page = Page(chromium, *SIZES[size], color_scheme=scheme)
    page.go(url)
    page.settled()
    if script:
        page.run(script)
    page.page.wait_for_timeout(1500)
    page.page.screenshot(path=target)
    print(target)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("files", nargs="+", type=Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        for file in arguments.files:
            with live(file, extend=add_viewer) as server:
                url = f"{server.url}/view/{file.name}"
                for scheme in ("dark", "light"):
                    for size in SIZES:
                        name = f"{file.name.partition('.')[0]}-{scheme}-{size}.png"
                        shoot(chromium, url, arguments.output / name, scheme, size)


if __name__ == "__main__":
    main()
