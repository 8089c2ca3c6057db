"""Classification: against sklearn, with and without ties; chance levels; invariances."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from magic_cli.errors import DataError
from magic_cli.metrics.classification import (
    ClassTerms,
    auroc,
    chance,
    classify,
    one_hot,
    operating_point,
    ordered_pairs,
)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def made(seed: int, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gold = np.concatenate([np.arange(classes), rng.choice(classes, n - classes, p=rng.dirichlet(np.ones(classes)))])
    return softmax(rng.normal(size=(n, classes)) + 1.5 * one_hot(gold, classes)), gold


@pytest.mark.parametrize(("n", "classes"), [(40, 2), (209, 6), (500, 114)])
def test_scores_are_sklearns(n: int, classes: int) -> None:
    scores, gold = made(n, n, classes)
    answers = scores.argmax(1)
    expected = {
        "top1": metrics.accuracy_score(gold, answers),
        "balanced_accuracy": metrics.balanced_accuracy_score(gold, answers),
        "weighted_f1": metrics.f1_score(gold, answers, average="weighted"),
        "macro_auroc": metrics.roc_auc_score(one_hot(gold, classes)[:, 1], scores[:, 1])
        if classes == 2
        else metrics.roc_auc_score(gold, scores, multi_class="ovr"),
    }
    if classes > 5:
        expected["top5"] = metrics.top_k_accuracy_score(gold, scores, k=5)
    result = classify(scores, gold)
    assert result.scores == pytest.approx(expected, abs=1e-12)
    assert result.recall == pytest.approx(metrics.recall_score(gold, answers, average=None), abs=1e-12)
    assert result.photos == tuple(np.bincount(gold))


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(arrays(np.float64, (n, 3), elements=st.integers(0, 4)), arrays(np.bool_, (n, 3)))
    )
)
def test_auroc_with_ties_is_sklearns_and_the_share_of_pairs(data: tuple[np.ndarray, np.ndarray]) -> None:
    scores, positive = data
    found = auroc(scores, positive)
    for column in range(3):
        s, p = scores[:, column], positive[:, column]
        if p.all() or not p.any():
            assert np.isnan(found[column])
            continue
        pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(s[p], s[~p])]
        assert found[column] == pytest.approx(np.mean(pairs))
        assert found[column] == pytest.approx(metrics.roc_auc_score(p, s))
        assert float(auroc(s, p)) == found[column]
        assert float(auroc(-s, p)) == pytest.approx(1 - found[column])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_weights_count_photos_several_times_and_unknown_ones_never(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, positive, known = rng.integers(0, 6, (25, 4)) / 4, rng.random((25, 4)) < 0.4, rng.random((25, 4)) < 0.7
    weights = rng.integers(0, 4, (25, 5)).astype(np.float64)
    found = np.stack([pairs.auroc(weights) for pairs in ordered_pairs(scores, positive, known)])
    for concept, draw in np.ndindex(4, 5):
        rows = np.repeat(np.arange(25), weights[:, draw].astype(int))
        rows = rows[known[rows, concept]]
        expected = auroc(scores[rows, concept], positive[rows, concept])
        assert found[concept, draw] == pytest.approx(float(expected), nan_ok=True)
    assert auroc(scores, positive, known) == pytest.approx(
        [float(auroc(scores[known[:, k], k], positive[known[:, k], k])) for k in range(4)], nan_ok=True
    )


def test_tied_classes_share_the_answer() -> None:
    result = classify(np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]), np.array([0, 1]))
    assert result.scores["top1"] == 0.75
    assert result.recall == pytest.approx((0.5, 1.0, np.nan), nan_ok=True)
    assert result.scores["balanced_accuracy"] == 0.75  # of the classes that have photos
    many = classify(np.zeros((3, 10)), np.array([0, 4, 9]))
    assert many.scores["top5"] == 0.5
    assert np.isnan(classify(np.empty((0, 3)), np.empty(0, int)).scores["top1"])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_the_order_of_classes_and_photos_does_not_matter(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    scores, gold = rng.integers(0, 4, (30, classes)), rng.integers(0, classes, 30)
    result = classify(scores, gold)
    order, rows = rng.permutation(classes), rng.permutation(30)
    moved = classify(scores[:, order][rows], np.argsort(order)[gold][rows])
    assert moved.scores == pytest.approx(result.scores, nan_ok=True)
    for ours, theirs in ((moved.recall, result.recall), (moved.auroc, result.auroc), (moved.photos, result.photos)):
        assert ours == pytest.approx([theirs[i] for i in order], nan_ok=True)


def test_chance_levels() -> None:
    gold = np.repeat(np.arange(6), [50, 30, 10, 6, 3, 1])
    trivial = chance(gold, 6)
    uniform, majority = trivial.uniform.scores, trivial.majority.scores
    assert [uniform[name] for name in ("top1", "balanced_accuracy")] == pytest.approx([1 / 6] * 2)
    assert uniform["top5"] == pytest.approx(5 / 6)
    assert (majority["top1"], majority["top5"]) == (0.5, 0.99)
    assert majority["balanced_accuracy"] == pytest.approx(1 / 6)
    assert trivial.majority.recall == (1, 0, 0, 0, 0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f1 = metrics.f1_score(gold, np.zeros(100), average="weighted")
    assert majority["weighted_f1"] == pytest.approx(f1)
    assert uniform["macro_auroc"] == majority["macro_auroc"] == 0.5
    drawn = np.random.default_rng(0).random((200, 100, 6))
    assert np.mean([classify(s, gold).scores["weighted_f1"] for s in drawn]) == pytest.approx(
        uniform["weighted_f1"], abs=0.01
    )


def test_sums_give_the_scores_of_any_set_of_photos() -> None:
    scores, gold = made(1, 90, 7)
    terms = ClassTerms(7)
    sums = terms.terms(scores, gold)
    part = np.stack([sums[:60].sum(0), sums[30:].sum(0)])
    for row, rows in zip(terms.scores(part), (slice(0, 60), slice(30, 90)), strict=True):
        result = classify(scores[rows], gold[rows])
        assert row == pytest.approx([*(result.scores[name] for name in terms.names), *result.recall], nan_ok=True)


@pytest.mark.parametrize(
    ("scores", "gold"), [(np.ones((2, 3)), [0, 3]), (np.ones((2, 3)), [0]), (np.ones(3), [0, 1, 2])]
)
def test_wrong_shapes_and_classes_are_refused(scores: np.ndarray, gold: list[int]) -> None:
    with pytest.raises(ValueError):
        classify(scores, np.array(gold))


def test_nan_is_refused() -> None:
    with pytest.raises(DataError, match=r"class scores: got NaN in row 2 \(one of 1\)"):
        classify(np.array([[1, 2], [np.nan, 1]]), np.array([0, 1]))
    with pytest.raises(DataError, match="NaN in column 1"):
        auroc(np.array([np.nan, 1.0]), np.array([0, 1]))
    with pytest.raises(ValueError):
        auroc(np.ones(3), np.ones(2))


@pytest.mark.parametrize("sensitivity", [0.5, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("decimals", [1, 6])
def test_the_operating_point_is_the_best_of_the_roc_curve(sensitivity: float, decimals: int) -> None:
    rng = np.random.default_rng(3)
    positive = rng.random(200) < 0.3
    scores = np.round(rng.normal(size=200) + positive, decimals)  # few decimals: many ties
    point = operating_point(scores, positive, sensitivity)
    fpr, tpr, thresholds = metrics.roc_curve(positive, scores, drop_intermediate=False)
    at = int(np.argmax(tpr >= sensitivity))
    assert point == pytest.approx((thresholds[at], tpr[at], 1 - fpr[at]))
    assert np.isnan(operating_point(scores, np.ones(200), sensitivity)).all()
