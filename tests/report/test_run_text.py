"""report/run_text.py: results of training and prediction as text and as JSON."""

import math
from dataclasses import replace

import pytest

from magic_cli.io import schema
from magic_cli.metrics.bootstrap import Difference
from magic_cli.records import AnswerReview, ParentReview, Review
from magic_cli.report.run_text import (
    CrossValidationResult,
    Fold,
    FoldScores,
    PooledScore,
    PredictResult,
    TrainResult,
    VoteResult,
)

PARENTS = (ParentReview("CQID010", 40, 0.75, 0.25, None),)
ANSWERS = AnswerReview(40, 0.6875, 0.5, 0.0625, 15, 2, 16, 1, PARENTS)
PLANNED = TrainResult("seg", "segmentation", {"epochs": 5}, 12345, 9, 4, Review())
BEST = {"epoch": 3, "loss": 0.5, "dice_meanofmax": 0.75, "dice": None}
TRAINED = replace(
    PLANNED,
    following="magic predict seg --ckpt runs/seg/best.pt",
    checkpoint="runs/seg/best.pt",
    best=BEST,
    epochs=5,
    baselines={"all foreground": 0.4, "other": math.nan},
)


def fits(name: str, values: dict[str, object], command: str) -> bool:
    return schema.problems(name, {"schema": 1, "command": command, **values}, "--json") == []


def test_a_finished_training() -> None:
    text = TRAINED.lines()
    assert text[0] == "segmentation: 9 training, 4 validation samples; best of 5 epochs: 3"
    assert "  dice_meanofmax       0.7500" in text
    assert "  0.4000  if the answer were: all foreground" in text
    assert text[-1].endswith("next: magic predict seg --ckpt runs/seg/best.pt")
    assert fits("trained", TRAINED.to_json(), "train")
    assert TRAINED.to_json()["baselines"] == {"all foreground": 0.4, "other": None}


def test_a_chosen_threshold_has_a_line() -> None:
    chosen = {"settings": {"threshold": 0.36}, "figure": "dice", "fixed": 0.5, "before": 0.5, "after": 0.625}
    line = "threshold 0.36 chosen on the validation samples: dice 0.5000 -> 0.6250, optimistic there"
    assert line in replace(TRAINED, chosen=chosen).lines()


@pytest.mark.parametrize("number", [0, 12345])
def test_a_dry_run(number: int) -> None:
    planned = replace(PLANNED, parameters=number)
    [line] = planned.lines()
    assert f"{number:,} trainable parameters" in line
    assert fits("trained", planned.to_json(), "train")
    assert "best" not in planned.to_json()


def test_parents_of_closed_questions_have_a_table_and_no_lines() -> None:
    best = {"epoch": 3, "loss": 0.5, "accuracy_CQID010": 0.75, "accuracy_all": 0.6875, "f1_macro": 0.5}
    result = replace(TRAINED, task="cvqa", best=best, baselines={}, review=Review(("a line",), ANSWERS))
    text = result.lines()
    assert "  accuracy_all         0.6875" in text
    assert not any(line.startswith("  accuracy_CQID010") for line in text)
    table = text.index("held-out answers by parent question")
    assert text[table + 1].split() == ["encounters", "accuracy", "training", "majority", "calibration", "error"]
    assert text[table + 2].split() == ["CQID010", "40", "0.7500", "0.2500"]
    assert text[table + 3].split() == ["all", "40", "0.6875", "0.5000", "0.0625"]
    assert "15 bins of equal width (Guo et al. 2017)" in text[table + 4]
    assert text[table + 5].startswith("2 of 16 slots")
    assert schema.problems("review", result.review.to_json(), "review") == []
    assert result.review.to_json()["constant"] == {"slots": 2, "of": 16, "share": 0.125, "models": 1}


def test_a_cross_validation_before_and_after() -> None:
    parts = (Fold(1, ("ENC1",), 2, 1), Fold(2, ("ENC2", "ENC3"), 1, 2))
    planned = CrossValidationResult("seg", "segmentation", {}, "0" * 64, parts, Review(), "runs/seg/folds", "prepared")
    assert planned.lines() == [
        "segmentation: 2 folds over encounters of split train, which hold out 1, 2 of them (--dry-run)"
    ]
    assert fits("folds", planned.to_json(), "train")
    trained = tuple(replace(part, epochs=3, loss=0.5, scores={"dice": 0.5}) for part in parts)
    scores = FoldScores(
        monitor="dice",
        encounters=3,
        parts=trained,
        pooled={"dice": PooledScore(0.5, 0.25, 0.75, 0.5, math.nan)},
        baselines={"mean mask": {"dice": 0.375}},
        differences={"mean mask": {"dice": Difference(0.125, -0.25, 0.5, 0.5)}},
        notes=("a note",),
    )
    result = planned.with_scores(scores, Review(("a warning",)))
    assert fits("folds", result.to_json(), "train")
    assert result.to_json()["figures"] == {"dice": {"value": 0.5, "low": 0.25, "high": 0.75, "mean": 0.5, "sd": None}}
    text = result.lines()
    assert "each scored by the fold that held it out" in text[0]
    assert text[2].split() == ["dice", "0.5000", "0.250-0.750", "0.5000", "0.3750"]
    assert "dice minus that of mean mask: +0.1250 (-0.2500 to +0.5000, p 0.5000)" in text
    assert "note: a note" in text
    assert text[-1] == (
        "runs/seg/folds.json: written; next: magic score runs/seg/folds prepared --split train --out runs/seg/report"
    )


def test_predictions_and_votes() -> None:
    predicted = PredictResult("cvqa", "test", "out", ("best.pt",), files=2)
    assert predicted.lines() == ["out: 2 files of split test"]
    assert replace(predicted, following="magic package").lines()[-1].endswith("split test; next: magic package")
    assert fits("predicted", predicted.to_json(), "predict")
    dry = replace(predicted, files=0, samples=3, dry_run=True)
    assert dry.lines() == ["3 samples of split test; nothing written (--dry-run)"]
    assert fits("predicted", dry.to_json(), "predict")
    voted = VoteResult("cvqa", "test", "out", ("a", "b"), samples=3, ties=4, answers=27, files=0, dry_run=True)
    assert voted.lines() == [
        "3 encounters of 2 files; 4 of 27 answers were tied: decided by the file listed first",
        "3 samples of split test; nothing written (--dry-run)",
    ]
    assert fits("predicted", voted.to_json(), "predict")
