"""The metadata of CZI files where elements are missing, or have values that are no numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bfbridge.backend import Quantity
from bfbridge.errors import LimitExceeded
from bfbridge.limits import DEFAULT_LIMITS
from bfbridge.ome.documents.xml_tree import parse_tree
from bfbridge_czi import metadata as module
from bfbridge_czi.metadata import (
    ChannelInfo,
    CziMetadata,
    color_of,
    flattened,
    original_entries,
    read_metadata,
)
from tests.support.czis import metadata_xml


def read(*parts: str, places: int = 2) -> CziMetadata:
    tree = parse_tree(metadata_xml("".join(parts)), "a.czi", DEFAULT_LIMITS)
    return read_metadata(tree, places)


def experiment(inner: str) -> str:
    return (
        f"<Experiment><ExperimentBlocks><AcquisitionBlock>{inner}</AcquisitionBlock>"
        "</ExperimentBlocks></Experiment>"
    )


def group(tiles: str, x: str = "1") -> str:
    return (
        f"<PositionGroup><TilesX>{tiles}</TilesX><TilesY>1</TilesY>"
        f'<Position X="{x}" Y="2" Z="3"/></PositionGroup>'
    )


def groups(*listed: str) -> str:
    inside = "".join(listed)
    return experiment(f"<TilesSetup><PositionGroups>{inside}</PositionGroups></TilesSetup>")


def image(dimensions: str, more: str = "") -> str:
    return f"<Information><Image>{more}<Dimensions>{dimensions}</Dimensions></Image></Information>"


def test_documents_without_anything() -> None:
    assert read_metadata(None, 3) == CziMetadata()
    assert read_metadata(parse_tree("<ImageDocument/>", "", DEFAULT_LIMITS), 3) == CziMetadata()
    assert replace(read(), root=None) == CziMetadata()
    assert replace(read("<Experiment/><Information/>"), root=None).channels == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#FF0A141E", (10, 20, 30, 255)),
        ("#0A141E", (10, 20, 30, 255)),
        ("0A141E", (10, 20, 30, 255)),
        ("#0A", (0, 0, 10, 255)),
        ("green", None),
        ("", None),
        (None, None),
    ],
)
def test_colors(text: str | None, expected: tuple[int, ...] | None) -> None:
    assert color_of(text) == expected


def test_channels_that_the_document_does_not_describe() -> None:
    metadata = CziMetadata(channels=[ChannelInfo(name="a", color="#FF0000", emission="520,5")])
    first = metadata.channel(0, 1)
    assert (first.name, first.color, first.emission) == ("a", (255, 0, 0, 255), None)
    # The colour of an RGB channel is that of its samples.
    assert metadata.channel(0, 3).color is None
    assert (metadata.channel(1, 3).name, metadata.channel(1, 3).samples) == (None, 3)


def test_names_of_scenes() -> None:
    metadata = CziMetadata(image_names=["A1", "A2", "A3"], field_names=["P1", "A2"])
    assert [metadata.name_of(n, 4, 12) for n in range(4)] == ["A1 P1", "A2", "A3", "Scene #04"]
    assert metadata.name_of(0, 1, 1) == ""
    assert CziMetadata(image_names=["only"]).name_of(0, 1, 1) == "only"


def test_groups_of_positions() -> None:
    def across(metadata: CziMetadata) -> list[float | None]:
        return [None if p.x is None else p.x.value for p in metadata.positions]

    # One group for each place, or as many places as tiles.
    assert across(read(groups(group("1"), group("9", "5")))) == [1, 5]
    assert across(read(groups(group("2"), group("2", "5")), places=4)) == [1, 1, 5, 5]
    assert across(read(groups(group("0"), group("1", "5")))) == [None, 5]
    assert across(read(groups(group("x"), group("-3", "5"), group("1"), "<PositionGroup/>"))) == [
        None, None,
    ]  # fmt: skip
    (place, _) = read(groups(group("1", "nan"), group("1"))).positions
    assert (place.x, place.y) == (None, Quantity(2, "m"))


def test_sample_holders() -> None:
    def holder(inner: str) -> str:
        return experiment(f"<RegionsSetup><SampleHolder>{inner}</SampleHolder></RegionsSetup>")

    template = "<Template><ShapeRows>8</ShapeRows><ShapeColumns>12x</ShapeColumns></Template>"
    region = '<SingleTileRegion Name="P"><X>5</X><Y>y</Y></SingleTileRegion>'
    found = read(
        holder(
            f'{template}<SingleTileRegionArray Name="B2"><TemplateShapeId>B2</TemplateShapeId>'
            f"{region * 3}</SingleTileRegionArray><SingleTileRegionArray/>"
        )
    )
    assert (found.plate, found.wells) == ((8, 0), ["B2"])
    assert (found.image_names, found.field_names) == (["B2", "B2", "B2", ""], ["P"] * 3)
    assert [(p.x, p.y) for p in found.positions] == [(Quantity(5, "µm"), None)] * 2
    found = read(holder(f'{template}<TileRegion Name="C3"/>'))
    assert (found.wells, found.image_names) == ([], ["C3"])
    assert read(holder("")).plate == (0, 0)


def test_nested_arrays_of_regions_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_FIELDS", 50)
    array = "<SingleTileRegion/>" * 10
    for _ in range(10):
        array = f"<SingleTileRegionArray>{array}</SingleTileRegionArray>"
    with pytest.raises(LimitExceeded, match="sample holder of the CZI file has more than 50 field"):
        read(experiment(f"<RegionsSetup><SampleHolder>{array}</SampleHolder></RegionsSetup>"))


def test_scenes() -> None:
    def scenes(*listed: str) -> str:
        return image(f"<S><Scenes>{''.join(listed)}</Scenes></S>")

    center = "<Scene><CenterPosition>{}</CenterPosition></Scene>"
    found = read("<Experiment/>", scenes(center.format("1.5"), center.format("a,b"), "<Scene/>"))
    assert [(p.x, p.y) for p in found.positions] == [(Quantity(1.5, "µm"), None), (None, None)]
    # Without an experiment there are no places to describe.
    assert read(scenes(center.format("1,2"))).positions == []
    # Positions of an experiment stay.
    place = '<Scene><Position X="7" Y="8"/></Scene>'
    found = read(groups(group("1"), group("1")), scenes(place, place))
    assert [p.x for p in found.positions] == [Quantity(1, "m")] * 2


def test_channels_of_displays() -> None:
    channels = (
        '<Channels><Channel Name="first"><IlluminationType>Moonlight</IlluminationType></Channel>'
        "<Channel/></Channels>"
    )
    display = (
        "<DisplaySetting><Channels><Channel Name='shown'><OriginalColor>#00FF00</OriginalColor>"
        "<IlluminationType>Transmitted</IlluminationType></Channel></Channels></DisplaySetting>"
        "<DisplaySetting/>"
    )
    first, second = read(image(channels), display).channels
    assert (first.name, first.color, first.illumination) == ("shown", "#00FF00", "Transmitted")
    assert (second.name, second.color) == ("", None)
    # Channels may be listed outside of the dimensions.
    assert [c.name for c in read(image("", channels)).channels] == ["first", ""]


def test_numbers_of_the_image() -> None:
    found = read(image("", "<ComponentBitCount>12</ComponentBitCount>"))
    assert (found.bits, found.acquired, found.time_step) == (12, None, None)
    for text in ("12.0", "", "1" * 50):
        bits = f"<ComponentBitCount>{text}</ComponentBitCount>"
        assert read(image("", bits)).bits is None


def test_pixel_sizes() -> None:
    def scaling(*pairs: tuple[str, str]) -> CziMetadata:
        inner = "".join(f'<Distance Id="{n}"><Value>{v}</Value></Distance>' for n, v in pairs)
        return read(f"<Scaling><Items>{inner}</Items></Scaling>")

    size = scaling(("X", "1e-7"), ("Y", "0"), ("Z", "x")).pixel_size
    assert (size.y, size.z) == (None, None)
    assert size.x is not None
    assert (round(size.x.value, 9), size.x.unit) == (0.1, "µm")
    assert read("<Scaling/>").pixel_size.x is None


def test_entries_are_limited() -> None:
    tree = parse_tree(metadata_xml("<A>text</A>"), "a.czi", DEFAULT_LIMITS)
    limits = replace(DEFAULT_LIMITS, xml_bytes=20)
    with pytest.raises(LimitExceeded, match=r"a\.czi.*length of all entries of the metadata"):
        original_entries(tree, "a.czi", limits)


def test_values_of_one_key_are_numbered() -> None:
    lists = {"a": ["x"], "b": list(range(10))}
    found = flattened(lists)
    assert list(found) == ["a", *(f"b #{n:02d}" for n in range(1, 11))]
    assert found["b #10"] == 9
