"""report/run_text.py: results of prediction and cross-validation as text and as JSON."""

import math
from dataclasses import replace

from magic_cli.io import schema
from magic_cli.metrics.bootstrap import Difference
from magic_cli.records import Review
from magic_cli.report.run_text import (
    CrossValidationResult,
    Fold,
    FoldScores,
    PooledScore,
    PredictResult,
    VoteResult,
)


def fits(name: str, values: dict[str, object], command: str) -> bool:
    return schema.problems(name, {"schema": 1, "command": command, **values}, "--json") == []


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
    assert replace(predicted, files=1).lines() == ["out: 1 file of split test"]
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
