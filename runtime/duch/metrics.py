"""Retrieval scores under names that say which definition they are; numpy and packed codes only.

Two rival definitions of "mAP@20" circulate, and they differ by points on the same codes:

- `map@k`: average precision cut at rank k, divided by min(k, R), where R is the number of relevant items.
- `map_first_relevant@k`: precision at the first min(k, R) relevant items, wherever they rank, averaged. The public DUCH
  code and the tables that compare with it report this one.

Every score is a mean over all queries; a query with nothing relevant counts 0. Items of equal distance rank in the
order of the gallery.

Shapes: q queries, g gallery items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .codes import PackedCodes
from .errors import InputError
from .index import HammingIndex

Relevance = NDArray[np.bool_]  # (q, g), column j: is the item of rank j + 1 relevant?

PRECISION_AT = (1, 5, 10, 20, 50, 100)


def rank_relevance(
    query_codes: PackedCodes, gallery_codes: PackedCodes, query_labels: ArrayLike, gallery_labels: ArrayLike
) -> Relevance:
    """Rank the whole gallery for every query and say which items are of the query's class.

    Shape: (q, b / 8), (g, b / 8), (q,), (g,) -> bool (q, g).

    Raises:
        InputError: labels that do not match the codes in number.
        CodesError: codes of different widths.
    """
    asked, held = np.asarray(query_labels), np.asarray(gallery_labels)
    for name, codes, labels in (("query", query_codes, asked), ("gallery", gallery_codes, held)):
        if labels.shape != (len(codes),):
            raise InputError(f"{len(codes)} {name} codes came with labels of shape {labels.shape}; wanted one a code")
    _, rows = HammingIndex(gallery_codes).search(query_codes, len(gallery_codes))  # (q, g)
    return np.asarray(held[rows] == asked[:, None])


def map_at(relevant: Relevance, k: int) -> float:
    """Mean average precision cut at rank k, divided by min(k, R)."""
    top = relevant[:, :k]  # (q, k)
    precision = top.cumsum(1) / np.arange(1, top.shape[1] + 1)
    wanted = np.minimum(relevant.sum(1), k)  # (q,)
    return float(np.mean((precision * top).sum(1) / np.maximum(wanted, 1)))


def map_first_relevant_at(relevant: Relevance, k: int) -> float:
    """Mean precision at the first min(k, R) relevant items, wherever they rank."""
    precision = relevant.cumsum(1) / np.arange(1, relevant.shape[1] + 1)  # (q, g)
    first = relevant & (relevant.cumsum(1) <= k)
    return float(np.mean((precision * first).sum(1) / np.maximum(first.sum(1), 1)))


def precision_at(relevant: Relevance, k: int) -> float:
    """Mean share of relevant items among the first k; k is capped at the gallery's size."""
    return float(relevant[:, :k].mean())


def scores(relevant: Relevance, *, k: int = 20, precision: Sequence[int] = PRECISION_AT) -> dict[str, float]:
    """All scores by name.

    Raises:
        InputError: no query, no gallery item, or k below 1.
    """
    if 0 in relevant.shape or k < 1:
        raise InputError(
            f"{relevant.shape[0]} queries, {relevant.shape[1]} gallery items and k = {k}; wanted 1 or more"
        )
    named = {f"map@{k}": map_at(relevant, k), f"map_first_relevant@{k}": map_first_relevant_at(relevant, k)}
    return named | {f"precision@{n}": precision_at(relevant, n) for n in precision if n <= relevant.shape[1]}


def chance(relevant: Relevance, *, k: int = 20, repeats: int = 10, seed: int = 0) -> dict[str, float]:
    """The same scores when the gallery is ranked at random: measured, as the mean over shuffles of every ranking."""
    generator = np.random.default_rng(seed)
    drawn = [scores(generator.permuted(relevant, axis=1), k=k) for _ in range(repeats)]
    return {name: float(np.mean([one[name] for one in drawn])) for name in drawn[0]}
