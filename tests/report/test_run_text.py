"""report/run_text.py: the last lines of training and prediction."""

import pytest

from magic_cli.report import run_text

REVIEW = {
    "encounters": 40,
    "accuracy": 0.6875,
    "majority": 0.5,
    "ece": 0.0625,
    "bins": 15,
    "constant": {"slots": 2, "of": 16, "share": 0.125, "models": 1},
    "parents": [{"parent": "CQID010", "n": 40, "accuracy": 0.75, "majority": 0.25, "ece": None}],
    "warnings": [],
}


def trained(**more: object) -> list[str]:
    found = {"task": "seg", "train_samples": 9, "valid_samples": 4, "parameters": 12345, "review": {"warnings": []}}
    return run_text.trained(found | more)


def test_a_finished_training() -> None:
    best = {"epoch": 3, "loss": 0.5, "dice_meanofmax": 0.75, "dice": None}
    text = trained(best=best, epochs=5, baselines={"all foreground": 0.4}, checkpoint="runs/seg/best.pt")
    assert text[0] == "segmentation: 9 to learn from, 4 to validate on; best of 5 epochs: 3"
    assert "  dice_meanofmax       0.7500" in text
    assert "  0.4000  if the answer were: all foreground" in text
    assert text[-1].endswith("next: magic predict seg --ckpt runs/seg/best.pt")


@pytest.mark.parametrize("number", [0, 12345])
def test_a_dry_run(number: int) -> None:
    [line] = trained(parameters=number)
    assert f"{number:,} parameters would learn" in line


def test_parents_of_closed_questions_have_a_table_and_no_lines() -> None:
    best = {"epoch": 3, "loss": 0.5, "accuracy_CQID010": 0.75, "accuracy_all": 0.6875, "f1_macro": 0.5}
    more = {"task": "cvqa", "best": best, "epochs": 5, "baselines": {}, "checkpoint": "best.pt", "review": REVIEW}
    text = trained(**more)
    assert "  accuracy_all         0.6875" in text
    assert not any(line.startswith("  accuracy_CQID010") for line in text)
    table = text.index("held-out answers by parent question")
    assert text[table + 1].split() == ["encounters", "accuracy", "training", "majority", "calibration", "error"]
    assert text[table + 2].split() == ["CQID010", "40", "0.7500", "0.2500"]
    assert text[table + 3].split() == ["all", "40", "0.6875", "0.5000", "0.0625"]
    assert "15 bins of equal width (Guo et al. 2017)" in text[table + 4]
    assert text[table + 5].startswith("2 of 16 slots")


def test_predictions_and_votes() -> None:
    found = {"task": "cvqa", "split": "test", "out": "out", "samples": 3, "files": 2}
    [line] = run_text.predicted(found, dry_run=False)
    assert line == "out: 2 files of split test; next: magic package --cvqa out --split test"
    voted = run_text.predicted(found | {"voted": ["a", "b"], "ties": 4, "answers": 27}, dry_run=True)
    assert voted[0] == "3 encounters of 2 files; 4 of 27 answers were tied: decided by the file named first"
    assert voted[1] == "3 samples of split test; nothing written (--dry-run)"
