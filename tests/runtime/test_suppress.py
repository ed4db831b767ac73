"""Hits that overlap: the nearest of them stays, as in a plain loop over all pairs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from duch import suppress
from duch.bundle import read_bundle
from duch.errors import InputError
from duch.filters import Filters
from duch.gallery import Gallery, Tile
from duch.ids import Window, chip_id
from duch.retriever import Retriever
from duch.suppress import apart
from duch.tile import Hit
from duch.where_parser import parse

from .resigned import TINY


def spans(west: float, east: float) -> list[tuple[float, float]]:
    return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]


def area(footprint: Any) -> float:
    """On the unit sphere: the integral of cos(latitude)."""
    width = sum(math.radians(b - a) for a, b in spans(footprint[0], footprint[2]))
    return width * (math.sin(math.radians(footprint[3])) - math.sin(math.radians(footprint[1])))


def overlap(one: Any, other: Any) -> float:
    """The share of the smaller one's ground; each is (footprint, scene, window)."""
    if one[1] is not None and one[1] == other[1]:
        a, b = one[2], other[2]
        columns = range(max(a.x, b.x), min(a.x + a.w, b.x + b.w))
        rows = range(max(a.y, b.y), min(a.y + a.h, b.y + b.h))
        return len(columns) * len(rows) / min(a.w * a.h, b.w * b.h)
    if one[0] is None or other[0] is None or min(area(one[0]), area(other[0])) == 0:
        return 0.0
    common_area = 0.0
    for a, b in spans(one[0][0], one[0][2]):
        for c, d in spans(other[0][0], other[0][2]):
            west, east, south, north = max(a, c), min(b, d), max(one[0][1], other[0][1]), min(one[0][3], other[0][3])
            if west < east and south < north:
                common_area += area((west, south, east, north))
    return min(1.0, common_area / min(area(one[0]), area(other[0])))  # but for rounding


def naive(places: list[Any], most: float) -> list[int]:
    kept: list[int] = []
    for number, place in enumerate(places):
        if all(overlap(places[before], place) <= most for before in kept):
            kept.append(number)
    return kept


def hits_of(places: list[Any]) -> list[Hit]:
    return [
        Hit(
            rank=number + 1,
            distance=number,
            seq=number,
            id=f"{number}" if scene is None else chip_id(scene, window),
            modality="image",
            uri=scene,
            footprint=footprint,
        )
        for number, (footprint, scene, window) in enumerate(places)
    ]


# Few values, so that boxes touch, are equal and have no area.
LONGITUDES = st.sampled_from([-180.0, -179.0, -10.0, 0.0, 2.0, 10.0, 179.0, 180.0])
LATITUDES = st.sampled_from([-90.0, -30.0, 0.0, 1.0, 60.0, 89.0, 90.0])
BOXES = st.tuples(LONGITUDES, LATITUDES, LONGITUDES, LATITUDES).map(
    lambda box: (box[0], min(box[1], box[3]), box[2], max(box[1], box[3]))
)
SMALL = st.integers(0, 5)
WINDOWS = st.builds(Window, st.integers(-2, 4), SMALL, st.integers(1, 4), st.integers(1, 4))
PLACES = st.tuples(st.one_of(st.none(), BOXES), st.sampled_from([None, "a.tif", "b.tif"]), WINDOWS)


@given(
    places=st.lists(PLACES, max_size=25), most=st.sampled_from([0.0, 0.123, 0.377, 0.713, 1.0]), k=st.integers(1, 30)
)
@example(places=[((179.0, 0.0, -179.0, 1.0), None, None), ((-180.0, 0.0, -179.0, 1.0), None, None)], most=0.9, k=5)
@example(places=[((0.0, 0.0, 9.0, 60.0), None, None), ((0.0, 30.0, 9.0, 90.0), None, None)], most=0.713, k=5)
@settings(max_examples=150, deadline=None)
def test_what_stays_equals_a_plain_loop(places: list[Any], most: float, k: int) -> None:
    hits = hits_of(places)
    assert [hit.seq for hit in apart(hits, most, k)] == naive(places, most)[:k]


def test_a_chip_at_the_same_place_is_suppressed_and_its_neighbour_is_not() -> None:
    one, half = (10.0, 80.0, 10.2, 80.1), (10.1, 80.0, 10.3, 80.1)
    hits = hits_of([(one, None, None), (one, None, None), (half, None, None), (None, None, None), (None, None, None)])
    assert [hit.seq for hit in apart(hits, 0.45, 9)] == [0, 3, 4]
    assert [hit.seq for hit in apart(hits, 0.55, 9)] == [0, 2, 3, 4]
    assert apart([], 0.5, 3) == []


def test_windows_decide_within_a_scene_whatever_the_footprints_boxes_say() -> None:
    # The boxes of turned chips overlap where the chips only touch.
    places = [((0.0, 0.0, 2.0, 2.0), "s.tif", Window(0, 0, 9, 9)), ((1.0, 0.0, 3.0, 2.0), "s.tif", Window(9, 0, 9, 9))]
    assert len(apart(hits_of(places), 0.1, 9)) == 2
    elsewhere = [places[0], (places[1][0], "t.tif", places[1][2])]
    assert len(apart(hits_of(elsewhere), 0.1, 9)) == 1


# --- in a search ---


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """300 chips of 4 scenes, three at each place, and some without a place."""
    bundle = read_bundle(TINY)
    rng = np.random.default_rng(1)
    tiles = []
    for number in range(300):
        x, y = number % 15, number // 3 % 15
        window = Window(100 * x + number, 100 * y, 224, 224)
        place = (x + number / 30, float(y), x + number / 30 + 2.24, y + 2.24)
        uri = f"{number % 4}.tif"
        known: dict[str, Any] = {"footprint": None if number % 25 == 0 else place, "attributes": {"n": number}}
        tiles.append(Tile(id=chip_id(uri, window), modality="image", uri=uri, **known))
    codes = rng.integers(0, 256, (300, bundle.n_bits // 8), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("suppress") / "g"
    with Gallery.writer(folder, create=True, fingerprint=bundle.fingerprint, n_bits=bundle.n_bits, root=folder) as out:
        out.append(codes, tiles)
    with Retriever(folder, bundle) as opened:
        yield opened


@pytest.mark.parametrize("filters", [None, Filters(where=parse("n < 200"), max_distance=17)])
@pytest.mark.parametrize("most", [0.0, 0.25, 0.9])
@pytest.mark.parametrize("k", [1, 7, 60, 2000])
def test_a_search_gives_the_first_k_of_the_whole_ranking(retriever: Any, k: int, most: float, filters: Any) -> None:
    codes = np.random.default_rng(k).integers(0, 256, (2, retriever.gallery.n_bits // 8), dtype=np.uint8)
    found = retriever.search_codes(codes, k, filters=filters, max_overlap=most)
    for hits, ranking in zip(found, retriever.search_codes(codes, 300, filters=filters), strict=True):
        places = [(hit.footprint, hit.uri, hit.window) for hit in ranking]
        assert [hit.seq for hit in hits] == [ranking[number].seq for number in naive(places, most)[:k]]
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def test_a_search_ends_where_too_many_lie_on_one_place(retriever: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code = np.zeros((1, retriever.gallery.n_bits // 8), dtype=np.uint8)
    whole = retriever.search_codes(code, 25, max_overlap=0.0)[0]
    monkeypatch.setattr(suppress, "MOST_SEEN", 30)
    cut = retriever.search_codes(code, 25, max_overlap=0.0)[0]
    assert 0 < len(cut) < len(whole)
    assert cut == whole[: len(cut)], "what is found is right, and only the rest is missing"


@pytest.mark.parametrize(
    ("most", "k", "said"),
    [
        (-0.1, 5, "from 0 to 1"),
        (math.nan, 5, "from 0 to 1"),
        (1.5, 5, "from 0 to 1"),
        (0.5, 10_001, "at most 10,000"),
        (0.5, 0, "k is 0"),
    ],
)
def test_an_overlap_that_is_none_is_one_line(retriever: Any, most: float, k: int, said: str) -> None:
    code = np.zeros((1, retriever.gallery.n_bits // 8), dtype=np.uint8)
    with pytest.raises(InputError, match=said):
        retriever.search_codes(code, k, max_overlap=most)
