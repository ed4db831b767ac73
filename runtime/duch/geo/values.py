"""Values of bands into pixels of 8 bits.

Shapes: n bands, one or three; h rows; w columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .settings import Range


def to_pixels(
    values: NDArray[np.number], valid: NDArray[np.bool_], ranges: tuple[Range, ...] | None
) -> NDArray[np.uint8]:
    """Pixels of what a scene holds: by a line through (low, 0) and (high, 255), clipped, rounded to the nearest.

    Infinities are values like others, beyond every range. Where a band has no data it is 0. One band becomes grey.

    Shape: (n, h, w), (n, h, w) or (1, h, w) -> (h, w, 3).

    Args:
        values: of any real type.
        valid: where a band has data, which NaN is not.
        ranges: (low, high) of all bands, or of each; None for uint8 values as they are.
    """
    n, height, width = values.shape
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for band in range(n):
        level = values[band] if ranges is None else _levels(values[band], ranges[band % len(ranges)])
        pixels[..., band] = np.where(valid[band % len(valid)], level, 0)
    if n == 1:
        pixels[..., 1:] = pixels[..., :1]
    return pixels


def _levels(values: NDArray[np.number], limits: Range) -> NDArray[np.uint8]:
    low, high = limits
    # 16 bits are exact in binary32, which takes a tenth of the time.
    levels: NDArray[Any] = values.astype(
        np.float32 if values.dtype.kind in "iu" and values.dtype.itemsize < 4 else np.float64
    )
    with np.errstate(over="ignore", invalid="ignore"):
        levels -= low
        levels *= 255 / (high - low)
    np.fmax(levels, 0, out=levels)  # fmax turns NaN into 0
    np.fmin(levels, 255, out=levels)
    np.rint(levels, out=levels)
    return levels.astype(np.uint8)


def range_of(values: NDArray[np.number], percentiles: tuple[float, float]) -> Range | None:
    """The range between two percentiles, to 6 significant digits; None where there are no finite values.

    Shape: (any number,).
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    low, high = np.percentile(finite.astype(np.float64), percentiles)
    return float(f"{low:.6g}"), float(f"{high:.6g}")
