"""The borders of windows of a scene as places on the ground, with as many points as their curves need.

Shapes: n windows, s sides of them (4 n).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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


def _middles(corners: Floats) -> tuple[Floats, Floats]:
    middles = corners.mean(axis=1)
    return middles[:, 0], middles[:, 1]


def borders(georeference: Georeference, corners: Floats) -> list[list[Point]]:
    """The borders of windows, not closed; nothing for a window whose border is not all on Earth.

    All segments are halved, or nearly, in rounds: those that are off by too much.

    Shape: corners (n, 4, 2).
    """
    n = len(corners)
    starts, sides = corners.reshape(-1, 2), (np.roll(corners, -1, axis=1) - corners).reshape(-1, 2)
    pixels = np.abs(sides).max(axis=1)  # (4 n,)
    lon, lat = georeference.lonlat(starts[:, 0], starts[:, 1])
    ends = np.roll(np.arange(4 * n).reshape(-1, 4), -1, axis=1).ravel()
    across, down = georeference.gsd
    thinnest = min(across, down) / np.where(np.arange(4 * n) % 2 == 0, across, down)

    # A segment: its side, where on it it begins and ends (0 to 1), and the places there.
    side = np.arange(4 * n)
    begin, end = np.zeros(4 * n), np.ones(4 * n)
    at_begin, at_end = np.stack([lon, lat]), np.stack([lon[ends], lat[ends]])
    done = []
    lost = np.zeros(n, dtype=np.bool_)
    while len(side):
        middle = begin + _PROBE * (end - begin)
        point = starts[side] + middle[:, None] * sides[side]
        place = np.stack(georeference.lonlat(point[:, 0], point[:, 1]))
        with np.errstate(invalid="ignore"):
            step = at_end - at_begin
            step[0] = _shortest(step[0])
            chord = at_begin + _PROBE * step
            here = on_ground(*place)
            off = np.linalg.norm(on_ground(*chord) - here, axis=1)
            length = np.linalg.norm(here - on_ground(*at_begin), axis=1)
            span = (end - begin) * pixels[side]
            # The pixel's own size there; a centimetre where it has none, at a pole.
            pixel = np.maximum(length / np.maximum(_PROBE * span, 1e-9) * thinnest[side], 0.01)
            wrong_way = np.abs(_shortest(chord[0] - place[0])) > _WRONG_WAY
            split = ((off > _TOLERANCE * pixel) | wrong_way) & (span > _SHORTEST)
        lost[side[~np.isfinite(place[0]) | ~np.isfinite(at_begin[0])] // 4] = True
        kept = ~split
        done.append((side[kept], begin[kept], at_begin[:, kept]))
        side, begin, end = np.tile(side[split], 2), *_halves(begin[split], middle[split], end[split])
        at_begin, at_end = (
            np.concatenate([at_begin[:, split], place[:, split]], axis=1),
            np.concatenate([place[:, split], at_end[:, split]], axis=1),
        )
    sides_done = np.concatenate([part[0] for part in done])
    order = np.lexsort((np.concatenate([part[1] for part in done]), sides_done))
    places = np.concatenate([part[2] for part in done], axis=1)[:, order].T.tolist()
    bounds = np.searchsorted(sides_done[order] // 4, np.arange(n + 1)).tolist()
    return [
        [] if lost[window] else [(lon, lat) for lon, lat in places[bounds[window] : bounds[window + 1]]]
        for window in range(n)
    ]


def _halves(begin: Floats, middle: Floats, end: Floats) -> tuple[Floats, Floats]:
    return np.concatenate([begin, middle]), np.concatenate([middle, end])


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
