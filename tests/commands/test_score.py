"""commands/score.py and the score command: tracks, several systems, comparisons, exit codes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_dataset import (
    ANSWERS,
    MASKS,
    answers,
    blob,
    files_of,
    images_of,
    make_prepared,
    row,
    tiff,
    write_folder,
    write_zip,
)

from magic_cli.commands import score
from magic_cli.errors import ConfigError, DataError, SubmissionError
from magic_cli.io import schema
from magic_cli.records import Rules

VALID = list(images_of("valid"))


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return make_prepared(tmp_path / "prepared")


def with_answers(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    return files_of("valid") | {ANSWERS: json.dumps(rows).encode()}


def wrong_answers() -> dict[str, bytes]:
    """Both encounters answered as one of them."""
    return with_answers([row("ENC00011"), {"encounter_id": "ENC00012", **answers("ENC00011")}])


def judge(preds: list[Path], gold: Path, **more: Any) -> dict[str, Any]:
    against, published = more.pop("against", None), more.pop("published", False)
    found, _ = score.judge(preds, gold, score.Options(resamples=200, **more), against, published)
    assert schema.problems("report", found, "report") == []
    return found


def by_task(found: dict[str, Any], system: int = 0) -> dict[str, Any]:
    return {one["task"]: one for one in found["systems"][system]["reports"]}


def test_a_whole_submission(tmp_path: Path, prepared: Path) -> None:
    found = judge([write_zip(tmp_path / "s.zip", files_of("valid"))], prepared)
    reports = by_task(found)
    assert list(reports) == ["seg", "cvqa"]
    assert reports["seg"]["figures"]["dice_meanofmax"] == reports["cvqa"]["figures"]["accuracy_all"] == 1.0
    for one in reports.values():
        assert one["official"] == one["figures"]
        assert one["stops"] == one["differences"] == one["refused"] == []
        named = {name for name in one["figures"] if not name.startswith("number")} | set(one["extra"])
        assert set(one["intervals"]) == named
        assert all(
            low is high is None or low <= one["figures"].get(n, one["extra"].get(n)) <= high
            for n, (low, high) in one["intervals"].items()
        )
        assert one["baselines"]
    assert found["comparisons"] == []
    assert found["gold"]["split"] == "valid"
    assert found["provenance"]["versions"]["magic"]


def test_what_stops_one_task_takes_the_official_figures_of_both(tmp_path: Path, prepared: Path) -> None:
    files = with_answers([row("ENC00011")])
    reports = by_task(judge([write_zip(tmp_path / "s.zip", files)], prepared))
    assert any("ENC00012" in line for line in reports["cvqa"]["stops"])
    assert reports["seg"]["official"] is reports["cvqa"]["official"] is None
    assert "other task" in reports["seg"]["stops"][0]
    assert reports["seg"]["figures"]["dice_meanofmax"] == 1.0
    assert reports["cvqa"]["figures"]["accuracy_all"] == 0.5
    assert any("ENC00012" in line for line in reports["cvqa"]["refused"])


def test_a_zip_without_its_json_loses_both(tmp_path: Path, prepared: Path) -> None:
    files = {name: data for name, data in files_of("valid").items() if name != ANSWERS}
    reports = by_task(judge([write_zip(tmp_path / "s.zip", files)], prepared))
    assert reports["seg"]["official"] is None
    assert any(ANSWERS in line for line in reports["seg"]["stops"])
    assert reports["seg"]["figures"]["dice_meanofmax"] == 1.0


def test_exit_codes(tmp_path: Path, prepared: Path) -> None:
    whole = write_zip(tmp_path / "whole.zip", files_of("valid"))
    partial = write_zip(tmp_path / "partial.zip", with_answers([row("ENC00011")]))
    for track, code in (("both", 0), ("official", 4), ("strict", 4)):
        assert score.exit_code(judge([whole], prepared, track=track)) == 0
        assert score.exit_code(judge([partial], prepared, track=track)) == code
        assert score.exit_code(judge([whole, partial], prepared, track=track)) == code


def test_a_comparison_is_paired(tmp_path: Path, prepared: Path) -> None:
    good = write_zip(tmp_path / "good.zip", files_of("valid"))
    bad = write_zip(tmp_path / "bad.zip", wrong_answers())
    found = judge([good, bad], prepared, against=bad)
    compared = [(c["system"], c["other"], c["task"], c["encounters"]) for c in found["comparisons"]]
    assert compared == [(str(good), str(bad), task, 2) for task in ("seg", "cvqa")]  # none with itself
    masks, answered = (c["figures"] for c in found["comparisons"])
    truth = by_task(found, 0)["cvqa"]["figures"]["accuracy_all"] - by_task(found, 1)["cvqa"]["figures"]["accuracy_all"]
    assert answered["accuracy_all"]["difference"] == pytest.approx(truth)
    assert truth > 0
    assert masks["dice"] == {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}


def test_nothing_in_common_to_compare(tmp_path: Path, prepared: Path) -> None:
    files = files_of("valid")
    seg = write_folder(tmp_path / "seg", {n: d for n, d in files.items() if n != ANSWERS})
    cvqa = write_folder(tmp_path / "cvqa", {ANSWERS: files[ANSWERS]})
    with pytest.raises(DataError, match="no task in common"):
        judge([seg], prepared, against=cvqa)


def test_the_leaderboard_comes_with_its_warning(tmp_path: Path, prepared: Path) -> None:
    found = judge([write_zip(tmp_path / "s.zip", files_of("valid"))], prepared, published=True)
    assert {row["task"] for row in found["leaderboard"]} == {"seg", "cvqa"}
    assert any("comparable" in note for note in found["notes"])


def test_rules_reach_the_task(tmp_path: Path, prepared: Path) -> None:
    files = files_of("valid")
    bright = {
        n: tiff(blob(images_of("valid")[i]) * np.uint8(255)) for i in VALID for n in [f"{MASKS}/{i}_mask_sys.tiff"]
    }
    path = write_zip(tmp_path / "s.zip", files | bright)
    refused, accepted = (judge([path], prepared, rules=Rules(accept_255=flag)) for flag in (False, True))
    assert by_task(refused)["seg"]["figures"]["dice_meanofmax"] == 0.0
    assert len(by_task(refused)["seg"]["refused"]) >= 1
    assert by_task(accepted)["seg"]["figures"]["dice_meanofmax"] == 1.0
    assert by_task(accepted)["seg"]["official"]["dice_meanofmax"] == 0.0
    assert by_task(accepted)["seg"]["differences"]
    with pytest.raises(ConfigError, match="--empty"):
        score.Options(rules=Rules(empty="two"))


def test_predictions_of_another_split(tmp_path: Path, prepared: Path) -> None:
    with pytest.raises(SubmissionError, match="no prediction"):
        judge([write_zip(tmp_path / "s.zip", files_of("test"))], prepared)


def test_workers_change_nothing(tmp_path: Path, prepared: Path) -> None:
    path = write_zip(tmp_path / "s.zip", files_of("valid"))
    assert judge([path], prepared, workers=3)["systems"] == judge([path], prepared)["systems"]
