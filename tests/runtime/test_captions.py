"""Words for places, times and distances."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duch.captions import centre_of, distance_text, place_text, short_time, time_text

from .some_hits import NOON_US, some_hit


@pytest.mark.parametrize(
    ("time_us", "text"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00Z"),
        (NOON_US, "2024-05-01T12:00:00Z"),
        (NOON_US + 1, "2024-05-01T12:00:00.000001Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (2**63 - 1, None),
        (-(2**63) + 1, None),
    ],
)
def test_times_are_iso_8601(time_us: int | None, text: str | None) -> None:
    assert time_text(time_us) == text


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_a_time_of_the_calendar_comes_back(time_us: int) -> None:
    text = time_text(time_us)
    assert text is not None
    delta = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    assert (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds == time_us


def test_a_caption_gives_the_time_to_the_minute() -> None:
    assert short_time(NOON_US + 59_999_999) == "2024-05-01 12:00 UTC"
    assert short_time(None) is None


@pytest.mark.parametrize(
    ("footprint", "text"),
    [
        (None, None),
        ((0, -1e308, 1, 1e308), None),
        ((0, 50, 1, 40), None),
        ((8.5, 47.3, 8.6, 47.4), "47.35 N 8.55 E"),
        ((-60, -30, -50, -20), "25.00 S 55.00 W"),
        ((8.54, 47.37, 8.5401, 47.3701), "47.37005 N 8.54005 E"),
        ((8.5, 47.3, 8.5, 47.3), "47.30000 N 8.50000 E"),
        ((179, 0, -177, 1), "0.50 N 179.00 W"),
        ((177, 0, -179, 1), "0.50 N 179.00 E"),
        ((179, -1, -179, 1), "0.00 N 180.00 E"),
        ((-0.001, -0.001, -0.001, 0), "0.0005 S 0.0010 W"),
    ],
)
def test_places_are_the_middle_of_the_footprint(footprint: tuple[float, ...] | None, text: str | None) -> None:
    assert place_text(footprint) == text  # type: ignore[arg-type]


@given(st.floats(-180, 180), st.floats(0, 359), st.floats(-90, 90), st.floats(0, 180))
def test_the_middle_of_a_box_lies_in_it(west: float, width: float, south: float, height: float) -> None:
    east = west + width if west + width <= 180 else west + width - 360
    longitude, latitude = centre_of((west, south, east, south + height))
    assert -180 <= longitude <= 180
    assert math.remainder(longitude - west - width / 2, 360) == pytest.approx(0, abs=1e-9)
    assert latitude == pytest.approx(south + height / 2)


def test_one_bit_is_not_several() -> None:
    assert distance_text(some_hit(distance=1)) == "1 bit"
    assert distance_text(some_hit(distance=0)) == "0 bits"
