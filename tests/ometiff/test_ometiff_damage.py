"""OME-TIFFs whose parts are missing or contradict each other: an error, and no other reader.

Bio-Formats' OMETiffReader opens most of these, and gives black planes, planes of another place, or
bytes read as another type. Each file here is opened as users do, without naming a backend: no Java
is started for what is damaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, registry
from bfbridge.errors import BfbridgeError, ReadFailed, UnreadableFile
from tests.support.tiffs import (
    all_of,
    build,
    numbered,
    ome_document,
    ome_image,
    open_ours,
    page,
    saved,
)

Array = np.ndarray[Any, Any]
PLANES = numbered((20, 16, 16), "u1")
WIDE = numbered((4, 16, 16), "u2")


@pytest.fixture(autouse=True)
def _no_other_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever falls through gets an error of another kind."""

    def refuse(*_: object) -> None:
        raise AssertionError("another reader was asked")

    java = registry.BACKENDS[-1]
    assert java.name == "bioformats"
    kind = type(java)
    load = kind.load
    monkeypatch.setattr(kind, "load", lambda self: refuse() if self is java else load(self))


def element(
    ifd: int | None = 0, t: int = 0, count: int | None = 1, name: str | None = None, uuid: str = ""
) -> str:
    place = "" if ifd is None else f' IFD="{ifd}"'
    counted = "" if count is None else f' PlaneCount="{count}"'
    named = "" if name is None else f' FileName="{name}"'
    inside = f"<UUID{named}>{uuid}</UUID>" if named or uuid else ""
    return f'<TiffData{place} FirstT="{t}"{counted}>{inside}</TiffData>'


def image(data: str, t: int = 4, *, index: int = 0, **options: Any) -> str:
    shape = options.pop("shape", (t, 1, 1, 16, 16))
    return ome_image(shape, options.pop("dtype", "u1"), index=index, tiff_data=data, **options)


def tiff(images: str, planes: Sequence[Array], uuid: str | None = None) -> bytes:
    document = ome_document(images, uuid=uuid)
    return build(
        page(
            plane.shape[1],
            plane.shape[0],
            [plane.tobytes()],
            bits=plane.itemsize * 8,
            samples=plane.shape[2] if plane.ndim == 3 else 1,
            photometric=2 if plane.ndim == 3 else 1,
            description=None if number else document,
        )
        for number, plane in enumerate(planes)
    )


in_turn = "".join(element(t, t) for t in range(4))


@pytest.mark.parametrize(
    ("images", "planes", "reason"),
    [
        # TiffData that do not fit the sizes.
        (image("".join(element(t, 2 * t) for t in range(4))), PLANES[:4], "outside the image's"),
        (image(element(count=5)), PLANES[:5], "more planes than it has itself"),
        # Directories that are not there, where planes are counted from 1.
        (image("".join(element(t, t + 1) for t in range(4))), PLANES[:2], "name directory 3, but"),
        # Planes that nothing names, and directories that do not explain them.
        (image(element() + element(1, 1)), PLANES[:2], "names 2 of its 4 planes"),
        (image(element(3) + element(2, 1)), PLANES[:4], "names 2 of its 4 planes"),
        (image(element(), shape=(3, 1, 2, 16, 16)), PLANES[:3], "names 1 of its 6 planes"),
        (image(""), PLANES[:2], "names 0 of its 4 planes"),
        (image("", 2) + image("", 2, index=1), PLANES[:4], "image 0 .* has no TiffData"),
        (image(in_turn) + image("", index=1), PLANES[:8], "image 1 .* has no TiffData"),
        (image(in_turn) + image(element(4), 2, index=1), PLANES[:6], "image 1 .* names 1 of its 2"),
        # Sizes and types that differ.
        (image(in_turn, shape=(4, 1, 1, 32, 16)), PLANES[:4], "16 x 32 pixels, its TIFF 16 x 16"),
        (image(element(), 1) + image(element(1), 1, index=1, dtype="u2"), PLANES[:2], "uint16"),
        (image(element(), 1) + image(element(1), 1, index=1), [PLANES[0], WIDE[0]], "type uint8"),
        # RGB pixels that fit neither way of counting channels.
        (
            image(element(), shape=(1, 2, 1, 16, 16)),
            [np.stack(PLANES[:3], -1)],
            "2 channels in 2 Channel elements",
        ),
        (image(element(), 1).replace('SizeX="16"', 'SizeX="16'), PLANES[:1], "not well formed"),
        (image(element(), 1).replace("image 0", "a & b"), PLANES[:1], "not well formed"),
    ],
)  # fmt: skip
def test_metadata_that_contradict_themselves_or_the_file(
    tmp_path: Path, images: str, planes: Sequence[Array], reason: str
) -> None:
    path = saved(tmp_path, tiff(images, planes))
    with pytest.raises(UnreadableFile, match=rf"made\.ome\.tif: .*{reason}") as caught:
        BioReader(path)
    assert "bioformats" not in str(caught.value)


def test_a_level_of_another_type(tmp_path: Path) -> None:
    document = ome_document(image(element(), 1))
    small = page(8, 8, [WIDE[0, :8, :8].tobytes()], bits=16)
    one = page(16, 16, [PLANES[0].tobytes()], description=document, below=[small])
    with pytest.raises(UnreadableFile, match="level 1 of its TIFF has 1 x uint16"):
        BioReader(saved(tmp_path, build([one])))


def write_set(
    folder: Path, which: Sequence[int], *, own: str, names: bool, uuids: bool, first: int = 0
) -> dict[int, Path]:
    """Files of a set of 20, each with one plane and the document of all."""
    count = len(PLANES)
    data = "".join(
        element(
            0,
            t + first,
            name=f"t{t}.ome.tif" if names else None,
            uuid=f"urn:uuid:{t}" if uuids else "",
        )
        for t in range(count)
    )
    roots = {"its own": "urn:uuid:{}", "another": "urn:uuid:x", "none": None}
    made = {}
    for t in which:
        root = roots[own]
        root = root and root.format(t)
        made[t] = saved(folder, tiff(image(data, count), [PLANES[t]], root), f"t{t}.ome.tif")
    return made


def outcome(path: Path) -> list[object]:
    """For each time point its pixels' number, or the error in their place."""
    try:
        reader = BioReader(path)
    except BfbridgeError as error:
        return [type(error)]
    found: list[object] = []
    with reader:
        for t in range(reader.T):
            try:
                plane = reader[:, :, 0, 0, t]
            except BfbridgeError as error:
                found.append(type(error))
            else:
                same = (plane == PLANES).all((1, 2))
                found.append(int(same.argmax()) if same.any() else "black or else")
    return found


@pytest.mark.parametrize("own", ["its own", "another", "none"])
@pytest.mark.parametrize(
    ("names", "uuids", "first"),
    [
        *((True, True, first) for first in (0, 1)),
        *((True, False, first) for first in (0, 1)),
        *((False, True, first) for first in (0, 1)),
        (False, False, 0),
    ],
)
@pytest.mark.parametrize("which", [0, 7])
def test_one_file_of_a_set_renamed_and_alone(
    tmp_path: Path, own: str, names: bool, uuids: bool, which: int, first: int
) -> None:
    """Its own plane where that is certain; of the others an error, never anything else."""
    path = write_set(tmp_path, [which], own=own, names=names, uuids=uuids, first=first)[which]
    found = outcome(path.rename(tmp_path / "renamed.ome.tif"))
    if not names and not uuids:
        # Without a name, all TiffData are about the file that they are in.
        assert found == [which] * len(PLANES)
    elif own == "its own" and uuids and names and not first:
        assert found == [which if t == which else ReadFailed for t in range(len(PLANES))]
    else:
        assert found == [UnreadableFile]


@pytest.mark.parametrize("own", ["its own", "another", "none"])
@pytest.mark.parametrize("uuids", [True, False])
def test_a_set_without_some_of_its_files(tmp_path: Path, own: str, uuids: bool) -> None:
    paths = write_set(tmp_path, range(20), own=own, names=True, uuids=uuids)
    assert outcome(paths[3]) == list(range(20))
    for t in (5, 11):
        paths[t].unlink()
    assert outcome(paths[3]) == [ReadFailed if t in (5, 11) else t for t in range(20)]


@pytest.mark.parametrize("root", ["urn:uuid:0", None])
@pytest.mark.parametrize("uuid", ["urn:uuid:0", ""])
def test_a_file_of_its_own_may_be_renamed(tmp_path: Path, root: str | None, uuid: str) -> None:
    """All its planes lie in one file by one name: it is that file."""
    data = "".join(element(t, t, name="old.ome.tif", uuid=uuid) for t in range(20))
    path = saved(tmp_path, tiff(image(data, 20), list(PLANES), root))
    if root and not uuid:
        assert outcome(path) == [UnreadableFile]
    else:
        assert outcome(path) == list(range(20))


def test_a_uuid_without_a_name_is_no_file(tmp_path: Path) -> None:
    data = element(0, 0, uuid="urn:uuid:0") + element(0, 1, uuid="urn:uuid:1")
    path = saved(tmp_path, tiff(image(data, 2), [PLANES[0]], "urn:uuid:0"))
    with pytest.raises(UnreadableFile, match="'urn:uuid:1', but not the name of that file"):
        BioReader(path)


def test_a_companion_that_names_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.companion.ome"
    path.write_text(ome_document(image(element(), 1)))
    with pytest.raises(UnreadableFile, match="names no file, though the file is metadata alone"):
        BioReader(path)


def test_tiff_data_with_and_without_counts(tmp_path: Path) -> None:
    """OMETiffReader fills up as it goes along: what was named before ends a filling."""
    cases = [
        (element(0, 0, 2) + element(2, 2, None), [0, 1, 2, 3, 4, 5]),
        (element(1, 0, None) + element(4, 3, 1), [1, 2, 3, 4, 5, 6]),
        (element(4, 3, 1) + element(1, 0, None), [1, 2, 3, 4, None, None]),
        (element(0, 0, None) + element(9, 2, None) + element(5, 1, 1), [0, 5, 9, 10, 11, 12]),
    ]
    for data, places in cases:
        path = saved(tmp_path, tiff(image(data, 6), list(PLANES)))
        reader_found = outcome(path) if None not in places else None
        if reader_found is not None:
            assert reader_found == places
            continue
        with pytest.raises(UnreadableFile, match="names 4 of its 6 planes"):
            BioReader(path)


@pytest.mark.slow(ci=True)
def test_planes_that_are_filled_again_and_again(tmp_path: Path) -> None:
    count = 20_000
    data = "".join(element(0, t, None) for t in range(count)) + element(0, 0, 1)
    path = saved(tmp_path, tiff(image(data, count), [PLANES[0]]))
    with pytest.raises(UnreadableFile, match="again and again"):
        BioReader(path)


@pytest.mark.parametrize("size_t", [1, 2])
def test_samples_that_are_counted_as_channels(tmp_path: Path, size_t: int) -> None:
    """RGB pixels, and three Channels of one sample: Bio-Formats makes nine, six of them black."""
    colors = [np.stack(PLANES[3 * t : 3 * t + 3], -1) for t in range(size_t)]
    shape = (size_t, 3, 1, 16, 16)
    path = saved(tmp_path, tiff(image(element(count=size_t), shape=shape), colors))
    reader = open_ours(path)
    record = reader.images[0]
    assert (record.levels[0].shape, record.samples, len(record.channels)) == (shape, 3, 1)
    np.testing.assert_array_equal(all_of(reader).reshape(-1, 16, 16), PLANES[: 3 * size_t])
    reader.close()
