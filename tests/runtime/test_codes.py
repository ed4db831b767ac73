"""Threshold, bit order and padding of codes."""

from __future__ import annotations

import numpy as np
import pytest

from duch.codes import binarize, check_codes, check_n_bits, pack_codes, unpack_codes
from duch.errors import CodesError


def test_zero_is_one_whatever_its_sign() -> None:
    assert binarize([[-1e-30, -0.0, 0.0, 1e-30]]).tolist() == [[False, True, True, True]]


def test_most_significant_bit_comes_first() -> None:
    assert pack_codes([[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]]).tolist() == [[0x80, 0x03]]


@pytest.mark.parametrize("n_bits", [8, 16, 64, 128, 264])
def test_unpacking_inverts_packing(n_bits: int) -> None:
    bits = np.random.default_rng(0).random((7, n_bits)) < 0.5
    codes = pack_codes(bits)
    assert codes.shape == (7, n_bits // 8)
    assert codes.dtype == np.uint8
    assert np.array_equal(unpack_codes(codes), bits)


def test_no_codes_keep_their_width() -> None:
    assert pack_codes(np.zeros((0, 64), bool)).shape == (0, 8)
    assert unpack_codes(np.zeros((0, 8), np.uint8)).shape == (0, 64)


def test_nan_is_no_bit() -> None:
    with pytest.raises(CodesError, match="NaN"):
        binarize([[0.5, float("nan")]])


@pytest.mark.parametrize("n_bits", [0, -8, 7, 12, 65])
def test_lengths_that_do_not_fill_bytes_are_refused(n_bits: int) -> None:
    with pytest.raises(CodesError, match="multiple of 8"):
        check_n_bits(n_bits)


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        (np.zeros((2, 8), np.int64), "int64"),
        (np.zeros((2, 8), np.float32), "float32"),
        (np.zeros(8, np.uint8), "shape"),
        (np.zeros((2, 0), np.uint8), "no bits"),
        (np.zeros((2, 4), np.uint8), "32 bits; wanted 64"),
    ],
)
def test_arrays_that_are_no_codes_are_told_why(codes: np.ndarray, told: str) -> None:
    with pytest.raises(CodesError, match=told):
        check_codes(codes, 64)
