"""Scores against their definitions, on rankings small enough to check by hand, and against a library."""

from __future__ import annotations

import numpy as np
import pytest

from duch.errors import InputError
from duch.metrics import chance, map_at, map_first_relevant_at, precision_at, rank_relevance, scores


def ranking(*rows: str) -> np.ndarray:
    return np.array([[mark == "x" for mark in row] for row in rows])


def test_map_at_k_is_cut_at_k_and_divided_by_the_smaller_of_k_and_the_number_of_relevant() -> None:
    # hits at ranks 1 and 3: precision 1 and 2/3; two relevant in all
    assert map_at(ranking("x.x."), 4) == pytest.approx((1 + 2 / 3) / 2)
    # the same hits, cut at 2: one hit, min(2, 2) = 2
    assert map_at(ranking("x.x."), 2) == pytest.approx(1 / 2)
    # four relevant, cut at 2, both there
    assert map_at(ranking("xxxx"), 2) == 1


def test_map_first_relevant_looks_past_rank_k() -> None:
    # relevant at ranks 2 and 5; k = 2 takes both, wherever they rank
    assert map_first_relevant_at(ranking(".x..x"), 2) == pytest.approx((1 / 2 + 2 / 5) / 2)
    # k = 1 takes the first alone
    assert map_first_relevant_at(ranking(".x..x"), 1) == pytest.approx(1 / 2)


def test_queries_with_nothing_relevant_count_zero() -> None:
    assert map_at(ranking("xx", ".."), 2) == pytest.approx(0.5)
    assert map_first_relevant_at(ranking("xx", ".."), 2) == pytest.approx(0.5)


def test_precision_at_k() -> None:
    assert precision_at(ranking("x..x", "xx.."), 2) == pytest.approx((0.5 + 1) / 2)


def test_full_length_map_agrees_with_scikit_learn() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    relevant = generator.random((30, 50)) < 0.2
    order = -np.arange(50.0)  # scores that rank the columns from left to right
    expected = np.mean([sklearn_metrics.average_precision_score(row, order) for row in relevant])
    assert map_at(relevant, 50) == pytest.approx(expected)
    assert map_first_relevant_at(relevant, 50) == pytest.approx(expected)


def test_cut_map_agrees_with_torchmetrics() -> None:
    torchmetrics = pytest.importorskip("torchmetrics.functional.retrieval")
    import torch

    generator = np.random.default_rng(1)
    relevant = generator.random((30, 50)) < 0.6  # more than 20 relevant in every row: min(k, R) = k
    order = torch.arange(50.0).flip(0)
    # torchmetrics divides by the hits found in the top 20, so undo that with their share
    expected = np.mean(
        [
            float(torchmetrics.retrieval_average_precision(order, torch.from_numpy(row), top_k=20))
            * row[:20].sum()
            / 20
            for row in relevant
        ]
    )
    assert map_at(relevant, 20) == pytest.approx(expected, rel=1e-6)


def test_ranking_is_by_hamming_distance_then_by_place_in_the_gallery() -> None:
    gallery = np.array([[0b00000011], [0b00000000], [0b00000001], [0b10000000]], dtype=np.uint8)
    query = np.array([[0b00000000]], dtype=np.uint8)
    labels = np.array(["d", "a", "b", "c"])
    for label, rank in (("a", 0), ("b", 1), ("c", 2), ("d", 3)):
        relevant = rank_relevance(query, gallery, [label], labels)
        assert relevant[0].tolist() == [i == rank for i in range(4)]


def test_measured_chance_is_near_the_share_of_relevant_items() -> None:
    relevant = np.zeros((200, 100), dtype=bool)
    relevant[:, :10] = True  # a perfect ranking
    level = chance(relevant, repeats=20)
    assert scores(relevant)["precision@10"] == 1
    assert level["precision@10"] == pytest.approx(0.1, abs=0.01)
    assert level["map@20"] < 0.1
    assert chance(relevant) == chance(relevant), "a seed of its own"


def test_scores_need_queries_and_labels_need_to_match() -> None:
    with pytest.raises(InputError, match="wanted 1 or more"):
        scores(np.zeros((0, 5), dtype=bool))
    codes = np.zeros((3, 1), dtype=np.uint8)
    with pytest.raises(InputError, match="wanted one a code"):
        rank_relevance(codes, codes, [1, 2], [1, 2, 3])
