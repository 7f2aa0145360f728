"""The routes: URLs, and the content that they request."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from aiohttp import web

from bfbridge.serve.content import iiif
from bfbridge.serve.content.describe import describe, histograms, original_metadata, to_json
from bfbridge.serve.content.grids import (
    LARGEST_SIDE,
    SMALLEST_SIDE,
    deepzoom_document,
    deepzoom_level,
    stored_side,
    tile_box,
    xyz_level,
)
from bfbridge.serve.content.pictures import (
    MAP_RESAMPLING,
    MapTile,
    draw_box,
    draw_map_tile,
    draw_region,
    encode,
    stored_jpeg,
)
from bfbridge.serve.content.query import (
    Shown,
    bounded,
    channel_numbers,
    format_named,
    plane_of,
    shown,
)
from bfbridge.serve.content.raw import raw_dtype, raw_headers, raw_tile
from bfbridge.serve.files.library import Library, not_found
from bfbridge.serve.files.served_file import ServedFile
from bfbridge.serve.http.delivery import Delivery
from bfbridge.serve.http.pages import STATIC, index_page
from bfbridge.serve.metrics import Metrics
from bfbridge.serve.options import ServeOptions
from bfbridge.serve.replies import Plan, Refused, Reply
from bfbridge.virtual.boxes import Box, level_sides

__all__ = ["Handlers"]

_JSON: Final = "application/json"
_MOST: Final = 10**9
_ZARR_SUFFIX: Final = ".ome.zarr/"
_IDENTIFIER: Final = re.compile(
    r"(.*);(s|z|t|c|channels|style|projection|quality)=([^;]*)", re.DOTALL
)
_LARGEST_THUMBNAIL: Final = 1024
_DEEPEST_MAP: Final = 30


@dataclass(frozen=True)
class Handlers:
    """The handlers of all routes.

    Attributes
    ----------
    options, library, delivery, metrics
        Parts of the server.
    """

    options: ServeOptions
    library: Library
    delivery: Delivery
    metrics: Metrics

    def add_to(self, app: web.Application) -> None:
        """Add all routes."""
        number = r"{%s:[0-9]+}"
        series, z, x, y = (number % name for name in ("series", "z", "x", "y"))
        level, t = number % "level", number % "t"
        routes: dict[str, Callable[[web.Request], Any]] = {
            "/": self.index,
            "/browse/{folder:.*}": self.index,
            "/list/{folder:.*}": self.listing,
            "/static/{name}": self.static,
            "/metrics": self.measured,
            "/info/{file:.+}": self.info,
            "/ome/{file:.+}": self.ome,
            "/metadata/{file:.+}": self.original,
            f"/histogram/{{file:.+}}/{series}": self.histogram,
            f"/thumbnail/{{file:.+}}/{series}.{{format}}": self.thumbnail,
            f"/raw/{{file:.+}}/{series}/{level}/{t}/{z}/{y}/{x}": self.raw,
            f"/tile/{{file:.+}}/{series}/{z}/{x}/{y}.{{format}}": self.tile,
            f"/map/{{file:.+}}/{series}/{z}/{x}/{y}.{{format}}": self.map_tile,
            "/dzi/{file:.+}.dzi": self.deepzoom,
            f"/dzi/{{file:.+}}_files/{level}/{x}_{y}.{{format}}": self.deepzoom_tile,
            "/iiif/3/{id:.+}/info.json": self.iiif_info,
            "/iiif/3/{id:.+}/{region}/{size}/{rotation}/{ending}": self.iiif_image,
            "/iiif/3/{id:.+}": self.iiif_base,
            "/zarr/{key:.+}": self.zarr3,
            "/zarr2/{key:.+}": self.zarr2,
        }
        for path, handler in routes.items():
            # All methods are routed; the gate refuses those that are not supported.
            app.router.add_route("*", self.options.prefix + path, handler)
        app.router.add_route("*", "/healthz", self.health)

    # ---- the server

    async def health(self, request: web.Request) -> web.Response:
        """Report that requests are accepted."""
        del request
        return web.Response(text="ok\n", headers={"Cache-Control": "no-store"})

    async def measured(self, request: web.Request) -> web.Response:
        """Return the counters for Prometheus."""
        del request
        return web.Response(
            body=self.metrics.as_text().encode(),
            headers={
                "Content-Type": "text/plain; version=0.0.4; charset=utf-8",
                "Cache-Control": "no-store",
            },
        )

    async def static(self, request: web.Request) -> web.Response:
        """Return a file of the pages."""
        found = STATIC.get(request.match_info["name"])
        if found is None:
            raise not_found()
        return web.Response(body=found[0], content_type=found[1])

    async def index(self, request: web.Request) -> web.Response:
        """Return a page that lists a folder."""
        listing = await self.delivery.listed(
            self.library.list, request.match_info.get("folder", "")
        )
        return web.Response(
            body=index_page(listing, "../" * _depth(request, self.options.prefix)),
            content_type="text/html",
            charset="utf-8",
            headers={"Cache-Control": "no-store"},
        )

    async def listing(self, request: web.Request) -> web.Response:
        """Return the content of a folder as JSON; with ``recursive=1`` all images below it."""
        folder = request.match_info["folder"]
        found = await self.delivery.listed(self.library.list, folder)
        content: dict[str, Any] = {
            "folder": found.folder,
            "folders": found.folders,
            "images": found.images,
            "truncated": found.truncated,
        }
        if request.query.get("recursive", "0") not in ("", "0"):
            walked = self.library.walk
            content["all"] = await self.delivery.listed(lambda name: list(walked(name)), folder)
        return web.Response(
            body=to_json(content), content_type=_JSON, headers={"Cache-Control": "no-store"}
        )

    # ---- documents

    async def info(self, request: web.Request) -> web.StreamResponse:
        """Return the description of a file for viewers."""
        text = request.query.get("series")
        number = None if text is None else bounded(text, "series", 0, _MOST)
        return await self._document(request, lambda served: to_json(describe(served, number)))

    async def ome(self, request: web.Request) -> web.StreamResponse:
        """Return the OME-XML of the file."""

        def make(served: ServedFile) -> bytes:
            xml = served.reader.ome_xml
            if xml is None:
                raise Refused(404, "the metadata of this file cannot be expressed as OME-XML")
            return xml.encode("utf-8", "replace")

        return await self._document(request, make, "application/xml; charset=utf-8")

    async def original(self, request: web.Request) -> web.StreamResponse:
        """Return the metadata of the format as JSON."""
        return await self._document(request, lambda served: to_json(original_metadata(served)))

    async def histogram(self, request: web.Request) -> web.StreamResponse:
        """Return histograms as JSON."""
        series = _number(request, "series")
        options = shown(request.query)
        if options.projection is not None:
            raise Refused(400, "projection: histograms are of a plane, or of a whole channel")
        text = request.query.get("c")

        def make(served: ServedFile) -> bytes:
            numbers = channel_numbers(text, served.view(series).sizes["C"])
            return to_json(histograms(served, series, numbers, options.z, options.t))

        return await self._document(request, make)

    async def _document(
        self, request: web.Request, make: Callable[[ServedFile], bytes], content_type: str = _JSON
    ) -> web.StreamResponse:
        def planned(served: ServedFile) -> Plan:
            return Plan(lambda: Reply(make(served), content_type), content_type)

        return await self.delivery.send(request, request.match_info["file"], planned)

    # ---- tiles

    async def raw(self, request: web.Request) -> web.StreamResponse:
        """Return the pixel values of a tile."""
        series, level, t, z, row, column = (
            _number(request, name) for name in ("series", "level", "t", "z", "y", "x")
        )
        side = _side(request.query) or 512
        text = request.query.get("c")

        def planned(served: ServedFile) -> Plan:
            image = served.image(series)
            plane_of(image.view, z, t)
            if level >= len(image.levels):
                raise Refused(404, f"there are the levels 0 to {len(image.levels) - 1}")
            numbers = channel_numbers(text, image.view.sizes["C"])
            box = tile_box(image, level, row, column, side)
            shape = (len(numbers), box[2] - box[0], box[3] - box[1])
            return Plan(
                lambda: raw_tile(served, series, level, box, numbers, z, t),
                "application/octet-stream",
                int(np.prod(shape)) * raw_dtype(image.dtype).itemsize,
                raw_headers(image.dtype, shape),
            )

        return await self.delivery.send(request, request.match_info["file"], planned)

    async def tile(self, request: web.Request) -> web.StreamResponse:
        """Return an XYZ tile; tiles at the right and bottom edge are padded."""
        series, zoom, row, column = (_number(request, name) for name in ("series", "z", "y", "x"))
        side = _side(request.query) or 256

        def boxed(served: ServedFile) -> tuple[int, Box]:
            image = served.image(series)
            level = xyz_level(image, zoom, side)
            return level, tile_box(image, level, row, column, side)

        return await self._tile(request, series, boxed, pad=side)

    async def map_tile(self, request: web.Request) -> web.StreamResponse:
        """Return a tile of a map in Web Mercator; transparent outside the image."""
        series, zoom, row, column = (_number(request, name) for name in ("series", "z", "y", "x"))
        if zoom > _DEEPEST_MAP:
            raise Refused(404, f"maps have the zooms 0 to {_DEEPEST_MAP}")
        side = _side(request.query) or 256
        form, content_type = format_named(request.match_info["format"])
        options = shown(request.query)
        method = request.query.get("resampling")
        if method not in (None, *MAP_RESAMPLING):
            raise Refused(400, f"resampling is one of {', '.join(MAP_RESAMPLING)}")
        tile = MapTile(zoom, row, column, side, method)

        def planned(served: ServedFile) -> Plan:
            options.plane_in(served.view(series))

            def make() -> Reply:
                picture = draw_map_tile(served, series, options, tile)
                return Reply(encode(picture, form, options.quality), content_type)

            return Plan(make, content_type)

        return await self.delivery.send(request, request.match_info["file"], planned)

    async def deepzoom(self, request: web.Request) -> web.StreamResponse:
        """Return the document of a DeepZoom image."""
        series = bounded(request.query.get("series", "0"), "series", 0, _MOST)
        side = _side(request.query)
        form = request.query.get("format", "jpg")
        format_named(form)

        def make(served: ServedFile) -> bytes:
            image = served.image(series)
            return deepzoom_document(image, side or stored_side(image), form)

        return await self._document(request, make, "application/xml; charset=utf-8")

    async def deepzoom_tile(self, request: web.Request) -> web.StreamResponse:
        """Return a tile of a DeepZoom image; tiles at the edge are smaller."""
        number, row, column = (_number(request, name) for name in ("level", "y", "x"))
        series = bounded(request.query.get("series", "0"), "series", 0, _MOST)
        side = _side(request.query)

        def boxed(served: ServedFile) -> tuple[int, Box]:
            image = served.image(series)
            level = deepzoom_level(image, number)
            return level, tile_box(image, level, row, column, side or stored_side(image))

        return await self._tile(request, series, boxed, pad=0)

    async def _tile(
        self,
        request: web.Request,
        series: int,
        boxed: Callable[[ServedFile], tuple[int, Box]],
        pad: int,
    ) -> web.StreamResponse:
        form, content_type = format_named(request.match_info["format"])
        options = shown(request.query)

        def planned(served: ServedFile) -> Plan:
            level, box = boxed(served)
            options.plane_in(served.view(series))

            def make() -> Reply:
                if form == "jpeg":
                    stored = stored_jpeg(served, series, options, level, box)
                    if stored is not None:
                        return Reply(stored, content_type)
                picture = draw_box(served, series, options, level, box)
                if pad and picture.shape[:2] != (pad, pad):
                    whole = np.zeros((pad, pad, picture.shape[2]), picture.dtype)
                    whole[: picture.shape[0], : picture.shape[1]] = picture
                    picture = whole
                return Reply(encode(picture, form, options.quality), content_type)

            return Plan(make, content_type)

        return await self.delivery.send(request, request.match_info["file"], planned)

    async def thumbnail(self, request: web.Request) -> web.StreamResponse:
        """Return a small picture of a whole image."""
        form, content_type = format_named(request.match_info["format"])
        series = _number(request, "series")
        most = bounded(request.query.get("size", "192"), "size", 16, _LARGEST_THUMBNAIL)
        options = shown(request.query)

        def planned(served: ServedFile) -> Plan:
            height, width = level_sides(served.image(series), 0)
            options.plane_in(served.view(series))
            share = min(1.0, most / max(height, width))
            size = max(1, round(width * share)), max(1, round(height * share))

            def make() -> Reply:
                picture = draw_region(served, series, options, (0, 0, width, height), size)
                return Reply(encode(picture, form, options.quality), content_type)

            return Plan(make, content_type)

        return await self.delivery.send(request, request.match_info["file"], planned)

    # ---- IIIF

    async def iiif_base(self, request: web.Request) -> web.Response:
        """Redirect to info.json."""
        place = f"{_origin(request)}{request.rel_url.raw_path.rstrip('/')}/info.json"
        return web.Response(status=303, headers={"Location": place})

    async def iiif_info(self, request: web.Request) -> web.StreamResponse:
        """Return info.json of an image."""
        name, series, _ = _identified(self.library, request)
        base = request.rel_url.raw_path.removesuffix("/info.json")
        identifier = f"{_origin(request)}{base}"
        accepts = request.headers.get("Accept", "")
        content_type = _JSON
        if "application/ld+json" in accepts:
            content_type = 'application/ld+json;profile="http://iiif.io/api/image/3/context.json"'

        def make(served: ServedFile) -> Reply:
            image = served.image(series)
            height, width = level_sides(image, 0)
            content = iiif.info_document(
                identifier, width, height, len(image.levels), stored_side(image),
                self.options.most_pixels,
            )  # fmt: skip
            return Reply(to_json(content), content_type)

        # The document depends on headers, which are not part of the cache key.
        key = f"{identifier} {content_type}"
        return await self.delivery.send(
            request, name, lambda served: Plan(lambda: make(served), content_type), variant=key
        )

    async def iiif_image(self, request: web.Request) -> web.StreamResponse:
        """Return a picture of a region."""
        name, series, options = _identified(self.library, request)
        parts = (request.match_info[part] for part in ("region", "size", "rotation", "ending"))
        region, size, rotation, ending = parts
        suffix = ending.rpartition(".")[2]
        content_type = format_named(suffix)[1] if suffix in iiif.FORMATS else ""

        def planned(served: ServedFile) -> Plan:
            height, width = level_sides(served.image(series), 0)
            wanted = iiif.parse_image_request(
                region, size, rotation, ending, width, height, self.options.most_pixels
            )
            options.plane_in(served.view(series))
            return Plan(
                lambda: Reply(_iiif_picture(served, series, options, wanted), content_type),
                content_type,
            )

        return await self.delivery.send(request, name, planned)

    # ---- Zarr

    async def zarr3(self, request: web.Request) -> web.StreamResponse:
        """Return a document or chunk of the file as OME-Zarr 0.5."""
        return await self._zarr(request, 3)

    async def zarr2(self, request: web.Request) -> web.StreamResponse:
        """Return a document or chunk of the file as OME-Zarr 0.4."""
        return await self._zarr(request, 2)

    async def _zarr(self, request: web.Request, version: int) -> web.StreamResponse:
        name, key = await self._store_of(request.match_info["key"])

        def planned(served: ServedFile) -> Plan:
            hierarchy = served.hierarchy(version)
            chunk = hierarchy.chunk_name(key)
            if chunk is None:
                if not hierarchy.exists(key):
                    raise Refused(404, "there is no such key")
                kind = "application/xml" if key.endswith(".xml") else _JSON
                return Plan(lambda: Reply(hierarchy.document(key) or b"", kind), kind)
            level = hierarchy.image(chunk.array.image).levels[chunk.array.level]
            plain = level.compression is None and hierarchy.compression.name == "none"
            itemsize = hierarchy.views[chunk.array.image].dtype.itemsize
            kind = "application/octet-stream"

            def make() -> Reply:
                data = hierarchy.chunk(chunk)
                return Reply(b"" if data is None else data, kind, found=data is not None)

            return Plan(make, kind, int(np.prod(level.chunk)) * itemsize if plain else None)

        return await self.delivery.send(request, name, planned, "zarr")

    async def _store_of(self, path: str) -> tuple[str, str]:
        """Return the file of a path, and the key in its Zarr store."""
        place = path.find(_ZARR_SUFFIX)
        while place > 0:
            name = path[:place]
            if path.find(_ZARR_SUFFIX, place + 1) < 0 or await self.delivery.has(name):
                return name, path[place + len(_ZARR_SUFFIX) :]
            place = path.find(_ZARR_SUFFIX, place + 1)
        raise not_found()


def _depth(request: web.Request, prefix: str) -> int:
    """Return the depth of a page below the first one."""
    return request.rel_url.raw_path[len(prefix) :].count("/") - 1


def _origin(request: web.Request) -> str:
    """Return the origin, for URLs that must be absolute, such as IIIF identifiers."""
    return f"{request.scheme}://{request.host}"


def _number(request: web.Request, name: str) -> int:
    return bounded(request.match_info[name], name, 0, _MOST)


def _side(query: Mapping[str, str]) -> int | None:
    """Return the side of tiles in a query."""
    text = query.get("size")
    return None if text is None else bounded(text, "size", SMALLEST_SIDE, LARGEST_SIDE)


def _identified(library: Library, request: web.Request) -> tuple[str, int, Shown]:
    """Return the file, image and options of an IIIF identifier.

    ``NAME;s=1;z=3;t=0;channels=0,2;projection=max;style=BASE64``: all parts except the name are
    optional. They may also be in the query, which IIIF clients do not keep.
    """
    name = request.match_info["id"]
    options = {key: request.query[key] for key in request.query}
    while found := _IDENTIFIER.fullmatch(name):
        name, key, value = found.groups()
        options[key] = _style_of(value) if key == "style" else value
    text = options.get("s", options.get("series", "0"))
    return name, bounded(text, "series", 0, _MOST), shown(options)


def _style_of(text: str) -> str:
    """Return the JSON in an identifier, which is encoded as URL-safe base 64."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise Refused(400, "style: in an identifier it is JSON in URL-safe base 64") from None


def _iiif_picture(
    served: ServedFile, series: int, options: Shown, wanted: iiif.ImageRequest
) -> bytes:
    if wanted.format == "jpeg" and wanted.quality in ("default", "color"):
        stored = _iiif_stored(served, series, options, wanted)
        if stored is not None:
            return stored
    picture = draw_region(served, series, options, wanted.region, wanted.size)
    if wanted.mirrored:
        picture = picture[:, ::-1]
    # numpy rotates counterclockwise.
    picture = np.ascontiguousarray(np.rot90(picture, -wanted.turns))
    if wanted.quality in ("gray", "bitonal"):
        grey = picture[..., :3] @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
        grey = np.where(grey >= 128, 255, 0) if wanted.quality == "bitonal" else np.rint(grey)
        picture = grey.astype(np.uint8)[..., np.newaxis]
    return encode(picture, wanted.format, options.quality)


def _iiif_stored(
    served: ServedFile, series: int, options: Shown, wanted: iiif.ImageRequest
) -> bytes | None:
    """Return a stored JPEG tile if a request is for exactly this tile."""
    left, top, right, bottom = wanted.region
    level = max(0, ((right - left) // wanted.size[0]).bit_length() - 1)
    scale = 1 << level
    exact = (right - left, bottom - top) == (wanted.size[0] * scale, wanted.size[1] * scale)
    if wanted.mirrored or wanted.turns or not exact or left % scale or top % scale:
        return None
    box = (top // scale, left // scale, bottom // scale, right // scale)
    return stored_jpeg(served, series, options, level, box)
