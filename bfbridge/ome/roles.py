"""Roles of images in OME metadata: an annotation of images that are labels, macros or thumbnails.

Neither OME-XML nor OME-TIFF can store the role of an image. A MapAnnotation in the namespace
`NAMESPACE`, referred to by the image, stores it here: ``role`` ("label", "macro" or "thumbnail"),
``kind`` of a label ("mask": its values are numbers of objects; "photograph": of a slide's label),
and ``image``, the ID of the image whose objects a mask numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast, get_args

from bfbridge.backend import Image, Role

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["NAMESPACE", "ImageRole", "read_roles", "role_of", "roles_in_xml", "write_roles"]

NAMESPACE: Final = "bfbridge/image-role"
_PHOTOGRAPH: Final = "photograph"


class ImageRole(NamedTuple):
    """The role of one image; see `bfbridge.backend.Image`."""

    role: Role = "image"
    label_of: int | None = None
    photo: bool = False


def role_of(image: Image) -> ImageRole:
    """Return the role in a record."""
    return ImageRole(image.role, image.label_of, image.photo)


def write_roles(ome: OME, roles: Sequence[ImageRole]) -> None:
    """Annotate the images of a document with their roles; earlier annotations are replaced.

    Lists of the document and of its images are replaced, not changed, so other documents that share
    these lists do not change.

    Parameters
    ----------
    ome
        The document.
    roles
        One for each image of `ome`, in order.
    """
    from ome_types.model import AnnotationRef, MapAnnotation, StructuredAnnotations

    known = ome.structured_annotations
    stored = [] if known is None else known.map_annotations
    gone = {note.id for note in stored if note.namespace == NAMESPACE}
    if not gone and all(role.role == "image" for role in roles):
        return
    notes = known or StructuredAnnotations()
    kept = [note for note in notes.map_annotations if note.id not in gone]
    images = []
    for number, (image, role) in enumerate(zip(ome.images, roles, strict=True)):
        refs = [ref for ref in image.annotation_refs if ref.id not in gone]
        if role.role != "image":
            note = MapAnnotation(
                id=f"Annotation:bfbridge:role:{number}", namespace=NAMESPACE,
                value=cast("Any", _values(ome, role)),
            )  # fmt: skip
            kept.append(note)
            refs.append(AnnotationRef(id=note.id))
        images.append(image.model_copy(update={"annotation_refs": refs}))
    ome.images = images
    ome.structured_annotations = notes.model_copy(update={"map_annotations": kept})


def _values(ome: OME, role: ImageRole) -> dict[str, str]:
    values = {"role": str(role.role)}
    if role.role == "label":
        values["kind"] = _PHOTOGRAPH if role.photo else "mask"
    if role.label_of is not None and role.label_of < len(ome.images):
        values["image"] = ome.images[role.label_of].id
    return values


def read_roles(ome: OME) -> list[ImageRole]:
    """Return the role of each image of a document."""
    notes = ome.structured_annotations
    known: dict[str, Mapping[str, Any]] = {}
    if notes is not None:
        known = {
            note.id: {m.k: m.value for m in note.value.ms if m.k is not None}
            for note in notes.map_annotations
            if note.namespace == NAMESPACE and note.value is not None
        }
    if not known:
        return [ImageRole()] * len(ome.images)
    found = {
        image.id: known[ref.id]
        for image in ome.images
        for ref in image.annotation_refs
        if ref.id in known
    }
    return _numbered([image.id for image in ome.images], found)


def roles_in_xml(xml: str, ids: Sequence[str | None]) -> list[ImageRole]:
    """Return the role of each image of a document that is given as text.

    Parameters
    ----------
    xml
        OME-XML that was accepted by `bfbridge.ome.documents.xml.parse_ome_xml`.
    ids
        IDs of the images, in order.
    """
    if NAMESPACE not in xml:
        return [ImageRole()] * len(ids)
    return _numbered(ids, _Listener().parse(xml))


def _numbered(ids: Sequence[str | None], found: Mapping[str, Mapping[str, Any]]) -> list[ImageRole]:
    numbers = {name: number for number, name in enumerate(ids) if name is not None}
    roles = []
    for name in ids:
        values = found.get(name or "", {})
        role = values.get("role")
        if role not in get_args(Role) or role == "image":
            roles.append(ImageRole())
            continue
        owner = numbers.get(str(values.get("image")))
        roles.append(ImageRole(cast("Role", role), owner, values.get("kind") == _PHOTOGRAPH))
    return roles


class _Listener:
    """Finds role annotations in a document, and the images that refer to them."""

    def __init__(self) -> None:
        self._image: str | None = None
        self._note: str | None = None
        self._key: str | None = None
        self._refs: list[tuple[str, str]] = []
        self._notes: dict[str, dict[str, str]] = {}

    def parse(self, xml: str) -> dict[str, Mapping[str, Any]]:
        """Return the annotation of each image, by its ID."""
        from xml.parsers import expat

        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.Parse(xml.strip("\ufeff\0 \t\r\n"), True)
        return {image: self._notes[note] for image, note in self._refs if note in self._notes}

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if local == "Image":
            self._image = attributes.get("ID")
        elif local == "AnnotationRef" and self._image is not None:
            self._refs.append((self._image, attributes.get("ID", "")))
        elif local == "MapAnnotation" and attributes.get("Namespace") == NAMESPACE:
            self._note = attributes.get("ID", "")
            self._notes[self._note] = {}
        elif local == "M" and self._note is not None:
            self._key = attributes.get("K", "")
            self._notes[self._note][self._key] = ""

    def _text(self, text: str) -> None:
        if self._note is not None and self._key is not None:
            self._notes[self._note][self._key] += text

    def _end(self, name: str) -> None:
        local = name.rpartition(":")[2]
        if local == "Image":
            self._image = None
        elif local == "MapAnnotation":
            self._note = None
        elif local == "M":
            self._key = None
