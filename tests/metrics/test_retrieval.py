"""Scores of case retrieval against brute force over all orders of ties, closed forms, and other people's code."""

import math
from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, ndcg_score

from magic_cli.metrics.retrieval import QueryScores, rank_classes

KS = (1, 2, 3, 4, 6)


def _one_order(order: list[int], own: int, labels: list[int], gains: list[float], present: list[int]) -> list[float]:
    """Return AP, then for each k: any, hits, vote, nDCG of one order of the photos that were returned."""
    right = [labels[photo] == own for photo in order]
    positives = sum(labels[photo] == own for photo in present)
    precision = [sum(right[: at + 1]) / (at + 1) for at in range(len(order)) if right[at]]
    values = [sum(precision) / positives]
    for k in KS:
        votes = Counter(labels[photo] for photo in order[:k])
        first = [name for name, number in votes.items() if number == max(votes.values())]
        gained, best = (
            sum(gain / math.log2(at + 2) for at, gain in enumerate(row[:k]))
            for row in ([gains[photo] for photo in order], sorted((gains[photo] for photo in present), reverse=True))
        )
        vote = (own in first) / len(first) if first else 0.0
        values += [float(any(right[:k])), float(sum(right[:k])), vote, gained / best]
    return values


def _brute(similar: list[float], own: int, labels: list[int], gains: list[float]) -> NDArray[np.float64]:
    """Return the mean of `_one_order` over all orders of ties."""
    present = [at for at, value in enumerate(similar) if not math.isnan(value)]
    blocks = [
        [at for at in present if similar[at] == value]
        for value in sorted({similar[at] for at in present if similar[at] > -math.inf}, reverse=True)
    ]
    orders = ([at for block in blocks for at in block] for blocks in product(*map(permutations, blocks)))
    return np.mean([_one_order(order, own, labels, gains, present) for order in orders], 0)


def _row(scores: QueryScores, row: int) -> list[float]:
    columns = zip(scores.any_in[row], scores.hits[row], scores.vote[row], scores.ndcg[row], strict=True)
    return [float(scores.ap[row]), *(float(value) for column in columns for value in column)]


@pytest.mark.parametrize("seed", range(18))
def test_scores_and_chance_are_means_over_all_orders_of_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    photos, classes = int(rng.integers(2, 6)), int(rng.integers(1, 5))
    similar = rng.integers(0, int(rng.integers(1, 4)), (3, photos)).astype(np.float64)
    similar[rng.random(similar.shape) < 0.1] = np.nan
    similar[rng.random(similar.shape) < 0.15 * (seed % 3 == 0)] = -np.inf
    own, labels = rng.integers(0, classes, 3), rng.integers(0, classes, photos)
    gains = rng.random((3, photos)) + 0.01
    got = rank_classes(similar, (own, labels), KS, lambda rows: gains[rows], chunk=1 + seed % 3)
    for row in range(3):
        if got.positives[row] == 0:
            assert np.isnan(_row(got.found, row)).all()
            assert np.isnan(_row(got.chance, row)).all()
            continue
        level = np.where(np.isnan(similar[row]), np.nan, 0.0).tolist()
        for scores, values in ((got.found, similar[row].tolist()), (got.chance, level)):
            wanted = _brute(values, int(own[row]), labels.tolist(), gains[row].tolist())
            np.testing.assert_allclose(_row(scores, row), wanted, atol=1e-12)


def _drawn(seed: int, queries: int = 7, photos: int = 60) -> tuple[NDArray[np.float32], tuple[NDArray[np.int64], ...]]:
    rng = np.random.default_rng(seed)
    similar = rng.permuted(np.tile(np.linspace(-1, 1, photos, dtype=np.float32), (queries, 1)), axis=1)
    return similar, (np.arange(queries) % 3, np.arange(photos) % 3)


def test_without_ties_they_are_those_of_sklearn() -> None:
    similar, (own, labels) = _drawn(1)
    gains = np.random.default_rng(2).random(similar.shape)
    got = rank_classes(similar, (own, labels), (5, 10), lambda rows: gains[rows])
    precision = [average_precision_score(labels == mine, row) for mine, row in zip(own, similar, strict=True)]
    np.testing.assert_allclose(got.found.ap, precision, atol=1e-12)
    for column, k in enumerate((5, 10)):
        wanted = [ndcg_score(gain[None], row[None], k=k) for gain, row in zip(gains, similar, strict=True)]
        np.testing.assert_allclose(got.found.ndcg[:, column], wanted, atol=1e-12)


def test_ties_of_ndcg_are_those_of_sklearn() -> None:
    similar, labels = _drawn(3)
    similar, gains = np.round(similar * 4), np.random.default_rng(4).random(similar.shape)
    got = rank_classes(similar, (labels[0], labels[1]), (10,), lambda rows: gains[rows])
    wanted = [ndcg_score(gain[None], row[None], k=10) for gain, row in zip(gains, similar, strict=True)]
    np.testing.assert_allclose(got.found.ndcg[:, 0], wanted, atol=1e-12)


def test_without_ties_they_are_those_of_ir_measures() -> None:
    import ir_measures
    from ir_measures import AP, Success, nDCG

    similar, (own, labels) = _drawn(5)
    cut = np.where(similar < -0.5, -np.inf, similar)  # what a run does not return is never found
    for values in (similar, cut):
        got = rank_classes(values, (own, labels), (4, 10))
        judged = [ir_measures.Qrel(f"q{q}", f"d{d}", 1) for q in range(7) for d in range(60) if own[q] == labels[d]]
        run = [
            ir_measures.ScoredDoc(f"q{q}", f"d{d}", float(values[q, d]))
            for q in range(7)
            for d in range(60)
            if values[q, d] > -np.inf
        ]
        wanted = ir_measures.calc_aggregate([AP, Success @ 4, nDCG @ 10], judged, run)
        mine = {AP: got.found.ap, Success @ 4: got.found.any_in[:, 0], nDCG @ 10: got.found.ndcg[:, 1]}
        for measure, value in wanted.items():
            assert mine[measure].mean() == pytest.approx(value, abs=1e-6)


def test_a_perfect_ranking_an_inverted_one_and_growing_k() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    perfect = rank_classes((labels == 0)[None].astype(float), (np.array([0]), labels), range(1, 8))
    assert perfect.found.ap[0] == 1.0
    assert perfect.found.vote[0, 0] == 1.0
    assert perfect.found.ndcg[0, -1] == 1.0
    inverted = rank_classes((labels == 1)[None].astype(float), (np.array([0]), labels), range(1, 8))
    assert inverted.found.ap[0] == pytest.approx(sum(i / (4 + i) for i in (1, 2, 3)) / 3)
    similar, both = _drawn(6)
    grown = rank_classes(similar, (both[0], both[1]), (1, 2, 3, 5, 9, 20, 60))
    assert (np.diff(grown.found.any_in, axis=1) >= 0).all()
    assert (grown.found.any_in[:, -1] == 1).all()


def test_the_order_of_the_gallery_is_of_no_consequence() -> None:
    similar, (own, labels) = _drawn(7)
    similar = np.round(similar * 3)
    order = np.random.default_rng(8).permutation(60)
    first, second = (rank_classes(s, (own, t)) for s, t in ((similar, labels), (similar[:, order], labels[order])))
    for row in range(7):
        np.testing.assert_allclose(_row(first.found, row), _row(second.found, row), atol=1e-12)


def test_chance_is_the_mean_of_random_orders() -> None:
    rng = np.random.default_rng(9)
    own, labels = np.zeros(4000, np.int64), np.array([0] * 3 + [1] * 6 + [2] * 2)
    got = rank_classes(rng.random((4000, 11)), (own, labels))
    for name in ("ap", "any_in", "hits", "vote", "ndcg"):
        found, chance = getattr(got.found, name), getattr(got.chance, name)
        np.testing.assert_allclose(found.mean(0), chance.mean(0), atol=0.03)


def test_the_sign_of_zero_and_minus_infinity() -> None:
    similar = np.array([[0.0, -0.0, -np.inf, np.nan]])
    got = rank_classes(similar, (np.array([0]), np.array([0, 1, 0, 0])), (1,))
    assert (got.positives[0], got.gallery[0], got.cut[0]) == (2, 3, 1)
    assert got.found.ap[0] == pytest.approx((1 + 1 / 2) / 2 / 2)  # the first of two places in half of the orders


@pytest.mark.parametrize(("shape", "ks"), [((2, 3), (1,)), ((1, 4), (1,)), ((1, 3), (0,)), ((1, 3), ())])
def test_what_does_not_fit_is_refused(shape: tuple[int, int], ks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"similarities|at least 1"):
        rank_classes(np.zeros(shape), (np.zeros(1, np.int64), np.zeros(3, np.int64)), ks)
