"""From a training on labelled photos to predictions and their scores, beside tables of peers."""

import json
from pathlib import Path

import pytest
from labelled_photos import CLASSES, make_labelled

from magic_cli.commands.cross_validate import cross_validate
from magic_cli.commands.package import check_submission
from magic_cli.commands.predict import PredictOptions, predict
from magic_cli.commands.rerun import rerun
from magic_cli.commands.run_setup import TrainOptions
from magic_cli.commands.score import ScoreOptions, score
from magic_cli.commands.train import train
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import ConfigError, DataError, SubmissionError
from magic_cli.io import schema
from magic_cli.io.json_files import read_json
from magic_cli.report.score_report import ScoreReport
from magic_cli.training.runtime import RuntimeOptions

QUICK = RuntimeOptions(device="cpu", no_cache=True)

FEW = ScoreOptions(resamples=100)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prepared/, run/best.pt and predictions/ of split valid."""
    root = tmp_path_factory.mktemp("pretrain")
    make_labelled(root)
    train(
        "pretrain", root / "prepared", root / "run", TrainOptions(preset="tiny", settings=("epochs=2",), runtime=QUICK)
    )
    options = PredictOptions(runtime=QUICK)
    predict("pretrain", root / "run" / "best.pt", root / "prepared", "valid", root / "predictions", options)
    return root


def figures(report: ScoreReport, system: int = 0) -> dict[str, float]:
    scores = report.systems[system].of("pretrain")
    assert scores is not None
    return dict(scores.scores)


def test_predictions_are_scored_against_the_dataset(work: Path) -> None:
    report = score(work / "predictions", work / "prepared", FEW)
    found = figures(report)
    assert found["number_of_photos"] == 18
    assert {
        "top1",
        "balanced_accuracy",
        "macro_auroc",
        "i2t_recall_any@10",
        "recall@10",
        "mean_of_tasks",
    } <= found.keys()
    assert schema.problems("report", {"schema": 1, **report.to_json()}, "report") == []
    assert any("per class" in line for line in report.lines())
    assert not any("patient" in line or "spot" in line for line in report.lines())


def test_a_table_of_ours_is_scored_as_that_of_a_peer(work: Path) -> None:
    (work / "peer.csv").write_bytes((work / "predictions" / "zero_shot.csv").read_bytes())
    (work / "gold.csv").write_text(
        "image_path,label,patient_id\n"
        + "".join(f"x/val{n}{c}{p}.png,{c},{n}{c}\n" for n in range(3) for c in CLASSES for p in range(2))
    )
    whole = figures(score(work / "predictions", work / "prepared", FEW))
    report = score([work / "peer.csv", work / "predictions"], work / "gold.csv", FEW)
    for system in (0, 1):
        assert figures(report, system)["top1"] == whole["top1"]
        assert figures(report, system)["macro_auroc"] == pytest.approx(whole["macro_auroc"])
    labels = score(work / "predictions", work / "predictions" / "labels.csv", FEW)
    assert figures(labels)["top1"] == whole["top1"]


def test_systems_are_compared_on_what_they_share(work: Path) -> None:
    (work / "other.csv").write_bytes((work / "predictions" / "zero_shot.csv").read_bytes())
    report = score(work / "predictions", work / "prepared", ScoreOptions(resamples=100, against=work / "other.csv"))
    (comparison,) = report.comparisons
    assert comparison.n_encounters == 9
    assert {"top1", "macro_auroc"} <= comparison.differences.keys()
    assert "recall@10" not in comparison.differences
    assert comparison.differences["top1"].difference == 0


def test_folds_are_scored_on_classes_and_not_on_retrieval_across_models(work: Path) -> None:
    options = TrainOptions(preset="tiny", settings=("epochs=1",), runtime=QUICK)
    result = cross_validate("pretrain", 2, work / "prepared", work / "folds", options)
    assert result.scores is not None
    assert {"top1", "balanced_accuracy"} <= result.scores.pooled.keys()
    assert not any("recall@" in name or "_rank" in name for name in result.scores.pooled)
    record = read_json(work / "folds" / "folds" / "run.json")
    assert "folds/zero_shot.csv" in record["outputs"]  # so that --overwrite may replace it


def test_a_report_is_written(work: Path) -> None:
    report = score(
        work / "predictions", work / "prepared", ScoreOptions(resamples=100, out=work / "report", leaderboard=True)
    )
    scores = read_json(work / "report" / "scores.json")
    assert scores["top1"] == figures(report)["top1"]
    assert schema.problems("report", read_json(work / "report" / "report.json"), "report.json") == []
    page = (work / "report" / "report.html").read_text(encoding="utf-8")
    assert "Balanced accuracy" in page
    assert "MONET" in page
    assert read_json(work / "report" / "run.json")["inputs"]


def test_questions_from_files_are_recorded_and_repeated(work: Path) -> None:
    (work / "classes.txt").write_text("Eczema\nvitiligo\n")
    (work / "concepts.json").write_text(json.dumps({"plaque": ["plaque", "raised area"], "scale": []}))
    options = PredictOptions(classes=str(work / "classes.txt"), concepts=work / "concepts.json", runtime=QUICK)
    predict("pretrain", work / "run" / "best.pt", work / "prepared", "valid", work / "asked", options)
    asked = read_json(work / "asked" / "predictions.json")
    assert asked["classes"] == ["Eczema", "vitiligo"]
    assert asked["concepts"] == {"plaque": ["plaque", "raised area"], "scale": ["scale"]}
    inputs = read_json(work / "asked" / "run.json")["inputs"]
    assert any(name.endswith("concepts.json") for name in inputs)
    scores = score(work / "asked", work / "prepared", FEW).systems[0].tasks[0]
    assert any("melanoma" in note for note in scores.notes)
    assert rerun(work / "asked" / "run.json").identical


def test_batches_change_no_score(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magic_cli.training.inference.CPU_BATCH", 7)
    options = PredictOptions(runtime=QUICK)
    predict("pretrain", work / "run" / "best.pt", work / "prepared", "valid", work / "batches", options)
    both = score([work / "predictions", work / "batches"], work / "prepared", FEW)
    assert figures(both, 1) == pytest.approx(figures(both), abs=1e-6, nan_ok=True)


def test_mistakes_are_one_line(work: Path) -> None:
    with pytest.raises(SubmissionError, match="they are no submission"):
        check_submission(work / "predictions", work / "nothing")
    with pytest.raises(ConfigError, match="two or more classes"):
        predict(
            "pretrain", work / "run" / "best.pt", work / "prepared", "valid", work / "no", PredictOptions(classes="a")
        )
    options = PredictOptions(classes="nothing.txt")
    with pytest.raises(ConfigError, match="no file of this name"):
        predict("pretrain", work / "run" / "best.pt", work / "prepared", "valid", work / "no", options)
    with pytest.raises(ConfigError, match="--classes: of another task"):
        predict("seg", work / "run" / "best.pt", work / "prepared", "valid", work / "no", PredictOptions(classes="a,b"))
    with pytest.raises(DataError, match=r"none of the 18 predicted photos|no photo with"):
        score(work / "predictions", work / "prepared", ScoreOptions(split="train", resamples=100))
    assert not (work / "no").exists()


def test_own_photos_are_compared_with_classes_as_those_of_a_split(work: Path) -> None:
    """Photos of a folder have no gold: without --classes they have vectors alone."""
    photos = [image.path for image in open_prepared(work / "prepared").images_of("valid")]
    options = PredictOptions(runtime=QUICK, images=tuple(map(str, photos)), classes=", ".join(CLASSES))
    result = predict("pretrain", work / "run" / "best.pt", out=work / "own", options=options)
    split = PredictOptions(runtime=QUICK, classes=", ".join(CLASSES))
    predict("pretrain", work / "run" / "best.pt", work / "prepared", "valid", work / "by-name", split)
    tables = [(work / name / "zero_shot.csv").read_text().splitlines() for name in ("own", "by-name")]
    assert sorted(tables[0]) == sorted(tables[1])
    assert result.photos is not None
    assert result.photos.read == len(photos) == len((work / "own" / "photos.jsonl").read_text().splitlines())
    silent = PredictOptions(runtime=QUICK, images=(str(photos[0]),))
    predict("pretrain", work / "run" / "best.pt", out=work / "silent", options=silent)
    assert (work / "silent" / "embeddings.safetensors").is_file()
    assert not (work / "silent" / "zero_shot.csv").exists()
