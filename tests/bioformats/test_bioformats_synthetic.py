"""Synthetic images: made for a path that the user gives, within limits, and for nothing else."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from bfbridge import BioReader, Limits
from bfbridge.errors import LimitExceeded, UnreadableFile

SLEEPER = "a&sizeX=20000&sizeY=20000&sleepInitFile=20000.fake"


@pytest.mark.java
def test_an_empty_file_of_that_name_is_read(tmp_path):
    name = "e&sizeX=97&sizeY=65&sizeT=3.fake"
    (tmp_path / name).touch()
    with BioReader(tmp_path / name) as reader, BioReader(name) as without:
        assert reader.read().shape == (65, 97, 1, 1, 3)
        np.testing.assert_array_equal(reader.read(), without.read())
        assert len(np.unique(reader.read())) > 10


@pytest.mark.parametrize("content", [b"", b"x"])
def test_what_a_package_holds_is_never_one(tmp_path, content):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(SLEEPER, content)
    with pytest.raises(UnreadableFile, match="synthetic image|it is empty"):
        BioReader(path)


@pytest.mark.parametrize("kind", ["bytes", "open file"])
def test_bytes_with_such_a_name_are_none(kind):
    data = b"x" if kind == "bytes" else io.BytesIO(b"x")
    with pytest.raises(UnreadableFile, match="only for a path that ends in .fake"):
        BioReader(data, name=SLEEPER)


def test_a_file_of_parameters_is_none(tmp_path):
    path = tmp_path / "a.fake.ini"
    path.write_text("[GlobalMetadata]\nsizeX=3\n")
    with pytest.raises(UnreadableFile, match="only for a path that ends in .fake"):
        BioReader(path)


@pytest.mark.parametrize(
    ("parameters", "what"),
    [
        ("sizeT=1000000&sizeZ=2", "number of planes is 2,000,000"),
        ("series=2000000", "number of images is 2,000,000"),
        ("plates=10&plateRows=1000&plateCols=1000", "number of images is 10,000,000"),
        ("annMap=1e8", "number of annotations, regions and colours is 100,000,000"),
        ("series=1000&points=2000", "number of annotations, regions and colours is 2,000,000"),
        ("color_99999999=255", "number of annotations, regions and colours is 99,999,999"),
        ("lutLength=100000000&indexed=true", "number of annotations, regions and colours"),
        ("sleepOpenBytes=100000000", "sleepOpenBytes in milliseconds is 100,000,000"),
        ("sleepInitFile=100000000", "sleepInitFile in milliseconds is 100,000,000"),
    ],
)
def test_parameters_are_held_to_limits(parameters, what):
    with pytest.raises(LimitExceeded, match=f"{what}.*above the limit"):
        BioReader(f"a&{parameters}.fake")


def test_parameters_beside_the_name_are_held_to_limits_too(tmp_path):
    (tmp_path / "a.fake").touch()
    (tmp_path / "a.fake.ini").write_text("[GlobalMetadata]\nannMap = 1e8\n")
    with pytest.raises(LimitExceeded, match="annotations.*100,000,000"):
        BioReader(tmp_path / "a.fake")


def test_limits_are_the_users():
    with pytest.raises(LimitExceeded, match="number of planes is 20, above the limit of 10"):
        BioReader("a&sizeT=20.fake", limits=Limits(planes=10))


def test_a_search_of_a_folder_makes_none(tmp_path):
    from bfbridge.convert.options import ConvertOptions
    from bfbridge.convert.plan.sources import find_sources

    (tmp_path / SLEEPER).touch()
    (tmp_path / "a.tif").touch()
    found = find_sources([str(tmp_path)], ConvertOptions(), group=False)
    assert [each.path for each in found] == [str(tmp_path / "a.tif")]
