"""Planes by the TiffData map: orders, gaps, several images, sets of files, companions."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from bfbridge.backend import Region
from bfbridge.errors import ReadFailed, UnreadableFile, Unsupported
from tests.support.tiffs import (
    Page,
    all_of,
    build,
    numbered,
    ome_document,
    ome_image,
    ome_xml,
    open_ours,
    page,
    read_ours,
    saved,
)

SHAPE = (2, 2, 3, 12, 21)
UUIDS = [f"urn:uuid:0000000{i}-0000-4000-8000-000000000000" for i in range(9)]
ORDERS = ["XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC"]


def pages_of(array, places, description) -> list[Page]:
    """One directory for each (t, c, z)."""
    size = array.itemsize * 8
    return [
        page(
            array.shape[4],
            array.shape[3],
            [array[place].tobytes()],
            bits=size,
            description=None if index else description,
        )
        for index, place in enumerate(places)
    ]


def element(ifd=None, t=0, c=0, z=0, count=1, name=None, uuid=None) -> str:
    start = "" if ifd is None else f' IFD="{ifd}"'
    planes = "" if count is None else f' PlaneCount="{count}"'
    inside = "" if uuid is None else f'<UUID FileName="{name}">{uuid}</UUID>'
    return f'<TiffData{start} FirstT="{t}" FirstC="{c}" FirstZ="{z}"{planes}>{inside}</TiffData>'


def in_order(order: str) -> list[tuple[int, int, int]]:
    """Planes (t, c, z), the first axis named varying fastest."""
    sizes = {"T": SHAPE[0], "C": SHAPE[1], "Z": SHAPE[2]}
    slowest_first = order[:1:-1]
    found = []
    for position in itertools.product(*(range(sizes[axis]) for axis in slowest_first)):
        at = dict(zip(slowest_first, position, strict=True))
        found.append((at["T"], at["C"], at["Z"]))
    return found


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("data", ['<TiffData IFD="0" PlaneCount="12"/>', "<TiffData/>"])
def test_dimension_orders(tmp_path, order, data):
    array = numbered(SHAPE, "u2")
    description = ome_xml(SHAPE, "u2", order=order, tiff_data=data)
    file = saved(tmp_path, build(pages_of(array, in_order(order), description)))
    np.testing.assert_array_equal(read_ours(file), array)


def test_directories_in_any_order(tmp_path):
    array = numbered(SHAPE, "u2")
    places = in_order("XYZCT")
    shuffled = [places[i] for i in np.random.default_rng(0).permutation(len(places))]
    data = "".join(element(i, *place) for i, place in enumerate(shuffled))
    description = ome_xml(SHAPE, "u2", tiff_data=data)
    file = saved(tmp_path, build(pages_of(array, shuffled, description)))
    np.testing.assert_array_equal(read_ours(file), array)


def test_the_last_element_of_a_plane_counts_and_gaps_between_directories(tmp_path):
    array = numbered((1, 1, 3, 12, 21), "u2")
    blank = page(21, 12, [bytes(504)], bits=16)
    data = element(0, z=0) + element(0, z=1) + element(2, z=1) + element(5, z=2)
    first, second, third = pages_of(
        array, [(0, 0, z) for z in range(3)], ome_xml(array.shape, "u2", tiff_data=data)
    )
    file = saved(tmp_path, build([first, blank, second, blank, blank, third]))
    np.testing.assert_array_equal(read_ours(file), array)


def test_an_element_without_count_fills_up_to_the_next(tmp_path):
    array = numbered((1, 1, 5, 12, 21), "u2")
    data = element(0, z=0, count=None) + element(3, z=2, count=None)
    planes = pages_of(
        array, [(0, 0, z) for z in (0, 1)], ome_xml(array.shape, "u2", tiff_data=data)
    )
    blank = page(21, 12, [bytes(504)], bits=16)
    rest = pages_of(array, [(0, 0, z) for z in (2, 3, 4)], None)
    file = saved(tmp_path, build([*planes, blank, *rest]))
    np.testing.assert_array_equal(read_ours(file), array)


def test_images_of_their_own_sizes_types_and_samples(tmp_path):
    first = numbered((1, 1, 2, 12, 21), "u2")
    second = numbered((1, 3, 1, 9, 8), "u1")
    chunky = second[0, :, 0].transpose(1, 2, 0)
    document = ome_document(
        ome_image(first.shape, "u2")
        + ome_image(second.shape, "u1", index=1, samples=3, tiff_data=element(2))
    )
    pages = [
        *pages_of(first, [(0, 0, 0), (0, 0, 1)], document),
        page(8, 9, [chunky.tobytes()], samples=3, photometric=2),
    ]
    reader = open_ours(saved(tmp_path, build(pages)))
    np.testing.assert_array_equal(all_of(reader, 0), first)
    np.testing.assert_array_equal(all_of(reader, 1), second)
    assert [image.samples for image in reader.images] == [1, 3]
    assert [len(image.channels) for image in reader.images] == [1, 1]
    reader.close()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (element(0, z=3), "counts its planes from 1"),
        (element(0, count=0), "no planes"),
        (element(0), "planes that no TiffData names"),
        ("", "planes that no TiffData names"),
    ],
)
def test_maps_that_need_a_guess_are_left_to_bioformats(tmp_path, data, reason):
    array = numbered(SHAPE, "u2")
    description = ome_xml(SHAPE, "u2", tiff_data=data)
    file = saved(tmp_path, build(pages_of(array, in_order("XYZCT"), description)))
    with pytest.raises(Unsupported, match=reason):
        open_ours(file)


def test_thumbnails_between_planes_are_left_to_bioformats(tmp_path):
    array = numbered((1, 1, 2, 12, 21), "u2")
    pages = pages_of(array, [(0, 0, 0), (0, 0, 1)], ome_xml(array.shape, "u2"))
    thumbnail = page(21, 12, [bytes(504)], bits=16, more={254: (4, [1])})
    with pytest.raises(Unsupported, match="thumbnail"):
        open_ours(saved(tmp_path, build([pages[0], thumbnail, pages[1]])))


def test_a_plane_whose_directory_is_missing(tmp_path):
    array = numbered((1, 1, 2, 12, 21), "u2")
    pages = pages_of(array, [(0, 0, 0)], ome_xml(array.shape, "u2"))
    reader = open_ours(saved(tmp_path, build(pages)))
    out = np.empty((1, 1, 1, 12, 21), "u2")
    reader.read(Region(0, 0, (0,) * 5, out.shape), out)
    np.testing.assert_array_equal(out, array[:, :, :1])
    with pytest.raises(ReadFailed, match="plane z 1, c 0, t 0.*no directory 1"):
        all_of(reader)
    reader.close()


def test_a_plane_of_another_size(tmp_path):
    array = numbered((1, 1, 2, 12, 21), "u2")
    pages = pages_of(array, [(0, 0, 0)], ome_xml(array.shape, "u2"))
    pages.append(page(20, 12, [bytes(480)], bits=16))
    reader = open_ours(saved(tmp_path, build(pages)))
    with pytest.raises(ReadFailed, match="20 x 12 pixels.*21 x 12"):
        all_of(reader)
    reader.close()


def write_set(folder: Path, array, names, metadata: str | None = None) -> list[Path]:
    """One file for each channel; all carry the whole document, or `metadata` instead."""
    data = "".join(
        element(z + 3 * t, t, c, z, name=names[c], uuid=UUIDS[c])
        for t in range(2)
        for c in range(2)
        for z in range(3)
    )
    places = [(t, z) for t in range(2) for z in range(3)]
    files = []
    for c in range(2):
        description = metadata or ome_xml(SHAPE, "u2", tiff_data=data, uuid=UUIDS[c])
        pages = pages_of(array, [(t, c, z) for t, z in places], description)
        files.append(saved(folder, build(pages), names[c]))
    return files


@pytest.mark.parametrize("opened", [0, 1])
def test_a_set_of_files(tmp_path, opened):
    array = numbered(SHAPE, "u2")
    names = ["s_c0.ome.tif", "s_c1.ome.tif"]
    files = write_set(tmp_path, array, names)
    reader = open_ours(files[opened])
    np.testing.assert_array_equal(all_of(reader), array)
    assert reader.used_files[0] == str(files[opened])
    assert sorted(reader.used_files) == sorted(str(file) for file in files)
    reader.close()


def test_more_files_than_are_kept_open(tmp_path):
    count = 80
    array = numbered((count, 1, 1, 12, 21), "u2")
    data = "".join(element(0, t, name=f"t{t}.ome.tif", uuid=f"urn:uuid:{t}") for t in range(count))
    for t in range(count):
        description = ome_xml(array.shape, "u2", tiff_data=data, uuid=f"urn:uuid:{t}")
        pages = pages_of(array, [(t, 0, 0)], description)
        saved(tmp_path, build(pages), f"t{t}.ome.tif")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    reader = open_ours(tmp_path / "t7.ome.tif")
    np.testing.assert_array_equal(all_of(reader), array)
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 70
    reader.close()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_of_a_set_alone_and_renamed(tmp_path):
    array = numbered(SHAPE, "u2")
    files = write_set(tmp_path, array, ["s_c0.ome.tif", "s_c1.ome.tif"])
    alone = tmp_path / "alone"
    alone.mkdir()
    moved = files[0].rename(alone / "other.ome.tif")
    reader = open_ours(moved)
    out = np.empty((2, 1, 3, 12, 21), "u2")
    reader.read(Region(0, 0, (0,) * 5, out.shape), out)
    np.testing.assert_array_equal(out, array[:, :1])
    with pytest.raises(ReadFailed, match=r"s_c1\.ome\.tif.*missing"):
        all_of(reader)
    reader.close()


def test_one_file_of_a_set_is_left_to_bioformats(tmp_path):
    files = write_set(tmp_path, numbered(SHAPE, "u2"), ["s_c0.ome.tif", "s_c1.ome.tif"])
    with pytest.raises(Unsupported, match="group_files"):
        open_ours(files[0], group_files=False)


def test_planes_that_a_set_leaves_out_are_zero(tmp_path):
    array = numbered((1, 3, 1, 12, 21), "u2")
    data = element(0, name="a.ome.tif", uuid=UUIDS[0])
    data += element(0, c=2, name="b.ome.tif", uuid=UUIDS[1])
    for c, name in ((0, "a.ome.tif"), (2, "b.ome.tif")):
        description = ome_xml(array.shape, "u2", tiff_data=data, uuid=UUIDS[c // 2])
        saved(tmp_path, build(pages_of(array, [(0, c, 0)], description)), name)
    found = read_ours(tmp_path / "b.ome.tif")
    np.testing.assert_array_equal(found[:, ::2], array[:, ::2])
    assert not found[:, 1].any()


BINARY_ONLY = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
    f'2016-06"><BinaryOnly MetadataFile="set.companion.ome" UUID="{UUIDS[8]}"/></OME>'
)


def write_companion(folder: Path, array) -> list[Path]:
    names = ["p_c0.tif", "p_c1.tif"]
    files = write_set(folder, array, names, metadata=BINARY_ONLY)
    data = "".join(
        element(z + 3 * t, t, c, z, name=names[c], uuid=UUIDS[c])
        for t, c, z in itertools.product(range(2), range(2), range(3))
    )
    companion = folder / "set.companion.ome"
    companion.write_text(ome_xml(SHAPE, "u2", tiff_data=data, uuid=UUIDS[8]))
    return [companion, *files]


@pytest.mark.parametrize("opened", [0, 1, 2])
def test_a_companion_file(tmp_path, opened):
    array = numbered(SHAPE, "u2")
    files = write_companion(tmp_path, array)
    reader = open_ours(files[opened])
    np.testing.assert_array_equal(all_of(reader), array)
    assert reader.used_files[0] == str(files[opened])
    assert sorted(reader.used_files) == sorted(str(file) for file in files)
    assert "<BinaryOnly" not in reader.ome_xml()
    assert reader.original_metadata["ImageWidth"] == 21
    reader.close()


def test_a_missing_companion_is_named(tmp_path):
    files = write_companion(tmp_path, numbered(SHAPE, "u2"))
    files[0].unlink()
    with pytest.raises(UnreadableFile, match=r"set\.companion\.ome.*missing"):
        open_ours(files[1])


def test_a_set_given_as_bytes_has_no_folder(tmp_path):
    files = write_companion(tmp_path, numbered(SHAPE, "u2"))
    with pytest.raises(OSError, match="bytes or an open file"):
        open_ours(files[1].read_bytes())


@pytest.mark.parametrize("named", [False, True])
def test_a_file_that_names_itself_needs_no_folder(named):
    array = numbered((1, 1, 1, 12, 21), "u2")
    data = element(0, name="as-written.ome.tif", uuid=UUIDS[3])
    description = ome_xml(array.shape, "u2", tiff_data=data, uuid=UUIDS[3] if named else None)
    file = build(pages_of(array, [(0, 0, 0)], description))
    np.testing.assert_array_equal(read_ours(file), array)


OUTSIDE = [
    "../outside.tif",
    "~/outside.tif",
    "file:///outside.tif",
    "a/../../outside.tif",
    "link.tif",
]


@pytest.mark.parametrize("name", [*OUTSIDE, "/etc/outside.tif", "C:\\outside.tif"])
@pytest.mark.parametrize("own", [False, True])
def test_names_that_lead_out_of_the_folder(tmp_path, name, own):
    array = numbered((1, 1, 1, 12, 21), "u2")
    secret = saved(tmp_path, build(pages_of(array, [(0, 0, 0)], None)), "outside.tif")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.tif").symlink_to(secret)
    data = element(0, name=name, uuid=UUIDS[3])
    mine = numbered(array.shape, "u2", 9)
    description = ome_xml(array.shape, "u2", tiff_data=data, uuid=UUIDS[3 if own else 4])
    file = saved(inside, build(pages_of(mine, [(0, 0, 0)], description)), "m.ome.tif")
    if own and (name not in OUTSIDE or name == "link.tif"):
        # By its identifier it is the file itself, as with the absolute paths of old writers.
        np.testing.assert_array_equal(read_ours(file), mine)
        return
    with pytest.raises(UnreadableFile, match=r"outside its own folder|none of the files"):
        open_ours(file)


def test_outside_when_it_is_allowed(tmp_path):
    array = numbered((1, 1, 1, 12, 21), "u2")
    saved(tmp_path, build(pages_of(array, [(0, 0, 0)], None)), "outside.tif")
    inside = tmp_path / "inside"
    inside.mkdir()
    data = element(0, name="../outside.tif", uuid=UUIDS[3])
    description = ome_xml(array.shape, "u2", tiff_data=data, uuid=UUIDS[4])
    file = saved(inside, build(pages_of(array * 0, [(0, 0, 0)], description)), "m.ome.tif")
    np.testing.assert_array_equal(read_ours(file, allow_outside=True), array)


def test_levels_of_a_plane_that_has_none(tmp_path):
    array = numbered((1, 1, 2, 12, 20), "u2")
    pages = pages_of(array, [(0, 0, 0), (0, 0, 1)], ome_xml(array.shape, "u2"))
    small = page(10, 6, [array[0, 0, 0, ::2, ::2].tobytes()], bits=16)
    pages[0].below = [small]
    reader = open_ours(saved(tmp_path, build(pages)))
    out = np.empty((1, 1, 1, 6, 10), "u2")
    reader.read(Region(0, 1, (0,) * 5, out.shape), out)
    np.testing.assert_array_equal(out[0, 0, 0], array[0, 0, 0, ::2, ::2])
    with pytest.raises(ReadFailed, match="level 1, plane z 1.*0 lower resolutions"):
        all_of(reader, 0, 1)
    reader.close()


def test_a_set_that_is_refused_leaves_no_file_open(tmp_path):
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    array = numbered((1, 1, 2, 12, 21), "u2")
    data = element(0, z=0, name="a.ome.tif", uuid=UUIDS[0])
    data += element(0, z=1, name="b.ome.tif", uuid=UUIDS[1])
    wrong = ome_xml((1, 1, 2, 12, 22), "u2", tiff_data=data, uuid=UUIDS[1])
    for name in ("a.ome.tif", "b.ome.tif"):
        saved(tmp_path, build(pages_of(array, [(0, 0, 0)], wrong)), name)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UnreadableFile, match="22 x 12"):
        open_ours(tmp_path / "b.ome.tif")
    assert len(os.listdir("/proc/self/fd")) == before
