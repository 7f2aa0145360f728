"""`bfbridge serve`: what each route gives, against the pixels themselves."""

# ruff: noqa: E402 - packages that may be missing are looked for first

from __future__ import annotations

import contextlib
import gzip
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

import numpy as np
import pytest

for module in ("aiohttp", "cmap", "imagecodecs", "tifffile"):
    pytest.importorskip(module)

import imagecodecs
import tifffile

from bfbridge import BioReader
from bfbridge.serve.http import handlers
from bfbridge.serve.options import SERVED_LIMITS
from tests.support import webserver
from tests.support.liveserver import Live, live
from tests.support.virtual import expected_levels

SIZES = (700, 1100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    (folder / "sub").mkdir()
    y, x = np.mgrid[: SIZES[0], : SIZES[1]]
    values = np.stack([
        [(x * 3 + y * (1 + c) + 1000 * z).astype(np.uint16) % 4001 for z in range(2)]
        for c in range(3)
    ])  # fmt: skip
    tifffile.imwrite(
        folder / "sub/multi ü.ome.tif", values, ome=True, tile=(256, 256),
        metadata={"axes": "CZYX", "Channel": {"Name": ["DAPI", "<b>GFP", "RFP"]}},
    )  # fmt: skip
    rgb = np.stack([x // 5, y // 3, (x + y) // 8], -1).astype(np.uint8)
    for name, photometric in (("slide.tif", "ycbcr"), ("slide-rgb.tif", "rgb")):
        options = {"photometric": "rgb"}
        if photometric == "rgb":
            # libjpeg's tables apart from the tiles, as scanners write them.
            options |= {"jpegtables": None}
        tifffile.imwrite(
            folder / name, rgb, tile=(256, 256), compression="jpeg", photometric="rgb",
            compressionargs={"outcolorspace": photometric},
        )  # fmt: skip
    (folder / "damaged.tif").write_bytes(b"II*\0" + b"x" * 100)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.tif").write_bytes(b"II*\0")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Live]:
    with live(folder) as running:
        yield running


MULTI = "sub/multi%20%C3%BC.ome.tif"


# ---- documents


def test_folders_are_listed_as_json_and_as_a_page(server: Live) -> None:
    found = server.get("/list/?recursive=1").json
    images = ["damaged.tif", "slide-rgb.tif", "slide.tif"]
    assert (found["folders"], found["images"]) == (["sub"], images)
    assert found["all"] == [*images, "sub/multi ü.ome.tif"]
    assert server.get("/list/sub").json["images"] == ["multi ü.ome.tif"]
    page = server.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'href="browse/sub"' in page.body
    inner = server.get("/browse/sub")
    assert f'src="../thumbnail/{MULTI}/0.jpg"'.encode() in inner.body
    assert server.get("/list/nowhere").status == 404


def test_info_says_what_a_viewer_needs(server: Live, folder: Path) -> None:
    found = server.get(f"/info/{MULTI}?series=0").json
    image = found["image"]
    assert found["name"] == "sub/multi ü.ome.tif"
    assert image["sizes"] == {"T": 1, "C": 3, "Z": 2, "Y": 700, "X": 1100}
    assert [(level["width"], level["height"]) for level in image["levels"]] == [
        (1100, 700), (550, 350), (275, 175),
    ]  # fmt: skip
    assert [channel["name"] for channel in image["channels"]] == ["DAPI", "<b>GFP", "RFP"]
    assert (image["kind"], image["rawDtype"], image["defaultZ"]) == ("intensity", "uint16", 1)
    assert "image" not in server.get(f"/info/{MULTI}").json
    assert server.get("/info/slide.tif?series=0").json["image"]["kind"] == "rgb"
    assert server.get(f"/info/{MULTI}?series=1").status == 404
    assert server.get(f"/info/{MULTI}?series=x").status == 400


def test_ome_xml_and_the_original_metadata(server: Live, folder: Path) -> None:
    xml = server.get(f"/ome/{MULTI}")
    assert xml.headers["Content-Type"] == "application/xml; charset=utf-8"
    assert ET.fromstring(xml.body).tag.endswith("}OME")
    with BioReader(folder / "slide.tif") as br:
        expected = {name: str(value) for name, value in br.original_metadata.items()}
    assert server.get("/metadata/slide.tif").json["entries"] == expected


def test_histograms_count_all_pixels_of_a_plane(server: Live, folder: Path) -> None:
    found = server.get(f"/histogram/{MULTI}/0?c=2,0&z=1").json
    assert [entry["c"] for entry in found["channels"]] == [2, 0]
    with BioReader(folder / "sub/multi ü.ome.tif") as br:
        plane = br[:, :, 1, 2, 0]
    entry = found["channels"][0]
    edges = np.linspace(entry["binStart"], entry["binEnd"], 257)
    assert entry["counts"] == np.histogram(plane, edges)[0].tolist()
    assert (entry["min"], entry["max"]) == (plane.min(), plane.max())
    assert server.get(f"/histogram/{MULTI}/0?c=3").status == 404


# ---- pixels


@pytest.mark.parametrize("level", [0, 1, 2])
def test_raw_tiles_hold_the_pixels(server: Live, folder: Path, level: int) -> None:
    with BioReader(folder / "sub/multi ü.ome.tif") as br:
        whole = expected_levels(br)[level][0, :, 1]
    side = 256
    for row in range(-(-whole.shape[1] // side)):
        for column in range(-(-whole.shape[2] // side)):
            answer = server.get(f"/raw/{MULTI}/0/{level}/0/1/{row}/{column}?c=2,0&size={side}")
            shape = tuple(map(int, answer.headers["X-Bfbridge-Shape"].split(",")))
            found = np.frombuffer(answer.body, answer.headers["X-Bfbridge-Dtype"]).reshape(shape)
            rows = slice(row * side, (row + 1) * side)
            columns = slice(column * side, (column + 1) * side)
            np.testing.assert_array_equal(found, whole[[2, 0], rows, columns])


def _with_alpha(picture: np.ndarray) -> np.ndarray:
    if picture.shape[2] == 4:
        return picture
    return np.concatenate([picture, np.full_like(picture[..., :1], 255)], axis=2)


def _xyz(server: Live, name: str, zoom: int, form: str, query: str = "") -> np.ndarray:
    """Return all tiles of a zoom put together."""
    rows = []
    for y in range(64):
        tiles = []
        for x in range(64):
            answer = server.get(f"/tile/{name}/0/{zoom}/{x}/{y}.{form}{query}")
            if answer.status == 404:
                break
            tiles.append(_with_alpha(imagecodecs.imread(answer.body)))
        if not tiles:
            break
        rows.append(np.concatenate(tiles, axis=1))
    return np.concatenate(rows, axis=0)


def test_tiles_are_what_render_draws(server: Live, folder: Path) -> None:
    with BioReader(folder / "sub/multi ü.ome.tif") as br:
        expected = br.render(z=0, channels=[0, 2], level=0)
    # 1100 pixels are 5 tiles: zoom 3 has full size.
    found = _xyz(server, MULTI, 3, "png", "?z=0&channels=0,2")
    assert found.shape == (768, 1280, 4)
    height, width = expected.shape[:2]
    np.testing.assert_array_equal(found[:height, :width, :3], expected[..., :3])
    assert not found[height:, :, 3].any()
    assert server.get(f"/tile/{MULTI}/0/4/0/0.png").status == 404


def test_styles_channels_and_formats(server: Live, folder: Path) -> None:
    style = {"band": 2, "min": 0, "max": 4000, "palette": "#ff0000"}
    with BioReader(folder / "sub/multi ü.ome.tif") as br:
        expected = br.render(z=1, style=style, level=0)[:256, :256]
    text = json.dumps(style).replace(" ", "").replace('"', "%22").replace("#", "%23")
    answer = server.get(f"/tile/{MULTI}/0/3/0/0.png?z=1&style={text}")
    np.testing.assert_array_equal(imagecodecs.imread(answer.body)[..., :3], expected[..., :3])
    by_name = server.get(f"/tile/{MULTI}/0/3/0/0.png?channels=DAPI")
    by_number = server.get(f"/tile/{MULTI}/0/3/0/0.png?channels=0")
    assert by_name.body == by_number.body
    for form, magic in (("webp", b"RIFF"), ("jpg", b"\xff\xd8"), ("png", b"\x89PNG")):
        assert server.get(f"/tile/{MULTI}/0/0/0/0.{form}").body.startswith(magic)
    assert server.get(f"/tile/{MULTI}/0/0/0/0.bmp").status == 404


@pytest.fixture(scope="module")
def stack(folder: Path) -> str:
    """Write an image with several slices, and with a style that shows their values."""
    values = np.random.default_rng(0).integers(0, 4000, (2, 5, 300, 520)).astype(np.uint16)
    tifffile.imwrite(folder / "sub/stack.ome.tif", values, ome=True, metadata={"axes": "CZYX"})
    return "sub/stack.ome.tif"


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("projection=max", {}),
        ("projection=max&z=1:3", {"z": (1, 3)}),
        ("projection=max&z=4", {"z": 4}),
        ("projection=max&channels=1", {"channels": [1]}),
        ("style=%7B%22projection%22:%22max%22%7D&z=0:2", {"z": (0, 2)}),
    ],
)
def test_projections_are_what_render_draws(
    server: Live, folder: Path, stack: str, query: str, options: dict[str, object]
) -> None:
    def picture(path: str) -> np.ndarray:
        answer = server.get(path)
        assert answer.status == 200, answer.body
        return imagecodecs.imread(answer.body)[..., :3]

    with BioReader(folder / stack) as br:
        expected = br.render(projection="max", level=0, **options)[..., :3]
        single = br.render(level=0)[..., :3]
    assert (expected != single).any()
    tile = picture(f"/tile/{stack}/0/2/1/0.png?{query}")
    np.testing.assert_array_equal(tile, expected[:256, 256:512])
    tile = picture(f"/dzi/{stack}_files/10/1_1.png?{query}&size=256")
    np.testing.assert_array_equal(tile, expected[256:, 256:512])
    if "style" not in query:
        identifier = f"{stack};{query.replace('&', ';')}"
        part = picture(f"/iiif/3/{identifier}/10,20,300,200/max/0/default.png")
        np.testing.assert_array_equal(part, expected[20:220, 10:310])


def test_scaled_projections_are_the_maximum_of_scaled_slices(
    server: Live, folder: Path, stack: str
) -> None:
    with BioReader(folder / stack) as br:
        expected = br.render(projection="max", max_size=130)[..., :3]
    answer = server.get(f"/thumbnail/{stack}/0.png?projection=max&size=130")
    found = imagecodecs.imread(answer.body)[..., :3]
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("projection=mean", 400, "projection: there is max"),
        ("z=0:2", 400, "add projection=max"),
        ("projection=max&z=2:2", 404, "there are the slices 0:5"),
        ("projection=max&z=0:6", 404, "there are the slices 0:5"),
        ("projection=max&z=5", 404, "there are the slices 0:5"),
        ("projection=max&z=a:b", 400, "z: give a whole number"),
    ],
)
def test_projections_that_are_refused(
    server: Live, stack: str, query: str, status: int, message: str
) -> None:
    answer = server.get(f"/tile/{stack}/0/2/0/0.png?{query}")
    assert (answer.status, message in answer.json["error"]) == (status, True), answer.body
    assert server.get(f"/histogram/{stack}/0?projection=max").status == 400


def test_a_projection_is_bounded_by_the_limits(folder: Path, stack: str) -> None:
    # A tile of one slice and both channels has 256 KiB.
    with live(folder, limits=replace(SERVED_LIMITS, chunk_bytes=1 << 20)) as server:
        assert server.get(f"/tile/{stack}/0/2/0/0.png?projection=max&z=0:4").status == 200
        refused = server.get(f"/tile/{stack}/0/2/0/0.png?projection=max")
        assert refused.status == 400
        assert "1 MiB are allowed" in refused.json["error"]


def test_images_and_time_points_are_selected_everywhere(server: Live, folder: Path) -> None:
    random = np.random.default_rng(1)
    with tifffile.TiffWriter(folder / "sub/two.ome.tif", ome=True) as writer:
        for side in (300, 280):
            values = random.integers(0, 4000, (3, side, 520)).astype(np.uint16)
            writer.write(values, metadata={"axes": "TYX"})
    with BioReader(folder / "sub/two.ome.tif", series=1) as br:
        expected = br.render(t=2, level=0)[:256, :256, :3]
        values = br[:256, :256, 0, 0, 2]
        assert (expected != br.render(t=1, level=0)[:256, :256, :3]).any()
    for path in (
        "/tile/sub/two.ome.tif/1/2/0/0.png?t=2",
        "/dzi/sub/two.ome.tif_files/10/0_0.png?t=2&series=1&size=256",
        "/iiif/3/sub/two.ome.tif;s=1;t=2/0,0,256,256/max/0/default.png",
    ):
        answer = server.get(path)
        assert answer.status == 200, (path, answer.body)
        np.testing.assert_array_equal(imagecodecs.imread(answer.body)[..., :3], expected, path)
    raw = server.get("/raw/sub/two.ome.tif/1/0/2/0/0/0?size=256")
    np.testing.assert_array_equal(np.frombuffer(raw.body, "<u2").reshape(256, 256), values)
    document = ET.fromstring(server.get("/dzi/sub/two.ome.tif.dzi?series=1").body)
    assert document[0].get("Height") == "280"


@pytest.mark.parametrize("name", ["slide.tif", "slide-rgb.tif"])
def test_stored_jpeg_tiles_are_sent_undecoded(server: Live, folder: Path, name: str) -> None:
    with BioReader(folder / name) as br:
        pixels = br[256:512, 256:512]
        stored = br.read_stored((0, 0, 0, 1, 1))
    answer = server.get(f"/tile/{name}/0/3/1/1.jpg")
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.body.endswith(stored[4:])
    np.testing.assert_array_equal(imagecodecs.imread(answer.body), pixels.squeeze())
    # At the edge, and with a style or quality, pictures are encoded anew.
    assert not server.get(f"/tile/{name}/0/3/1/1.jpg?quality=50").body.endswith(stored[4:])
    deepzoom = server.get(f"/dzi/{name}_files/11/1_1.jpg")
    iiif = server.get(f"/iiif/3/{name}/256,256,256,256/256,256/0/default.jpg")
    assert deepzoom.body == iiif.body == answer.body


def test_deepzoom_has_every_level(server: Live, folder: Path) -> None:
    document = ET.fromstring(server.get(f"/dzi/{MULTI}.dzi?format=png").body)
    assert (document.get("Overlap"), document.get("Format")) == ("0", "png")
    side = int(document.get("TileSize", "0"))
    height, width = SIZES
    top = (max(SIZES) - 1).bit_length()
    for level in range(top + 1):
        scale = 1 << (top - level)
        wide, high = -(-width // scale), -(-height // scale)
        columns, rows = -(-wide // side), -(-high // side)
        last = server.get(f"/dzi/{MULTI}_files/{level}/{columns - 1}_{rows - 1}.png")
        picture = imagecodecs.imread(last.body)
        assert picture.shape[:2] == (high - (rows - 1) * side, wide - (columns - 1) * side)
        assert server.get(f"/dzi/{MULTI}_files/{level}/{columns}_0.png").status == 404
    assert server.get(f"/dzi/{MULTI}_files/{top + 1}/0_0.png").status == 404


def test_thumbnails_are_bounded(server: Live) -> None:
    picture = imagecodecs.imread(server.get(f"/thumbnail/{MULTI}/0.png?size=110").body)
    assert picture.shape[:2] == (70, 110)
    assert server.get(f"/thumbnail/{MULTI}/0.png?size=100000").status == 400


# ---- HTTP


def test_etags_spare_the_body(server: Live) -> None:
    path = f"/raw/{MULTI}/0/0/0/0/0/0?c=0"
    first = server.get(path)
    tag = first.headers["ETag"]
    assert tag.startswith('"')
    before = server.metrics.get("computed")
    again = server.get(path, If_None_Match=tag)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    assert server.metrics.get("computed") == before
    assert server.get(path, If_None_Match='"other"').status == 200
    assert server.get(path + ",1").headers["ETag"] != tag
    version = server.get(f"/info/{MULTI}").json["version"]
    assert "immutable" in server.get(f"{path}&v={version}").headers["Cache-Control"]
    assert "no-cache" in first.headers["Cache-Control"]


def test_ranges(server: Live) -> None:
    path = f"/zarr/{MULTI}.ome.zarr/0/c/0/0/0/0/0"
    whole = server.get(path)
    size = len(whole.body)
    part = server.get(path, Range="bytes=10-19")
    assert (part.status, part.body) == (206, whole.body[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{size}"
    assert server.get(path, Range="bytes=-7").body == whole.body[-7:]
    assert server.get(path, Range=f"bytes={size - 3}-").body == whole.body[-3:]
    assert server.get(path, Range="bytes=0-9", If_Range='"old"').status == 200
    beyond = server.get(path, Range=f"bytes={size}-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")
    assert server.get(path, Range="bytes=9-1").status == 200


def test_head_says_the_length_and_decodes_nothing(folder: Path) -> None:
    with live(folder) as server:
        path = f"/zarr/{MULTI}.ome.zarr/0/c/0/1/1/0/0"
        head = server.get(path, "HEAD")
        assert server.metrics.get("cache_misses") == 0
        whole = server.get(path)
        assert (head.status, head.body) == (200, b"")
        assert int(head.headers["Content-Length"]) == len(whole.body)
        assert head.headers["ETag"] == whole.headers["ETag"]
        raw = f"/raw/{MULTI}/0/0/0/0/0/0?c=1"
        assert int(server.get(raw, "HEAD").headers["Content-Length"]) == len(server.get(raw).body)
        tile = server.get(f"/tile/{MULTI}/0/0/0/0.png", "HEAD")
        assert (tile.status, tile.headers["Content-Type"]) == (200, "image/png")
        assert server.get(f"/tile/{MULTI}/0/9/0/0.png", "HEAD").status == 404


def test_gzip_where_it_pays(server: Live) -> None:
    path = f"/zarr/{MULTI}.ome.zarr/zarr.json"
    plain, packed = server.get(path), server.get(path, Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert server.get(path, If_None_Match=packed.headers["ETag"]).status == 304
    picture = server.get(f"/tile/{MULTI}/0/0/0/0.jpg", Accept_Encoding="gzip")
    assert "Content-Encoding" not in picture.headers


@pytest.mark.slow(ci=True)
def test_a_file_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.full((300, 300), 7, np.uint16), tile=(256, 256))
    with live(tmp_path) as server:
        first = server.get("/raw/a.tif/0/0/0/0/0/0?size=256")
        assert np.frombuffer(first.body, np.uint16)[0] == 7
        other = tmp_path / "b.tif"
        tifffile.imwrite(other, np.full((310, 300), 9, np.uint16), tile=(256, 256))
        os.replace(other, path)
        deadline = time.monotonic() + 20
        while True:
            second = server.get("/raw/a.tif/0/0/0/0/0/0?size=256")
            if np.frombuffer(second.body, np.uint16)[0] == 9:
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert second.headers["ETag"] != first.headers["ETag"]
        # Written in place while it is open.
        with path.open("r+b") as file:
            file.seek(0, 2)
            file.write(b"\0" * 16)
        assert server.get("/info/a.tif").status == 200


def test_a_file_that_is_damaged_while_served_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.random.default_rng(0).integers(0, 60_000, (1024, 1024)).astype(np.uint16)
    tifffile.imwrite(path, pixels, tile=(256, 256))
    with live(tmp_path) as server:
        assert server.get("/raw/a.tif/0/0/0/0/0/0?size=256").status == 200
        content = path.read_bytes()
        os.truncate(path, len(content) // 2)
        # The last tile was not read before.
        for _ in range(3):
            answer = server.get("/raw/a.tif/0/0/0/0/3/3?size=256")
            assert answer.status in (422, 503), answer.body
            assert str(tmp_path) not in answer.json["error"]
        path.write_bytes(content)
        deadline = time.monotonic() + 20
        while (answer := server.get("/raw/a.tif/0/0/0/0/3/3?size=256")).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert answer.body == pixels[768:, 768:].tobytes()


def test_a_request_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((64, 64), np.uint8))
    free = threading.Event()
    draw = handlers.draw_box

    def slow(*arguments: Any) -> Any:
        free.wait(30)
        return draw(*arguments)

    with live(tmp_path) as server:
        assert server.get("/info/a.tif").status == 200
        monkeypatch.setattr(handlers, "draw_box", slow)
        usual = server.options.timeout
        try:
            # For this request alone: on a busy machine the others may take as long.
            object.__setattr__(server.options, "timeout", 0.3)
            late = server.get("/tile/a.tif/0/0/0/0.png")
            object.__setattr__(server.options, "timeout", usual)
            assert (late.status, late.headers["Retry-After"]) == (504, "10")
            assert late.json["error"] == "the file took too long to read"
            assert server.get("/raw/a.tif/0/0/0/0/0/0").status == 200
        finally:
            free.set()
        assert server.get("/tile/a.tif/0/0/0/0.png").status == 200


def test_urls_are_served_only_if_they_are_sources(tmp_path: Path) -> None:
    pixels = np.arange(300 * 200, dtype=np.uint16).reshape(300, 200)
    for name in ("a.ome.tif", "other.ome.tif"):
        tifffile.imwrite(tmp_path / name, pixels, ome=True, tile=(256, 256))
    with webserver.serve(tmp_path) as web, live(f"{web.url}/a.ome.tif") as server:
        assert server.get("/list/").json["images"] == ["a.ome.tif"]
        raw = server.get("/raw/a.ome.tif/0/0/0/0/0/0")
        assert raw.status == 200, raw.body
        np.testing.assert_array_equal(np.frombuffer(raw.body, "<u2").reshape(300, 200), pixels)
        chunk = server.get("/zarr/a.ome.tif.ome.zarr/0/c/0/0/0/0/0")
        assert chunk.body[:400] == pixels[0].tobytes()
        sent = web.sent
        other = f"{web.url}/other.ome.tif"
        for name in (other, quote(other, safe=""), "other.ome.tif"):
            assert server.get(f"/info/{name}").status == 404
        assert web.sent == sent


def test_few_files_stay_open(tmp_path: Path) -> None:
    for number in range(6):
        tifffile.imwrite(tmp_path / f"{number}.tif", np.full((64, 64), number + 1, np.uint8))
    with live(tmp_path, open_files=2) as server:
        for _ in range(2):
            for number in range(6):
                answer = server.get(f"/raw/{number}.tif/0/0/0/0/0/0")
                assert set(answer.body) == {number + 1}
        # Closed with their last reference, soon after the reply.
        deadline = time.monotonic() + 20
        while sum(name.startswith(str(tmp_path)) for name in _open_names()) > 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert server.metrics.get("open_files") == 2


def _open_names() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return found


def test_several_sources_have_names(folder: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "slide.tif", np.zeros((32, 32), np.uint8))
    with live(folder, tmp_path / "slide.tif", folder / "slide.tif") as server:
        listing = server.get("/list/").json
        assert listing["folders"] == [folder.name]
        assert listing["images"] == ["slide.tif", "slide.tif-2"]
        assert server.get(f"/info/{folder.name}/slide.tif").status == 200
        assert server.get("/info/slide.tif").json["series"][0]["sizes"]["X"] == 32
        assert server.get("/info/slide.tif-2").json["series"][0]["sizes"]["X"] == SIZES[1]


def test_metrics_and_health(server: Live) -> None:
    assert server.get("/healthz", prefix="").body == b"ok\n"
    text = server.get("/metrics").body.decode()
    samples = dict(
        line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")
    )
    assert float(samples['bfbridge_requests_total{status="2xx"}']) > 0
    count = samples["bfbridge_request_seconds_count"]
    assert samples['bfbridge_request_seconds_bucket{le="+Inf"}'] == count
    assert server.get("/metrics", prefix="").status == 404
