"""Styles, palettes, contrast and composition against numpy; pictures read back by Pillow."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

pytest.importorskip("cmap")
PIL_Image = pytest.importorskip("PIL.Image")

from bfbridge import BioReader, BioWriter  # noqa: E402
from bfbridge.errors import BadArgument, BadSelection, MissingExtra  # noqa: E402
from bfbridge.rendering.compose import Layer, compose, compose_float  # noqa: E402
from bfbridge.rendering.contrast import Contrast, measure  # noqa: E402
from bfbridge.rendering.encode import encode_picture, format_of_name  # noqa: E402
from bfbridge.rendering.palettes import (  # noqa: E402
    distinct_colors,
    palette_colors,
    parse_color,
)
from bfbridge.rendering.style import Band, parse_style  # noqa: E402
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr  # noqa: E402

Array = np.ndarray[Any, Any]
PIXELS = distinct((2, 3, 4, 37, 53))
SIZES = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}


@pytest.fixture(scope="module")
def tiff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rendering") / "a.ome.tif"
    names = {"Channel": {"Name": ["DAPI", "GFP", "Cy5"]}}
    return write_ome_tiff(path, PIXELS, metadata={**SIZES, **names})


def opened(picture: bytes) -> Array:
    with PIL_Image.open(io.BytesIO(picture)) as image:
        return np.asarray(image)


# ---- colours


@pytest.mark.parametrize(
    ("color", "expected"),
    [
        ("#f80", (255, 136, 0, 255)),
        ("#F808", (255, 136, 0, 136)),
        ("#ff8000", (255, 128, 0, 255)),
        ("#ff800040", (255, 128, 0, 64)),
        ("green", (0, 128, 0, 255)),
        ("GREEN", (0, 255, 0, 255)),
        ("rgb(1, 2, 3)", (1, 2, 3, 255)),
        ("rgba(1, 2, 3, 0.5)", (1, 2, 3, 128)),
        ("hsl(120, 100%, 50%)", (0, 255, 0, 255)),
        ("hsv(240, 100%, 100%)", (0, 0, 255, 255)),
        ("tab:blue", (31, 119, 180, 255)),
        ("C3", (214, 39, 40, 255)),
        ((0, 0.5, 1), (0, 127.5, 255, 255)),
        ([1, 0, 0, 0.2], (255, 0, 0, 51)),
    ],
)
def test_colors(color: Any, expected: tuple[float, ...]) -> None:
    assert parse_color(color) == pytest.approx(expected, abs=0.51)


@pytest.mark.parametrize(
    "color", ["nonsense", "", "#12", (1, 2), (0, 0, 300), 7, None, "tab:mauve", "../../etc/passwd"]
)
def test_what_is_no_color(color: Any) -> None:
    with pytest.raises(BadArgument, match="is not a colour"):
        parse_color(color)


@pytest.mark.parametrize(
    ("palette", "count"),
    [
        ("red", 2),
        ("viridis", 256),
        ("viridis_r", 256),
        ("colorbrewer:Blues_5", 5),
        ("colorbrewer.sequential.Blues_5", 5),
        ("matplotlib.Plasma_6", 6),
        ("tableau.Tableau_10", 10),
        (["#000", "red", "white"], 3),
    ],
)
def test_palettes(palette: Any, count: int) -> None:
    colors = palette_colors(palette)
    assert colors.shape == (count, 4)
    assert colors.min() >= 0
    assert colors.max() == 255


def test_palettes_end_in_their_colors() -> None:
    np.testing.assert_array_equal(palette_colors("red"), [(0, 0, 0, 255), (255, 0, 0, 255)])
    np.testing.assert_array_equal(
        palette_colors("viridis")[[0, -1], :3], [(68, 1, 84), (253, 231, 37)]
    )
    np.testing.assert_array_equal(palette_colors("viridis_r")[::-1], palette_colors("viridis"))


@pytest.mark.parametrize(
    "palette", ["no-such", "os.system", "Blues_0", "/tmp/x.json", 7, [], {"a": 1}]
)
def test_what_is_no_palette(palette: Any) -> None:
    with pytest.raises(BadArgument, match="palette"):
        palette_colors(palette)


def test_distinct_colors_are_distinct() -> None:
    colors = distinct_colors()
    assert colors.shape == (255, 4)
    assert len(np.unique(colors, axis=0)) > 230
    assert (colors[:, :3].sum(1) > 90).all()
    # Neighbouring numbers, as neighbouring cells have, differ clearly.
    steps = np.abs(np.diff(colors[:, :3].astype(int), axis=0)).max(1)
    assert np.quantile(steps, 0.05) > 30


# ---- styles


def test_a_style_is_parsed() -> None:
    style = parse_style(
        {"bands": [{"band": 2, "min": "min:0.02", "max": "300", "palette": ["#000", [0, 1, 0]],
                    "clamp": "false", "nodata": 0, "gamma": 0.5, "invert": True,
                    "composite": "additive"}], "dtype": "float", "axis": 2}
    )  # fmt: skip
    assert style.bands == (
        Band(band=2, min="min:0.02", max=300.0, palette=("#000", (0, 1, 0)), clamp=False,
             nodata=0.0, gamma=0.5, invert=True, composite="additive"),
    )  # fmt: skip
    assert (style.dtype, style.axis, style.icc) == ("float", 2, False)
    assert parse_style(json.dumps({"band": 1})) == parse_style({"band": 1})
    assert parse_style({}).bands == ()
    assert parse_style({"icc": False}).bands == ()
    assert hash(style) == hash(parse_style(style))


@pytest.mark.parametrize(
    ("style", "message"),
    [
        ({"function": "os.system"}, "names code to run"),
        ({"bands": [{"function": {"name": "os.system"}}]}, "names code to run"),
        ({"minimum": 3}, "there is no key 'minimum'"),
        ({"bands": {"band": 1}}, "bands must be a list"),
        ({"bands": [{"band": 1}] * 300}, "bands must be a list"),
        ({"bands": [1]}, "is not a dictionary"),
        ({"band": 0}, "count from 1"),
        ({"band": 1.5}, "whole number"),
        ({"min": "low"}, "min='low'"),
        ({"max": "max:2"}, "max='max:2'"),
        ({"max": float("nan")}, "give a number"),
        ({"min": True}, "give a number"),
        ({"palette": 7}, "palette=7"),
        ({"scheme": "cubic"}, "linear, discrete"),
        ({"composite": "xor"}, "lighten, multiply, additive"),
        ({"clamp": "perhaps"}, "true or false"),
        ({"gamma": 0}, "from 0.01 to 100"),
        ({"dtype": "int8"}, "uint8, uint16, float, source"),
        ({"axis": 4}, "0 to 3"),
        ({"icc": "vivid"}, "perceptual"),
        ("{", "not valid JSON"),
        ("[" * 50_000, "not valid JSON"),
        (" " * 70_000, "maximum is 65,536"),
        ("[]", "give a dictionary"),
        (7, "give a dictionary"),
    ],
)
def test_what_is_no_style(style: Any, message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        parse_style(style)


# ---- composition


def expected(values: Array, layer: Layer, palette: Array) -> tuple[Array, Array]:
    """Colours and visibility of values, computed one pixel at a time."""
    colors = np.zeros((*values.shape, 4))
    seen = np.ones(values.shape, bool)
    for place in np.ndindex(values.shape):
        value = float(values[place])
        share = (value - layer.low) / (layer.high - layer.low)
        hidden = np.isnan(value) or value == layer.nodata
        seen[place] = not (hidden or (not layer.clamp and not 0 <= share <= 1))
        share = min(max(0.0 if np.isnan(share) else share, 0.0), 1.0) ** layer.gamma
        share = 1 - share if layer.invert else share
        if layer.discrete:
            colors[place] = palette[min(int(share * len(palette)), len(palette) - 1)]
        else:
            at = share * (len(palette) - 1)
            first = min(int(at), len(palette) - 2)
            colors[place] = palette[first] * (first + 1 - at) + palette[first + 1] * (at - first)
    return colors, seen


LAYERS = [
    Layer(10, 200, "#f80"),
    Layer(10, 200, "white"),
    Layer(200, 10, ("#024", "red", "yellow")),
    Layer(10, 200, ("#024", "red", "yellow"), discrete=True),
    Layer(10, 200, "#0f0", nodata=50, clamp=False),
    Layer(10, 200, "magenta", gamma=0.4),
    Layer(10, 200, "magenta", gamma=2.5, invert=True),
]
DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float16", "float32",
          "float64", "bool"]  # fmt: skip


def plane(dtype: str) -> Array:
    values = np.arange(-30, 270).reshape(15, 20)
    if dtype == "bool":
        return values % 3 == 0
    if np.dtype(dtype).kind == "f":
        out = values.astype(dtype)
        out[3, 3] = np.nan
        return out
    bounds = np.iinfo(dtype)
    return np.clip(values, bounds.min, bounds.max).astype(dtype)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_layer(dtype: str, layer: Layer) -> None:
    values = plane(dtype)
    colors, seen = expected(values, layer, palette_colors(layer.palette))
    wanted = np.where(seen[..., np.newaxis], colors, 0)
    # At a border between two colours of a discrete palette, rounding may choose either.
    limit = 0.51 if not layer.discrete else 256
    found = compose([values], [layer])
    assert found.dtype == np.uint8
    difference = np.abs(found - wanted)
    assert (difference > 0.51).mean() < (0.02 if layer.discrete else 1e-9)
    assert difference.max() <= limit
    exact = compose_float([values], [layer])
    assert (np.abs(exact - wanted) > 0.02).mean() < (0.02 if layer.discrete else 1e-9)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    "modes",
    [
        ("lighten", "lighten", "lighten"),
        ("lighten", "additive", "additive"),
        ("lighten", "additive", "lighten"),
        ("additive", "multiply", "additive"),
        ("lighten", "multiply", "lighten"),
    ],
)
def test_layers_join(dtype: str, modes: tuple[str, ...]) -> None:
    rng = np.random.default_rng(5)
    planes = [rng.integers(0, 250, (15, 20)).astype(dtype) for _ in modes]
    chosen = [("#f80", 0, 255), (("#fff", "#08f"), 20, 230), ("#0ff", 5, 240)]
    layers = [
        Layer(low, high, palette, composite=mode, nodata=None if i else 7)
        for i, ((palette, low, high), mode) in enumerate(zip(chosen, modes, strict=True))
    ]
    wanted = np.zeros((15, 20, 4))
    for i, (values, layer) in enumerate(zip(planes, layers, strict=True)):
        colors, seen = expected(values, layer, palette_colors(layer.palette))
        drawn = np.where(seen[..., np.newaxis], colors, 255 if layer.composite == "multiply" else 0)
        if not i:
            wanted = np.where(seen[..., np.newaxis], colors, 0)
        elif layer.composite == "multiply":
            wanted *= drawn / 255
        elif layer.composite == "additive":
            wanted += drawn
        else:
            wanted = np.maximum(wanted, drawn)
    found = compose(planes, layers)
    assert np.abs(found - np.clip(wanted, 0, 255)).max() <= 1


def test_rgb_is_handed_out_as_it_is() -> None:
    values = distinct((3, 64, 80)) % 256
    planes = list(values.astype(np.uint8))
    layers = [Layer(0, 255, color, composite="additive") for color in ("#f00", "#0f0", "#00f")]
    found = compose(planes, layers)
    np.testing.assert_array_equal(found[..., :3], np.stack(planes, axis=2))
    assert (found[..., 3] == 255).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint64"])
def test_labels_have_colors_of_their_own(dtype: str) -> None:
    values = np.array([[0, 1, 2], [3, 200, 255 if dtype == "uint8" else 300]], dtype)
    found = compose([values], [Layer(palette="labels")])
    table = distinct_colors()
    for place, value in np.ndenumerate(values):
        wanted = (0, 0, 0, 255) if value == 0 else table[(int(value) - 1) % 255]
        np.testing.assert_array_equal(found[place], wanted)


def test_nothing_to_draw_and_complex_pixels() -> None:
    with pytest.raises(BadArgument, match="0 planes and 0 layers"):
        compose([], [])
    with pytest.raises(BadArgument, match="complex64 have no colours"):
        compose([np.zeros((2, 2), np.complex64)], [Layer()])


# ---- contrast


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float32"])
def test_a_window_leaves_out_a_thousandth_at_either_end(dtype: str) -> None:
    rng = np.random.default_rng(1)
    values = rng.gamma(3, 8, 100_000).astype(dtype)
    values[:40] = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1e9
    found = measure(values)
    assert (found.least, found.greatest) == (values.min(), values.max())
    assert (values < found.low).mean() <= 0.001 >= (values > found.high).mean()
    assert found.high < 150
    assert sum(found.counts) == values.size


def test_windows_of_flat_sparse_and_empty_values() -> None:
    assert (measure(np.zeros(9)).low, measure(np.zeros(9)).high) == (0, 1)
    assert (measure(np.full(9, 7)).low, measure(np.full(9, 7)).high) == (0, 7)
    assert (measure(np.full(9, -7)).low, measure(np.full(9, -7)).high) == (-7, -6)
    sparse = np.zeros(100_000, np.uint16)
    sparse[5] = 900
    assert (measure(sparse).low, measure(sparse).high) == (0, 900)
    nothing = measure(np.array([np.nan, np.inf]))
    assert (nothing.least, nothing.greatest, nothing.low, nothing.high) == (0, 0, 0, 1)


def test_thresholds_are_edges_of_bins() -> None:
    values = np.arange(1000)
    found = measure(values)
    edges = np.linspace(0, 1000, 257)
    assert found.threshold(0.1, from_top=False) in edges
    assert (values < found.threshold(0.1, from_top=False)).mean() <= 0.1
    assert (values >= found.threshold(0.1, from_top=True)).mean() <= 0.1
    assert found.threshold(0.0, from_top=True) == 999


def test_contrast_reads_a_coarse_level(tmp_path: Path) -> None:
    levels = [np.full((1, 1, 1, 2048 >> i, 1024 >> i), 10 * (i + 1), np.uint16) for i in range(3)]
    levels[1][..., :5] = 3
    path = write_ome_zarr(tmp_path / "a.ome.zarr", levels, (1, 1, 1, 256, 256))
    with BioReader(path) as br:
        assert Contrast(br).of_channel(0).greatest == 30
        # The window that the store itself gives comes first.
    with BioWriter(tmp_path / "b.ome.zarr", image=levels[0][0, 0, 0]) as bw:
        bw[:] = levels[0][0, 0, 0]
    document = json.loads((tmp_path / "b.ome.zarr/zarr.json").read_text())
    window = {"min": 0, "max": 65535, "start": 4, "end": 44}
    document["attributes"]["ome"]["omero"]["channels"][0]["window"] = window
    (tmp_path / "b.ome.zarr/zarr.json").write_text(json.dumps(document))
    with BioReader(tmp_path / "b.ome.zarr") as br:
        assert Contrast(br).window(0) == (4, 44)
        np.testing.assert_array_equal(br.render(max_size=8)[..., 0], np.full((8, 4), 38))


def test_statistics_are_kept_with_the_file(tiff: Path) -> None:
    with BioReader(tiff, cache=0) as br:
        first = br.render()
        backend = br._file.backend
        read, reads = backend.read, []

        def counted(region: Any, out: Array) -> None:
            reads.append(region)
            read(region, out)

        backend.read = counted  # type: ignore[method-assign]
        br.region(z=2, t=0, max_size=1024)
        plain = len(reads)
        reads.clear()
        np.testing.assert_array_equal(br.render(), first)
        # Only the pixels of the picture.
        assert len(reads) == plain


def test_pieces_of_a_large_plane_are_enough(tmp_path: Path) -> None:
    values = (np.add.outer(np.arange(3000), np.arange(2500)) % 5000).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(256, 256))
    with BioReader(tmp_path / "a.tif") as br:
        found = Contrast(br).of_channel(0)
    assert 0 <= found.low < 200
    assert 4800 < found.high < 5000


# ---- pictures


def test_the_default_adds_up_channels_in_their_colors(tiff: Path) -> None:
    with BioReader(tiff) as br:
        contrast = Contrast(br)
        windows = [contrast.window(c) for c in range(3)]
        found = br.render(z=1, t=1)
    assert found.shape == (37, 53, 4)
    wanted = np.zeros((37, 53, 3))
    colors = [(0, 255, 0), (255, 0, 255), (0, 255, 255)]
    for c, (low, high) in enumerate(windows):
        share = np.clip((PIXELS[1, c, 1] - float(low)) / (high - low), 0, 1)
        wanted += share[..., np.newaxis] * colors[c]
    assert np.abs(found[..., :3] - np.clip(wanted, 0, 255)).max() <= 1.5
    assert (found[..., 3] == 255).all()


def test_channels_by_number_and_name(tiff: Path) -> None:
    with BioReader(tiff) as br:
        one = br.render("GFP")
        np.testing.assert_array_equal(one, br.render(1))
        np.testing.assert_array_equal(one, br.render([-2]))
        # Alone and without a colour of its own it is grey.
        np.testing.assert_array_equal(one[..., 0], one[..., 2])
        with pytest.raises(
            BadSelection, match=r"no channel 'Cy3'; it has 3: \['DAPI', 'GFP', 'Cy5'\]"
        ):
            br.render("Cy3")
        with pytest.raises(BadSelection, match="no channel 3"):
            br.render(3)
        with pytest.raises(BadSelection, match="is empty"):
            br.render([])
        with pytest.raises(BadArgument, match="give exactly one channel"):
            br.render([0, 1], {"palette": "red"})


def test_bands_choose_channels_samples_and_frames(tiff: Path, tmp_path: Path) -> None:
    full = {"min": 0, "max": 65535}
    with BioReader(tiff) as br:

        def shown(style: dict[str, Any], **where: Any) -> Array:
            return br.render(style={**full, "dtype": "uint16", **style}, **where)[..., 0]

        np.testing.assert_array_equal(shown({"band": 3}, z=2, t=1), PIXELS[1, 2, 2])
        np.testing.assert_array_equal(shown({"band": "Cy5"}, z=2), PIXELS[0, 2, 2])
        np.testing.assert_array_equal(shown({}, channels=1, z=3), PIXELS[0, 1, 3])
        np.testing.assert_array_equal(shown({"frame": 0}), PIXELS[0, 0, 0])
        np.testing.assert_array_equal(shown({"frame": 1 + 3 * (2 + 4 * 1)}), PIXELS[1, 1, 2])
        np.testing.assert_array_equal(shown({"framedelta": 4}, z=0), PIXELS[0, 1, 1])
        for style, message in (
            ({"band": 4}, "it has 3 channels"),
            ({"frame": 24}, "no frame 24; it has 24"),
            ({"framedelta": -9}, "no frame"),
            ({"band": 2, "frame": 1}, "has 1 samples"),
        ):
            with pytest.raises(BadSelection, match=message):
                shown(style, z=0)
    values = distinct((30, 40, 3)) % 251
    tifffile.imwrite(tmp_path / "rgb.tif", values.astype(np.uint8), photometric="rgb")
    with BioReader(tmp_path / "rgb.tif") as br:
        for band, sample in (("red", 0), ("green", 1), ("blue", 2), (3, 2), (-1, 1), ("gray", 1)):
            found = br.render(style={"band": band, "min": 0, "max": 255})
            np.testing.assert_array_equal(found[..., 0], values[..., sample])
        assert (br.render(style={"band": "alpha"})[..., 3] == 255).all()
        # Alpha of an image without alpha changes nothing, whatever the pixels are.
        bands = [{"band": "green", "palette": "#0f0", "min": 0, "max": 255}, {"band": "alpha"}]
        np.testing.assert_array_equal(
            br.render(style={"bands": bands}), br.render(style={"bands": bands[:1]})
        )
        np.testing.assert_array_equal(br.render()[..., :3], values)


def test_a_region_at_a_resolution(tiff: Path) -> None:
    style = {"min": 0, "max": 65535, "dtype": "uint16"}
    with BioReader(tiff) as br:
        found = br.render(0, style, x=(10, 40), y=(6, 26), z=1)
        np.testing.assert_array_equal(found[..., 0], PIXELS[0, 0, 1, 6:26, 10:40])
        half = br.render(0, style, x=(10, 40), y=(6, 26), z=1, max_size=(10, 15))
        wanted = PIXELS[0, 0, 1, 6:26, 10:40].reshape(10, 2, 15, 2).mean((1, 3))
        assert np.abs(half[..., 0] - wanted).max() <= 0.5
        with pytest.raises(BadSelection, match="extends beyond the image"):
            br.render(x=(10, 400))
        for z, t in ((4, 0), (0, 2), (1.5, 0), (0, "1")):
            with pytest.raises(BadSelection, match="give one of 0 to"):
                br.render(z=z, t=t)


def test_a_picture_is_bounded(tiff: Path) -> None:
    with BioReader(tiff) as br:
        for more in ({"pixel_size": 1e-9}, {"pixel_size": (1e-7, "nm")}):
            with pytest.raises(BadArgument, match="is too large|pixels of the given size"):
                br.render(**more)
        # Nothing is enlarged by max_size.
        assert br.render(max_size=10**6).shape == (37, 53, 4)


def test_a_projection_is_over_z(tiff: Path) -> None:
    style = {"min": 0, "max": 65535, "dtype": "uint16"}
    with BioReader(tiff) as br:
        whole = br.render(2, style, projection="max", t=1)
        np.testing.assert_array_equal(whole[..., 0], PIXELS[1, 2].max(0))
        part = br.render(2, style, projection="max", z=(1, 3))
        np.testing.assert_array_equal(part[..., 0], PIXELS[0, 2, 1:3].max(0))
        by_style = br.render(2, {**style, "projection": "max"}, t=1)
        np.testing.assert_array_equal(by_style, whole)
        bands = {"bands": [{"band": 3, "min": 0, "max": 65535}], "dtype": "uint16"}
        by_style = br.render(style={**bands, "projection": "max"}, z=(1, 3))
        np.testing.assert_array_equal(by_style, part)
        with pytest.raises(BadArgument, match="projection='mean': use one of max"):
            br.render(style={"projection": "mean"})
        for z in ((3, 3), (0, 9), slice(0, 4, 2), "all"):
            with pytest.raises(BadSelection, match="for a projection give"):
                br.render(projection="max", z=z)
        with pytest.raises(BadArgument, match="projection='mean'"):
            br.render(projection="mean")


def test_labels_and_indices_are_not_averaged(tmp_path: Path) -> None:
    labels = np.kron(np.array([[1, 2], [3, 300]]), np.ones((40, 40))).astype(np.uint16)
    image = np.zeros((1, 1, 1, 80, 80), np.uint16)
    path = write_ome_zarr(
        tmp_path / "a.ome.zarr", [image], labels=labels[np.newaxis, np.newaxis, np.newaxis]
    )
    with BioReader(path, series=1) as br:
        assert br.is_mask
        found = br.render(max_size=15)
    colors = {tuple(color) for color in found.reshape(-1, 4)}
    table = distinct_colors()
    assert colors == {tuple(table[(n - 1) % 255]) for n in (1, 2, 3, 300)}


@pytest.mark.parametrize("wide", [True, False])
def test_a_palette_of_the_file(tmp_path: Path, wide: bool) -> None:
    values = (distinct((30, 40)) % 256).astype(np.uint8)
    table = np.random.default_rng(2).integers(0, 256, (3, 256)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric="palette", colormap=table * 257 if wide else table
    )
    with BioReader(tmp_path / "a.tif") as br:
        assert br.backend == "ometiff"
        np.testing.assert_array_equal(br.lookup_table(), table)
        found = br.render()
        smaller = br.render(max_size=10)
    np.testing.assert_array_equal(found[..., :3], table[:, values].transpose(1, 2, 0))
    known = {tuple(color) for color in table.T}
    assert {tuple(color) for color in smaller[..., :3].reshape(-1, 3)} <= known


def test_a_ramp_is_a_color_and_no_palette(tmp_path: Path) -> None:
    values = (distinct((30, 40)) % 200).astype(np.uint8)
    ramp = np.zeros((3, 256), np.uint16)
    ramp[0], ramp[2] = np.arange(256) * 257, np.arange(256) * 128
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=ramp)
    with BioReader(tmp_path / "a.tif") as br:
        found = br.render()
        low, high = Contrast(br).window(0)
    # Intensities are stretched to the display window, in the ramp's last colour.
    share = np.clip((values - low) / (high - low), 0, 1)
    assert np.abs(found[..., 0] - share * 255).max() <= 1
    assert np.abs(found[..., 2] - share * 127).max() <= 1
    assert not found[..., 1].any()


@pytest.mark.java
def test_a_palette_is_the_one_that_java_finds(tmp_path: Path) -> None:
    values = (distinct((30, 40)) % 256).astype(np.uint8)
    table = np.random.default_rng(2).integers(1, 256, (3, 256)).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=table)
    tables = []
    for backend in ("ometiff", "bioformats"):
        with BioReader(tmp_path / "a.tif", backend=backend) as br:
            tables.append(br.lookup_table())
    np.testing.assert_array_equal(*tables)


def test_a_color_profile_is_applied_on_request(tmp_path: Path) -> None:
    cms = pytest.importorskip("PIL.ImageCms")
    values = (distinct((30, 40, 3)) % 256).astype(np.uint8)
    profile = cms.ImageCmsProfile(cms.createProfile("LAB"))
    srgb = cms.ImageCmsProfile(cms.createProfile("sRGB"))
    for name, data in (("srgb", srgb.tobytes()), ("lab", profile.tobytes()), ("bad", b"nonsense")):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="rgb", iccprofile=data)
    tifffile.imwrite(tmp_path / "none.tif", values, photometric="rgb")
    with BioReader(tmp_path / "srgb.tif") as br:
        assert br.icc_profile == srgb.tobytes()
        # From sRGB to sRGB nothing changes but by rounding, also where one band is drawn.
        assert np.abs(br.render(style={"icc": True})[..., :3].astype(int) - values).max() <= 1
        red = br.render(style={"icc": "saturation", "band": 1, "min": 0, "max": 255})
        assert np.abs(red[..., 0].astype(int) - values[..., 0]).max() <= 1
    with BioReader(tmp_path / "none.tif") as br:
        assert br.icc_profile is None
        np.testing.assert_array_equal(br.render(style={"icc": True})[..., :3], values)
    for name in ("lab", "bad"):
        with BioReader(tmp_path / f"{name}.tif") as br:
            np.testing.assert_array_equal(br.render()[..., :3], values)
            with pytest.raises(BadArgument, match="its colour profile cannot be used"):
                br.render(style={"icc": True})


def test_complex_pixels_are_shown_by_magnitude(tmp_path: Path) -> None:
    values = (np.arange(1, 31) + 1j * np.arange(30)[::-1]).reshape(5, 6).astype(np.complex64)
    with BioWriter(tmp_path / "a.ome.zarr", image=values) as bw:
        bw[:] = values
    with BioReader(tmp_path / "a.ome.zarr") as br:
        found = br.render(style={"min": "min", "max": "max", "dtype": "float"})[..., 0]
    wanted = np.abs(values)
    wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min())
    np.testing.assert_allclose(found, wanted, atol=1e-4)


# ---- files


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_pictures_of_one_row_or_column_are_encoded(form: str, shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 4), 255, np.uint8)
    assert opened(encode_picture(picture, form)).shape[:2] == shape


@pytest.mark.parametrize(("form", "limit"), [("png", 0), ("webp", 12), ("jpeg", 12)])
def test_pictures_are_read_back(tiff: Path, form: str, limit: int) -> None:
    smooth = np.add.outer(np.arange(60), np.arange(80))
    picture = np.full((60, 80, 4), 255, np.uint8)
    picture[..., :3] = (smooth[..., np.newaxis] + (0, 40, 90)).astype(np.uint8)
    found = opened(encode_picture(picture, form))
    assert np.abs(found[..., :3].astype(int) - picture[..., :3]).max() <= limit
    with BioReader(tiff) as br:
        assert br.render(format=form) == encode_picture(br.render(), form)


def test_lossless_webp_and_sixteen_bits(tiff: Path) -> None:
    picture = (distinct((20, 30, 4)) % 256).astype(np.uint8)
    picture[..., 3] = 255
    np.testing.assert_array_equal(opened(encode_picture(picture, "webp", 100)), picture[..., :3])
    with BioReader(tiff) as br:
        style = {"min": 0, "max": 65535, "dtype": "uint16", "axis": 0}
        found = opened(br.render(1, style, z=2, format="png"))
        np.testing.assert_array_equal(found, PIXELS[0, 1, 2])
        for form in ("jpeg", "webp"):
            with pytest.raises(BadArgument, match="uint16 cannot be encoded"):
                br.render(1, style, format=form)
        with pytest.raises(BadArgument, match="float32 cannot be encoded"):
            br.render(1, {"dtype": "float"}, format="png")


def test_transparent_pixels(tmp_path: Path) -> None:
    picture = np.zeros((10, 10, 4), np.uint8)
    picture[:5] = (200, 100, 50, 255)
    assert opened(encode_picture(picture, "png")).shape == (10, 10, 4)
    assert opened(encode_picture(picture[:5], "png")).shape == (5, 10, 3)
    found = opened(encode_picture(picture, "jpeg", 100, (0, 255, 0)))
    assert np.abs(found[8, 5].astype(int) - (0, 255, 0)).max() < 6
    values = np.arange(100, dtype=np.uint8).reshape(10, 10)
    tifffile.imwrite(tmp_path / "a.tif", values)
    with BioReader(tmp_path / "a.tif") as br:
        style = {"min": 10, "max": 49, "clamp": False}
        np.testing.assert_array_equal(
            br.render(style=style)[..., 3], np.where((values >= 10) & (values <= 49), 255, 0)
        )
        white = opened(br.render(style=style, format="jpeg", background="white", quality=100))
        assert white[9, 9].min() > 250


def test_formats_and_qualities(tiff: Path) -> None:
    assert [format_of_name(f"a.{s}") for s in ("png", "JPG", "jpeg", "webp")] == [
        "png", "jpeg", "jpeg", "webp"
    ]  # fmt: skip
    with pytest.raises(BadArgument, match="use one of these suffixes"):
        format_of_name("a.gif")
    picture = np.zeros((4, 4, 4), np.uint8)
    for form, quality in (("png", 10), ("jpeg", 0), ("webp", 101), ("jpeg", 1.5), ("png", True)):
        with pytest.raises(BadArgument, match="quality="):
            encode_picture(picture, form, quality)
    with pytest.raises(BadArgument, match="exceed its maximum of 16383"):
        encode_picture(np.zeros((2, 20_000, 4), np.uint8), "webp")
    with BioReader(tiff) as br, pytest.raises(BadArgument, match="format='gif'"):
        br.render(format="gif")


# ---- annotations


def test_a_scale_bar_has_the_length_it_says(tmp_path: Path) -> None:
    black = np.zeros((1, 1, 1, 200, 400), np.uint16)
    path = write_ome_tiff(tmp_path / "a.ome.tif", black, metadata=SIZES)
    with BioReader(path) as br:
        plain = br.render()
        for more, length in (
            ({"scale_bar": True}, 20 / 0.25),
            ({"scale_bar": 50}, 200),
            ({"scale_bar": (5000, "nm")}, 20),
            ({"scale_bar": True, "max_size": 200}, 20 / 0.5),
            ({"scale_bar": (10, "um"), "x": (100, 300)}, 40),
        ):
            found = br.render(**more)
            white = (found[..., :3] == 255).all(2)
            # The bar is the longest white line.
            rows = [max(map(len, "".join("#" if v else " " for v in row).split()), default=0)
                    for row in white]  # fmt: skip
            assert max(rows) == round(length)
        assert not (plain[..., :3] == 255).any()
        with pytest.raises(BadArgument, match="would be 4,000.0 pixels long; the picture has 400"):
            br.render(scale_bar=1000)
        for wrong in ("long", -3, (1, 2, 3), (0, "um")):
            with pytest.raises(BadArgument, match="scale_bar="):
                br.render(scale_bar=wrong)


def test_no_scale_bar_without_a_pixel_size(tmp_path: Path) -> None:
    path = write_ome_tiff(tmp_path / "a.ome.tif", np.zeros((1, 1, 1, 20, 40), np.uint16))
    with BioReader(path) as br, pytest.raises(BadArgument, match="has no pixel size"):
        br.render(scale_bar=True)


def test_text_is_drawn(tiff: Path) -> None:
    with BioReader(tiff) as br:
        plain = br.render(z=0)
        first, second = br.render(z=0, text=True), br.render(z=0, text="µm")
        assert (first != plain).any()
        assert (second != first).any()
        with pytest.raises(BadArgument, match="8 bits with all colours"):
            br.render(0, {"dtype": "uint16"}, text=True)


# ---- what is missing


@pytest.mark.parametrize(
    ("package", "action"),
    [
        ("cmap", {"style": {"palette": "viridis_r_of_no_cache"}}),
        ("imagecodecs", {"format": "png"}),
        ("PIL", {"text": "x"}),
    ],
)
def test_missing_packages_are_named(
    tiff: Path, monkeypatch: pytest.MonkeyPatch, package: str, action: dict[str, Any]
) -> None:
    with BioReader(tiff) as br:
        br.render()
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(
            MissingExtra, match=r"is not installed\. Install it with: python -m pip"
        ):
            br.render(**action)
