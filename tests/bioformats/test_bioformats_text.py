"""Names and metadata have the characters of Bio-Formats; invalid ones are replaced."""

from __future__ import annotations

import io
import os
import sys

import numpy as np
import pytest
import tifffile

import bfbridge_bioformats
from bfbridge.backend import OpenOptions, Region
from bfbridge.limits import Limits
from bfbridge.storage.source import as_source
from bfbridge_bioformats.readers.records import describe, images_from
from bfbridge_bioformats.runtime.machine import machine

pytestmark = pytest.mark.java

PIXELS = np.arange(63, dtype=np.uint8).reshape(7, 9)

# As attributes of XML, which has no other control characters than these three.
TEXTS = {
    "quotes": "a&quot;b'c",
    "backslashes": "a\\b\\n\\u0041\\",
    "json": "&quot;},{&quot;name&quot;:&quot;x",
    "control characters": "a&#9;b&#10;c&#13;d",
    "delete and C1": "\x7f\x85\x9f",
    "line separators": "a\u2028b\u2029c\ufeff",
    "private use": "\ue000\uf8ff\ufffd",
    "planes above the first": "\U0001d538\U0001f600\U0010fffd",
    "right to left": "\u202eabc\u05d0",
    "combining": "e\u0301\u0327",
    "empty": "",
    "spaces": "  a  ",
}


def open_(target, **options):
    return bfbridge_bioformats.READER.open(as_source(target), OpenOptions(**options))


def tiff(description=None):
    file = io.BytesIO()
    tifffile.imwrite(file, PIXELS, description=description, metadata=None)
    return file.getvalue()


def document(name):
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0" Name="{name}"><Pixels ID="Pixels:0" DimensionOrder="XYZCT"'
        ' Type="uint8" SizeX="9" SizeY="7" SizeZ="1" SizeC="1" SizeT="1">'
        f'<Channel ID="Channel:0:0" Name="{name}" SamplesPerPixel="1"/><TiffData/></Pixels>'
        "</Image></OME>"
    ).encode()


def java_store():
    from jpype import JClass

    factory = JClass("loci.common.services.ServiceFactory")()
    return factory.getInstance(JClass("loci.formats.services.OMEXMLService")).createOMEXMLMetadata()


def codes(string):
    """The UTF-16 code units of a Java string, asked one by one."""
    return None if string is None else [ord(str(c)) for c in string.toCharArray()]


def units(text):
    return None if text is None else list(np.frombuffer(text.encode("utf-16-le"), "<u2"))


def told_by_bioformats(path):
    """Names of the image and its channel, from Bio-Formats' own getters."""
    with machine.attached():
        store = java_store()
        reader = machine.type("loci.formats.ImageReader")()
        reader.setMetadataStore(store)
        reader.setId(str(path))
        found = codes(store.getImageName(0)), codes(store.getChannelName(0, 0))
        reader.close()
    return found


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_names_are_those_of_bioformats_own_getters(text, tmp_path):
    path = tmp_path / "a.ome.tif"
    path.write_bytes(tiff(document(text)))
    reader = open_(path)
    (image,) = reader.images
    assert (units(image.name), units(image.channels[0].name)) == told_by_bioformats(path)
    assert reader.ome().images[0].name == image.name
    reader.close()


def java_string(*units):
    builder = machine.type("java.lang.StringBuilder")()
    for unit in units:
        builder.appendCodePoint(unit)
    return builder.toString()


BROKEN = (0x61, 0xD800, 0x22, 0xDC00, 0xD83D, 0xDE00, 0x5C, 0x0, 0x1F, 0xDBFF)
REPLACED = 'a\ufffd"\ufffd\U0001f600\\\0\x1f\ufffd'


def test_halves_of_pairs_become_the_replacement_character():
    with machine.attached():
        string = java_string(*BROKEN)
        assert machine.text(string) == REPLACED
        assert machine.text(java_string(0x61, 0x1F600)) == "a\U0001f600"
        store = java_store()
        reader = machine.type("loci.formats.ImageReader")()
        reader.setMetadataStore(store)
        reader.setId("a&sizeX=9&sizeY=7.fake")
        store.setImageName(string, 0)
        store.setChannelName(string, 0, 0)

        class Told:
            def describe(self, reader):
                return machine.type("bfbridge.Records").describe(reader, store)

        described = describe(reader, Told(), "a.fake", Limits())
        (entry,) = images_from(described, "a.fake", Limits())
        reader.close()
    assert (entry.image.name, entry.image.channels[0].name) == (REPLACED, REPLACED)


def test_original_metadata_that_is_no_text(monkeypatch):
    reader = open_("a&sizeX=9&sizeY=7.fake")
    with reader._pooled_reader() as borrowed:
        borrowed.java.getGlobalMetadata().put(java_string(0xD800), java_string(*BROKEN))
    assert reader.original_metadata["\ufffd"] == REPLACED
    reader.close()


NAMES = [
    'a"b\\c.tif',
    "a\nb.tif",
    "a#%20&sizeX=3.tif",
    "\u6f22 \U0001f600.tif",
    os.fsdecode(b"caf\xe9.tif"),
]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse some of these names")
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_files_of_any_name(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(tiff())
    reader = open_(path)
    out = np.empty((1, 1, 1, 7, 9), np.uint8)
    reader.read(Region(0, 0, (0,) * 5, out.shape), out)
    np.testing.assert_array_equal(out[0, 0, 0], PIXELS)
    assert reader.used_files == (str(path),)
    # A byte that is no text cannot be part of the image's name.
    assert reader.images[0].name == name.replace("\udce9", "_")
    reader.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_java_cannot_spell_has_its_companions(tmp_path):
    stem = tmp_path / os.fsdecode(b"\xe9")
    stem.with_suffix(".ids").write_bytes(PIXELS.tobytes())
    stem.with_suffix(".ics").write_text(
        "\t\nics_version\t1.0\nfilename\ta\nlayout\tparameters\t3\nlayout\torder\tbits\tx\ty\n"
        "layout\tsizes\t8\t9\t7\nlayout\tcoordinates\tvideo\nlayout\tsignificant_bits\t8\n"
        "representation\tformat\tinteger\nrepresentation\tsign\tunsigned\n"
        "representation\tcompression\tuncompressed\nrepresentation\tbyte_order\t1\n"
    )
    reader = open_(stem.with_suffix(".ics"))
    out = np.empty((1, 1, 1, 7, 9), np.uint8)
    reader.read(Region(0, 0, (0,) * 5, out.shape), out)
    np.testing.assert_array_equal(out[0, 0, 0], PIXELS)
    reader.close()
