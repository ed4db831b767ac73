"""A grid over an area, which decides most footprints by the cells that they touch.

Where a cell lies in the area, what touches it meets the area; where no cell that a footprint touches has anything of
the area, it does not. What is left lies at the area's edge, and is for GEOS to decide. Nothing is approximate.

Shapes: n footprints, p parts of the area.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Edges = NDArray[np.float64]

_SIDE = 64  # cells from west to east, and from south to north
# Degrees by which cells overlap, far more than the rounding errors when the cell of a place is computed.
_MARGIN = 1e-9


class AreaGrid:
    """Cells over the bounds of an area, and how each lies to it."""

    def __init__(self, parts: NDArray[np.object_], tree: Any) -> None:
        """Compare each cell with the area.

        Args:
            parts: prepared shapes, (p,).
            tree: an STRtree of them.
        """
        west, south, east, north = self._bounds = shapely.total_bounds(parts)
        self._origin = np.array([west, south])
        self._cell = np.maximum([east - west, north - south], 1e-3) / _SIDE  # a point has a grid too
        x, y = (self._origin[axis] + self._cell[axis] * np.arange(_SIDE + 1) for axis in (0, 1))
        cells = shapely.box(
            *(x[None, :-1] - _MARGIN, y[:-1, None] - _MARGIN, x[None, 1:] + _MARGIN, y[1:, None] + _MARGIN)
        ).reshape(-1)
        cell, part = tree.query(cells)
        near, within = np.zeros((2, _SIDE * _SIDE), dtype=np.bool_)
        near[cell[shapely.intersects(parts[part], cells[cell])]] = True
        within[cell[shapely.covers(parts[part], cells[cell])]] = True
        self._near, self._within = _sums(near), _sums(within)

    def decide(self, west: Edges, south: Edges, east: Edges, north: Edges) -> tuple[Mask, Mask]:
        """Which footprints meet the area for certain, and which may; none that is not known (nan).

        Shape: four of (n,) degrees, west <= east -> two of (n,) bool.
        """
        left, below, right, above = self._bounds
        meets = (west <= right) & (east >= left) & (south <= above) & (north >= below)
        rows = np.flatnonzero(meets)
        first_x, last_x = self._index(west[rows], 0), self._index(east[rows], 0) + 1
        first_y, last_y = self._index(south[rows], 1), self._index(north[rows], 1) + 1

        def any_of(sums: NDArray[np.int32]) -> Mask:
            upper, lower = sums[last_y, last_x] - sums[last_y, first_x], sums[first_y, last_x] - sums[first_y, first_x]
            return np.asarray(upper != lower)

        within = any_of(self._within)
        may = np.zeros_like(meets)
        may[rows] = any_of(self._near) & ~within
        meets[rows] = within
        return meets, may

    def _index(self, degrees: Edges, axis: int) -> NDArray[np.int64]:
        index = np.floor((degrees - self._origin[axis]) / self._cell[axis])
        return np.asarray(index.clip(0, _SIDE - 1), dtype=np.int64)


def _sums(cells: Mask) -> NDArray[np.int32]:
    """How many of the cells south-west of each corner there are, so that four corners count those of a rectangle."""
    sums = np.zeros((_SIDE + 1, _SIDE + 1), dtype=np.int32)
    sums[1:, 1:] = cells.reshape(_SIDE, _SIDE).cumsum(axis=0).cumsum(axis=1)
    return sums
