"""The JSON documents of a Zarr hierarchy: fetched, limited, parsed, for versions 2 and 3.

zarr-python can store copies of all documents at the root ("consolidated metadata": ``.zmetadata``
of version 2, a part of the root's ``zarr.json`` in version 3). They save a request for each group
and array, but are outdated if a store was changed after they were made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from bfbridge.errors import BfbridgeError, LimitExceeded, UnreadableFile
from bfbridge.limits import check
from bfbridge.runtime import forking
from bfbridge.storage.stamp import changed

if TYPE_CHECKING:
    from bfbridge.limits import Limits
    from bfbridge_omezarr.hierarchy.store import Stamped, Store

__all__ = ["Documents", "Guard", "Node", "flatten", "parse_json"]

_V2_NAMES: Final = (".zattrs", ".zgroup", ".zarray")
_V3_NAMES: Final = ("zarr.json",)
_CONSOLIDATED_V2: Final = ".zmetadata"
_VALUES_PER_DIRECTORY: Final = 2


@dataclass(frozen=True, slots=True)
class Node:
    """One group or array.

    Attributes
    ----------
    key
        Key in the store; "" for the root.
    zarr_format
        2 or 3.
    array
        The array's document, or None for a group.
    attributes
        User attributes (``.zattrs``, or ``attributes`` of ``zarr.json``).
    documents
        Name and content of each document, as stored.
    stamp
        Stamp of the array's document from `Store.get_many`; None for a group or a copy.
    """

    key: str
    zarr_format: Literal[2, 3]
    array: Mapping[str, Any] | None
    attributes: Mapping[str, Any]
    documents: Mapping[str, Mapping[str, Any]] = field(repr=False)
    stamp: object = field(default=None, repr=False)

    @property
    def array_path(self) -> str:
        """Key of the document that describes an array."""
        return _child(self.key, ".zarray" if self.zarr_format == 2 else "zarr.json")

    @property
    def ome(self) -> Mapping[str, Any]:
        """NGFF metadata: under "ome" since version 0.5, at the top level before."""
        inner = self.attributes.get("ome")
        return inner if isinstance(inner, dict) else self.attributes


def parse_json(data: bytes, where: str, limits: Limits) -> dict[str, Any]:
    """Parse a document whose top level is an object.

    Raises
    ------
    UnreadableFile
        It is not a JSON object.
    LimitExceeded
        It is longer, deeper or has more values than the limits allow.
    """
    check(len(data), limits.xml_bytes, "JSON length in bytes", where)
    # Each separator starts a value of about 100 bytes in memory, so they are counted first.
    values = data.count(b",") + data.count(b"[") + data.count(b"{")
    check(values, limits.directories * _VALUES_PER_DIRECTORY, "number of JSON values", where)
    try:
        parsed = json.loads(data)
    except RecursionError as error:
        raise LimitExceeded(
            f"{where}: JSON nested too deeply to parse; the file is damaged or hostile."
        ) from error
    except (ValueError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{where}: is no JSON ({error}).") from error
    if not isinstance(parsed, dict):
        raise UnreadableFile(f"{where}: holds a JSON {type(parsed).__name__}, not an object.")
    # Each level of nesting has an opening bracket, so few of them need not be followed.
    depth = data.count(b"[") + data.count(b"{")
    if depth > limits.xml_depth:
        depth = _depth(parsed)
    check(depth, limits.xml_depth, "nesting of JSON values", where)
    return parsed


def _depth(value: Any) -> int:
    """Return the depth of nesting, without recursion."""
    depth = 0
    layer = [value]
    while layer:
        depth += 1
        layer = [
            child
            for parent in layer
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
    return depth


class Documents:
    """The nodes of a store, each read once.

    Parameters
    ----------
    store, limits
        The store, and limits on what it declares.
    consolidated
        Whether the copies at the root are used if each document needs a request. The document of
        one array is fetched and compared with its copy; if they differ, no copy is used.
    """

    def __init__(self, store: Store, limits: Limits, *, consolidated: bool = True) -> None:
        self._store = store
        self._limits = limits
        self._format: Literal[2, 3] | None = None
        self._nodes: dict[str, Node | None] = {}
        self._wants_copies = consolidated and store.is_remote
        self._copies: Mapping[str, Mapping[str, Any]] = {}

    @property
    def limits(self) -> Limits:
        """Limits on what the store declares."""
        return self._limits

    def root(self) -> Node | None:
        """Return the root, or None if this is not a Zarr store.

        Raises
        ------
        ReadFailed
            The server refuses access.
        """
        node = self.node("")
        if node is None and self._store.refusal is not None:
            raise self._store.refusal
        if node is not None:
            # A hierarchy has one format, so half of the look-ups can be skipped.
            self._format = node.zarr_format
            if self._wants_copies and node.array is None:
                self._copies = self._consolidated(node)
        return node

    def node(self, key: str) -> Node | None:
        """Return a group or array, or None if there is none at the key."""
        return self.nodes([key])[0]

    def nodes(self, keys: Iterable[str]) -> list[Node | None]:
        """Return several nodes, fetched together."""
        wanted = list(keys)
        new = [key for key in dict.fromkeys(wanted) if key not in self._nodes]
        check(
            len(self._nodes) + len(new),
            self._limits.directories,
            "number of groups and arrays",
            self._store.name,
        )
        names = {2: _V2_NAMES, 3: _V3_NAMES, None: _V3_NAMES + _V2_NAMES}[self._format]
        # A node without a copy may have been made after the copies.
        copied = {key for key in new if any(_child(key, n) in self._copies for n in names)}
        paths = [_child(key, name) for key in new if key not in copied for name in names]
        if self._format is None and self._wants_copies and new == [""]:
            paths.append(_CONSOLIDATED_V2)
        stored = self._store.get_many(paths, self._limits.xml_bytes)
        found = self._parsed(stored)
        for key in new:
            node = self._make(key, self._copies if key in copied else found)
            if node is not None and node.array is not None and node.array_path in stored:
                node = replace(node, stamp=stored[node.array_path].stamp)
            self._nodes[key] = node
        if _CONSOLIDATED_V2 in found:
            self._copies = {_CONSOLIDATED_V2: found[_CONSOLIDATED_V2]}
        return [self._nodes[key] for key in wanted]

    def _parsed(self, found: Mapping[str, Stamped]) -> dict[str, Mapping[str, Any]]:
        return {
            path: parse_json(bytes(stamped.data), self._store.label(path), self._limits)
            for path, stamped in found.items()
        }

    def guard(self, key: str) -> Guard | None:
        """Return a guard that detects that an array is rewritten; None if nothing would show it."""
        node = self._nodes.get(key)
        if node is None or node.stamp is None:
            return None
        return Guard(node, self._store, self._limits)

    def _consolidated(self, root: Node) -> Mapping[str, Mapping[str, Any]]:
        """Return the copies by path, if they exist and are current."""
        if root.zarr_format == 2:
            listed = self._copies.get(_CONSOLIDATED_V2, {}).get("metadata")
        else:
            stored = root.documents["zarr.json"].get("consolidated_metadata")
            listed = stored.get("metadata") if isinstance(stored, dict) else None
        if not isinstance(listed, dict):
            return {}
        copies = {
            path if root.zarr_format == 2 else _child(path, "zarr.json"): copy
            for path, copy in listed.items()
            if isinstance(copy, dict)
        }
        arrays = (
            path
            for path, copy in copies.items()
            if path.endswith("/.zarray") or copy.get("node_type") == "array"
        )
        path = next(arrays, None)
        if path is None:
            return {}
        own = self._parsed(self._store.get_many([path], self._limits.xml_bytes))
        return copies if own.get(path) == copies[path] else {}

    def seen(self) -> Iterator[Node]:
        """Every node read so far."""
        yield from (node for node in self._nodes.values() if node is not None)

    def _make(self, key: str, found: Mapping[str, Mapping[str, Any]]) -> Node | None:
        documents: dict[str, Mapping[str, Any]] = {}
        for name in _V3_NAMES + _V2_NAMES:
            path = _child(key, name)
            if path in found:
                documents[name] = found[path]
            if name == "zarr.json" and documents:
                return self._make_v3(key, documents[name], documents)
        if not documents:
            return None
        return Node(key, 2, documents.get(".zarray"), documents.get(".zattrs", {}), documents)

    def _make_v3(
        self, key: str, document: Mapping[str, Any], documents: Mapping[str, Mapping[str, Any]]
    ) -> Node:
        where = self._store.label(_child(key, "zarr.json"))
        kind, version = document.get("node_type"), document.get("zarr_format")
        if version != 3 or kind not in ("group", "array"):
            raise UnreadableFile(
                f"{where}: zarr_format {version!r:.20} and node_type {kind!r:.20} are no Zarr "
                "version 3 group or array."
            )
        attributes = document.get("attributes") or {}
        if not isinstance(attributes, dict):
            raise UnreadableFile(f"{where}: its attributes are no JSON object.")
        return Node(key, 3, document if kind == "array" else None, attributes, documents)


class Guard:
    """The document of one array in a folder, compared after each read of its pixels.

    A program that replaces an array writes its document too. A program that adds to the array
    enlarges its shape, and one that edits attributes changes only these: both keep the existing
    chunks.
    """

    def __init__(self, node: Node, store: Store, limits: Limits) -> None:
        self._path = node.array_path
        self._known = (node.stamp, node.array or {})
        self._store = store
        self._limits = limits
        self._lock = forking.lock()

    def check(self) -> None:
        """Compare the document with that at the time the store was opened.

        Raises
        ------
        FileChanged
            The array was rewritten or removed.
        """
        if self._store.is_current(self._path, self._known[0]):
            return
        with self._lock:
            stored = self._store.get_many([self._path], self._limits.xml_bytes).get(self._path)
            where = self._store.label(self._path)
            if stored is None:
                raise changed(where, "it is no longer there")
            if stored.stamp == self._known[0]:
                return
            try:
                document = parse_json(bytes(stored.data), where, self._limits)
            except BfbridgeError as error:
                raise changed(where, "it cannot be read any more") from error
            if not _continues(self._known[1], document):
                raise changed(where, "the array was rewritten")
            self._known = (stored.stamp, document)


def _continues(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a document describes the same array, possibly larger or with other attributes.

    An identical document was written by a program that rewrote the array.
    """
    before, after = ({k: v for k, v in each.items() if k != "attributes"} for each in (old, new))
    sizes, now = before.pop("shape", None), after.pop("shape", None)
    if before != after or not isinstance(sizes, list) or not isinstance(now, list):
        return False
    try:
        grown = all(a <= b for a, b in zip(sizes, now, strict=True))
    except (TypeError, ValueError):
        return False
    return grown and (sizes != now or old.get("attributes") != new.get("attributes"))


def _child(key: str, name: str) -> str:
    return f"{key}/{name}" if key else name


def flatten(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield (name, scalar) for every leaf of a document: ``multiscales[0].axes[1].name``."""
    stack: list[tuple[str, Any]] = [(prefix, value)]
    while stack:
        name, item = stack.pop()
        if isinstance(item, dict) and item:
            joint = "" if not name or name.endswith("/") else "."
            stack.extend((f"{name}{joint}{k}", v) for k, v in reversed(item.items()))
        elif isinstance(item, list) and item:
            stack.extend((f"{name}[{i}]", v) for i, v in reversed(list(enumerate(item))))
        else:
            yield name, item
