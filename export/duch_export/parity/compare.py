"""Codes of two engines on the same inputs: how many bits agree, and how near to zero those lay that do not.

Shapes: n samples, b = n_bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duch.codes import PackedCodes, unpack_codes

from .engines import Engine, Outputs
from .samples import Batches

NEAR = 0.05  # |relaxed| below this is near the threshold
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 20  # of |relaxed|, from 0 to 1: each is as wide as NEAR


@dataclass(frozen=True)
class Agreement:
    """Codes of two engines on the same inputs.

    Attributes:
        bits: share of equal bits.
        codes: share of codes of which every bit is equal.
    """

    bits: float
    codes: float


@dataclass(frozen=True)
class Margins:
    """|relaxed| of ONNX fp32, for all bits and for those that flip in the bundle's graph.

    A sound int8 graph flips what was near zero anyway. Flips far from zero are a fault.

    Attributes:
        bits: how many were compared.
        flips: how many of them differ.
        flips_near_zero: share of the flips with |relaxed| < `NEAR`; None where nothing flips.
        all_near_zero: share of all bits with |relaxed| < `NEAR`.
        quantiles: which quantiles the next two are.
        all_quantiles: |relaxed| of all bits.
        flip_quantiles: |relaxed| of the flips; empty where nothing flips.
        all_histogram: number of bits in `BINS` equal bins of |relaxed| from 0 to 1.
        flip_histogram: the same for the flips.
    """

    bits: int
    flips: int
    flips_near_zero: float | None
    all_near_zero: float
    quantiles: tuple[float, ...]
    all_quantiles: tuple[float, ...]
    flip_quantiles: tuple[float, ...]
    all_histogram: tuple[int, ...]
    flip_histogram: tuple[int, ...]


def agreement(ours: PackedCodes, theirs: PackedCodes) -> Agreement:
    """How far two sets of packed codes agree. Shape: (n, b / 8), (n, b / 8)."""
    equal = unpack_codes(ours) == unpack_codes(theirs)  # (n, b)
    return Agreement(bits=float(equal.mean()), codes=float(equal.all(axis=1).mean()))


def margins(fp32: Outputs, codes: PackedCodes) -> Margins:
    """The margins of the bits that differ. Shape: codes (n, b / 8)."""
    margin = np.nan_to_num(np.abs(fp32.relaxed))  # (n, b)
    flipped = margin[unpack_codes(fp32.codes) != unpack_codes(codes)]
    near = (flipped < NEAR).mean() if len(flipped) else None
    return Margins(
        bits=margin.size,
        flips=len(flipped),
        flips_near_zero=None if near is None else float(near),
        all_near_zero=float((margin < NEAR).mean()),
        quantiles=QUANTILES,
        all_quantiles=_quantiles(margin),
        flip_quantiles=_quantiles(flipped),
        all_histogram=_histogram(margin),
        flip_histogram=_histogram(flipped),
    )


def constant_bits(codes: PackedCodes) -> float:
    """Share of the b bits that are the same in every code, and so tell nothing apart. Shape: (n, b / 8)."""
    bits = unpack_codes(codes)
    return float((bits == bits[0]).all(axis=0).mean())


def saturated(relaxed: NDArray[np.float32]) -> float:
    """Share of relaxed values that are all but -1 or 1. Shape: (n, b)."""
    return float((np.abs(relaxed) > 0.999).mean())


def codes_are_signs(outputs: Outputs) -> float:
    """Share of packed codes that are the signs of their own relaxed codes, most significant bit first."""
    wanted = np.packbits(outputs.relaxed >= 0, axis=1)
    return float((outputs.codes == wanted).all(axis=1).mean())


def unchanged(engine: Engine, alone: PackedCodes, batches: Batches) -> float:
    """Share of codes that are the same in a batch as alone. Shape: alone (n, b / 8)."""
    same = [(engine(feed).codes[: len(rows)] == alone[rows]).all(axis=1) for rows, feed in batches]
    return float(np.concatenate(same).mean())


def stacked(parts: Iterable[Outputs]) -> Outputs:
    """The outputs of several runs as those of one."""
    codes, relaxed = zip(*parts, strict=True)
    return Outputs(np.concatenate(codes), np.concatenate(relaxed))


def _quantiles(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in np.quantile(values, QUANTILES)) if values.size else ()


def _histogram(values: NDArray[Any]) -> tuple[int, ...]:
    counts, _ = np.histogram(np.minimum(values, 1), bins=BINS, range=(0, 1))
    return tuple(counts.tolist())
