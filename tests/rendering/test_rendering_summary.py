"""What interpreters and notebooks show of a reader: bounded, escaped, six lines."""

from __future__ import annotations

import base64
import io
import re
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import tifffile

from bfbridge import BioReader
from bfbridge.errors import ReadFailed
from bfbridge.rendering import picture, summary
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr

HOSTILE = '<img src=x onerror="alert(1)">&\x1b[31m'


class Parsed(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    return write_ome_tiff(
        tmp_path / "a.ome.tif",
        distinct((2, 2, 3, 40, 50)),
        metadata={"PhysicalSizeX": 0.25, "Name": "cells", "Channel": {"Name": ["DAPI", "GFP"]}},
    )


def test_six_lines(tiff: Path) -> None:
    with BioReader(tiff) as br:
        lines = repr(br).splitlines()
        assert lines == [
            f"<BioReader {str(tiff)!r}, image 0 of 1 'cells', level 0 of 1>",
            "  axes:       Y=40, X=50, Z=3, C=2, T=2",
            "  dtype:      uint16, 46.88 KiB",
            "  pixel size: x 0.25 µm",
            "  channels:   DAPI, GFP",
            "  backend:    ometiff (ometiff claims this content)",
        ]
    assert repr(br) == f"<BioReader {str(tiff)!r}, closed>"
    assert "closed" in br._repr_html_()


@pytest.mark.java
def test_long_and_unprintable_names_stay_in_six_lines(tmp_path: Path) -> None:
    names = [f"channel\n{i}\x1b[2J" for i in range(40)]
    path = write_ome_tiff(
        tmp_path / "a.ome.tif",
        distinct((1, 40, 1, 16, 16)),
        metadata={"Name": "x" * 10_000, "Channel": {"Name": names}},
    )
    with BioReader(path) as br:
        text = repr(br)
    assert len(text.splitlines()) == 6
    assert len(text) < 1500
    assert "... 40 in all" in text
    assert "\x1b" not in text


def test_a_notebook_gets_a_table_and_a_thumbnail(tiff: Path) -> None:
    pytest.importorskip("cmap")
    image_module = pytest.importorskip("PIL.Image")
    with BioReader(tiff) as br:
        bundle = br._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html", "image/png"}
        assert bundle["text/plain"] == repr(br)
        assert set(br._repr_mimebundle_(include=["text/html"])) == {"text/html"}
        assert set(br._repr_mimebundle_(exclude=["image/png"])) == {"text/plain", "text/html"}
        wanted = br.render(max_size=192)[..., :3]
        html = bundle["text/html"]
        assert br._repr_html_() == html
        assert br.levels[0]._repr_html_()
    parsed = Parsed(html)
    (image,) = [attributes for tag, attributes in parsed.tags if tag == "img"]
    source = str(image["src"])
    assert source == f"data:image/png;base64,{bundle['image/png']}"
    with image_module.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as shown:
        np.testing.assert_array_equal(np.asarray(shown), wanted)
    for text in ("Y=40, X=50", "uint16", "0.25 µm", "DAPI, GFP", "ometiff", "original metadata"):
        assert text in parsed.text
    assert [tag for tag, _ in parsed.tags].count("details") == 2


def test_everything_is_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "<b>bold"
    folder.mkdir()
    path = write_ome_tiff(
        folder / "<script>alert(2)<.ome.tif",
        distinct((1, 1, 1, 16, 16)),
        metadata={"Name": "NAME", "Channel": {"Name": ["CHANNEL"]}},
        software="<script>alert(3)</script>",
    )
    # tifffile before 2026 does not escape quotation marks.
    xml = tifffile.tiffcomment(path)
    for placeholder, name in (("NAME", HOSTILE.replace("\x1b", "")), ("CHANNEL", "<i>'\"")):
        assert f'"{placeholder}"' in xml
        xml = xml.replace(f'"{placeholder}"', quoteattr(name))
    tifffile.tiffcomment(path, xml.encode())
    with BioReader(path) as br:
        html = br._repr_html_()
    allowed = {"div", "img", "table", "tbody", "tr", "th", "td", "details", "summary"}
    parsed = Parsed(html)
    assert {tag for tag, _ in parsed.tags} <= allowed
    for tag, attributes in parsed.tags:
        assert set(attributes) <= {"style", "alt", "src"}
        if tag == "img":
            assert re.fullmatch(r"data:image/png;base64,[\w+/=]+", str(attributes["src"]))
    assert "<script>alert(3)</script>" in parsed.text
    assert 'onerror="alert(1)"' in parsed.text


def test_metadata_are_bounded(tiff: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with BioReader(tiff) as br:
        many = {f"name {i} {'n' * 500}": "v" * 100_000 for i in range(5000)}
        monkeypatch.setattr(type(br), "original_metadata", property(lambda self: many))
        html = br._repr_html_()
        assert len(html) < 300_000
        assert "5000 entries in all" in html

        def fail(self: Any) -> Any:
            raise ReadFailed("a: <b>damaged</b>.")

        monkeypatch.setattr(type(br), "original_metadata", property(fail))
        assert "&lt;b&gt;damaged&lt;/b&gt;" in br._repr_html_()


def test_no_thumbnail_of_what_costs_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cmap")
    big = tmp_path / "big.tif"
    tifffile.imwrite(big, shape=(9000, 8000), dtype=np.uint8)
    with BioReader(big) as br:
        reads: list[Any] = []
        monkeypatch.setattr(picture, "render", lambda *a, **k: reads.append(a))
        assert summary.thumbnail_png(br) is None
        assert reads == []
        assert "<img" not in br._repr_html_()
    # With a coarse level it is cheap.
    levels = [np.ones((1, 1, 1, 2048 >> i, 2048 >> i), np.uint16) for i in range(4)]
    path = write_ome_zarr(tmp_path / "a.ome.zarr", levels, (1, 1, 1, 512, 512))
    monkeypatch.undo()
    with BioReader(path) as br:
        assert summary.thumbnail_png(br) is not None
        monkeypatch.setattr(summary, "_MOST_BYTES", 1000)
        assert summary.thumbnail_png(br) is None


def test_no_thumbnail_that_takes_long_or_fails(tiff: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with BioReader(tiff) as br:
        monkeypatch.setattr(summary, "SECONDS", 0.05)
        waits = threading.Event()

        def late(view: Any, size: int) -> bytes:
            waits.wait(60)
            return b"late"

        monkeypatch.setattr(summary, "_drawn", late)
        try:
            assert summary.thumbnail_png(br) is None
        finally:
            waits.set()

        def fail(view: Any, size: int) -> bytes:
            raise ReadFailed("a.tif: it is damaged.")

        monkeypatch.setattr(summary, "_drawn", fail)
        assert "<table>" in br._repr_html_()
