"""Codes that benchmarks search in: random ones, and clustered ones as learned codes are."""

from __future__ import annotations

import numpy as np

from duch.codes import PackedCodes

CENTRES = 1000
_FLIPPED = round(0.1 * 2**16)  # of 2 ** 16: how often a bit differs from its centre's
_AT_ONCE = 100_000  # codes; a few tens of MB of random numbers


def random_codes(rng: np.random.Generator, n: int, n_bits: int) -> PackedCodes:
    """Independent bits. Shape: -> (n, n_bits / 8) uint8."""
    return rng.integers(0, 256, (n, n_bits // 8), dtype=np.uint8)


def near(rng: np.random.Generator, centres: PackedCodes) -> PackedCodes:
    """One code near each centre: each bit differs with a probability of 0.1.

    Shape: centres (n, n_bits / 8) uint8 -> the same.
    """
    codes = centres.copy()
    for start in range(0, len(codes), _AT_ONCE):
        part = codes[start : start + _AT_ONCE]
        draws = rng.integers(0, 2**16, (len(part), 8 * part.shape[1]), dtype=np.uint16)
        part ^= np.packbits(draws < _FLIPPED, axis=1)
    return codes


def clustered_codes(rng: np.random.Generator, centres: PackedCodes, n: int) -> PackedCodes:
    """Codes near centres drawn at random. Shape: centres (c, n_bits / 8) uint8 -> (n, n_bits / 8) uint8."""
    return near(rng, centres[rng.integers(0, len(centres), n)])
