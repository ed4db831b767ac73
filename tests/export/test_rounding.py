"""GPTQ against its definition: after each weight is rounded, the rest is the least-squares answer to what was lost."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from duch_export.quantize.rounding import round_weights


def problem(d: int, o: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (d, o), and the squares of inputs whose channels go together."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(4 * d, d // 2 + 1)) @ rng.normal(size=(d // 2 + 1, d)) + 0.1 * rng.normal(size=(4 * d, d))
    return rng.normal(size=(d, o)), inputs.T @ inputs


def slowly(weights: NDArray[np.float64], squares: NDArray[np.float64], largest: int) -> NDArray[np.float64]:
    """One input after the other; those not yet rounded are solved for anew each time."""
    scales = np.abs(weights).max(axis=0) / largest
    damped = squares + 0.01 * squares.diagonal().mean() * np.eye(len(squares))
    order = np.argsort(-squares.diagonal(), kind="stable")
    rounded, left = np.zeros_like(weights), weights.copy()
    for step, i in enumerate(order):
        rounded[i] = np.clip(np.round(left[i] / scales), -largest, largest)
        done, rest = order[: step + 1], order[step + 1 :]
        lost = weights[done] - rounded[done] * scales
        if len(rest):
            left[rest] = weights[rest] + np.linalg.solve(damped[np.ix_(rest, rest)], damped[np.ix_(rest, done)] @ lost)
    return rounded


@pytest.mark.parametrize(("d", "o"), [(1, 3), (12, 5), (150, 4)])  # 150: more than one block
@pytest.mark.parametrize("largest", [63, 127])
def test_is_the_least_squares_answer_at_each_step(d: int, o: int, largest: int) -> None:
    weights, squares = problem(d, o)
    numbers, scales = round_weights(weights, squares, largest)
    assert numbers.dtype == np.int8
    np.testing.assert_allclose(scales, np.abs(weights).max(axis=0) / largest)
    np.testing.assert_array_equal(numbers, slowly(weights, squares, largest))


def test_loses_less_than_rounding_to_the_nearest() -> None:
    weights, squares = problem(64, 8)
    numbers, scales = round_weights(weights, squares, 63)
    nearest = np.round(weights / scales)
    ours, theirs = (
        np.einsum("do,de,eo->", loss, squares, loss) for loss in (weights - q * scales for q in (numbers, nearest))
    )
    assert ours < 0.5 * theirs


def test_inputs_that_do_not_go_together_are_rounded_to_the_nearest() -> None:
    weights, _ = problem(20, 3)
    numbers, scales = round_weights(weights, np.diag(np.arange(1.0, 21)), 127)
    np.testing.assert_array_equal(numbers, np.round(weights / scales))


def test_dead_inputs_and_outputs_stay_finite() -> None:
    weights, squares = problem(6, 3)
    weights[:, 1] = 0  # an output of zeros
    squares[2] = squares[:, 2] = 0  # an input that never was anything
    numbers, scales = round_weights(weights, squares, 63)
    assert not numbers[:, 1].any()
    assert np.isfinite(scales).all()
    assert not round_weights(weights, np.zeros((6, 6)), 63)[0][:, 1].any()
