"""Values into pixels, against the same written out for one value at a time in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from duch.geo.values import range_of, to_pixels

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
ROUND_NUMBERS = st.integers(-(10**6), 10**6).map(float)


def everywhere(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, dtype=bool)


def near(value: float, low: float, high: float) -> set[int]:
    """The nearest level, or both where a value lies in the middle to within a float's precision."""
    if math.isnan(value):
        return {0}
    if math.isinf(value):
        return {255 if value > 0 else 0}
    level = (Fraction(value) - Fraction(low)) / (Fraction(high) - Fraction(low)) * 255
    level = min(max(level, Fraction(0)), Fraction(255))
    slack = Fraction(1, 10_000)
    return {math.floor(level + Fraction(1, 2) - slack), math.floor(level + Fraction(1, 2) + slack)}


@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
@given(data=st.data(), low=ROUND_NUMBERS, span=st.integers(1, 10**6))
def test_line_through_low_and_high(data: st.DataObject, dtype: str, low: float, span: int) -> None:
    values = data.draw(arrays(dtype, (1, 2, 5)))
    pixels = to_pixels(values, everywhere(values), ((low, low + span),))
    for value, pixel in zip(values.ravel().tolist(), pixels.reshape(-1, 3).tolist(), strict=True):
        assert pixel[0] == pixel[1] == pixel[2]
        assert pixel[0] in near(value, low, low + span)


def test_every_value_of_16_bits() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256)
    pixels = to_pixels(values, everywhere(values), ((312.0, 2876.0),))[..., 0]
    exact = (values[0].astype(np.longdouble) - 312) * 255 / (2876 - 312)
    assert np.abs(np.clip(exact, 0, 255) - pixels).max() <= 0.5 + 1e-4


@given(values=arrays("uint8", (3, 4, 5)), valid=arrays(bool, (3, 4, 5)))
def test_bytes_as_they_are(values: np.ndarray[Any, Any], valid: np.ndarray[Any, Any]) -> None:
    pixels = to_pixels(values, valid, None)
    np.testing.assert_array_equal(pixels, (values * valid).transpose(1, 2, 0))
    np.testing.assert_array_equal(to_pixels(values, valid, ((0.0, 255.0),)), pixels)


def test_a_range_for_each_band() -> None:
    values = np.full((3, 1, 1), 50, dtype=np.int16)
    pixels = to_pixels(values, everywhere(values), ((0, 100), (-50, 100), (50, 51)))
    assert pixels.ravel().tolist() == [128, 170, 0]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e308, -1e308])
@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1e308, 1e308), (0.0, 5e-324)])
def test_values_beyond_all_measure_warn_of_nothing(value: float, limits: tuple[float, float]) -> None:
    values = np.full((1, 1, 1), value)
    with np.errstate(all="raise", under="ignore"):
        pixel = to_pixels(values, everywhere(values), (limits,))[0, 0, 0]
    if limits[1] == 1:
        assert pixel == (255 if value > 0 else 0)


def test_no_data_is_black_in_the_band_that_has_none() -> None:
    values = np.full((3, 1, 2), 9, dtype=np.uint8)
    valid = np.ones((3, 1, 2), dtype=bool)
    valid[1, 0, 1] = False
    assert to_pixels(values, valid, None).tolist() == [[[9, 9, 9], [9, 0, 9]]]


def test_range_between_percentiles() -> None:
    values = np.arange(101, dtype=np.uint16) * 10
    assert range_of(values, (2, 98)) == (20, 980)
    assert range_of(np.array([3, np.nan, np.inf, 5, -np.inf]), (0, 100)) == (3, 5)
    assert range_of(np.array([1 / 3]), (0, 50)) == (0.333333, 0.333333)
    assert range_of(np.array([np.nan, np.inf]), (0, 100)) is None
    assert range_of(np.array([], dtype=np.int16), (0, 100)) is None
