"""The encoding of a stored array as options of the writer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bfbridge.errors import BadArgument, Unsupported
from bfbridge_omezarr.options import parse_options

if TYPE_CHECKING:
    import os

    from bfbridge_omezarr.chunked.array_metadata import ArrayInfo
    from bfbridge_omezarr.hierarchy.documents import Node

__all__ = ["options_of"]


def options_of(path: str | os.PathLike[str], node: Node, info: ArrayInfo) -> dict[str, Any]:
    """Return the options with which an array of this encoding is written."""
    document = node.array or {}
    if node.zarr_format == 2:
        codec = document.get("compressor")
        name, settings = (codec["id"], codec) if codec else ("none", {})
        if document.get("filters"):
            raise Unsupported(f"{path}/{node.key}: filters {document['filters']}")
    else:
        codecs = document["codecs"]
        if info.shard is not None:
            codecs = codecs[0]["configuration"]["codecs"]
        if len(codecs) > 2:
            raise Unsupported(f"{path}/{node.key}: {len(codecs)} codecs")
        named = codecs[1] if len(codecs) == 2 else {"name": "none"}
        name, settings = named["name"], named.get("configuration", {})
    if name == "blosc":
        name = f"blosc-{settings.get('cname')}"
    level = settings.get("clevel", settings.get("level"))
    options: dict[str, Any] = {
        "version": "0.4" if node.zarr_format == 2 else "0.5",
        "chunks": info.chunks,
        "compression": (name, level),
    }
    if info.shard is not None:
        options["shards"] = info.shard.shape
    try:
        parse_options(options)
    except BadArgument as error:
        raise Unsupported(f"{path}/{node.key}: cannot be written further: {error}") from error
    return options
