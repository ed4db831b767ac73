"""The map of footprints: where they are drawn, from its SVG."""

from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from duch.captions import centre_of
from duch.footprint_map import footprint_map
from duch.tile import Hit

from .some_hits import SQUARE, some_hit

Box = tuple[float, float, float, float]
POLE = {
    "type": "Polygon",
    "coordinates": [[[-180, 87], [0, 88], [180, 87], [180, 90], [-180, 90], [-180, 87]]],
}


def placed(*footprints: Box) -> list[Hit]:
    return [some_hit(rank, footprint=footprint) for rank, footprint in enumerate(footprints, 1)]


def square(longitude: float, latitude: float, half: float = 0.01) -> Box:
    west, east = (math.remainder(longitude + step, 360) for step in (-half, half))
    return (west, latitude - half, east, latitude + half)


def drawn(hits: list[Hit]) -> ElementTree.Element:
    return ElementTree.fromstring(footprint_map(hits))


def size(svg: ElementTree.Element) -> tuple[float, float]:
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    assert (left, top) == (0, 0)
    return width, height


def corners(mark: ElementTree.Element) -> NDArray[np.float64]:
    """Pixels of the corners of a footprint. (n, 2)"""
    paths = "".join(path.attrib["d"] for path in mark.iter("path"))
    return np.array([[float(number) for number in pair.split()] for pair in re.findall(r"[ML]([^MLZ]+)", paths)])


def boxes(svg: ElementTree.Element) -> dict[int, NDArray[np.float64]]:
    """Upper left and lower right pixel of each footprint, by rank. (2, 2) each."""
    found = {int(mark.attrib["data-rank"]): corners(mark) for mark in svg.iter("a")}
    return {rank: np.array([each.min(axis=0), each.max(axis=0)]) for rank, each in found.items()}


def labels(svg: ElementTree.Element, kind: str) -> list[str]:
    return [text.text or "" for text in svg.iter("text") if text.attrib.get("class") == kind]


@given(
    st.floats(-180, 180),
    st.lists(st.tuples(st.floats(0, 170), st.floats(-80, 80)), min_size=1, max_size=8),
)
def test_footprints_are_where_they_are_in_the_world(start: float, places: list[tuple[float, float]]) -> None:
    hits = placed(*(square(start + east, latitude) for east, latitude in places))
    svg = drawn(hits)
    width, height = size(svg)
    found = boxes(svg)
    middles = np.array([found[rank].mean(axis=0) for rank in range(1, len(hits) + 1)])  # (n, 2)
    wanted = np.array([(east, latitude) for east, latitude in places])
    assert all(each.min() >= 0 and (each[1] <= (width, height)).all() for each in found.values())
    # The same scale everywhere: pixels differ as degrees do. Four corners give it, however few the places are.
    pixels = found[1][1] - found[1][0]
    assert pixels.min() > 0 or np.ptp(wanted) > 1
    down = np.ptp(middles[:, 1]) / np.ptp(wanted[:, 1]) if np.ptp(wanted[:, 1]) > 1 else None
    across = np.ptp(middles[:, 0]) / np.ptp(wanted[:, 0]) if np.ptp(wanted[:, 0]) > 1 else None
    if across is not None:
        assert np.allclose(middles[:, 0] - middles[0, 0], across * (wanted[:, 0] - wanted[0, 0]), atol=0.3)
    if down is not None:
        assert np.allclose(middles[:, 1] - middles[0, 1], -down * (wanted[:, 1] - wanted[0, 1]), atol=0.3)
    if across is not None and down is not None:
        middle = (wanted[:, 1].min() + wanted[:, 1].max()) / 2
        assert across / down == pytest.approx(math.cos(math.radians(middle)), rel=0.05)


def test_the_best_lie_on_top_and_link_to_their_cards() -> None:
    svg = drawn(placed(square(8, 47), square(8, 47), square(8.01, 47)))
    marks = list(svg.iter("a"))
    assert [mark.attrib["id"] for mark in marks] == ["map-3", "map-2", "map-1"]
    assert [mark.attrib["href"] for mark in marks] == ["#hit-3", "#hit-2", "#hit-1"]
    assert [title.text for title in svg.iter("title")][-1] == "1: 2 bits, tile-1.png"


def test_an_id_that_is_markup_is_text() -> None:
    hit = some_hit(id="</title><script>\u202e&\"'", footprint=square(8, 47))
    (title,) = drawn([hit]).iter("title")
    assert title.text == "1: 2 bits, </title><script>\\u202e&\"'"


@pytest.mark.parametrize(
    ("footprints", "lon", "across"),
    [
        ((square(179.97, 0), square(-179.97, 0)), ["180°"], 0.08),
        (((179.9, -0.1, -179.9, 0.1),), ["179.90° E", "179.95° E", "180°", "179.95° W", "179.90° W"], 0.2),
        ((square(-0.02, 0), square(0.02, 0)), ["0°"], 0.06),
        ((square(170, 0), square(-100, 0)), ["180°", "150° W", "120° W"], 90.02),
    ],
)
def test_the_map_has_no_seam_where_footprints_are(footprints: tuple[Box, ...], lon: list[str], across: float) -> None:
    svg = drawn(placed(*footprints))
    assert [label for label in labels(svg, "lon") if label in lon] == lon
    found = np.concatenate(list(boxes(svg).values()))
    # With its margins the map is a quarter wider than what is on it.
    assert np.ptp(found[:, 0]) == pytest.approx(size(svg)[0] / 1.24, rel=0.01)


def test_the_cut_of_a_footprint_is_no_edge_of_it() -> None:
    (mark,) = drawn(placed((179.9, -0.1, -179.9, 0.1))).iter("a")
    inside, edge = mark.iter("path")
    assert inside.attrib["d"].count("Z") == 2
    (left, top), (right, bottom) = corners(mark).min(axis=0), corners(mark).max(axis=0)
    middle = (left + right) / 2
    assert f"{middle:.1f} {top:.1f}L{middle:.1f} {bottom:.1f}" not in edge.attrib["d"]
    assert "Z" not in edge.attrib["d"]


def test_a_footprint_round_a_pole_has_one_edge() -> None:
    hit = some_hit(footprint=(-180, 87, 180, 90), attributes={"geometry": POLE})
    svg = drawn([hit])
    _, edge = next(svg.iter("a")).iter("path")
    assert edge.attrib["d"].count("L") == 2
    assert {"180°", "90° W", "0°", "90° E"} <= set(labels(svg, "lon"))


def test_a_point_and_a_far_footprint_are_marked() -> None:
    svg = drawn(placed((8.5, 47.0, 8.5, 47.0)))
    (dot,) = svg.iter("circle")
    width, height = size(svg)
    assert (float(dot.attrib["cx"]), float(dot.attrib["cy"])) == pytest.approx((width / 2, height / 2), abs=0.1)
    assert len(list(drawn(placed(square(8, 47), square(100, -30))).iter("circle"))) == 2
    assert list(drawn(placed(square(8, 47), square(8.03, 47))).iter("circle")) == []


def test_labels_do_not_lie_on_each_other() -> None:
    svg = drawn(placed(*[square(8, 47)] * 30))
    (label,) = (text.text for mark in svg.iter("a") for text in mark.iter("text"))
    assert label == "1"


def test_the_outline_is_drawn_rather_than_the_box() -> None:
    slanted = {"type": "Polygon", "coordinates": [[[8, 47], [9, 47.5], [8.5, 48], [8, 47]]]}
    svg = drawn([some_hit(footprint=(8, 47, 9, 48), attributes={"geometry": slanted})])
    assert len(corners(next(svg.iter("a")))) == 3
    assert (
        len(corners(next(drawn([some_hit(footprint=(8, 47, 9, 48), attributes={"geometry": SQUARE})]).iter("a")))) == 4
    )


@pytest.mark.parametrize(
    "footprint", [(8.0, 47.0, 8.0, 1e300), (-1e9, 0.0, 1e9, 1.0), (0.0, -91.0, 1.0, 0.0), (500.0, 0.0, 501.0, 1.0)]
)
def test_what_is_not_on_the_globe_is_not_on_the_map(footprint: Box) -> None:
    assert footprint_map(placed(footprint)) == ""
    assert list(boxes(drawn(placed(footprint, square(8, 47))))) == [2]


def test_without_a_place_there_is_no_map() -> None:
    assert footprint_map([]) == ""
    assert footprint_map([some_hit()]) == ""


@given(st.lists(st.tuples(*[st.floats(-180, 180)] * 2, *[st.floats(-90, 90)] * 2), min_size=1, max_size=5))
def test_any_box_is_drawn_inside_a_map_of_few_lines(edges: list[Any]) -> None:
    hits = placed(*((west, min(one, other), east, max(one, other)) for west, east, one, other in edges))
    svg = drawn(hits)
    width, height = size(svg)
    assert 300 <= height <= 600
    for each in boxes(svg).values():
        assert each.min() >= -0.1
        assert (each[1] <= (width + 0.1, height + 0.1)).all()
    assert len(list(svg.iter("path"))) < 30 + 2 * len(hits)
    for hit in hits:
        assert hit.footprint is not None
        assert all(map(math.isfinite, centre_of(hit.footprint)))


@given(st.floats(0, 1e-3), st.floats(0, 1e-3))
def test_tiny_footprints_have_a_scale(width: float, height: float) -> None:
    svg = drawn(placed((8.0, 47.0, 8.0 + width, 47.0 + height)))
    (label,) = (
        text.text or "" for group in svg.iter("g") if group.attrib["class"] == "scale" for text in group.iter("text")
    )
    assert re.fullmatch(r"[125]0* m", label)
