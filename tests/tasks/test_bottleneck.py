"""Concept bottlenecks: interventions as sums say, files that can be recomputed, and sparse autoencoders."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from magic_cli import PredictOptions, TrainOptions, predict, train
from magic_cli.cli.app import app
from magic_cli.config import resolve
from magic_cli.errors import ConfigError
from magic_cli.io import schema
from magic_cli.models.logistic import linear_model, probabilities
from magic_cli.report.bottleneck import bottleneck_content
from magic_cli.submission.bottleneck import BOTTLENECK_FILE, read_bottleneck
from magic_cli.tasks import bottleneck
from magic_cli.tasks.bottleneck import Bottleneck, Evidence, flips, levels, read_what_if
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.pretrain.asked import PretrainDecision
from magic_cli.tasks.pretrain.model import sparse_units
from magic_cli.tasks.pretrain.model.concepts import known_concepts, lexicon_concepts
from magic_cli.training.runtime import RuntimeOptions

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

SIZES = [2, 3]


def softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


def evidence(seed: int) -> Evidence:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(size=(50, 4))
    model = Bottleneck(
        ("ulcer", "scale", "crust", "itch"), rng.normal(size=(5, 4)), rng.normal(size=5), *levels(scores)
    )
    return Evidence(model, rng.uniform(size=4))


def test_an_intervention_sets_one_score_and_keeps_the_others() -> None:
    seen = evidence(0)
    now, then = seen.logits({}), seen.logits({"scale": "present"})
    step = seen.model.weight[:, 1] * (seen.model.present[1] - seen.scores[1])
    np.testing.assert_allclose(then - now, step)
    back = Evidence(seen.model, seen.model.changed(seen.scores, {"scale": "absent"}))
    np.testing.assert_allclose(back.logits({"scale": "absent"}), back.logits({}))
    assert (seen.model.absent < seen.model.present).all()


def test_the_strongest_changes_are_those_of_probabilities() -> None:
    seen = (evidence(1), evidence(2))
    found = flips(seen, SIZES)
    before = bottleneck.probabilities(seen, SIZES, {})
    for place, flip in enumerate(found.states):
        after = bottleneck.probabilities(seen, SIZES, dict([flip]))
        wanted = [np.abs(a - b).sum() / 2 for a, b in zip(after, before, strict=True)]
        np.testing.assert_allclose(found.distances[:, place], wanted)
    assert found.most([1], 4) == [found.states[at] for at in np.argsort(-found.distances[1])]
    for part, size in zip(before, SIZES, strict=True):
        assert part.shape == (size,)
        assert part.sum() == pytest.approx(1)
    single = [bottleneck.probabilities((each,), SIZES, {}) for each in seen]
    np.testing.assert_allclose(before[0], (single[0][0] + single[1][0]) / 2)


@pytest.mark.parametrize("words", ["", "ENC1", "ENC1: ulcer", "ENC1: ulcer=maybe", ": ulcer=absent", "ENC1: =absent"])
def test_what_cannot_be_asked(words: str) -> None:
    with pytest.raises(ConfigError, match="expected an id and concepts"):
        read_what_if(words)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes_by": "colour"}, "expected concepts, sparse, joint, encoder"),
        ({"what_if": "a: ulcer=absent"}, "expected --classes-by concepts or sparse"),
        ({"classes_by": "joint", "what_if": "a: ulcer=absent"}, "expected --classes-by concepts or sparse"),
        ({"sparse": "9,3"}, "expected --classes-by sparse"),
        ({"classes_by": "sparse", "sparse": "4,5"}, "got 4,5, expected units"),
        ({"classes_by": "sparse", "sparse": "many"}, "got many, expected units"),
        ({"classes_by": "concepts", "classes": "a, b"}, "expected the classes of split train"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PretrainDecision(**options)


@pytest.mark.parametrize(("count", "width"), [(60, 5), (12, 30)])
def test_a_linear_model_is_the_one_of_the_probe(count: int, width: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, width)) * rng.uniform(0.1, 5, width) + 3
    rows[:, 4] = 7.0
    gold = (rows[:, 0] > 3).astype(np.intp) * 2  # no row of class 1
    present, weight, bias = linear_model(rows, gold, 0.1)
    assert present.tolist() == [0, 2]
    others = rng.normal(size=(8, width)) + 3
    wanted = probabilities(rows, gold, others, 3, 0.1)
    np.testing.assert_allclose(softmax(others @ weight.T + bias), wanted[:, [0, 2]], atol=1e-6)
    assert (weight[:, 4] == 0).all()


def test_the_lexicon_takes_a_datasets_own_names() -> None:
    names = [concept.name for concept in known_concepts(["globules", "milia-like cysts", "glitter"])]
    assert len(names) == len(lexicon_concepts()) + 1
    assert {"globules", "milia-like cysts", "glitter"} <= set(names)
    assert not {"dots and globules", "milia-like cyst"} & set(names)


def planted(rows: int) -> Floats:
    """Return vectors that are sums of 2 of 12 directions in 24 dimensions, and a mean."""
    rng = np.random.default_rng(3)
    directions = np.linalg.qr(rng.normal(size=(24, 12)))[0].T
    codes = np.zeros((rows, 12))
    for row in codes:
        row[rng.choice(12, 2, replace=False)] = rng.uniform(0.5, 1.5, 2)
    return np.asarray(codes @ directions + 0.3)


def test_a_sparse_autoencoder_finds_what_few_directions_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_units, "_STEPS", 600)
    train_rows, others = planted(440)[:400], planted(440)[400:]
    model = sparse_units.fit(train_rows, 16, 3)
    codes = sparse_units.codes_of(model, others)
    assert ((codes > 0).sum(1) <= 3).all()
    assert (codes >= 0).all()
    found = sparse_units.reconstruction(model, others)
    assert found.error < 0.25  # of the variance, with 3 of 16 units; the mean alone has 1
    torch.testing.assert_close(model.directions().norm(dim=1), torch.ones(16))
    again = sparse_units.codes_of(sparse_units.fit(train_rows, 16, 3), others)
    np.testing.assert_array_equal(again, codes)


def test_dead_units_are_counted_and_the_mean_alone_has_error_one() -> None:
    rows = planted(50)
    model = sparse_units.SparseAutoencoder(24, 8, 2)
    with torch.no_grad():
        model.encoder.zero_()
        model.centre.copy_(torch.from_numpy(rows.mean(0)))
    found = sparse_units.reconstruction(model, rows)
    assert found.dead == 8
    assert found.error == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def run(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bottleneck")
    runtime = RuntimeOptions(device="cpu", cache_dir=root / "cache")
    train("pretrain", drawn_prepared, root / "run", TrainOptions("tiny", ["epochs=1"], runtime=runtime))
    return root


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    assert schema.problems("bottleneck", found, file.name) == []
    return found


def table(file: Path, skip: int) -> tuple[list[str], list[str], Floats]:
    head, *rows = csv.reader(file.read_text(encoding="utf-8").splitlines())
    return head[skip:], [row[0] for row in rows], np.array([[float(cell) for cell in row[skip:]] for row in rows])


def test_classes_are_read_from_named_scores(run: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    runtime = RuntimeOptions(device="cpu", cache_dir=run / "cache")
    asked = PredictOptions(classes_by="concepts", runtime=runtime)
    out = tmp_path / "concepts"
    predict("pretrain", run / "run", drawn_prepared, "valid", out, asked)
    found = read(out / BOTTLENECK_FILE)
    names, ids, scores = table(out / "concepts.csv", 1)
    classes, _, chances = table(out / "zero_shot.csv", 2)
    assert [row["name"] for row in found["inputs"]] == names
    assert [row["option"] for row in found["outputs"]] == classes
    weight = np.array([row["weights"] for row in found["outputs"]])
    logits = scores @ weight.T + [row["bias"] for row in found["outputs"]]
    np.testing.assert_allclose(softmax(logits), chances, atol=2e-3)  # the file has five digits
    largest = found["changes"][0]
    name, state = next(iter(largest["states"].items()))
    case = scores[ids.index(largest["case"])].copy()
    case[names.index(name)] = found["inputs"][names.index(name)][state]
    then = softmax(case @ weight.T + [row["bias"] for row in found["outputs"]])
    assert then[classes.index(largest["answer"])] == pytest.approx(largest["after"], abs=2e-3)
    words = f"{ids[0]}: {names[0]}=present, {names[1]}=absent"
    typed = ["predict", "pretrain", "--ckpt", str(run / "run" / "best.pt"), "--data", str(drawn_prepared)]
    typed += ["--split", "valid", "--device", "cpu", "--cache-dir", str(run / "cache"), "--classes-by", "concepts"]
    result = CliRunner().invoke(app, [*typed, "--out", str(tmp_path / "asked"), "--what-if", words])
    assert result.exit_code == 0, result.output
    assert f"{ids[0]}, {names[0]} present, {names[1]} absent: " in result.stderr
    (row,) = read(tmp_path / "asked" / BOTTLENECK_FILE)["asked"]
    assert row["states"] == {names[0]: "present", names[1]: "absent"}


def test_what_is_not_there_is_not_asked() -> None:
    seen = {"ENC1": (evidence(0),)}
    for words, said in (("ENC1: nothing=absent", "a concept of the model"), ("X: ulcer=absent", "an id of the split")):
        with pytest.raises(ConfigError, match=said):
            bottleneck.check_question(read_what_if(words), seen)


def test_units_of_an_autoencoder_are_a_source_of_concepts(
    run: Path, drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_units, "_STEPS", 50)
    runtime = RuntimeOptions(device="cpu", cache_dir=run / "cache")
    asked = PredictOptions(classes_by="sparse", sparse="12,3", runtime=runtime)
    predict("pretrain", run / "run", drawn_prepared, "valid", tmp_path / "sparse", asked)
    found = read(tmp_path / "sparse" / BOTTLENECK_FILE)
    assert found["reads"] == "sparse"
    assert len(found["inputs"]) == found["autoencoder"]["units"] == 12
    assert found["autoencoder"]["active"] == 3
    known, _, _ = table(tmp_path / "sparse" / "concepts.csv", 1)
    assert {row["nearest"] for row in found["inputs"]} <= set(known)
    dead = sum(not row["top_photos"] for row in found["inputs"])
    assert dead == found["autoencoder"]["dead"]
    read_back = read_bottleneck(tmp_path / "sparse")
    assert read_back is not None
    assert read_back.to_json() == found
    content = bottleneck_content("sparse", read_back, {})
    assert content.sparse
    assert content.concepts == 12
    (tmp_path / "sparse" / BOTTLENECK_FILE).write_text('{"schema": 1}')
    assert read_bottleneck(tmp_path / "sparse") is None


def test_vectors_are_what_a_bottleneck_is_compared_with(run: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    runtime = RuntimeOptions(device="cpu", cache_dir=run / "cache")
    for by in ("joint", "encoder"):
        asked = PredictOptions(classes_by=by, runtime=runtime)
        predict("pretrain", run / "run", drawn_prepared, "valid", tmp_path / by, asked)
        assert not (tmp_path / by / BOTTLENECK_FILE).exists()
        _, _, chances = table(tmp_path / by / "zero_shot.csv", 2)
        np.testing.assert_allclose(chances.sum(1), 1, atol=1e-4)
    settings = json.loads((tmp_path / "joint" / "run.json").read_text())["settings"]
    assert settings["classes_by"] == "joint"


def test_closed_questions_are_read_from_named_scores(run: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    runtime = RuntimeOptions(device="cpu", cache_dir=run / "cache")
    given = [f"concepts={run / 'run' / 'best.pt'}", "modality=concepts", "epochs=2", "decode=set"]
    train("cvqa", drawn_prepared, tmp_path / "run", TrainOptions("tiny", given, runtime=runtime))
    out = tmp_path / "out"
    predict("cvqa", tmp_path / "run", drawn_prepared, "valid", out, PredictOptions(runtime=runtime))
    found = read(out / BOTTLENECK_FILE)
    assert len(found["inputs"]) == len(lexicon_concepts())
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert {row["case"] for row in found["changes"]} == {row["encounter_id"] for row in rows}
    parents = {row["question"] for row in found["changes"]}
    assert len(found["changes"]) == 3 * len(parents) * len(rows)
    words = f"{rows[0]['encounter_id']}: ulcer=present"
    asked = PredictOptions(what_if=words, runtime=runtime)
    predict("cvqa", tmp_path / "run", drawn_prepared, "valid", tmp_path / "asked", asked)
    told = read(tmp_path / "asked" / BOTTLENECK_FILE)
    assert {row["question"] for row in told["asked"]} == parents
    assert told["changes"] == found["changes"]
    result = CliRunner().invoke(
        app, ["score", str(tmp_path / "asked"), str(drawn_prepared), "--out", str(tmp_path / "report")]
    )
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "If a concept were otherwise" in page
    assert "ulcer present" in page


@pytest.mark.parametrize("pairs", [("modality=concepts",), ("modality=concepts", "concepts=run", "head=options")])
def test_a_bottleneck_needs_a_run_and_the_head_of_slots(pairs: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="modality=concepts: got"):
        resolve(CvqaConfig, "tiny", pairs)


def test_other_models_are_not_asked_what_if(drawn_prepared: Path, tmp_path: Path) -> None:
    runtime = RuntimeOptions(device="cpu", cache_dir=tmp_path / "cache")
    train("cvqa", drawn_prepared, tmp_path / "run", TrainOptions("tiny", ["epochs=1"], "text", runtime=runtime))
    asked = PredictOptions(what_if="a: ulcer=absent", runtime=runtime)
    with pytest.raises(ConfigError, match="--what-if: got a model without concepts"):
        predict("cvqa", tmp_path / "run", drawn_prepared, "valid", tmp_path / "out", asked)
