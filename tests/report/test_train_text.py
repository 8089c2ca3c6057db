"""report/train_text.py: results of training as text and as JSON."""

import math
from dataclasses import replace

import pytest

from magic_cli.io import schema
from magic_cli.records import AnswerReview, ParentReview, Review
from magic_cli.report.train_text import TrainedDataset, TrainResult

PARENTS = (ParentReview("CQID010", 40, 0.75, 0.25, None),)
ANSWERS = AnswerReview(40, 0.6875, 0.5, 0.0625, 15, 2, 16, 1, PARENTS)
PLANNED = TrainResult("seg", "segmentation", {"epochs": 5}, 12345, 9, 4, Review(), 99_999)
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
    head, _, remark = text[0].partition(", chosen")
    assert head == "segmentation: 9 training, 4 validation samples; best: epoch 3 of 5"
    assert remark == " on the validation samples, where scores are optimistic"
    assert "  dice_meanofmax       0.7500" in text
    assert "  training loss        0.5000" in text
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
    assert f"{number:,} of 99,999 parameters learn" in line
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


def test_several_datasets_have_a_column_each() -> None:
    """Scores are means over them, counts are sums; each one's own stand beside."""
    datasets = (TrainedDataset("a", "x/a", 1.0, 7, 7, 3), TrainedDataset("b", "x/b", 0.5, 2, 1, 1))
    planned = replace(PLANNED, datasets=datasets)
    assert fits("trained", planned.to_json(), "train")
    row = {"epoch": 3, "loss": 0.5, "dice": 0.5, "number": 4, "a/dice": 0.75, "a/number": 3, "b/dice": 0.25}
    result = replace(planned, checkpoint="best.pt", epochs=5).with_scores(
        row | {"b/number": 1}, {"a": {"all foreground": 0.5}, "b": {"all foreground": 0.25}}
    )
    assert result.best == {"epoch": 3, "loss": 0.5, "dice": 0.5, "number": 4}
    assert result.baselines == {"all foreground": 0.375}
    assert [dataset.best for dataset in result.datasets] == [{"dice": 0.75, "number": 3}, {"dice": 0.25, "number": 1}]
    assert fits("trained", result.to_json(), "train")
    text = [line.split() for line in result.lines()]
    assert ["all", "a", "b"] in text
    assert ["weight", "1", "0.5"] in text
    assert ["drawn", "per", "epoch", "8", "7", "1"] in text
    assert ["dice", "0.5000", "0.7500", "0.2500"] in text
    assert ["if", "the", "answer", "were:", "all", "foreground", "0.3750", "0.5000", "0.2500"] in text


def test_each_dataset_has_its_table_of_parents() -> None:
    reviews = {"a": Review(("a line",), ANSWERS), "b": Review((), ANSWERS)}
    review = Review(("a: a line",), datasets=reviews)
    text = replace(TRAINED, review=review).lines()
    assert [line for line in text if line.startswith("held-out")] == [
        f"held-out answers by parent question, {name}" for name in "ab"
    ]
    assert schema.problems("review", review.to_json(), "review") == []
