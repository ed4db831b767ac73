"""Weights to whole numbers, so that a layer's output changes least: GPTQ (Frantar et al., arXiv 2210.17323).

Rounding to the nearest makes each weight's error small; here what one weight loses is made up for by those that are not
rounded yet, as far as their inputs go together. Shapes: d inputs, o outputs of a linear layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_DAMPING = 0.01  # share of the mean square that is added to each input's, as in the paper
_BLOCK = 128  # rows whose errors reach the rest in one product, as in the paper


def round_weights(
    weights: NDArray[Any], squares: NDArray[Any], largest: int
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Weights as whole numbers, with one scale an output.

    Args:
        weights: (d, o).
        squares: (d, d), sum over calibration inputs x (d,) of the outer product of x with itself.
        largest: the numbers lie in -largest .. largest, at most 127.

    Returns:
        whole numbers (d, o) int8 and scales (o,); their product is close to `weights`.
    """
    weights, squares = weights.astype(np.float64), squares.astype(np.float64)
    scales = np.maximum(np.abs(weights).max(axis=0) / largest, np.finfo(np.float32).tiny)  # (o,)
    power = squares.diagonal()  # (d,)
    order = np.argsort(-power, kind="stable")  # the strongest inputs first, while there are others left to make up
    damped = squares[np.ix_(order, order)]
    damped[np.diag_indices_from(damped)] += _DAMPING * power.mean() + np.finfo(np.float32).tiny
    spread = _inverse_factor(damped)  # (d, d), row i: how the error of input i is spread over the inputs after it
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


def _inverse_factor(matrix: NDArray[Any]) -> NDArray[Any]:
    """The upper triangle u of which u.T @ u is the inverse of a positive definite matrix. Shape: (d, d).

    Backwards, Cholesky's lower triangle is an upper one, and a triangle is inverted in a sixth of the time.
    """
    backwards = torch.from_numpy(matrix).flip(0, 1)
    upper = torch.linalg.cholesky(backwards).flip(0, 1)  # matrix = upper @ upper.T
    return torch.linalg.solve_triangular(upper, torch.eye(len(matrix), dtype=upper.dtype), upper=True).numpy()
