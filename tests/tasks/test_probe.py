"""Linear probes: the same model as scikit-learn's, strength by whole groups, and the file that they write."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from labelled_photos import make_labelled
from sklearn.linear_model import LogisticRegression

from magic_cli import PredictOptions, TrainOptions, predict, train
from magic_cli.data.pairs import pair_samples
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import ConfigError
from magic_cli.io import schema
from magic_cli.models.logistic import STRENGTHS, best_strength, probabilities
from magic_cli.records import SPLITS
from magic_cli.tasks.pretrain.model.attribute_probe import attribute_of, scored
from magic_cli.tasks.pretrain.model.probe import photos_with_class
from magic_cli.tasks.pretrain.probe_file import save_attributes
from magic_cli.training.runtime import RuntimeOptions


def drawn_features(rows: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 3, rows)
    features = rng.normal(size=(rows, width)) * rng.uniform(0.1, 5, width) + 3
    features[:, :3] += 2 * np.eye(3)[gold]
    return features, gold


@pytest.mark.parametrize(("rows", "width"), [(60, 5), (20, 40)])
@pytest.mark.parametrize("strength", [1e-2, 1.0])
def test_the_model_is_that_of_scikit_learn(rows: int, width: int, strength: float) -> None:
    (features, gold), (others, _) = drawn_features(rows, width), drawn_features(30, width, 1)
    mean, deviation = features.mean(0), features.std(0)
    oracle = LogisticRegression(C=1 / (strength * rows), tol=1e-10, max_iter=10_000)
    oracle.fit((features - mean) / deviation, gold)
    wanted = oracle.predict_proba((others - mean) / deviation)
    np.testing.assert_allclose(probabilities(features, gold, others, 3, strength), wanted, atol=1e-4)


def test_classes_and_features_that_training_rows_lack() -> None:
    features, gold = drawn_features(30, 4)
    features[:, 3] = 7.0
    found = probabilities(features, gold, features, 5, 0.1)
    assert found.shape == (30, 5)
    assert (found[:, 3:] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1)
    only = probabilities(features[:2], np.array([2, 2]), features, 5, 0.1)
    assert (only[:, 2] == 1).all()


def test_strength_is_chosen_over_whole_groups() -> None:
    rng = np.random.default_rng(0)
    groups = [f"P{at // 4}" for at in range(80)]
    fingerprints = np.repeat(rng.normal(size=(20, 30)), 4, axis=0)
    gold = np.repeat(rng.integers(0, 2, 20), 4)
    assert best_strength(fingerprints, gold, groups, 2, 0) == STRENGTHS[-1]  # folds over photos would learn patients
    assert best_strength(np.eye(2)[gold] + 0.01 * fingerprints[:, :2], gold, groups, 2, 0) == STRENGTHS[0]
    assert best_strength(fingerprints[:4], gold[:4], groups[:4], 2, 0) in STRENGTHS


def test_spellings_of_one_class_are_one_class(tmp_path: Path) -> None:
    prepared = open_prepared(make_labelled(tmp_path))
    cases = {
        name: replace(case, label="VITILIGO" if case.label == "vitiligo" and number % 2 else case.label)
        for number, (name, case) in enumerate(prepared.cases.items())
    }
    assert {case.label for case in cases.values()} > {"VITILIGO", "vitiligo"}
    for part, plain in zip(
        photos_with_class(replace(prepared, cases=cases), "valid"), photos_with_class(prepared, "valid"), strict=True
    ):
        assert list(part.names) == ["eczema", "melanoma", "vitiligo"]
        assert part.gold.tolist() == plain.gold.tolist()


def test_the_probe_of_a_run(drawn_prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = RuntimeOptions(device="cpu", cache_dir=tmp_path / "cache")
    options = TrainOptions("tiny", ["epochs=1"], finetune="all", runtime=runtime)
    train("pretrain", drawn_prepared, tmp_path / "run", options)
    asked = PredictOptions(probe=True, runtime=runtime)
    result = predict("pretrain", tmp_path / "run", drawn_prepared, "valid", tmp_path / "probe", asked)
    found = json.loads((tmp_path / "probe" / "probe.json").read_text())
    assert result.files == 1
    assert schema.problems("probe", found, "probe.json") == []
    assert {(row["system"], row["share"], row["draws"]) for row in found["rows"]} == {
        *((system, share, draws) for system in ("encoder", "joint", "published") for share, draws in CURVE),
        ("majority", 1.0, 1),
    }
    for row in found["rows"]:
        assert all(0 <= score["value"] <= 1 for score in row["scores"].values() if score["value"] is not None)
    assert "probe.json" in json.loads((tmp_path / "probe" / "run.json").read_text())["outputs"]
    assert "majority" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="expected valid or test"):
        predict("pretrain", tmp_path / "run", drawn_prepared, "train", tmp_path / "no", asked)
    with pytest.raises(ConfigError, match="--probe: of another task"):
        predict("seg", tmp_path / "run", drawn_prepared, "valid", tmp_path / "no", asked)
    told = replace(asked, attributes="sex, ruler")
    with pytest.raises(ConfigError, match=r"--attributes sex: got groups by value: not stated: \d+, expected two"):
        predict("pretrain", tmp_path / "run", drawn_prepared, "valid", tmp_path / "no", told)
    with pytest.raises(ConfigError, match="--attributes 'sex' without --probe"):
        PredictOptions(attributes="sex")


def test_vectors_tell_an_attribute_that_they_depend_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    prepared = open_prepared(make_labelled(tmp_path))
    samples = [sample for split in SPLITS for sample in pair_samples(prepared, split, needs_text=False)]
    known = [replace(sample.case, attributes={"sex": ("female", "male")[at % 2]}) for at, sample in enumerate(samples)]
    found = attribute_of([replace(s, case=case) for s, case in zip(samples, known, strict=True)], "sex")
    assert list(found.names) == ["female", "male"]
    told = np.column_stack([found.gold + rng.normal(0, 0.4, len(found.gold)), rng.normal(size=(len(found.gold), 6))])
    for vectors, reads in ((told, True), (rng.normal(size=told.shape), False)):
        row = scored(vectors, found)
        assert (row["chance"], row["photos"]) == (0.5, len(found.gold))
        score = row["balanced_accuracy"]
        assert (score["low"] > 0.5) == reads
        assert score["low"] < score["value"] <= score["high"]
    result = {"schema": 1, "format": "magic-attributes", "folds": 5, "photos": len(samples)}
    result["rows"] = [{"attribute": "sex", "system": "encoder", **scored(told, found)}]
    assert schema.problems("attributes", result, "attributes.json") == []
    assert save_attributes(result, tmp_path / "out") == [tmp_path / "out" / "attributes.json"]


CURVE = ((0.01, 5), (0.1, 5), (1.0, 1))
