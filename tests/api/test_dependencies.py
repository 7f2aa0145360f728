"""What is imported is what pyproject.toml declares, and what is declared is enough."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from bfbridge.errors import MissingExtra
from bfbridge.ome.documents import model as omemodel

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = {"bfbridge", *(path.name for path in ROOT.glob("backends/bfbridge_*"))}
# Packages whose distributions importlib.metadata does not know, in every environment or in some.
APART = {
    "_jpype": "jpype1",  # its extension module
    "bioio_base": "bioio-base",
    "bfbridge_bioformats_jar": "bfbridge-bioformats-jar",
    "jgo": "jgo",
    "scyjava": "scyjava",
}
# Modules and packages that only programs with the extra import, or that do without it.
MAY_IMPORT = {
    "bfbridge/convert/verification/checksum.py": "ometiff",
    "bfbridge/ngff/compression.py": "omezarr",
    "bfbridge/ngff/zarr_buffers.py": "omezarr",
    "bfbridge/patches/array_stack.py": "omezarr",
    "bfbridge/serve/": "serve",
    "bfbridge/testing.py": "test",
    "bfbridge/views/geography.py": "geo",
    "bfbridge/virtual/store.py": "omezarr",
    "bfbridge/integrations/bioio.py": "bioio",
    "bfbridge/integrations/xarray.py": "xarray",
    "bfbridge/viewer/page.py": "serve",
    "bfbridge/viewer/widget.py": "widget",
}
EXTRAS = {
    "bfbridge": ("remote", "dask", "xarray", "cluster", "view"),
    "bfbridge_bioformats": ("bioformats", "remote", "maven"),
    "bfbridge_czi": ("czi",),
    "bfbridge_geotiff": ("geo",),
    "bfbridge_lif": ("lif",),
    "bfbridge_nd2": ("nd2",),
    "bfbridge_ndpi": ("ndpi",),
    "bfbridge_ometiff": ("ometiff",),
    "bfbridge_omezarr": ("omezarr", "remote"),
    "bfbridge_pictures": ("pictures",),
}


def normal(requirement: str) -> str:
    """The distribution's name, as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]).lower()


def declared(*extras: str) -> set[str]:
    found = {normal(requirement) for requirement in PROJECT["dependencies"]}
    for extra in extras:
        for requirement in PROJECT["optional-dependencies"][extra]:
            own = re.fullmatch(r"bfbridge\[(.*)\]", requirement)
            found |= declared(*own[1].split(",")) if own else {normal(requirement)}
    return found


@cache
def distributions() -> dict[str, list[str]]:
    """Installed distributions by the packages that they bring."""
    return dict(packages_distributions())


def sources() -> list[Path]:
    return sorted([*ROOT.glob("bfbridge/**/*.py"), *ROOT.glob("backends/**/*.py")])


def imports(tree: ast.AST, *, late: bool) -> Iterator[str]:
    """Packages that a module imports: all of them, or when it is imported itself."""
    for node in ast.iter_child_nodes(tree):
        if not late and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not late:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0]
            if isinstance(name, ast.Constant):
                yield str(name.value).partition(".")[0]
        yield from imports(node, late=late)


def foreign(path: Path, *, late: bool) -> set[str]:
    """Distributions of others that a module of ours imports."""
    known = distributions()
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for package in imports(tree, late=late):
        if package in sys.stdlib_module_names or package in OURS:
            continue
        of = [APART[package]] if package in APART else known.get(package)
        assert of, f"{path.name} imports {package}, which no installed distribution has"
        found.add(normal(of[0]))
    return found


def name_of(path: Path) -> tuple[str, str]:
    """The module's path in the checkout, and its package."""
    relative = path.relative_to(ROOT)
    package = relative.parts[1] if relative.parts[0] == "backends" else relative.parts[0]
    return relative.as_posix(), package


def own_extras(name: str) -> list[str]:
    """The extras that this module may import, of those its package does without."""
    return [extra for start, extra in MAY_IMPORT.items() if name.startswith(start)]


@pytest.mark.slow(ci=True)
def test_every_import_is_declared() -> None:
    wrong = {}
    for path in sources():
        name, package = name_of(path)
        extras = (*EXTRAS[package], *own_extras(name))
        missing = foreign(path, late=True) - declared(*extras)
        if missing:
            wrong[name] = missing
    assert wrong == {}


@pytest.mark.slow(ci=True)
def test_the_library_is_imported_without_any_extra() -> None:
    wrong = {}
    for path in sources():
        name, package = name_of(path)
        extras = own_extras(name)
        if package != "bfbridge":
            extras += EXTRAS[package]
        missing = foreign(path, late=False) - declared(*extras)
        if missing:
            wrong[name] = missing
    assert wrong == {}


@pytest.mark.slow(ci=True)
def test_what_is_declared_is_imported() -> None:
    used = set().union(*(foreign(path, late=True) for path in sources()))
    used |= {"aiohttp", "s3fs"}  # file systems that fsspec loads by the URL's scheme
    used |= {"pillow"}  # for the programs that read pictures beside this library
    extras = set(PROJECT["optional-dependencies"]) - {"all", "test", "docs"}
    assert declared(*extras) <= used


def test_all_is_every_extra_that_needs_no_cluster_and_no_maven() -> None:
    (everything,) = PROJECT["optional-dependencies"]["all"]
    named = set(re.findall(r"\[(.*)\]", everything)[0].split(","))
    others = set(PROJECT["optional-dependencies"]) - {
        "all",
        "test",
        "docs",
        "maven",
        "bioio",
        "cluster",
        "napari",
    }
    assert named == others


def test_requirements_have_lower_bounds_and_no_upper_ones() -> None:
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in (one for listed in lists for one in listed):
        bounds = requirement.partition(";")[0]
        assert ">=" in bounds or requirement.startswith("bfbridge["), requirement
        assert "<" not in bounds, requirement


OLD = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2013-06">
<Image ID="Image:0" Name="i">
<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="9" SizeY="8"
SizeZ="1" SizeC="1" SizeT="1" PhysicalSizeX="0.5">
<Channel ID="Channel:0:0" SamplesPerPixel="1"/></Pixels></Image>
</OME>
"""


def test_metadata_of_old_schemas_is_read() -> None:
    pixels = omemodel.model_from_xml(OLD).images[0].pixels
    assert (pixels.size_x, pixels.physical_size_x) == (9, 0.5)


def test_without_lxml_the_error_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lxml", None)
    monkeypatch.setitem(sys.modules, "lxml.etree", None)
    with pytest.raises(MissingExtra, match=r"old.xml: .* not installed .*lxml.*pip install lxml"):
        omemodel.model_from_xml(OLD, "old.xml")
