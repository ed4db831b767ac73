"""Hits that lie on one another: of those that overlap, only the nearest stays.

Chips overlap, and passes come again, so the nearest hits are often one place many times. Hits are taken in the order
(distance, seq), and each is kept unless it shares more than a part of its ground with one that was kept before it.

Shapes: n hits, m of them kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .tile import Hit, Modality

if TYPE_CHECKING:
    from .codes import PackedCodes
    from .filters import Filters
    from .gallery import Gallery

MOST_HITS = 10_000  # each is compared with all that are kept: 10,000 of 40,000 take a second
MOST_SEEN = 100_000  # nearest tiles that are looked at: seconds, and hundreds of megabytes
_NO_SCENE = -1
# As one array, so that the kept ones are looked at together: footprint, then scene, then window; nan where not known.
_Places = NDArray[np.float64]
_WEST, _SOUTH, _EAST, _NORTH, _SCENE, _X, _Y, _W, _H = range(9)


def check_overlap(max_overlap: float, k: int) -> None:
    """Refuse a share that is none, and more hits than can be compared with each other.

    Raises:
        InputError: one of them.
    """
    if not 0 <= max_overlap <= 1:
        raise InputError(f"the largest overlap is {max_overlap}; wanted a share from 0 to 1")
    if k > MOST_HITS:
        raise InputError(f"{k:,} hits are asked for without overlap; wanted at most {MOST_HITS:,}")


def apart(hits: Sequence[Hit], max_overlap: float, k: int) -> list[Hit]:
    """The first k hits that overlap none before them that stays, in their order.

    The overlap of two hits is the ground that they share, as a part of the smaller one's. Chips of one scene are
    compared by their windows, others by their footprints' boxes on the sphere. A hit without either, or whose
    footprint is a point or a line, overlaps nothing.

    Args:
        hits: in the order (distance, seq).
        max_overlap: from 0 (none may share any ground) to 1 (all stay).
        k: how many.
    """
    places = _places_of(hits)  # (n, 9)
    scene, south, north = (np.ascontiguousarray(places[:, column]) for column in (_SCENE, _SOUTH, _NORTH))
    stays = np.ones(len(hits), dtype=np.bool_)
    kept: list[Hit] = []
    for place, hit in enumerate(hits):
        if not stays[place]:
            continue
        kept.append(hit)
        if len(kept) == k:
            break
        # Most are far apart, and latitudes tell it at once; nan compares as FALSE.
        later = slice(place + 1, None)
        near = (south[later] < north[place]) & (north[later] > south[place])
        if scene[place] != _NO_SCENE:
            near |= scene[later] == scene[place]
        rows = place + 1 + np.flatnonzero(near & stays[later])
        stays[rows] = overlaps(places[place], places[rows]) <= max_overlap
    return kept


def search_apart(
    gallery: Gallery,
    code: PackedCodes,
    k: int,
    max_overlap: float,
    *,
    modality: Modality | None = None,
    filters: Filters | None = None,
    without: Collection[str] = (),
) -> list[Hit]:
    """The first k hits of the whole ranking that overlap none before them, see `apart`; ranked from 1.

    Where so many lie on one place that the nearest `MOST_SEEN` do not hold k others, there are fewer hits.

    Shape: code (1, n_bits / 8) uint8.

    Args:
        gallery: what is searched.
        code: packed code of the query.
        k: how many, at least 1.
        max_overlap: see `apart`.
        modality: "image" or "text" to find only those.
        filters: find only what passes.
        without: ids of tiles that are left out.

    Raises:
        CodesError: a code of the wrong type, shape or width; k below 1.
        InputError: an overlap that is no share, or k too large for it.
        GalleryCorruptError: the catalog row of a hit is damaged.
    """
    check_overlap(max_overlap, k)
    most = max(MOST_SEEN, k + len(without))
    n_seen = min(4 * (k + len(without)), most)
    while True:
        found = gallery.search(code, n_seen, modality=modality, filters=filters)[0]
        hits = apart([hit for hit in found if hit.id not in without], max_overlap, k)
        if len(hits) >= k or len(found) < n_seen or n_seen == most:
            return [replace(hit, rank=rank) for rank, hit in enumerate(hits, 1)]
        n_seen = min(4 * n_seen, most)


def overlaps(one: _Places, others: _Places) -> NDArray[np.float64]:
    """The share of the smaller one's ground that one place has in common with others.

    Shape: (9,), (m, 9) -> (m,) from 0 to 1.
    """
    same = (others[:, _SCENE] == one[_SCENE]) & (one[_SCENE] != _NO_SCENE)
    return np.asarray(np.where(same, _shares_of_windows(one, others), _shares_of_boxes(one, others)))


def _shares_of_windows(one: _Places, others: _Places) -> NDArray[np.float64]:
    wide = np.minimum(one[_X] + one[_W], others[:, _X] + others[:, _W]) - np.maximum(one[_X], others[:, _X])
    high = np.minimum(one[_Y] + one[_H], others[:, _Y] + others[:, _H]) - np.maximum(one[_Y], others[:, _Y])
    smaller = np.minimum(one[_W] * one[_H], others[:, _W] * others[:, _H])
    return _share(wide.clip(0) * high.clip(0), smaller)


def _shares_of_boxes(one: _Places, others: _Places) -> NDArray[np.float64]:
    west, east = others[:, _WEST], others[:, _WEST] + _width(others)
    own_east = one[_WEST] + _width(one)
    wide = np.zeros(len(others))
    for turn in (-360.0, 0.0, 360.0):
        wide += (np.minimum(own_east, east + turn) - np.maximum(one[_WEST], west + turn)).clip(0)
    south, north = np.maximum(one[_SOUTH], others[:, _SOUTH]), np.minimum(one[_NORTH], others[:, _NORTH])
    own = _width(one) * _height(one[_SOUTH], one[_NORTH])
    smaller = np.minimum(own, _width(others) * _height(others[:, _SOUTH], others[:, _NORTH]))
    return _share(wide * _height(south, north).clip(0), smaller)


def _share(common: NDArray[np.float64], smaller: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(common, smaller, out=np.zeros(len(common)), where=smaller > 0).clip(0, 1)


def _width(places: _Places) -> NDArray[np.float64]:
    """Degrees from west to east, across the antimeridian where west > east."""
    west, east = places[..., _WEST], places[..., _EAST]
    return np.asarray(np.where(west > east, east + 360 - west, east - west))


def _height(south: NDArray[np.float64], north: NDArray[np.float64]) -> NDArray[np.float64]:
    """sin(north) - sin(south), to which the area between two parallels is proportional, exact for small ones."""
    middle, half = np.radians((north + south) / 2), np.radians((north - south) / 2)
    return np.asarray(2 * np.cos(middle) * np.sin(half))


def _places_of(hits: Sequence[Hit]) -> _Places:
    scenes: dict[str, int] = {}
    places = np.full((len(hits), 9), np.nan)
    places[:, _SCENE] = _NO_SCENE
    for row, hit in zip(places, hits, strict=True):
        if hit.footprint is not None:
            row[: _NORTH + 1] = hit.footprint
        window = hit.window
        if window is not None and hit.uri is not None:
            row[_SCENE] = scenes.setdefault(hit.uri, len(scenes))
            row[_X:] = window
    return places
