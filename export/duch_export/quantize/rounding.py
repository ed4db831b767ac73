"""Weights to whole numbers, so that a layer's output changes least: GPTQ (Frantar et al., arXiv 2210.17323).

Rounding to the nearest makes each weight's error small; here what one weight loses is made up for by those that are not
rounded yet, as far as their inputs go together. Shapes: d inputs, o outputs of a linear layer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DAMPING = 0.01  # share of the mean square that is added to each input's, as in the paper
_BLOCK = 128  # rows whose errors reach the rest in one product, as in the paper


def round_weights(
    weights: NDArray[np.float64], squares: NDArray[np.float64], largest: int
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Weights as whole numbers, with one scale an output.

    Args:
        weights: (d, o).
        squares: (d, d), sum over calibration inputs x (d,) of the outer product of x with itself.
        largest: the numbers lie in -largest .. largest, at most 127.

    Returns:
        whole numbers (d, o) int8 and scales (o,); their product is close to `weights`.
    """
    scales = np.maximum(np.abs(weights).max(axis=0) / largest, np.finfo(np.float32).tiny)  # (o,)
    power = squares.diagonal()  # (d,)
    order = np.argsort(-power, kind="stable")  # the strongest inputs first, while there are others left to make up
    damped = squares[np.ix_(order, order)] + (_DAMPING * power.mean() + np.finfo(np.float32).tiny) * np.eye(len(power))
    # Row i of this factor says how the error of input i is spread over the inputs after it.
    spread = np.linalg.cholesky(np.linalg.inv(damped)).T  # (d, d), upper triangle
    left = weights[order]  # (d, o)
    rounded = np.empty_like(left)
    for start in range(0, len(left), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(left)))
        errors = np.empty_like(left[block])
        for i in range(block.start, block.stop):
            rounded[i] = np.clip(np.round(left[i] / scales), -largest, largest)
            error = (left[i] - rounded[i] * scales) / spread[i, i]  # (o,)
            left[i : block.stop] -= np.outer(spread[i, i : block.stop], error)
            errors[i - start] = error
        left[block.stop :] -= spread[block, block.stop :].T @ errors
    result = np.empty(weights.shape, dtype=np.int8)
    result[order] = rounded
    return result, scales
