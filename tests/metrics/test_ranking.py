"""Rankings: against ir-measures without ties, against enumerated orders with ties, closed forms, invariances."""

import itertools
import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import R, Success

from magic_cli.errors import DataError
from magic_cli.metrics import ranking
from magic_cli.metrics.ranking import Ranking, caption_keys, rank_gallery


def unit(rng: np.random.Generator, rows: int, size: int = 16) -> np.ndarray:
    features = rng.normal(size=(rows, size))
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def of_scores(scores: np.ndarray, keys: tuple[np.ndarray, np.ndarray] | None = None, **options: object) -> Ranking:
    """Return the ranking by a given (Q, G) matrix of scores."""
    return rank_gallery(scores, np.eye(scores.shape[1]), keys, **options)  # type: ignore[arg-type]


def same(a: Ranking, b: Ranking) -> bool:
    columns = ("positives", "rank", "any_in", "fraction_in")
    return a.ks == b.ks and all(np.array_equal(getattr(a, c), getattr(b, c), equal_nan=True) for c in columns)


@pytest.mark.parametrize("groups", [1, 4, 1000])
def test_without_ties_both_recalls_are_those_of_ir_measures(groups: int) -> None:
    rng = np.random.default_rng(groups)
    queries, gallery = unit(rng, 30), unit(rng, 80)
    keys = rng.integers(0, groups, 30), rng.integers(0, groups, 80)
    keys[1][:30] = keys[0]  # every query has a positive
    found = rank_gallery(queries, gallery, keys, ks=(1, 5, 10))
    scores = (queries @ gallery.T).argsort(1).argsort(1)  # apart in float32 too
    qrels = [ir_measures.Qrel(f"q{q}", f"d{d}", 1) for q, d in np.argwhere(keys[0][:, None] == keys[1])]
    run = [ir_measures.ScoredDoc(f"q{q}", f"d{d}", float(scores[q, d])) for q, d in np.ndindex(scores.shape)]
    for column, k in enumerate(found.ks):
        for measure, ours in ((Success @ k, found.any_in), (R @ k, found.fraction_in)):
            theirs = {row.query_id: row.value for row in ir_measures.iter_calc([measure], qrels, run)}
            assert ours[:, column].tolist() == pytest.approx([theirs[f"q{q}"] for q in range(30)], abs=1e-12)


def test_ranks_are_those_of_a_sort() -> None:
    rng = np.random.default_rng(0)
    a, b = unit(rng, 50), unit(rng, 50)
    order = np.argsort(-(a @ b.T), axis=1)
    expected = (order == np.arange(50)[:, None]).argmax(1) + 1
    found = rank_gallery(a.astype(np.float32), b.astype(np.float32))
    assert found.rank.tolist() == expected.tolist()
    scores = found.scores()
    assert (scores["median_rank"], scores["mean_rank"]) == (np.median(expected), expected.mean())
    assert scores["recall_any@10"] == scores["recall_fraction@10"] == (expected <= 10).mean()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_with_ties_every_value_is_the_mean_over_all_orders(items: list[tuple[int, bool]]) -> None:
    score, positive = (np.array(column) for column in zip(*items, strict=True))
    keys = np.array([1]), positive.astype(np.int64)
    found = of_scores(score[None] / 2, keys, ks=range(1, 7))
    if not positive.any():
        assert found.without_positive == 1
        assert np.isnan([found.rank[0], *found.scores().values(), *found.chance().values()]).all()
        return
    orders = [p for p in itertools.permutations(range(len(items))) if (np.diff(score[list(p)]) <= 0).all()]
    hits = positive[np.array(orders)]  # (orders, G)
    assert found.rank[0] == pytest.approx((hits.argmax(1) + 1).mean())
    ks = np.array(found.ks)
    assert found.any_in[0] == pytest.approx([hits[:, :k].any(1).mean() for k in ks])
    assert found.fraction_in[0] == pytest.approx([hits[:, :k].sum(1).mean() / positive.sum() for k in ks])


def test_chance_is_what_a_constant_scorer_gets() -> None:
    rng = np.random.default_rng(1)
    keys = rng.integers(0, 12, 40), rng.integers(0, 9, 130)
    found = of_scores(np.zeros((40, 130)), keys)
    assert found.without_positive > 0
    scores, chance = found.scores(), found.chance()
    chance.pop("median_rank"), scores.pop("median_rank")  # of ranks, not of expected ranks
    assert scores == pytest.approx(chance, abs=1e-9)


@pytest.mark.parametrize(("gallery", "positives"), [(7, 1), (8, 1), (100, 3)])
def test_chance_of_the_median_rank(gallery: int, positives: int) -> None:
    keys = np.zeros(1, np.int64), np.where(np.arange(gallery) < positives, 0, 1)
    median = of_scores(np.zeros((1, gallery)), keys).chance()["median_rank"]
    if positives == 1:
        assert median == (gallery + 1) / 2
    rng = np.random.default_rng(0)
    drawn = np.argsort(rng.random((20_001, gallery)), axis=1)[:, :positives].min(1) + 1
    assert median == pytest.approx(np.median(drawn), abs=max(1, gallery / 40))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 30), st.integers(1, 8))
def test_properties(seed: int, queries: int, gallery: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.integers(-1, 2, (queries, 3)) / 2, rng.integers(-1, 2, (gallery, 3)) / 2  # many ties
    keys = rng.integers(0, groups, queries), rng.integers(0, groups, gallery)
    found = rank_gallery(*features, keys, ks=range(1, gallery + 1))
    kept = found.positives > 0
    assert (np.isnan(found.rank) == ~kept).all()
    for recall in (found.any_in[kept], found.fraction_in[kept]):
        assert ((recall >= 0) & (recall <= 1)).all()
        assert (np.diff(recall, axis=1) >= -1e-12).all()
        assert (recall[:, -1] == 1).all()
    assert (found.any_in[kept] >= found.fraction_in[kept] - 1e-12).all()
    assert found.rank[kept] == pytest.approx(1 + (1 - found.any_in[kept]).sum(1))  # E[rank] = sum of P(rank > k)
    for chunk in (1, 2, 5):
        assert same(found, rank_gallery(*features, keys, ks=range(1, gallery + 1), chunk=chunk))
    order = rng.permutation(gallery)
    rows = rng.permutation(queries)
    moved = rank_gallery(features[0][rows], features[1][order], (keys[0][rows], keys[1][order]), ks=found.ks)
    for name in ("rank", "any_in", "fraction_in"):
        np.testing.assert_allclose(getattr(moved, name), getattr(found, name)[rows], rtol=1e-12)


def test_chunk_size_is_irrelevant_for_features_of_a_network() -> None:
    rng = np.random.default_rng(3)
    images, texts = (unit(rng, 211, 70).astype(np.float32) for _ in range(2))
    texts[100:150] = texts[7]  # one caption of many photos
    whole = rank_gallery(images, texts)
    assert all(same(whole, rank_gallery(images, texts, chunk=chunk)) for chunk in (1, 3, 64, 500))
    assert whole.rank[7] >= 26  # the mid rank of 51 equal texts


def test_equal_features_find_themselves_first() -> None:
    features = unit(np.random.default_rng(0), 20)
    assert rank_gallery(features, features).scores() == {
        **{f"recall_{kind}@{k}": 1.0 for kind in ("any", "fraction") for k in (1, 5, 10)},
        "median_rank": 1.0,
        "mean_rank": 1.0,
    }


def test_identical_captions_as_positives() -> None:
    captions = ["a", "b", "a", "a"]
    texts = np.eye(3)[[0, 1, 0, 0]]
    alone, grouped = (caption_keys(captions, group) for group in (False, True))
    assert (alone.tolist(), grouped.tolist()) == ([0, 1, 2, 3], [0, 1, 0, 0])
    own = rank_gallery(texts, texts, (alone, alone), ks=(1, 2))
    assert own.rank.tolist() == [2, 1, 2, 2]  # the mid rank of three equal texts
    assert own.any_in[0].tolist() == pytest.approx([1 / 3, 2 / 3])
    found = rank_gallery(texts, texts, (grouped, grouped), ks=(1, 2))
    assert found.any_in.tolist() == [[1, 1]] * 4
    assert found.fraction_in[0].tolist() == pytest.approx([1 / 3, 2 / 3])


def test_memory_is_bounded_by_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    ranked = ranking._ranked

    def spy(similar: np.ndarray, *rest: np.ndarray) -> tuple[np.ndarray, ...]:
        seen.append(similar.shape)
        return ranked(similar, *rest)

    monkeypatch.setattr(ranking, "_ranked", spy)
    monkeypatch.setattr(ranking, "_CELLS", 1000)
    rank_gallery(np.zeros((50, 2)), np.zeros((90, 2)), (np.arange(50), np.arange(90)))
    assert max(math.prod(shape) for shape in seen) <= 1000


def test_no_queries() -> None:
    found = rank_gallery(np.empty((0, 4)), np.eye(4), (np.arange(0), np.arange(4)))
    assert (found.queries, found.without_positive) == (0, 0)
    assert np.isnan(list(found.scores().values())).all()


@pytest.mark.parametrize("which", [0, 1])
def test_features_that_are_not_finite_are_refused(which: int) -> None:
    features = [np.eye(3), np.eye(3)]
    features[which][1, 2] = np.nan
    with pytest.raises(DataError, match=r"(query|gallery): got features of row 2 \(one of 1\)"):
        rank_gallery(*features)


@pytest.mark.parametrize(
    "arguments",
    [
        (np.eye(3), np.eye(4)),
        (np.eye(3), np.empty((0, 3))),
        (np.ones((2, 3)), np.eye(3)),
        (np.eye(3), np.eye(3), (np.arange(2), np.arange(3))),
        (np.eye(3), np.eye(3), None, (0, 1)),
        (np.eye(3), np.eye(3), None, (1,), 0),
    ],
)
def test_wrong_shapes_and_numbers_are_refused(arguments: tuple[np.ndarray, ...]) -> None:
    with pytest.raises(ValueError):
        rank_gallery(*arguments)
