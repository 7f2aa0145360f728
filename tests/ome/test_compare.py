"""Comparison of documents: what is lost, and what certainly is not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from ome_types import OME, model

from bfbridge.ome.checks.compare import compare_documents, keeps_values
from bfbridge.ome.documents.model import copied


def document() -> OME:
    pixels = model.Pixels(
        id="Pixels:0", dimension_order="XYZCT", type="uint16",
        size_x=3, size_y=4, size_z=1, size_c=2, size_t=1, physical_size_x=0.5,
        channels=[model.Channel(id="Channel:0:0", name="a"), model.Channel(id="Channel:0:1")],
        planes=[model.Plane(the_z=0, the_c=0, the_t=0, delta_t=1.5)],
        tiff_data_blocks=[model.TiffData(ifd=0)], big_endian=False,
    )  # fmt: skip
    image = model.Image(
        id="Image:0", name="cells", pixels=pixels,
        acquisition_date=datetime(2024, 1, 2, tzinfo=UTC),
        annotation_refs=[model.AnnotationRef(id="Annotation:1"),
                         model.AnnotationRef(id="Annotation:2")],
    )  # fmt: skip
    notes = model.StructuredAnnotations(
        comment_annotations=[model.CommentAnnotation(id="Annotation:1", value="note")],
        map_annotations=[
            model.MapAnnotation(id="Annotation:2", namespace="bfbridge/extras", value={"a": "b"})
        ],
    )  # fmt: skip
    return OME(
        uuid="urn:uuid:00000000-1111-2222-3333-444444444444",
        creator="x",
        images=[image],
        structured_annotations=notes,
    )


def storage(ome: OME) -> None:
    """What a new file has of its own: IDs, positions of planes, our annotations."""
    ome.uuid, ome.creator = None, "bfbridge"
    ome.images[0].id = "Image:7"
    ome.images[0].annotation_refs = ome.images[0].annotation_refs[:1]
    ome.structured_annotations.map_annotations = []
    pixels = ome.images[0].pixels
    pixels.tiff_data_blocks, pixels.metadata_only = [], model.MetadataOnly()
    pixels.big_endian, pixels.interleaved = None, None


def more(ome: OME) -> None:
    ome.images[0].description = "new"
    ome.images[0].pixels.physical_size_y = 0.5


@pytest.mark.parametrize("change", [lambda ome: None, storage, more])
def test_a_document_that_keeps_all_values(change: Callable[[OME], None]) -> None:
    before = document()
    after = copied(before)
    change(after)
    assert keeps_values(before, before)
    assert keeps_values(before, after)
    assert compare_documents(before, after) == []


def rename(ome: OME) -> None:
    ome.images[0].name = "other"


def forget(ome: OME) -> None:
    ome.images[0].pixels.planes = []


def unset(ome: OME) -> None:
    # As if the unit had not been given: it equals the default, and is not written.
    ome.images[0].pixels.model_fields_set.discard("physical_size_x")


def shift(ome: OME) -> None:
    zone = timezone(timedelta(hours=1))
    ome.images[0].acquisition_date = datetime(2024, 1, 2, 1, tzinfo=zone)


def shorten(ome: OME) -> None:
    del ome.images[0].pixels.channels[0]


def drop_note(ome: OME) -> None:
    ome.structured_annotations.comment_annotations = []


@pytest.mark.parametrize("change", [rename, forget, unset, shift, shorten, drop_note])
def test_a_loss_is_never_taken_for_nothing(change: Callable[[OME], None]) -> None:
    before = document()
    after = copied(before)
    change(after)
    assert not keeps_values(before, after)
    if change is not unset:  # a value that differs from its default is written, set or not
        assert compare_documents(before, after)
