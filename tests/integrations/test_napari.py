"""The napari plug-in through npe2, without a screen."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.errors import BadArgument, BadDtype
from bfbridge.integrations.napari import (
    get_reader,
    read_layers,
    write_image,
    write_labels,
    write_layers,
)
from bfbridge.registry import find
from bfbridge.storage.signatures import PICTURE_SUFFIXES
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr

PIXELS = distinct((2, 3, 4, 37, 53))
MANIFEST = Path(__file__).parents[2] / "bfbridge" / "integrations" / "napari.yaml"


def test_npe2_reads_and_writes(tmp_path):
    import npe2

    # Writers are looked up in the one instance only.
    manager = npe2.PluginManager.instance()
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    manager.register(manifest)
    path = write_ome_tiff(tmp_path / "a.ome.tif", PIXELS)
    layers = npe2.io_utils._read([str(path)], stack=False, plugin_name="bfbridge", _pm=manager)
    assert len(layers) == 1
    data, settings, kind = layers[0]
    assert kind == "image"
    np.testing.assert_array_equal(data.compute(), PIXELS)
    target = tmp_path / "b.ome.zarr"
    plane = (PIXELS[0, 1], {"name": "x", "scale": [2.0, 0.5, 0.25], "units": ["um"] * 3}, "image")
    written = npe2.io_utils._write(str(target), [plane], plugin_name="bfbridge", _pm=manager)
    assert written == [str(target)]
    with BioReader(target) as br:
        np.testing.assert_array_equal(br[...], PIXELS[0, 1].transpose(1, 2, 0))
        assert br.pixel_size() == {"X": 0.25, "Y": 0.5, "Z": 2.0}
    assert settings["channel_axis"] == 1


def test_the_manifest_is_found_and_named_as_the_distribution():
    import tomllib

    import npe2

    project = tomllib.loads((MANIFEST.parents[2] / "pyproject.toml").read_text())["project"]
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    assert manifest.name == project["name"]
    assert project["entry-points"]["napari.manifest"] == {
        "bfbridge": "bfbridge.integrations:napari.yaml"
    }
    assert manifest.contributions.readers[0].accepts_directories is True


def test_channels_have_colours_scale_and_names(tmp_path):
    metadata = {
        "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2,
        "Channel": {"Name": ["a", "b", "c"], "Color": [-16776961, 16711935, 65535]},
    }  # fmt: skip
    path = write_ome_tiff(tmp_path / "a.ome.tif", PIXELS, metadata=metadata)
    ((data, settings, kind),) = read_layers(str(path))
    assert (kind, settings["channel_axis"]) == ("image", 1)
    assert [name.rsplit(": ")[-1] for name in settings["name"]] == ["a", "b", "c"]
    assert settings["colormap"] == ["#ff0000", "#00ff00", "#0000ff"]
    assert settings["scale"] == [1.0, 2.0, 0.5, 0.25]
    assert settings["units"] == ["pixel", "um", "um", "um"]
    np.testing.assert_array_equal(data.compute(), PIXELS)


def test_pyramids_are_multiscale_and_labels_are_labels(tmp_path):
    half = np.ascontiguousarray(PIXELS[..., ::2, ::2])
    labels = distinct((2, 1, 4, 37, 53), np.uint32)
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [PIXELS, half], labels=labels)
    image, mask = read_layers([str(path)])
    for found, expected in zip(image[0], [PIXELS, half], strict=True):
        np.testing.assert_array_equal(found.compute(), expected)
    assert mask[2] == "labels"
    np.testing.assert_array_equal(mask[0].compute(), labels[:, 0])
    assert mask[1]["scale"] == [1.0, 0.5, 0.25, 0.25]
    assert "colormap" not in mask[1]


def test_rgb_is_one_layer(tmp_path):
    rgb = distinct((1, 1, 2, 19, 23, 3), np.uint16)
    ((data, settings, _),) = read_layers(str(write_ome_tiff(tmp_path / "rgb.ome.tif", rgb)))
    assert settings["rgb"] is True
    assert settings["units"] == ["pixel"] * 4
    np.testing.assert_array_equal(data.compute(), rgb[:, 0])
    target = tmp_path / "rgb2.ome.tif"
    write_image(str(target), data, {"rgb": True, "axis_labels": ["t", "z", "y", "x"]})
    with BioReader(target) as br:
        assert br.samples_per_pixel == 3
        np.testing.assert_array_equal(br[...], rgb[0, 0].transpose(1, 2, 0, 3))


def test_multiscale_layers_write_the_finest(tmp_path):
    target = tmp_path / "m.ome.tif"
    data = [PIXELS[:, 0], PIXELS[:, 0, :, ::2, ::2]]
    write_image(str(target), data, {"multiscale": True, "scale": [1, 2, 3, 4], "units": "pixel"})
    with BioReader(target) as br:
        np.testing.assert_array_equal(br[...][:, :, :, 0], PIXELS[:, 0].transpose(2, 3, 1, 0))
        assert br.physical_pixel_size.x is None


def test_layers_of_too_many_axes_are_refused(tmp_path):
    with pytest.raises(BadArgument, match="more axes"):
        write_image(str(tmp_path / "n.ome.tif"), PIXELS, {})


@pytest.mark.parametrize("suffix", ["ome.tif", "ome.zarr"])
def test_layers_become_channels_again(tmp_path, suffix):
    import npe2

    manager = npe2.PluginManager.instance()
    if "bfbridge" not in manager:
        manager.register(npe2.PluginManifest.from_file(MANIFEST))
    metadata = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "Channel": {"Name": ["a", "b", "c"]}}
    path = write_ome_tiff(tmp_path / "a.ome.tif", PIXELS, metadata={**metadata, "Name": "cells"})
    ((data, settings, _),) = read_layers(str(path))
    layers = [
        (data[:, c], {**settings, "name": name}, "image") for c, name in enumerate(settings["name"])
    ]
    target = tmp_path / f"b.{suffix}"
    npe2.io_utils._write(str(target), layers, plugin_name="bfbridge", _pm=manager)
    with BioReader(target) as br:
        assert (br.name, br.channel_names) == ("cells", ["a", "b", "c"])
        assert br.pixel_size() == {"X": 0.25, "Y": 0.5, "Z": None}
        np.testing.assert_array_equal(br[...], PIXELS.transpose(3, 4, 2, 1, 0))


@pytest.mark.parametrize("suffix", ["ome.tif", "ome.zarr"])
def test_layers_that_differ_are_images_of_one_file(tmp_path, suffix):
    plane = PIXELS[0, 0, 0]
    rgb = distinct((19, 23, 3), np.uint16).astype(np.uint8)
    layers = [
        (plane, {"name": "a"}, "image"),
        (plane.astype(np.float32), {"name": "f"}, "image"),
        (rgb, {"name": "color", "rgb": True}, "image"),
        (plane + 1, {"name": "b"}, "image"),
    ]
    target = tmp_path / f"n.{suffix}"
    write_layers(str(target), layers)
    with BioReader(target) as br:
        first, second, third = br.series
        assert first.channel_names == ["a", "b"]
        np.testing.assert_array_equal(
            first[:, :, 0, :], np.stack([plane, plane + 1], -1)[:, :, None]
        )
        np.testing.assert_array_equal(second[:], plane.astype(np.float32))
        np.testing.assert_array_equal(third.read(squeeze=True), rgb)


@pytest.mark.parametrize("suffix", ["ome.tif", "ome.zarr"])
def test_labels_come_back_as_labels(tmp_path, suffix):
    import npe2

    manager = npe2.PluginManager.instance()
    if "bfbridge" not in manager:
        manager.register(npe2.PluginManifest.from_file(MANIFEST))
    cells = distinct((37, 53), np.uint32)
    target = tmp_path / f"l.{suffix}"
    layer = (cells, {"name": "cells"}, "labels")
    npe2.io_utils._write(str(target), [layer], plugin_name="bfbridge", _pm=manager)
    ((data, settings, kind),) = read_layers(str(target))
    assert (kind, settings["name"]) == ("labels", "cells")
    np.testing.assert_array_equal(np.squeeze(data.compute()), cells)
    write_labels(str(target), cells + 1, {"name": "cells"})
    np.testing.assert_array_equal(np.squeeze(read_layers(str(target))[0][0].compute()), cells + 1)
    # Beside images, each label image belongs to the one of its size.
    image, small = PIXELS[0, 0, 0], PIXELS[0, 0, 0, :20, :20]
    layers = [
        layer, (small, {"name": "small"}, "image"), (image, {"name": "image"}, "image"),
        (cells[:20, :20], {"name": "few"}, "labels"), (cells[:9, :9], {"name": "no"}, "labels"),
    ]  # fmt: skip
    target = tmp_path / f"all.{suffix}"
    npe2.io_utils._write(str(target), layers, plugin_name="bfbridge", _pm=manager)
    found = {
        settings["name"]: (np.squeeze(data.compute()), kind)
        for data, settings, kind in read_layers(str(target))
    }
    assert {name: kind for name, (_, kind) in found.items()} == {
        "small": "image", "image": "image", "cells": "labels", "few": "labels", "no": "labels",
    }  # fmt: skip
    for data, settings, _ in layers:
        np.testing.assert_array_equal(found[settings["name"]][0], data)
    with BioReader(target) as br:
        parents = {view.name.rpartition("/")[2]: view._image.label_of for view in br.series}
        names = [view.name for view in br.series]
    assert [names[parents["few"]], names[parents["cells"]]] == ["small", "image"]


@pytest.mark.java
def test_every_suffix_that_is_read_is_offered():
    import npe2

    offered = set(
        npe2.PluginManifest.from_file(MANIFEST).contributions.readers[0].filename_patterns
    )
    known = {f"*.{suffix}" for f in find("bioformats").load().formats() for suffix in f.suffixes}
    known |= {f"*{suffix}" for suffix in PICTURE_SUFFIXES}
    # Of one format Bio-Formats has two suffixes as one text.
    assert {suffix for suffix in known if suffix != "*." and "," not in suffix} <= offered


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (["nanometer"] * 2, (0.5, "nm")), (["mm", "mm"], (0.5, "mm")), ("um", (0.5, "µm")),
        (["pixel"] * 2, None), (None, None), (["second"] * 2, None),
    ],
)  # fmt: skip
def test_scales_keep_their_units(tmp_path, units, expected):
    target = tmp_path / "u.ome.tif"
    write_image(str(target), PIXELS[0, 0, 0], {"scale": [2.0, 0.5], "units": units, "name": "x"})
    with BioReader(target) as br:
        assert br.physical_pixel_size.x == expected
        assert br.name == "x"


def test_labels_of_64_bits_are_written_where_they_fit(tmp_path):
    labels = distinct((37, 53)).astype(np.int64)
    for suffix, dtype in (("ome.tif", np.int32), ("ome.zarr", np.int64)):
        target = tmp_path / f"l.{suffix}"
        write_image(str(target), labels, {"name": "labels"})
        with BioReader(target) as br:
            assert br.dtype == dtype
            np.testing.assert_array_equal(br[...], labels)
    with pytest.raises(BadDtype, match="int32"):
        write_image(str(tmp_path / "m.ome.tif"), labels + 2**40, {})
    assert not (tmp_path / "m.ome.tif").exists()


def test_of_thousands_of_images_the_first_are_shown(tmp_path, monkeypatch):
    import tifffile

    monkeypatch.setattr("bfbridge.integrations.napari.MOST_IMAGES", 2)
    path = tmp_path / "many.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for number in range(3):
            writer.write(PIXELS[0, 0, number])
    with pytest.warns(UserWarning, match="3 images; the first 2"):
        layers = read_layers(str(path))
    assert len(layers) == 2
    np.testing.assert_array_equal(layers[1][0].compute()[0, 0], PIXELS[0, 0, 1])


def test_asking_for_a_reader_starts_nothing():
    code = (
        "import sys; from bfbridge.integrations.napari import get_reader; "
        "assert callable(get_reader('no/such/file.czi')); assert get_reader([]) is None; "
        "print(sorted({'jpype', 'zarr', 'tifffile', 'imagecodecs'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert get_reader("a.czi") is read_layers
