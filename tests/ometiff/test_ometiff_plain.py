"""Plain TIFFs and ImageJ stacks: what is taken, and what is left to Bio-Formats."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from bfbridge import BioReader, large_image
from bfbridge.backend import Quantity
from bfbridge.errors import UnreadableFile, Unsupported
from tests.support.tiffs import all_of, build, numbered, open_ours, page, read_ours, saved


def plain(array: np.ndarray, **options) -> bytes:
    """One page a plane of a (pages, Y, X) array; options are of the first page."""
    pages = []
    for index, plane in enumerate(array):
        pages.append(
            page(
                plane.shape[1],
                plane.shape[0],
                [plane.tobytes()],
                bits=plane.itemsize * 8,
                **(options if index == 0 else {}),
            )
        )
    return build(pages)


def test_pages_are_time(tmp_path):
    array = numbered((5, 12, 21), "u2")
    reader = open_ours(saved(tmp_path, plain(array), "a.tif"))
    (image,) = reader.images
    assert image.levels[0].shape == (5, 1, 1, 12, 21)
    assert image.name == "a.tif"
    np.testing.assert_array_equal(all_of(reader)[:, 0, 0], array)
    assert reader.used_files == (str(tmp_path / "a.tif"),)
    reader.close()


def test_lerc(tmp_path):
    array = numbered((3, 12, 21), "u2")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", compression="lerc")
    np.testing.assert_array_equal(read_ours(tmp_path / "a.tif")[:, 0, 0], array)


@pytest.mark.java
def test_the_reason_of_this_backend_is_in_the_error_of_bioformats(tmp_path):
    array = numbered((12, 21), "u2").astype(np.float16)
    tifffile.imwrite(tmp_path / "a.tif", array, compression="lzma")
    with pytest.raises(
        UnreadableFile, match=r"with code: 34925.*Other backends: ometiff: .*16 bits.*kind 'f'\.$"
    ):
        BioReader(tmp_path / "a.tif")


@pytest.mark.parametrize("order", ["<", ">"])
def test_imagej_hyperstacks(tmp_path, order):
    array = numbered((2, 4, 3, 12, 21), "u2")
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        array,
        imagej=True,
        byteorder=order,
        resolution=(4, 8),
        metadata={"axes": "TZCYX", "spacing": 2.5, "unit": "um"},
    )
    reader = open_ours(path)
    (image,) = reader.images
    assert image.levels[0].shape == (2, 3, 4, 12, 21)
    assert image.byteorder == order
    assert image.pixel_size.x == Quantity(0.25, "µm")
    assert image.pixel_size.y == Quantity(0.125, "µm")
    assert image.pixel_size.z == Quantity(2.5, "µm")
    np.testing.assert_array_equal(all_of(reader), array.transpose(0, 2, 1, 3, 4))
    reader.close()


def test_pages_of_several_sizes_are_images(tmp_path):
    first, second = numbered((12, 21), "u2"), numbered((9, 8, 3), "u1")
    data = build(
        [
            page(21, 12, [first.tobytes()], bits=16),
            page(8, 9, [second.tobytes()], samples=3, photometric=2),
        ]
    )
    reader = open_ours(saved(tmp_path, data, "a.tif"))
    assert [image.name for image in reader.images] == ["a.tif #1", "a.tif #2"]
    np.testing.assert_array_equal(all_of(reader, 0)[0, 0, 0], first)
    np.testing.assert_array_equal(all_of(reader, 1)[0, :, 0], second.transpose(2, 0, 1))
    reader.close()


def test_thumbnails_are_left_out(tmp_path):
    array = numbered((2, 12, 21), "u1")
    pages = [
        page(21, 12, [array[0].tobytes()]),
        page(5, 4, [bytes(20)], more={254: (4, [1])}),
        page(21, 12, [array[1].tobytes()]),
    ]
    found = read_ours(saved(tmp_path, build(pages), "a.tif"))
    np.testing.assert_array_equal(found[:, 0, 0], array)


@pytest.mark.parametrize(
    ("unit", "resolution", "expected"),
    [(2, 300, 25400 / 300), (3, 4000, 10000 / 4000), (1, 4, 0.25), (None, 4, 0.25)],
)
def test_resolution(tmp_path, unit, resolution, expected):
    more = {282: (5, [resolution, 1]), 283: (5, [0, 1])}
    if unit:
        more[296] = (3, [unit])
    reader = open_ours(saved(tmp_path, plain(numbered((1, 12, 21), "u1"), more=more), "a.tif"))
    size = reader.images[0].pixel_size
    assert size.x is not None
    assert size.x.value == pytest.approx(expected, rel=1e-12)
    assert (size.x.unit, size.y, size.z) == ("µm", None, None)
    reader.close()


def test_a_document_is_made(tmp_path):
    path = tmp_path / "a.tif"
    array = numbered((2, 3, 12, 21), "u2")
    metadata = {"axes": "ZCYX", "spacing": 2.0, "unit": "micron"}
    tifffile.imwrite(path, array, imagej=True, resolution=(4, 4), metadata=metadata)
    reader = open_ours(path)
    (image,) = reader.ome().images
    assert image.name == "a.tif"
    assert (image.pixels.size_c, image.pixels.size_z, image.pixels.size_x) == (3, 2, 21)
    assert image.pixels.physical_size_z == 2.0
    assert len(image.pixels.channels) == 3
    xml = reader.ome_xml()
    assert xml is not None
    assert 'SizeX="21"' in xml
    reader.close()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"description": "Aperio Image Library"}, "description"),
        ({"description": "ImageJ=1.5\nchannels=2\nslices=2"}, "4 planes in 2 directories"),
        ({"description": "ImageJ=1.5\nslices=x"}, "damaged numbers"),
        ({"description": "ImageJ=1.5\nslices=2\nunit=inch"}, "inch"),
        ({"description": "ImageJ=1.5\nslicesandmore=2"}, "unusual"),
        ({"more": {305: (2, b"MetaMorph\0")}}, "software"),
        ({"more": {271: (2, b"Nikon\0")}}, "tag 271"),
        ({"more": {33628: (4, [1])}}, "tag 33628"),
        ({"more": {330: (4, [8])}}, "tag 330"),
        (
            {
                "description": "ImageJ=1.5\nslices=2",
                "more": {50839: (1, b"IJIJ\0\nslices=7\n")},
            },
            "repeats a size",
        ),
    ],
)
def test_what_another_reader_may_want(tmp_path, options, reason):
    file = saved(tmp_path, plain(numbered((2, 12, 21), "u1"), **options), "a.tif")
    with pytest.raises(Unsupported, match=reason):
        open_ours(file)


@pytest.mark.parametrize("name", ["a.lsm", "a.stk", "a.flex", "a"])
def test_other_suffixes(tmp_path, name):
    file = saved(tmp_path, plain(numbered((1, 12, 21), "u1")), name)
    with pytest.raises(Unsupported, match="suffix"):
        open_ours(file)


COMMENT = (
    b"Aperio Image Library v11.2.1 \r\n900x700 [0,0 160x96] (16x16) JPEG/RGB Q=30|AppMag = 20|"
    b"MPP = 0.499|Date = 12/29/09|Time = 09:59:15|Left = 25.5|Top = 23.25"
)


def slide(pages: dict[str, np.ndarray], comments: dict[str, bytes] | None = None) -> bytes:
    """A slide of named images: level0, thumbnail, level1, ..., label, macro."""
    made = []
    for name, pixels in pages.items():
        length, width = pixels.shape[:2]
        level = name.startswith("level")
        tiles = [
            np.pad(tile, [(0, 16 - tile.shape[0]), (0, 16 - tile.shape[1]), (0, 0)]).tobytes()
            for y in range(0, length, 16)
            for x in range(0, width, 16)
            for tile in [pixels[y : y + 16, x : x + 16]]
        ]
        description = COMMENT
        if name in ("label", "macro"):
            description = f"Aperio Image Library v11.2.1 \r\n{name} {width}x{length}".encode()
        made.append(
            page(
                width,
                length,
                tiles if level else [pixels.tobytes()],
                samples=3,
                photometric=2,
                tile=(16, 16) if level else None,
                description=(comments or {}).get(name, description),
                more={254: (4, [{"label": 1, "macro": 9}.get(name, 0)])},
            )
        )
    return build(made)


def slide_pages() -> dict[str, np.ndarray]:
    full = numbered((96, 160, 3), "u1")
    return {
        "level0": full,
        "thumbnail": numbered((9, 15, 3), "u1", 1),
        "level1": full[::2, ::2],
        "level2": full[::4, ::4],
        "label": numbered((20, 30, 3), "u1", 2),
        "macro": numbered((25, 40, 3), "u1", 3),
    }


def test_an_aperio_slide(tmp_path):
    pages = slide_pages()
    reader = open_ours(saved(tmp_path, slide(pages), "a.svs"))
    main, label, macro = reader.images
    assert [image.role for image in reader.images] == ["image", "label", "macro"]
    assert [image.name for image in reader.images] == ["", "label image", "macro image"]
    assert [level.shape[3:] for level in main.levels] == [(96, 160), (48, 80), (24, 40)]
    assert main.pixel_size.x == Quantity(0.499, "µm")
    assert label.pixel_size.x is None
    assert macro.levels[0].shape == (1, 3, 1, 25, 40)
    for level in range(3):
        np.testing.assert_array_equal(
            all_of(reader, 0, level)[0, :, 0].transpose(1, 2, 0), pages[f"level{level}"]
        )
    for index, name in ((1, "label"), (2, "macro")):
        np.testing.assert_array_equal(
            all_of(reader, index)[0, :, 0].transpose(1, 2, 0), pages[name]
        )
    document = reader.ome()
    assert document.instruments[0].objectives[0].nominal_magnification == 20
    first = document.images[0]
    assert str(first.acquisition_date) == "2009-12-29 09:59:15"
    assert first.description == "Aperio Image Library v11.2.1 "
    assert first.pixels.planes[0].position_x == 25.5
    assert document.images[1].description == "label 30x20"
    reader.close()


def test_the_thumbnail_of_an_aperio_slide_on_request(tmp_path):
    pages = slide_pages()
    path = saved(tmp_path, slide(pages), "a.svs")
    with BioReader(path, thumbnails=True) as br:
        assert list(br.associated) == ["label", "macro", "thumbnail"]
        assert br.series.names == ["", "label image", "macro image", "thumbnail image"]
        np.testing.assert_array_equal(
            br.associated["thumbnail"].read(squeeze=True), pages["thumbnail"]
        )
        assert len(br.ome.images) == 4
    with BioReader(path) as br:
        assert list(br.associated) == ["label", "macro"]
    with large_image.open(path) as source:
        assert source.getAssociatedImagesList() == ["label", "macro", "thumbnail"]
        assert (source.frames, source.getNativeMagnification()["magnification"]) == (1, 20)
        small, _ = source.getAssociatedImage("thumbnail", format="numpy")
        np.testing.assert_array_equal(small, pages["thumbnail"])
    without = {name: pixels for name, pixels in pages.items() if name != "thumbnail"}
    with BioReader(saved(tmp_path, slide(without), "b.svs"), thumbnails=True) as br:
        assert list(br.associated) == ["label", "macro"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"level1": COMMENT + b"|OffsetZ = 2"}, "focal stack"),
        ({"level0": COMMENT + b"|Dye = DAPI"}, "fluorescence"),
        ({"level2": b"something else"}, "does not state its type"),
        ({"label": COMMENT}, "unusual order"),
        ({"macro": b"Aperio Image Library\nlabel 1x1"}, "unusual associated images"),
        ({"level0": COMMENT + b"|MPP = 0.3"}, "unclear MPP"),
        ({"level0": COMMENT.replace(b"0.499", b"nan")}, "unclear MPP"),
    ],
)
def test_slides_of_another_make_up(tmp_path, change, reason):
    file = saved(tmp_path, slide(slide_pages(), change), "a.svs")
    with pytest.raises(Unsupported, match=reason):
        open_ours(file)


def test_names_that_xml_cannot_hold(tmp_path):
    array = numbered((1, 12, 21), "u2")
    reader = open_ours(saved(tmp_path, plain(array), "a\x01b.tif"))
    assert reader.images[0].name == "a\x01b.tif"
    assert reader.ome().images[0].name == "a b.tif"
    assert 'Name="a b.tif"' in reader.ome_xml()
    reader.close()
