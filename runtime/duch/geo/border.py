"""The borders of windows of a scene as places on the ground, with as many points as their curves need.

Shapes: n windows, s sides of them (4 n).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from duch.ids import Window

from .georeference import Floats, Georeference, on_ground

Point = tuple[float, float]  # longitude, latitude in degrees

# Where a segment is compared with the side that it stands for. Not its middle: a side that bends both ways may meet
# its chord there.
_PROBE = 0.4
# Pixels that a segment may be off at the probe, so that rounding and a worse place still leave half a pixel.
_TOLERANCE = 0.35
# Degrees of longitude by which a segment that runs the other way round the Earth, or past a pole, is off.
_WRONG_WAY = 45.0
_SHORTEST = 0.25  # of segments, in pixels: a side through a pole never gets straight
_ROWS_OF_PART = 17  # of a window that is not all on Earth
_EDGE_STEPS = 8


def corners_of(georeference: Georeference, windows: Sequence[Window]) -> Floats:
    """Upper left, upper right, lower right and lower left of windows, cut at the scene's edge.

    Shape: -> (n, 4, 2) of x, y.
    """
    box = np.array(windows, dtype=np.float64).reshape(-1, 4)
    size = np.array([georeference.width, georeference.height])
    first, last = np.clip(box[:, :2], 0, size), np.clip(box[:, :2] + box[:, 2:], 0, size)
    left, top, right, bottom = *first.T, *last.T
    return np.stack([left, top, right, top, right, bottom, left, bottom], axis=1).reshape(-1, 4, 2)


class _Segments(NamedTuple):
    """Parts of sides, m of them.

    Attributes:
        side: the number of the side, (m,).
        begin: where on its side a segment begins, 0 to 1, (m,).
        end: where it ends.
        at_begin: longitude and latitude there, (2, m).
        at_end: those at its end.
    """

    side: NDArray[np.intp]
    begin: Floats
    end: Floats
    at_begin: Floats
    at_end: Floats

    def chosen(self, which: NDArray[np.bool_]) -> _Segments:
        at_begin, at_end = self.at_begin[:, which], self.at_end[:, which]
        return _Segments(self.side[which], self.begin[which], self.end[which], at_begin, at_end)

    @staticmethod
    def joined(parts: Sequence[_Segments]) -> _Segments:
        return _Segments(*(np.concatenate(columns, axis=-1) for columns in zip(*parts, strict=True)))


def borders(georeference: Georeference, corners: Floats) -> list[list[Point]]:
    """The borders of windows, not closed; nothing for a window whose border is not all on Earth.

    In rounds, all segments that are off by too much are split at their probe.

    Shape: corners (n, 4, 2).
    """
    n = len(corners)
    starts, sides = corners.reshape(-1, 2), (np.roll(corners, -1, axis=1) - corners).reshape(-1, 2)
    pixels = np.abs(sides).max(axis=1)  # (s,)
    numbers = np.arange(len(sides))
    across, down = georeference.gsd
    thinness = min(across, down) / np.where(numbers % 2 == 0, across, down)  # of pixels, against those along the side

    places = np.stack(georeference.lonlat(starts[:, 0], starts[:, 1]))
    next_corner = np.roll(numbers.reshape(-1, 4), -1, axis=1).ravel()
    segments = _Segments(numbers, np.zeros(len(sides)), np.ones(len(sides)), places, places[:, next_corner])
    done = []
    on_earth = np.ones(n, dtype=np.bool_)
    while len(segments.side):
        side, begin, end, at_begin, at_end = segments
        probe = begin + _PROBE * (end - begin)
        x, y = (starts[side] + probe[:, None] * sides[side]).T
        place = np.stack(georeference.lonlat(x, y))
        on_earth[side[~np.isfinite(place[0]) | ~np.isfinite(at_begin[0])] // 4] = False
        with np.errstate(invalid="ignore"):
            step = at_end - at_begin
            step[0] = _shortest(step[0])
            chord = at_begin + _PROBE * step
            ground = on_ground(*place)
            off = np.linalg.norm(on_ground(*chord) - ground, axis=1)
            length = np.linalg.norm(ground - on_ground(*at_begin), axis=1)
            span = (end - begin) * pixels[side]
            # As large as pixels are there; along the edge of a map that is a pole they have no size.
            pixel = length / np.maximum(_PROBE * span, 1e-9) * thinness[side]
            is_off = off > _TOLERANCE * np.maximum(pixel, 0.01 * min(across, down))
            is_wrong_way = np.abs(_shortest(chord[0] - place[0])) > _WRONG_WAY
        split = (is_off | is_wrong_way) & (span > _SHORTEST)
        done.append(segments.chosen(~split))
        halves = segments._replace(end=probe, at_end=place), segments._replace(begin=probe, at_begin=place)
        segments = _Segments.joined([half.chosen(split) for half in halves])
    border = _Segments.joined(done)
    order = np.lexsort((border.begin, border.side))
    points = list(zip(*border.at_begin[:, order].tolist(), strict=True))
    bounds = np.searchsorted(border.side[order] // 4, np.arange(n + 1)).tolist()
    return [points[bounds[window] : bounds[window + 1]] if on_earth[window] else [] for window in range(n)]


def _shortest(degrees: Floats) -> Floats:
    """Differences of longitude, the shorter way round: -180 to 180."""
    return (degrees + 180) % 360 - 180


def border_on_earth(georeference: Georeference, corners: Floats) -> list[Point]:
    """The border of the part of a window that is on Earth, from its first to its last such place in each row.

    Shape: corners (4, 2).
    """
    (left, top), (right, bottom) = corners[0], corners[2]
    x, y = np.meshgrid(np.linspace(left, right, _ROWS_OF_PART), np.linspace(top, bottom, _ROWS_OF_PART))
    seen = np.isfinite(georeference.lonlat(x.ravel(), y.ravel())[0]).reshape(x.shape)
    rows = np.flatnonzero(seen.any(axis=1))
    if not len(rows):
        return []
    first, last = seen.argmax(axis=1), _ROWS_OF_PART - 1 - seen[:, ::-1].argmax(axis=1)
    # The end of all rows at once, between a place on Earth and its neighbour outwards that is none.
    row = np.concatenate([rows, rows[::-1]])
    inner = np.concatenate([last[rows], first[rows[::-1]]])
    outer = np.concatenate([np.minimum(last[rows] + 1, _ROWS_OF_PART - 1), np.maximum(first[rows[::-1]] - 1, 0)])
    on, off, level = x[row, inner], x[row, outer], y[row, inner]
    for _ in range(_EDGE_STEPS):
        middle = (on + off) / 2
        found = np.isfinite(georeference.lonlat(middle, level)[0])
        on, off = np.where(found, middle, on), np.where(found, off, middle)
    # Down the right ends, along the lowest row, up the left ends, along the highest one.
    high, low = rows[0], rows[-1]
    along_low, along_high = slice(last[low], first[low], -1), slice(first[high], last[high])
    half = len(rows)
    lon, lat = georeference.lonlat(
        np.concatenate([on[:half], x[low, along_low], on[half:], x[high, along_high]]),
        np.concatenate([level[:half], y[low, along_low], level[half:], y[high, along_high]]),
    )
    on_earth = np.isfinite(lon)  # an interrupted map has gaps within a row
    return list(zip(lon[on_earth].tolist(), lat[on_earth].tolist(), strict=True))
