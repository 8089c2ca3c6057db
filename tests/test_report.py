"""report.py: lines for people, JSON for machines, NaN in both."""

import json
import math
from pathlib import Path

import pytest
from small import files_of, make_prepared, write_zip

from magic_cli import report, schema
from magic_cli.cli import main
from magic_cli.records import Report

SEG = Report(
    "seg",
    {"jaccard_meanofmax": math.nan, "dice": 0.87654, "number_segmentation_instances": 3},
    ({"image": "IMG_E_1", "dice_max": math.nan},),
    ("1 of 3 images are 0/0.",),
)
CVQA = Report(
    "cvqa",
    {"accuracy_CQID010": 0.25, "accuracy_all": 0.25, "number_cvqa_instances": 4},
    ({"parent": "CQID010", "question": "How much of the body?\n " * 9, "accuracy": 0.25, "n": 4},),
    extra={"f1_macro": 0.125},
)


def test_lines() -> None:
    text = report.lines([SEG, CVQA], ["from a folder"])
    assert text[0] == "segmentation: 3 images"
    assert "  jaccard_meanofmax       NaN" in text
    assert "  dice                 0.8765" in text
    assert "closed questions: 4 encounters" in text
    [row] = [line for line in text if "CQID010" in line]
    assert row.startswith("  accuracy_CQID010     0.2500  How much of the body? How")
    assert row.endswith("...")
    assert any("0.1250  (not official)" in line for line in text)
    assert text[-3:-1] == ["note: from a folder", "note: 1 of 3 images are 0/0."]
    assert text[-1].startswith("next: magic package")
    assert max(map(len, text)) <= 100


def test_json_is_valid_and_fits_its_schema() -> None:
    found = report.as_json([SEG, CVQA], ["a note"])
    assert schema.problems("report", found, "report") == []
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["reports"][0]["figures"] == {
        "jaccard_meanofmax": None,
        "dice": 0.87654,
        "number_segmentation_instances": 3,
    }
    assert found["reports"][0]["rows"] == [{"image": "IMG_E_1", "dice_max": None}]
    assert found["reports"][1]["extra"] == {"f1_macro": 0.125}


def test_scores_hold_the_official_keys_alone_in_order() -> None:
    found = report.scores([SEG, CVQA])
    assert list(found) == [*SEG.figures, *CVQA.figures]
    assert schema.problems("scores", found, "scores") == []
    assert schema.problems("scores", found | {"f1_macro": 0.1}, "scores")
    assert schema.problems("report", report.as_json([]), "report")


def trained(**more: object) -> list[str]:
    found = {"task": "seg", "train_samples": 9, "valid_samples": 4, "parameters": 12345}
    return report.trained(found | more)


def test_a_finished_training() -> None:
    best = {"epoch": 3, "loss": 0.5, "dice_meanofmax": 0.75, "dice": None}
    text = trained(best=best, epochs=5, baselines={"all foreground": 0.4}, checkpoint="runs/seg/best.pt")
    assert text[0] == "segmentation: 9 to learn from, 4 to validate on; best of 5 epochs: 3"
    assert "  dice_meanofmax       0.7500" in text
    assert "  0.4000  if the answer were: all foreground" in text
    assert text[-1].endswith("next: magic predict seg --ckpt runs/seg/best.pt")


def test_the_score_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    prepared = make_prepared(tmp_path / "prepared")
    write_zip(tmp_path / "s.zip", files_of("valid"))
    monkeypatch.setattr("sys.argv", ["magic", "score", str(tmp_path / "s.zip"), str(prepared), "--json"])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert not leaving.value.code
    found = json.loads(capsys.readouterr().out)
    assert schema.problems("report", found, "report") == []
    seg, cvqa = found["reports"]
    assert seg["figures"]["jaccard_meanofmax"] == cvqa["figures"]["accuracy_all"] == 1.0


@pytest.mark.parametrize("number", [0, 12345])
def test_a_dry_run(number: int) -> None:
    [line] = trained(parameters=number)
    assert f"{number:,} parameters would learn" in line
