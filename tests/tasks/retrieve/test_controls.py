"""Controls of case retrieval on drawn cases: what they see, what they cannot see, and sklearn's regression."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from magic_cli.data.retrieval.gold import RetrievalGold
from magic_cli.tasks.retrieve.controls import ControlInput, class_probabilities, controls, left_out
from magic_cli.tasks.retrieve.predictions import RetrievalPrediction
from magic_cli.tasks.retrieve.score import MONITOR, score

_SITES = ("back", "face", "hand")


def _given(seed: int = 0, queries: int = 24, gallery: int = 60) -> ControlInput:
    """Return cases of three classes: photos say them with noise, sites do so for two of three cases."""
    rng = np.random.default_rng(seed)
    names = [f"q{n}" for n in range(queries)], [f"g{n}" for n in range(gallery)]
    label = {name: n % 3 for part in names for n, name in enumerate(part)}
    site = {name: number if rng.random() < 2 / 3 else int(rng.integers(3)) for name, number in label.items()}
    centres = rng.standard_normal((3, 8))
    vectors = [
        np.stack([centres[label[name]] + 0.8 * rng.standard_normal(8) for name in part]).astype(np.float32)
        for part in names
    ]
    gold = RetrievalGold(
        "drawn",
        {name: f"class {number}" for name, number in label.items()},
        {name: name for name in label},
        tuple(names[0]),
        tuple(names[1]),
        {name: {"site": _SITES[number]} for name, number in site.items()},
    )
    texts = [[f"A lesion on the {_SITES[site[name]]}." for name in part] for part in names]
    return ControlInput(gold, vectors[0], vectors[1], texts[0], texts[1])


def _macro(given: ControlInput, name: str) -> float:
    rows = zip(given.gold.queries, controls(given)[name], strict=True)
    made = (RetrievalPrediction(query, given.gold.gallery, row) for query, row in rows)
    return score(given.gold, made).scores[MONITOR]


def test_each_control_is_better_than_chance_where_it_sees_something() -> None:
    given = _given()
    made = controls(given)
    scored = {}
    for name, similar in made.items():
        assert similar.shape == (24, 60)
        assert similar.dtype == np.float32
        assert np.isfinite(similar).all()
        rows = zip(given.gold.queries, similar, strict=True)
        scored[name] = score(given.gold, (RetrievalPrediction(q, given.gold.gallery, row) for q, row in rows))
    level = scored["random"].baselines["random"][MONITOR]
    values = {name: scores.scores[MONITOR] for name, scores in scored.items()}
    assert values["random"] == pytest.approx(level, abs=0.08)
    for name in (
        "text_only",
        "text_only_unlabelled",
        "attribute_overlap",
        "image_cosine",
        "late_fusion",
        "hash64",
        "snf",
    ):
        assert values[name] > level + 0.05, name
    assert values["late_fusion"] >= max(values["attribute_overlap"], values["image_cosine"]) - 0.05
    assert values["majority_first"] == scored["random"].baselines["majority first"][MONITOR]


def test_they_are_repeatable_and_say_what_they_lack() -> None:
    given = _given(1)
    again = controls(_given(1))
    for name, similar in controls(given).items():
        np.testing.assert_array_equal(similar, again[name])
    blind = replace(given, query_vectors=None)
    assert left_out(blind).keys() == {"image_cosine", "hash64", "late_fusion", "snf"}
    assert controls(blind).keys() == controls(given).keys() - left_out(blind).keys()
    bare = replace(blind, gold=replace(given.gold, attributes={}), query_texts=[""] * 24)
    assert controls(bare).keys() == {"random", "majority_first"}


def test_text_only_never_learns_from_the_own_group() -> None:
    """Where queries are the gallery, words that only a photo itself has say nothing of its class."""
    names = tuple(f"g{n}" for n in range(40))
    labels = {name: f"class {n % 2}" for n, name in enumerate(names)}
    gold = RetrievalGold("x", labels, {name: name for name in names}, names, names, protocol="loo")
    texts = [f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(40)]
    given = ControlInput(gold, None, None, texts, texts)
    assert _macro(given, "text_only") < 0.6


def test_the_regression_is_that_of_sklearn() -> None:
    rng = np.random.default_rng(3)
    rows = (rng.random((90, 12)) < 0.3).astype(np.float64)
    classes = np.where(rows[:, 0] > 0, 2, rng.integers(0, 2, 90)) + 1  # no row of class 0
    others = (rng.random((20, 12)) < 0.3).astype(np.float64)
    wanted = LogisticRegression(tol=1e-8, max_iter=5000).fit(rows, classes).predict_proba(others)
    got = class_probabilities(rows, classes, others, 4)
    np.testing.assert_allclose(got[:, 1:], wanted, atol=1e-4)
    assert (got[:, 0] == 0).all()
