"""Which rows of a gallery lie in a bounding box and a span of time, from its columns file alone.

A tile is in a box where the two closed rectangles meet; a west edge greater than the east edge crosses the
antimeridian, in the box and in the tile. A tile without a footprint is in no box, one without a time in no span.

Shapes: n rows, m of them, g groups.
"""

from __future__ import annotations

import ctypes
import math
import sys
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from . import native
from .allowed_rows import Mask
from .columns_file import GROUP_ROWS, NO_TIME, Columns, Table
from .errors import FilterError

BBox = tuple[float, float, float, float]

# Groups compared at a time, so that columns and masks stay in the second-level cache.
_GROUPS_AT_ONCE = 8
_FIRST_TIME, _LAST_TIME = NO_TIME + 1, 2**63 - 1


class _Bounds(ctypes.Structure):
    """region_bounds of runtime/native/region.h."""

    _fields_ = (
        *((edge, ctypes.c_double) for edge in ("west", "south", "east", "north")),
        *((time, ctypes.c_int64) for time in ("first_us", "last_us")),
        *((which, ctypes.c_int32) for which in ("has_bbox", "has_time")),
    )


def check(*, bbox: BBox | None = None, since_us: int | None = None, until_us: int | None = None) -> None:
    """Refuse a box that is none, and a span that holds no time.

    Args:
        bbox: west, south, east, north in degrees, EPSG:4326.
        since_us: earliest time, microseconds since 1970 UTC.
        until_us: the first time that is too late.

    Raises:
        FilterError: an edge that is no coordinate, south above north; since not before until.
    """
    if bbox is not None:
        found = f"the bounding box is {','.join(map(str, bbox))}"
        if len(bbox) != 4 or not all(map(math.isfinite, bbox)):
            raise FilterError(f"{found}; wanted four numbers: west, south, east, north")
        west, south, east, north = bbox
        if not (-180 <= west <= 180 and -180 <= east <= 180):
            raise FilterError(f"{found}; wanted west and east from -180 to 180, west > east across the antimeridian")
        if not -90 <= south <= north <= 90:
            raise FilterError(f"{found}; wanted west, south, east, north with -90 <= south <= north <= 90")
    for time in (since_us, until_us):
        if time is not None and not _FIRST_TIME <= time <= _LAST_TIME:
            raise FilterError(f"the time {time} does not fit 64 bits; wanted microseconds since 1970 UTC")
    if since_us is not None and until_us is not None and since_us >= until_us:
        raise FilterError(
            f"the span from {_time_text(since_us)} until {_time_text(until_us)} is empty; wanted since before until"
        )


def _time_text(time_us: int) -> str:
    """A time as people write it, where the calendar goes so far."""
    try:
        return f"{datetime(1970, 1, 1) + timedelta(microseconds=time_us)}".replace(" ", "T") + "Z"
    except OverflowError:
        return f"{time_us} microseconds"


def select(
    columns: Columns, *, bbox: BBox | None = None, since_us: int | None = None, until_us: int | None = None
) -> Mask:
    """Rows in a box and with since_us <= time < until_us; None for any. The arguments are checked by the caller.

    Shape: -> (n,) bool.
    """
    mask = np.empty((len(columns.groups), GROUP_ROWS), dtype=np.bool_)
    library = native.library() if sys.byteorder == "little" else None
    if library is not None:
        first_us = _FIRST_TIME if since_us is None else since_us
        last_us = _LAST_TIME if until_us is None else until_us - 1
        has_time = (since_us, until_us) != (None, None)
        bounds = _Bounds(*(bbox or (0, 0, 0, 0)), first_us, last_us, bbox is not None, has_time)
        if library.region_select(columns.groups.ctypes.data, columns.n, ctypes.byref(bounds), mask.ctypes.data):
            raise RuntimeError("the native library refused the columns or the region")  # the caller has checked them
    else:
        for start in range(0, len(mask), _GROUPS_AT_ONCE):
            part = slice(start, start + _GROUPS_AT_ONCE)
            mask[part] = inside(columns.groups[part], bbox=bbox, since_us=since_us, until_us=until_us)
    return mask.reshape(-1)[: columns.n]


def inside(
    table: Table, *, bbox: BBox | None = None, since_us: int | None = None, until_us: int | None = None
) -> NDArray[np.bool_]:
    """As `select`, of rows that were read.

    Shape: table (m,) of ROW -> (m,) bool, or (g,) of GROUP -> (g, 4096) bool.
    """
    time = table["time_us"]
    mask = np.ones(time.shape, dtype=np.bool_)
    if since_us is not None or until_us is not None:
        mask &= time >= (_FIRST_TIME if since_us is None else since_us)
        if until_us is not None:
            mask &= time < until_us
    if bbox is None or not mask.any():  # neighbours are often of one time, and of one place
        return mask
    west, south, east, north = bbox
    mask &= table["south"] <= north
    mask &= table["north"] >= south
    if not mask.any():
        return mask
    # Longitudes meet where the tile begins west of the box's east edge and ends east of its west edge. A rectangle
    # that crosses the antimeridian makes up for one of the two, and two that cross meet there.
    begins, ends = table["west"] <= east, table["east"] >= west
    crosses = table["west"] > table["east"]
    if west > east:
        mask &= begins | ends | crosses
    else:
        mask &= (begins & ends) | ((begins | ends) & crosses)
    return mask
