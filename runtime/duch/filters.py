"""What a search is limited to, before anything is compared: place, time, attributes, ids.

    filters = Filters(bbox=(5.0, 45.0, 15.0, 55.0), since_us=time_us("2024-06-01"), where=parse("cloud < 10"))
    hits = gallery.search(codes, 10, filters=filters)

A search takes the nearest of the tiles that pass, so results stay exact however few pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from . import region
from .errors import FilterError
from .region import BBox
from .where import Where, to_sqlite

if TYPE_CHECKING:
    from .geo.area import Area  # needs shapely

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Conditions that all must hold; None for no condition.

    Attributes:
        bbox: west, south, east, north in degrees, EPSG:4326; the tile's footprint meets it. West > east crosses the
            antimeridian.
        area: the footprint's box meets this area, from `duch.geo.area.Area.from_geojson`.
        since_us: earliest acquisition time, microseconds since 1970 UTC.
        until_us: the first time that is too late.
        where: an expression on ids and attributes, from `duch.where_parser.parse`.
        ids: the tile is one of these; ids that no tile has are passed over.
        max_distance: largest distance from the query, in bits.

    Raises:
        FilterError: a bounding box or a time that is none, a negative distance, an id or a name that is no UTF-8.
    """

    bbox: BBox | None = None
    area: Area | None = None
    since_us: int | None = None
    until_us: int | None = None
    where: Where | None = None
    ids: tuple[str, ...] | None = None
    max_distance: int | None = None

    def __post_init__(self) -> None:
        region.check(bbox=self.bbox, since_us=self.since_us, until_us=self.until_us)
        if self.where is not None:
            to_sqlite(self.where)  # refuses names early, before a model is loaded
        # One look at all of them: there may be many, and each search of the text costs more than it reads.
        if self.ids is not None and _NO_TEXT.search("".join(self.ids)):
            found = next(filter(_NO_TEXT.search, self.ids))
            raise FilterError(f"the id {found!a} is no UTF-8, or holds NUL; wanted the id of a tile")
        if self.max_distance is not None and self.max_distance < 0:
            raise FilterError(f"the largest distance is {self.max_distance}; wanted at least 0 bits")

    @property
    def selects_tiles(self) -> bool:
        """Whether tiles are left out whatever the query."""
        return self.has_region or self.where is not None or self.ids is not None

    @property
    def has_region(self) -> bool:
        """Whether place or time are limited."""
        return (self.bbox, self.area, self.since_us, self.until_us) != (None,) * 4


def bbox_of(text: str) -> BBox:
    """The bounding box that "W,S,E,N" writes, in degrees.

    Raises:
        FilterError: not four numbers.
    """
    try:
        west, south, east, north = map(float, text.split(","))
    except ValueError:
        raise FilterError(
            f"the bounding box is {text!r}; wanted west,south,east,north in degrees, such as 5.9,45.8,10.5,47.8"
        ) from None
    return west, south, east, north


def time_us(text: str) -> int:
    """Microseconds since 1970 UTC of a date or time in ISO 8601; UTC where it names no zone.

    Raises:
        FilterError: no such time.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise FilterError(
            f"the time is {text!r}; wanted ISO 8601, such as 2024-06-01, 2024-06-01T12:00:00Z or "
            "2024-06-01T14:00:00+02:00"
        ) from None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)
