"""Latency of engines that take turns, so that a busy spell of the machine hits all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from duch_export.session import Feed

from .engines import Engine

ROUNDS = 30
_LEAST_ROUNDS = 3
_SECONDS = 6.0  # after these no further round begins: a ResNet-18 by three engines, 32 at once, takes 2.3 s a round


def median_ms(engines: Sequence[Engine], feeds: Sequence[Feed]) -> list[float]:
    """Median time of one run of each engine, in milliseconds, after one that is not counted.

    Args:
        engines: who takes turns.
        feeds: inputs; each round takes the next one.
    """
    for engine in engines:
        engine(feeds[0])
    times: list[list[float]] = [[] for _ in engines]
    began = time.perf_counter()
    for number in range(ROUNDS):
        if number >= _LEAST_ROUNDS and time.perf_counter() - began > _SECONDS:
            break
        for engine, spent in zip(engines, times, strict=True):
            start = time.perf_counter()
            engine(feeds[number % len(feeds)])
            spent.append(1e3 * (time.perf_counter() - start))
    return [round(statistics.median(spent), 3) for spent in times]
