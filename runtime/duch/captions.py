"""Where, when and how near a hit is, in the few words that a picture or a page has room for."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .region import BBox  # loads numpy, and `duch search --help` does without it
    from .tile import Hit


def time_text(time_us: int | None) -> str | None:
    """A time in ISO 8601, such as 2024-05-01T10:32:45Z; None for none, and for one beyond the years 1 to 9999.

    Args:
        time_us: microseconds since 1970 UTC.
    """
    if time_us is None:
        return None
    try:
        return (datetime(1970, 1, 1) + timedelta(microseconds=time_us)).isoformat() + "Z"
    except OverflowError:
        return None


def short_time(time_us: int | None) -> str | None:
    """A time to the minute, such as 2024-05-01 10:32 UTC; None where `time_text` has none."""
    text = time_text(time_us)
    return None if text is None else f"{text[:10]} {text[11:16]} UTC"


def is_on_map(footprint: BBox) -> bool:
    """Whether a bounding box is one in degrees; a gallery may come from anywhere. Longitudes up to 360 are known."""
    west, south, east, north = footprint
    return -90 <= south <= north <= 90 and max(abs(west), abs(east)) <= 360


def centre_of(footprint: BBox) -> tuple[float, float]:
    """Longitude from -180 to 180 and latitude of the middle of a bounding box, in degrees."""
    west, south, east, north = footprint
    if west > east:  # crosses the antimeridian
        east += 360
    longitude = (west + east) / 2
    return longitude - 360 if longitude > 180 else longitude, (south + north) / 2


def place_text(footprint: BBox | None) -> str | None:
    """The middle of a bounding box, such as 47.37 N 8.54 E; the smaller the box, the more decimals.

    None where there is none on the map.
    """
    if footprint is None or not is_on_map(footprint):
        return None
    height = footprint[3] - footprint[1]
    decimals = min(5, max(2, 1 + math.ceil(-math.log10(height)))) if height > 0 else 5
    longitude, latitude = (round(number, decimals) for number in centre_of(footprint))
    return (
        f"{abs(latitude):.{decimals}f} {'S' if latitude < 0 else 'N'} "
        f"{abs(longitude):.{decimals}f} {'W' if longitude < 0 else 'E'}"
    )


def distance_text(hit: Hit) -> str:
    """How far a code is from the query's, such as 3 bits."""
    return "1 bit" if hit.distance == 1 else f"{hit.distance} bits"
