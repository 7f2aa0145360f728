"""Compare a release tag with the version that the sources state: python .ci/check_tag.py TAG.

``v0.1.0`` releases bfbridge, whose version is ``bfbridge.__version__``; ``jar-v7.3.1.1`` releases
bfbridge-bioformats-jar, whose version is the default of the table of pins and its build number.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def library_version() -> str:
    text = (ROOT / "bfbridge" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit("bfbridge/__init__.py has no __version__")
    return found.group(1)


def jar_version() -> str:
    path = ROOT / "backends" / "bfbridge_bioformats" / "jars" / "pins.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    version: str = table["default"]
    return f"{version}.{table['bioformats'][version]['build']}"


def main(tag: str) -> str:
    """Return what is released by a tag; SystemExit with the reason if nothing is."""
    expected = {f"v{library_version()}": ".", f"jar-v{jar_version()}": "jars"}
    if tag not in expected:
        raise SystemExit(f"the tag is {tag}; the sources have the versions {', '.join(expected)}")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if expected[tag] == "." and f"\n## {library_version()}\n" not in changelog:
        raise SystemExit(f"CHANGELOG.md has no section for {library_version()}")
    return expected[tag]


if __name__ == "__main__":
    print(main(sys.argv[1]))
