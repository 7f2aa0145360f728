"""The structure of the code: no import cycles, short modules and functions, no format names."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bfbridge

ROOT = Path(bfbridge.__file__).parent
BACKENDS = ROOT.parent / "backends"
PACKAGES = [ROOT, *sorted(path for path in BACKENDS.iterdir() if (path / "__init__.py").exists())]
MOST_LINES = 600
MOST_FUNCTION_LINES = 60
MOST_MODULES = 14
# The packages in bfbridge are the layers of DESIGN.md.
MOST_PACKAGES = {"bfbridge": 21}
FORMATS = {"omezarr", "ometiff", "bioformats", "pictures", "tiff", "zarr"}
SUFFIX = re.compile(r"\.(ome\.)?(zarr|tiff?|tf2|tf8|btf)", re.IGNORECASE)
# Modules that may name formats, and why. Those without a reason are to leave this list.
NAMING_FORMATS = {
    "ngff/compression.py": "the container of encoded chunks, in `StoredAs`",
    "registry.py": "the table of backends",
    "storage/signatures.py": "names of Zarr stores at URLs",
    "tiff/hamamatsu.py": "suffixes of plain TIFF files",
    "files/attribute_names.py": "bfio's names of backends",
    "__init__.py": "starts Java on request",
    "wipp.py": "the two formats of WIPP",
    "virtual/pyramid.py": "chunk encodings that Zarr can express",
    "serve/http/handlers.py": "names of routes", "serve/http/scheduler.py": "names of queues",
    "serve/content/pictures.py": "a picture format", "serve/files/library.py": "a suffix of URLs",
    "viewer/others.py": "names of routes",
    "convert/options.py": "the default suffix",
    "aics/readers.py": "AICSImageIO's readers by format",
    "aics/writers.py": "AICSImageIO's writers by format",
    "cli/commands/installation/doctor.py": "names of distributions",
    "cli/commands/installation/formats.py": "the backend that lists formats",
    "cli/commands/installation/jar.py": "the backend that has a jar",
    "cli/commands/installation/cache.py": "the backend that keeps a cache",
    "convert/plan/grouping.py": "the backend that knows file sets of any format",
    "convert/reports/writer.py": "names of distributions",
    "large_image/encoding.py": "names of picture encodings, and the format of tiled regions",
    "integrations/xarray.py": "suffixes that xarray asks for before it calls any backend",
}  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module of the library and of the backends, by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in package.rglob("*.py"):
            parts = path.relative_to(package.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@functools.cache
def trees() -> dict[str, ast.Module]:
    """The syntax tree of each module."""
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def _is_type_checking(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    names = (getattr(node.test, "id", None), getattr(node.test, "attr", None))
    return "TYPE_CHECKING" in names


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a module that runs, so none below ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if _is_type_checking(node):
            assert isinstance(node, ast.If)
            for other in node.orelse:
                yield other
                yield from _running(other)
            continue
        yield node
        yield from _running(node)


def _module_of(name: str) -> str | None:
    """The longest module that a dotted name begins with."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def imports(tree: ast.AST) -> set[str]:
    """Modules that a module imports, at its top, in functions, or by ``import_module``."""
    found: set[str | None] = set()
    for node in _running(tree):
        if isinstance(node, ast.Import):
            found.update(_module_of(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.update(_module_of(f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
            if called in ("import_module", "__import__") and isinstance(node.args[0], ast.Constant):
                found.add(_module_of(str(node.args[0].value)))
    return {name for name in found if name}


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1 or name in graph[name]:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def test_cycles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}
    assert cycles(graph) == [["b", "c"], ["d"]]


def test_imports_are_found() -> None:
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "from bfbridge import limits\n"
        "if TYPE_CHECKING:\n    from bfbridge.errors import Closed\n"
        "def f():\n"
        "    from bfbridge.ome.units import convert\n"
        "    import_module('bfbridge.engine.tiles')\n"
    )
    assert imports(tree) == {"bfbridge.limits", "bfbridge.ome.units", "bfbridge.engine.tiles"}


@pytest.mark.slow(ci=True)
def test_no_module_imports_itself_over_others() -> None:
    graph = {name: imports(tree) - {name} for name, tree in trees().items()}
    assert cycles(graph) == []


def test_modules_are_short() -> None:
    lines = {name: path.read_text("utf-8").count("\n") for name, path in MODULES.items()}
    long = {name: count for name, count in lines.items() if count > MOST_LINES}
    assert not long, f"modules with too many lines: {long}"


@pytest.mark.slow(ci=True)
def test_functions_are_short() -> None:
    long = {}
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = _without_docstring(node.body)
                count = 0 if not body else (body[-1].end_lineno or 0) - body[0].lineno + 1
                if count > MOST_FUNCTION_LINES:
                    long[f"{name}.{node.name}"] = count
    assert not long, f"functions with too many lines: {long}"


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if is_text else body


@pytest.mark.parametrize("name", [n for n, path in MODULES.items() if path.name == "__init__.py"])
def test_packages_are_small_and_documented(name: str) -> None:
    assert ast.get_docstring(trees()[name]), f"{name} has no docstring"
    inside = [n for n, path in MODULES.items() if n.rpartition(".")[0] == name]
    packages = [n for n in inside if MODULES[n].name == "__init__.py"]
    assert len(packages) <= MOST_PACKAGES.get(name, MOST_MODULES), sorted(packages)
    assert len(inside) - len(packages) <= MOST_MODULES, sorted(set(inside) - set(packages))


def _format_names(tree: ast.AST) -> list[str]:
    """Backend names and suffixes in the code, as whole strings or compared with; not in text."""
    texts = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    return [
        f"line {node.lineno}: {node.value!r}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in texts
        and (node.value.lower() in FORMATS or SUFFIX.fullmatch(node.value))
    ]


def test_format_names_are_found() -> None:
    tree = ast.parse('"""zarr"""\nif name == "omezarr" or path.endswith(".ome.tif"):\n    pass\n')
    assert len(_format_names(tree)) == 2


@pytest.mark.slow(ci=True)
def test_the_library_queries_the_contract_and_no_format_name() -> None:
    wrong = {}
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        found = _format_names(ast.parse(path.read_text(encoding="utf-8")))
        if place in NAMING_FORMATS:
            assert found, f"{place} names no format any more: take it off the list"
        elif found:
            wrong[place] = found
    assert not wrong, f"{wrong}. Query a capability of the backend instead."
