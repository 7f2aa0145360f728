"""Run the tests of private APIs with the lowest and the newest supported versions.

    python tests/private_apis/run.py [lowest] [newest]

Makes a virtual environment below a temporary folder for each, with the lower bounds of
pyproject.toml or with the newest releases, and removes it again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Extras whose packages have private APIs that are used, and what the tests themselves need.
EXTRAS = ("omezarr", "dask", "remote")
TOOLS = ("pytest>=8.3", "pytest-timeout>=2.3")


def requirements(which: str) -> list[str]:
    """Return the requirements, at their lower bounds if `which` is "lowest"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = list(project["dependencies"])
    for extra in EXTRAS:
        found += project["optional-dependencies"][extra]
    if which == "lowest":
        found = [re.sub(r">=\s*", "==", requirement) for requirement in found]
    return [*found, *TOOLS]


def run(which: str) -> int:
    """Run the tests in a new environment and return their exit code."""
    with tempfile.TemporaryDirectory(prefix="bfbridge-") as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements(which)], check=True)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "backends")]),
            "VIRTUAL_ENV": folder,
        }
        tests = [str(python), "-m", "pytest", "-q", "--noconftest", str(Path(__file__).parent)]
        return subprocess.run(tests, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    codes = {which: run(which) for which in sys.argv[1:] or ("lowest", "newest")}
    sys.stdout.write("".join(f"{which}: exit code {code}\n" for which, code in codes.items()))
    sys.exit(max(codes.values()))
