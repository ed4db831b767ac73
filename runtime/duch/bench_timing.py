"""How a case of `duch bench` is timed: warm-up, runs, percentiles, energy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .energy import Meter

CaseGraph = Literal["image", "text", "search"]
Stage = Literal["cold", "graph", "whole", "scan"]

_WARM_UP_RUNS, _FEWEST_RUNS = 3, 5


@dataclass(frozen=True)
class Case:
    """One thing that was timed; the docstring of `duch.bench` says what each member is."""

    graph: CaseGraph
    stage: Stage
    batch: int
    size: int
    runs: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    per_second: float
    joules: float | None = None
    peak_mb: float | None = None


@dataclass(frozen=True)
class Limit:
    """How long a case runs: `repeats` times if that is given, else `seconds`, but `_FEWEST_RUNS` times at least."""

    seconds: float
    repeats: int | None = None

    def repeat(self, run: Callable[[], object]) -> list[float]:
        """Seconds of each run."""
        spent: list[float] = []
        end = time.perf_counter() + self.seconds
        while len(spent) < (self.repeats or _FEWEST_RUNS) or (self.repeats is None and time.perf_counter() < end):
            start = time.perf_counter()
            run()
            spent.append(time.perf_counter() - start)
        return spent


def warm_case(
    graph: CaseGraph,
    stage: Stage,
    batch: int,
    size: int,
    run: Callable[[], object],
    limit: Limit,
    meter: Meter | None,
) -> Case:
    """Time a piece of work that is repeated in this process, and count its energy if there is a meter."""
    for _ in range(_WARM_UP_RUNS):
        run()
    seconds = limit.repeat(run)
    joules = None
    if meter is not None:  # in runs of their own, which sampling a sensor may slow down
        meter.start()
        try:
            counted = len(limit.repeat(run))
        finally:
            used = meter.stop()
        joules = used / (counted * batch) if used is not None else None
    return case_of(graph, stage, batch, size, seconds, joules=joules)


def case_of(
    graph: CaseGraph,
    stage: Stage,
    batch: int,
    size: int,
    seconds: Sequence[float],
    *,
    joules: float | None = None,
    peak_mb: float | None = None,
) -> Case:
    """A case from the seconds of each of its runs."""
    ms = 1e3 * np.asarray(seconds)
    p50, p95, p99 = (round(float(value), 4) for value in np.percentile(ms, (50, 95, 99)))
    mean = round(float(ms.mean()), 4)
    per_second = round(1e3 * batch / float(ms.mean()), 3)
    return Case(graph, stage, batch, size, len(ms), p50, p95, p99, mean, per_second, joules, peak_mb)
