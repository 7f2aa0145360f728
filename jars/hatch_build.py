"""Build hook: put the verified Bio-Formats jar, and its pin, into the wheel."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "bfbridge_bioformats"


def load_pinned(root: Path) -> ModuleType:
    """Load the code that fetches the jar from its file: nothing is installed during a build."""
    path = root / "backends" / PACKAGE / "jars" / "download.py"
    spec = importlib.util.spec_from_file_location("_bfbridge_pinned", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded; the source tree is incomplete")
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name while it is being executed.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def wants_jar(setting: str | None) -> bool:
    """Whether ``BFBRIDGE_BUILD_JAR`` asks for the jar; anything but 0 and 1 is refused."""
    if setting in (None, "", "1"):
        return True
    if setting == "0":
        return False
    raise ValueError(
        f"BFBRIDGE_BUILD_JAR is {setting!r}: use 0 for a wheel without the Bio-Formats jar, "
        "or 1 (the default) for one with it."
    )


class JarHook(BuildHookInterface):
    """Fetches the jar into ``jars/`` and force-includes it, except in editable wheels."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add jar and pin to the wheel that is about to be built.

        Parameters
        ----------
        version : str
            ``"standard"`` or ``"editable"``.
        build_data : dict
            Hatchling's description of the wheel; ``force_include`` is extended.
        """
        root = Path(self.root)
        pinned = load_pinned(root)
        pin_file = root / "jars" / pinned.PIN_NAME
        jar = root / "jars" / pinned.JAR_NAME
        included = {pin_file: pinned.PIN_NAME}
        if wants_jar(os.environ.get("BFBRIDGE_BUILD_JAR")):
            try:
                pinned.ensure_jar(pinned.read_pin(pin_file), jar, self.app.display_info)
            except pinned.JarProblem as error:
                # The builders show a traceback's last lines: the message must be among them.
                raise SystemExit(f"bfbridge: {error}") from None
            included[jar] = pinned.JAR_NAME
        if version == "editable":
            # An editable install runs from the checkout and looks in its jars/ folder; files put
            # beside it in site-packages would shadow the package.
            return
        for source, name in included.items():
            build_data["force_include"][str(source)] = f"{PACKAGE}/{name}"
