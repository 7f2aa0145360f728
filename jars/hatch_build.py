"""Build of bfbridge-bioformats-jar: put the verified jars of one pinned version into the wheel."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "bfbridge_bioformats_jar"
VERSION_VARIABLE = "BFBRIDGE_BUILD_BIOFORMATS"
SHARED = ("download.py", "pins.toml")


def shared_folder(root: Path) -> Path:
    """Return the folder of the files shared with bfbridge: in a checkout, or beside this one."""
    checkout = root.parent / "backends" / "bfbridge_bioformats" / "jars"
    return checkout if (checkout / SHARED[0]).is_file() else root


def load_download(root: Path) -> ModuleType:
    """Load the code that fetches the jars from its file: nothing is installed during a build."""
    path = shared_folder(root) / SHARED[0]
    spec = importlib.util.spec_from_file_location("_bfbridge_jar_download", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded; the source tree is incomplete")
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name while it is being executed.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def version() -> str:
    """Version of the distribution: that of Bio-Formats, and a build number."""
    root = Path(__file__).resolve().parent
    download = load_download(root)
    pins = download.read_pins(shared_folder(root) / SHARED[1])
    try:
        return str(pins.pin(os.environ.get(VERSION_VARIABLE)).distribution_version)
    except download.JarProblem as error:
        raise SystemExit(f"{VERSION_VARIABLE}: {error}") from None


class JarHook(BuildHookInterface):
    """Fetches the jars into this folder and includes them in the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the jars and their pin to the wheel that is about to be built.

        Parameters
        ----------
        version : str
            ``"standard"`` or ``"editable"``; both wheels hold the same files, as there is no code
            here that an editable install would follow.
        build_data : dict
            Hatchling's description of the wheel; the files to include are added.
        """
        root = Path(self.root)
        if self.target_name == "sdist":
            shared = shared_folder(root)
            build_data["force_include"].update({str(shared / name): name for name in SHARED})
            return
        download = load_download(root)
        pins = download.read_pins(shared_folder(root) / SHARED[1])
        # From the version: an sdist keeps the one that it was made for.
        pin = pins.pin(self.metadata.version.rpartition(".")[0])
        try:
            jars = download.ensure_jars(pin, root, self.app.display_info)
        except download.JarProblem as error:
            # The builders show a traceback's last lines: the message must be among them.
            raise SystemExit(f"bfbridge-bioformats-jar: {error}") from None
        handle, document = tempfile.mkstemp(suffix=".toml")
        self.document = document
        with open(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(download.pin_document(pin))
        included = {str(jar): f"{PACKAGE}/jars/{jar.name}" for jar in jars}
        included[document] = f"{PACKAGE}/jars/{SHARED[1]}"
        included[str(root / PACKAGE / "__init__.py")] = f"{PACKAGE}/__init__.py"
        key = "force_include_editable" if version == "editable" else "force_include"
        build_data[key].update(included)

    def finalize(self, version: str, build_data: dict[str, Any], artifact: str) -> None:
        """Remove the temporary file."""
        document = getattr(self, "document", None)
        if document is not None:
            Path(document).unlink(missing_ok=True)
