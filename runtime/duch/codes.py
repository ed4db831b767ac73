"""Binary codes: the threshold, the bit order and the padding, decided here and nowhere else.

A relaxed code is a float vector (b,); its bit j is 1 where relaxed[j] >= 0, so zero is 1. A packed code holds eight
bits a byte, most significant bit first, as `np.packbits` does: bit 0 of the code is the 128s place of byte 0. n_bits is
a multiple of 8, so there is no padding.

Shapes: n codes, b = n_bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import CodesError

PackedCodes = NDArray[np.uint8]


MAX_N_BITS = 1 << 20  # far beyond any use; what a file says must not decide how much memory a code takes


def check_n_bits(n_bits: int) -> int:
    """Return n_bits if it is a code length that duch can pack.

    Raises:
        CodesError: n_bits is not a positive multiple of 8, or beyond MAX_N_BITS.
    """
    if not 8 <= n_bits <= MAX_N_BITS or n_bits % 8:
        raise CodesError(f"n_bits is {n_bits}; wanted a positive multiple of 8, such as 16, 32, 64 or 128")
    return n_bits


def binarize(relaxed: ArrayLike) -> NDArray[np.bool_]:
    """Bits of relaxed codes: True where relaxed >= 0.

    Shape: (n, b) float -> (n, b) bool.

    Raises:
        CodesError: a value is NaN, which is neither side of the threshold.
    """
    values = np.asarray(relaxed)
    if np.isnan(values).any():
        raise CodesError("relaxed codes hold NaN; the features or the model that made them are broken")
    return np.asarray(values >= 0)


def pack_codes(bits: ArrayLike) -> PackedCodes:
    """Pack bits into bytes, most significant bit first.

    Shape: (n, b) bool or 0/1 -> (n, b / 8) uint8.

    Raises:
        CodesError: b is not a multiple of 8.
    """
    array = np.asarray(bits, dtype=np.bool_)
    check_n_bits(array.shape[-1])
    return np.packbits(array, axis=-1)


def unpack_codes(codes: PackedCodes) -> NDArray[np.bool_]:
    """Bits of packed codes, the inverse of `pack_codes`.

    Shape: (n, b / 8) uint8 -> (n, b) bool.
    """
    return np.unpackbits(check_codes(codes), axis=-1).astype(np.bool_)


def check_codes(codes: ArrayLike, n_bits: int | None = None) -> PackedCodes:
    """Return codes as a two-dimensional uint8 array, or say what is wrong with them.

    Shape: (n, n_bits / 8) uint8.

    Raises:
        CodesError: wrong type, number of dimensions or width.
    """
    array = np.asarray(codes)
    if array.dtype != np.uint8:
        raise CodesError(f"codes are {array.dtype}; wanted packed codes of type uint8 (see duch.pack_codes)")
    if array.ndim != 2:
        raise CodesError(f"codes have shape {array.shape}; wanted (n, n_bits / 8)")
    if array.shape[1] == 0:
        raise CodesError("codes have no bits; wanted shape (n, n_bits / 8)")
    if n_bits is not None and array.shape[1] * 8 != n_bits:
        raise CodesError(f"codes have {array.shape[1] * 8} bits; wanted {n_bits}")
    return array
