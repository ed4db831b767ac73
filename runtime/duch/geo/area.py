"""An area on the map, read from GeoJSON (RFC 7946), and which footprints meet it.

Edges are straight in longitude and latitude, as the RFC has them, and no ring crosses the antimeridian by itself: it is
cut there, or goes on beyond 180 degrees. A footprint is its bounding box; where edges touch, they meet.

Shapes: n footprints, p parts of the area.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duch.errors import FilterError, needs_extra
from duch.region import BBox

with needs_extra("geo", "an area of GeoJSON"):
    import shapely

    from .area_geojson import shapes_of
    from .area_grid import AreaGrid

Mask = NDArray[np.bool_]
Edges = NDArray[np.float64]
Shapes = NDArray[np.object_]

_WORTH_A_GRID = 10_000  # footprints; a box and its question to GEOS take 1.7 microseconds, the grid takes 10 ms


@dataclass(frozen=True, eq=False)
class Area:
    """Polygons, lines and points on the map; what meets one of them meets the area.

    Attributes:
        parts: polygons, lines and points of shapely, of longitudes from -180 to 180, (p,).
        bbox: west, south, east, north of the smallest box around them; west > east crosses the antimeridian.
    """

    parts: Shapes
    bbox: BBox

    @classmethod
    def from_geojson(cls, content: bytes | str, name: str = "the area") -> Area:
        """Read a geometry, a feature or a collection of features.

        Args:
            content: the file, at most 64 MiB.
            name: of the file, for errors.

        Raises:
            FilterError: no GeoJSON, coordinates that are not degrees, a ring that crosses itself, nothing in it.
        """
        try:
            shapes = np.array(shapes_of(content), dtype=np.object_)
        except FilterError as error:
            raise FilterError(f"{name}: {error}") from None
        shapely.prepare(shapes)
        return cls(shapes, _bbox_of(shapes))

    def meets(self, west: ArrayLike, south: ArrayLike, east: ArrayLike, north: ArrayLike) -> Mask:
        """Which footprints meet the area; none that is not known (nan).

        Shape: four of (n,) degrees -> (n,) bool.
        """
        w, s, e, n = (np.asarray(edge, dtype=np.float64) for edge in (west, south, east, north))
        crosses = w > e
        result = self._meets(w, s, np.where(crosses, 180.0, e), n)
        if crosses.any():  # the other half of those that cross the antimeridian
            result[crosses] |= self._meets(
                np.full(np.count_nonzero(crosses), -180.0), s[crosses], e[crosses], n[crosses]
            )
        return result

    def _meets(self, west: Edges, south: Edges, east: Edges, north: Edges) -> Mask:
        """As `meets`, of boxes that do not cross the antimeridian."""
        known = np.flatnonzero(~np.isnan(west))
        result = np.zeros(west.shape, dtype=np.bool_)
        if len(known) >= _WORTH_A_GRID:
            result, near = self._grid.decide(west, south, east, north)
            known = np.flatnonzero(near)
        boxes = _boxes(west[known], south[known], east[known], north[known])
        box, part = self._tree.query(boxes)  # pairs whose bounds meet
        met = shapely.intersects(self.parts[part], boxes[box])
        result[known[box[met]]] = True
        return result

    @cached_property
    def _grid(self) -> AreaGrid:
        return AreaGrid(self.parts, self._tree)

    @cached_property
    def _tree(self) -> Any:
        return shapely.STRtree(self.parts)


def _boxes(west: Edges, south: Edges, east: Edges, north: Edges) -> Shapes:
    """Rectangles; lines and points where they have no width or height, as GEOS wants."""
    boxes: Shapes = np.atleast_1d(shapely.box(west, south, east, north))
    flat = (west == east) | (south == north)
    if flat.any():
        corners = np.stack([west, south, east, north], axis=-1).reshape(-1, 2, 2)
        boxes[flat] = shapely.linestrings(corners[flat])
        point = (west == east) & (south == north)
        boxes[point] = shapely.points(corners[point, 0])
    return boxes


def _bbox_of(parts: Shapes) -> BBox:
    """The smallest box around all parts: what is left of the circle of longitudes without its widest gap."""
    bounds = shapely.bounds(parts)  # (p, 4)
    south, north = float(bounds[:, 1].min()), float(bounds[:, 3].max())
    bounds = bounds[np.argsort(bounds[:, 0])]
    ends = np.maximum.accumulate(bounds[:, 2])
    gaps = bounds[1:, 0] - ends[:-1]
    across = bounds[0, 0] + 360 - ends[-1]
    if len(gaps) == 0 or gaps.max() <= across:
        return float(bounds[0, 0]), south, float(ends[-1]), north
    widest = int(np.argmax(gaps))
    return float(bounds[widest + 1, 0]), south, float(ends[widest]), north
