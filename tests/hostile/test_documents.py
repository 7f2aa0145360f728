"""OME-XML with more of everything than makes sense, and with as much as real files have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.backend import Region
from bfbridge.errors import LimitExceeded
from bfbridge.limits import Limits
from tests.hostile.test_tiff import quickly, read_everything
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

MILLION = 1_000_000
# Seconds: a tenth of it where nothing else runs.
PATIENCE = 60
ONE = (1, 1, 1, 16, 16)
FIRST = '<TiffData IFD="0" PlaneCount="1"/>'


def tiff(document: str) -> bytes:
    return build([page(16, 16, [bytes(256)], description=document)], big=True)


def planes(count: int) -> str:
    listed = "".join(f'<Plane TheZ="0" TheC="0" TheT="{t}"/>' for t in range(count))
    return ome_document(ome_image(ONE, "u1", tiff_data=FIRST + listed))


def tiff_data(count: int) -> str:
    listed = "".join(f'<TiffData FirstT="{t}" IFD="0"/>' for t in range(count))
    return ome_document(ome_image((count, 1, 1, 16, 16), "u1", tiff_data=listed))


def channels(count: int) -> str:
    listed = "".join(f'<Channel ID="Channel:0:{c}"/>' for c in range(count))
    return ome_document(ome_image((1, count, 1, 16, 16), "u1", channels=listed))


def images(count: int) -> str:
    return ome_document(
        "".join(ome_image(ONE, "u1", index=i, tiff_data=FIRST) for i in range(count))
    )


def annotations(count: int) -> str:
    listed = "".join(f'<CommentAnnotation ID="a{n}"/>' for n in range(count))
    return ome_document(
        f"{ome_image(ONE, 'u1')}<StructuredAnnotations>{listed}</StructuredAnnotations>"
    )


QUICK = pytest.mark.slow(ci=True)


@pytest.mark.parametrize("carrier", ["tiff", "companion"])
@pytest.mark.parametrize(
    ("make", "count", "what"),
    [
        pytest.param(planes, MILLION, "elements", marks=QUICK),
        pytest.param(tiff_data, MILLION, "elements", marks=QUICK),
        pytest.param(channels, MILLION, "elements", marks=QUICK),
        pytest.param(channels, MILLION * 6 // 10, "channels", marks=pytest.mark.slow),
        pytest.param(images, 100_000, "images", marks=QUICK),
        pytest.param(annotations, MILLION, "elements", marks=QUICK),
    ],
)
def test_a_million_of_anything_is_refused_soon(
    tmp_path: Path, carrier: str, make: Callable[[int], str], count: int, what: str
) -> None:
    """By the reader that is chosen: no other one is asked."""
    document = make(count)
    if carrier == "tiff":
        path = saved(tmp_path, tiff(document))
    else:
        path = tmp_path / "a.companion.ome"
        path.write_text(document)
    error = quickly(lambda: BioReader(path), PATIENCE)
    assert isinstance(error, LimitExceeded)
    assert f"number of {what}" in str(error).replace("OME-XML ", "")


def test_planes_that_are_mapped_again_and_again() -> None:
    """1000 planes, 10 000 times."""
    listed = '<TiffData IFD="0" PlaneCount="1000"/>' * 10_000
    document = ome_document(ome_image((1000, 1, 1, 16, 16), "u1", tiff_data=listed))
    error = quickly(lambda: read_everything(tiff(document)))
    assert isinstance(error, LimitExceeded)


def test_sizes_without_anything_behind_them() -> None:
    document = ome_document(ome_image((1 << 30, 1, 1, 16, 16), "u1", tiff_data="<TiffData/>"))
    error = quickly(lambda: read_everything(tiff(document)))
    assert isinstance(error, LimitExceeded)
    with pytest.raises(LimitExceeded, match="number of planes is 3"):
        read_everything(
            tiff(ome_document(ome_image((3, 1, 1, 16, 16), "u1", tiff_data="<TiffData/>"))),
            limits=Limits(planes=2),
        )


@pytest.mark.slow(ci=True)
def test_a_hundred_thousand_planes_open() -> None:
    """A real long series: a TiffData with a UUID and a Plane for each of them."""
    count, mark = 100_000, "urn:uuid:12345678-1234-1234-1234-123456789abc"
    listed = "".join(
        f'<TiffData FirstT="{t}" IFD="{t % 3}" PlaneCount="1">'
        f'<UUID FileName="made.ome.tif">{mark}</UUID></TiffData>'
        for t in range(count)
    )
    listed += "".join(f'<Plane TheZ="0" TheC="0" TheT="{t}"/>' for t in range(count))
    document = ome_document(ome_image((count, 1, 1, 16, 16), "u1", tiff_data=listed), uuid=mark)
    array = numbered((3, 1, 1, 16, 16), "u1")
    pages = [
        page(16, 16, [array[t].tobytes()], description=None if t else document) for t in range(3)
    ]
    data = build(pages, big=True)

    def action() -> None:
        reader = open_ours(data)
        try:
            assert reader.images[0].levels[0].shape == (count, 1, 1, 16, 16)
            last = np.empty((2, 1, 1, 16, 16), "u1")
            region = Region(0, 0, (count - 2, 0, 0, 0, 0), (count, 1, 1, 16, 16))
            reader.read(region, last)
            np.testing.assert_array_equal(last, array[[(count - 2) % 3, (count - 1) % 3]])
        finally:
            reader.close()

    assert quickly(action, PATIENCE) is None


@pytest.mark.slow(ci=True)
def test_a_plate_of_1536_wells_opens() -> None:
    """Nine fields of four channels in each."""
    fields = 1536 * 9
    four = "".join(f"<TiffData FirstC='{c}' IFD='{c}' PlaneCount='1'/>" for c in range(4))
    array = numbered((1, 4, 1, 16, 16), "u1")
    document = ome_document(
        "".join(
            ome_image(
                array.shape, "u1", index=i,
                tiff_data=four,
            )
            for i in range(fields)
        )
    )  # fmt: skip
    data = build(
        [
            page(16, 16, [array[0, c].tobytes()], description=None if c else document)
            for c in range(4)
        ],
        big=True,
    )

    def action() -> None:
        reader = open_ours(data)
        try:
            assert len(reader.images) == fields
            np.testing.assert_array_equal(all_of(reader, fields - 1), array)
        finally:
            reader.close()

    assert quickly(action, PATIENCE) is None
