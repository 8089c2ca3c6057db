"""commands/score.py: tracks, several systems, comparisons, exit codes, a call from Python."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_run import magic
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

from magic_cli import tasks
from magic_cli.commands.score import ScoreOptions, score
from magic_cli.errors import ConfigError, DataError, SubmissionError, UsageError
from magic_cli.io import schema
from magic_cli.records import TaskScores
from magic_cli.report import leaderboard
from magic_cli.report.controls.unimodal import unimodal_controls
from magic_cli.report.score_report import ScoreFiles, ScoreReport

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

VALID = list(images_of("valid"))


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return make_prepared(tmp_path / "prepared")


def with_answers(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    return files_of("valid") | {ANSWERS: json.dumps(rows).encode()}


def wrong_answers() -> dict[str, bytes]:
    """Both encounters answered as one of them."""
    return with_answers([row("ENC00011"), {"encounter_id": "ENC00012", **answers("ENC00011")}])


def run(preds: list[Path], gold: Path, **options: Any) -> ScoreReport:
    report = score(preds, gold, ScoreOptions(resamples=200, **options))
    assert schema.problems("report", {"schema": 1, **report.to_json()}, "report") == []
    return report


def by_task(report: ScoreReport, system: int = 0) -> dict[str, TaskScores]:
    return {scores.task: scores for scores in report.systems[system].tasks}


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_systems_of_peers_that_cannot_be_compared_are_scored_all_the_same(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    """A table of predicted classes alone, one of probabilities, and one that lacks a photo."""
    gold = tmp_path / "gold.csv"
    gold.write_bytes("\ufeffimage,label\r\na.jpg,Nevus\r\nb.jpg,nevus\r\nc.jpg,=melanoma\r\n\r\n".encode())
    tables = (
        "filename,predicted,nevus,=melanoma\na.jpg,nevus,0.9,0.1\nb.jpg,nevus,0.4,0.6\nc.jpg,=melanoma,0.2,0.8\n",
        "image_id;predicted\na;NEVUS\nb;acne\nc;=melanoma\n",
        "image_id,nevus,=melanoma\na,0.5,0.5\nb,0.3,0.7\n",
    )
    paths = [tmp_path / f"{number}.csv" for number in range(3)]
    for path, table in zip(paths, tables, strict=True):
        path.write_text(table, encoding="utf-8")
    report = run([paths[number] for number in order], gold)
    assert report.comparisons == ()
    assert [note.split(": ")[0].split("/")[-1] for note in report.notes] == [f"{order[0]}.csv"] * 2
    assert all(" is not compared with " in note for note in report.notes)
    head, *lines = report.lines()[1:]
    assert "macro_auroc" in head
    assert any("1.0000*" in line for line in lines)
    assert any("1 of 3 photos with gold have no prediction (c.jpg)" in line for line in lines)
    with pytest.raises(DataError, match="of one system only"):
        run([paths[0]], gold, against=paths[1])


def test_a_whole_submission(tmp_path: Path, prepared: Path) -> None:
    report = run([write_zip(tmp_path / "s.zip", files_of("valid"))], prepared)
    tasks = by_task(report)
    assert list(tasks) == list(report.tasks) == ["seg", "cvqa"]
    assert tasks["seg"].scores["dice_meanofmax"] == tasks["cvqa"].scores["accuracy_all"] == 1.0
    for scores in tasks.values():
        assert scores.official == scores.scores
        assert scores.official_errors == scores.differences == scores.rejected == ()
        values = {name: value for name, value in scores.scores.items() if not name.startswith("number")} | scores.extra
        assert set(scores.intervals) == set(values)
        for name, pair in scores.intervals.items():
            assert math.isnan(pair.low) == math.isnan(pair.high)
            assert math.isnan(pair.low) or pair.low <= values[name] <= pair.high
        assert scores.baselines
    assert report.comparisons == ()
    assert report.split == "valid"
    assert report.provenance.versions["magic"]


def test_a_call_from_python(tmp_path: Path, prepared: Path) -> None:
    """Paths may be text, one system needs no list, and the report says which files it read and wrote."""
    path = write_zip(tmp_path / "s.zip", files_of("valid"))
    assert score(str(path), str(prepared)).files == ScoreFiles((path,), prepared)
    out = tmp_path / "report"
    report = score(path, prepared, ScoreOptions(out=str(out), against=path, resamples=200))
    assert report.files.against == path
    names = ["report.json", "per_item.csv", "scores.tex", "scores.md", "report.html", "scores.json"]
    assert report.files.written == tuple(out / name for name in names)
    assert json.loads((out / "report.json").read_text()) == {"schema": 1, **report.to_json()}
    with pytest.raises(DataError, match="already there"):
        score(tmp_path, prepared, ScoreOptions(out=out))  # before any is read
    with pytest.raises(DataError, match="no such file"):
        score(tmp_path / "nothing", prepared, ScoreOptions(out=out))
    with pytest.raises(UsageError, match="nothing to score"):
        score([], prepared)


def test_what_stops_one_task_takes_the_official_scores_of_both(tmp_path: Path, prepared: Path) -> None:
    files = with_answers([row("ENC00011")])
    tasks = by_task(run([write_zip(tmp_path / "s.zip", files)], prepared))
    assert any("ENC00012" in line for line in tasks["cvqa"].official_errors)
    assert tasks["seg"].official is tasks["cvqa"].official is None
    assert "other task" in tasks["seg"].official_errors[0]
    assert tasks["seg"].scores["dice_meanofmax"] == 1.0
    assert tasks["cvqa"].scores["accuracy_all"] == 0.5
    assert any("ENC00012" in line for line in tasks["cvqa"].rejected)


def test_a_zip_without_its_json_loses_both(tmp_path: Path, prepared: Path) -> None:
    files = {name: data for name, data in files_of("valid").items() if name != ANSWERS}
    tasks = by_task(run([write_zip(tmp_path / "s.zip", files)], prepared))
    assert tasks["seg"].official is None
    assert any(ANSWERS in line for line in tasks["seg"].official_errors)
    assert tasks["seg"].scores["dice_meanofmax"] == 1.0


def test_exit_codes(tmp_path: Path, prepared: Path) -> None:
    whole = write_zip(tmp_path / "whole.zip", files_of("valid"))
    partial = write_zip(tmp_path / "partial.zip", with_answers([row("ENC00011")]))
    for track, code in (("both", 0), ("official", 4), ("strict", 4)):
        assert run([whole], prepared, track=track).exit_code == 0
        assert run([partial], prepared, track=track).exit_code == code
        assert run([whole, partial], prepared, track=track).exit_code == code


def test_a_comparison_is_paired(tmp_path: Path, prepared: Path) -> None:
    good = write_zip(tmp_path / "good.zip", files_of("valid"))
    bad = write_zip(tmp_path / "bad.zip", wrong_answers())
    report = run([good, bad], prepared, against=bad)
    compared = [(c.system, c.other, c.task, c.n_encounters) for c in report.comparisons]
    assert compared == [(str(good), str(bad), task, 2) for task in ("seg", "cvqa")]  # none with itself
    masks, answered = (c.differences for c in report.comparisons)
    values = [by_task(report, system)["cvqa"].scores["accuracy_all"] for system in (0, 1)]
    assert answered["accuracy_all"].difference == pytest.approx(values[0] - values[1])
    assert values[0] > values[1]
    dice = masks["dice"]
    assert (dice.difference, dice.p, math.isnan(dice.low), math.isnan(dice.high)) == (0.0, 1.0, True, True)


def test_two_encounters_have_no_interval_and_the_reason_is_told(tmp_path: Path, prepared: Path) -> None:
    good = write_zip(tmp_path / "good.zip", files_of("valid"))
    bad = write_zip(tmp_path / "bad.zip", wrong_answers())
    report = run([bad], prepared, against=good, out=str(tmp_path / "report"))
    saved = json.loads((tmp_path / "report" / "report.json").read_text())
    pairs = [pair for scores in saved["systems"][0]["reports"] for pair in scores["intervals"].values()]
    rows = [row for comparison in saved["comparisons"] for row in comparison["figures"].values()]
    assert pairs
    assert rows
    assert all(pair == [None, None] for pair in pairs)
    assert all((row["low"], row["high"]) == (None, None) and 0 < row["p"] <= 1 for row in rows)
    text, page = report.lines(), (tmp_path / "report" / "report.html").read_text()
    assert sum("note: no 95 % intervals: of 2 encounters" in line for line in text) == 2
    assert not any(line.startswith("95 % intervals: bootstrap") for line in text)
    assert page.count("no 95 % intervals: of 2 encounters") == 2
    assert "– to –" not in page


def test_nothing_in_common_to_compare(tmp_path: Path, prepared: Path) -> None:
    files = files_of("valid")
    seg = write_folder(tmp_path / "seg", {n: d for n, d in files.items() if n != ANSWERS})
    cvqa = write_folder(tmp_path / "cvqa", {ANSWERS: files[ANSWERS]})
    with pytest.raises(DataError, match="no task in common"):
        run([seg], prepared, against=cvqa)


def test_the_leaderboard_comes_with_its_warning(tmp_path: Path, prepared: Path) -> None:
    report = run([write_zip(tmp_path / "s.zip", files_of("valid"))], prepared, leaderboard=True)
    assert report.published == {task: leaderboard.entries(task) for task in ("seg", "cvqa")}
    assert any("comparable" in note for note in report.notes)


def test_scores_are_divided_by_an_attribute_of_the_cases(tmp_path: Path, prepared: Path) -> None:
    cases = prepared / "cases.jsonl"
    rows = [json.loads(line) for line in cases.read_text().splitlines()]
    for number, case in enumerate(rows):
        case["attributes"] = {"sex": "female" if number % 2 else "male"}
    cases.write_text("".join(json.dumps(case) + "\n" for case in rows))
    path = write_zip(tmp_path / "s.zip", files_of("valid"))
    report = run([path], prepared, by=("sex", "photos"))
    assert [(found.task, found.by) for found in report.subgroups] == [
        (task, by) for by in ("sex", "photos") for task in ("seg", "cvqa")
    ]
    whole, divided = by_task(report)["seg"], report.subgroups[0]
    assert sorted(row.value for row in divided.rows) == ["female", "male"]
    assert sum(row.encounters for row in divided.rows) == 2
    values = [row.scores["dice_meanofmax"] for row in divided.rows]
    assert min(values) <= whole.scores["dice_meanofmax"] <= max(values)
    assert any("by sex" in line for line in report.lines())
    assert divided.gap("dice_meanofmax") is None  # of subgroups of 20 encounters or more
    with pytest.raises(ConfigError, match=r"--by sx: got no case with it.*did you mean sex\?"):
        score(path, prepared, ScoreOptions(by=("sx",), out=prepared))  # before the place is looked at
    ended = magic(tmp_path, "score", path, prepared, "--by", "site,sex", "--out", tmp_path / "report")
    told = [line for line in ended.err.splitlines() if line.startswith("left out")]
    assert (ended.code, len(told)) == (0, 1)
    assert told[0].startswith("left out: --by site: got no case with it")
    ended = magic(tmp_path, "score", path, prepared, "--by", "site,skin")
    assert (ended.code, [line.partition(":")[0] for line in ended.errors]) == (3, ["--by site", "--by skin"])
    ended = magic(tmp_path, "score", path, prepared, "--by", " , ")
    assert (ended.code, ended.errors[0].partition(";")[0]) == (2, "--by: got no name")
    with pytest.raises(DataError, match="expected a prepared dataset"):
        score(EXAMPLES / "preds.json", EXAMPLES / "gold.json", ScoreOptions(by=("sex",)))


def test_rules_reach_the_task(tmp_path: Path, prepared: Path) -> None:
    files = files_of("valid")
    bright = {
        n: tiff(blob(images_of("valid")[i]) * np.uint8(255)) for i in VALID for n in [f"{MASKS}/{i}_mask_sys.tiff"]
    }
    path = write_zip(tmp_path / "s.zip", files | bright)
    rejected, accepted = (by_task(run([path], prepared, accept_255=flag))["seg"] for flag in (False, True))
    assert rejected.scores["dice_meanofmax"] == 0.0
    assert len(rejected.rejected) >= 1
    assert accepted.scores["dice_meanofmax"] == 1.0
    assert accepted.official is not None
    assert accepted.official["dice_meanofmax"] == 0.0
    assert accepted.differences


@pytest.mark.parametrize(
    ("options", "text"), [({"empty": "two"}, "--empty"), ({"track": "x"}, "track"), ({"resamples": 1}, "--resamples")]
)
def test_options_that_make_no_sense(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        ScoreOptions(**options)


def test_predictions_of_another_split(tmp_path: Path, prepared: Path) -> None:
    names = [name for name in files_of("valid") if name.endswith(".tiff")]
    masks = {name: files_of("valid")[name] for name in names}
    paths = [write_zip(tmp_path / "valid.zip", masks)]
    paths += [write_zip(tmp_path / "test.zip", {name.replace("ENC", "OTH"): data for name, data in masks.items()})]
    with pytest.raises(SubmissionError) as error:
        run(paths, prepared)
    line = f"{paths[1]}: got a prediction for none of {len(names)} images ("
    assert error.value.problems == (str(error.value),)
    assert str(error.value).startswith(line)
    assert f"), expected predictions for {prepared} (split valid); each system must predict" in str(error.value)


def test_workers_change_nothing(tmp_path: Path, prepared: Path) -> None:
    path = write_zip(tmp_path / "s.zip", files_of("valid"))
    many, single = (run([path], prepared, workers=number).to_json()["systems"] for number in (3, 1))
    assert many == single


def test_answers_with_probabilities_have_their_calibration(recorded: Path, tmp_path: Path) -> None:
    preds, prepared = recorded / "valid" / "cvqa", recorded / "prepared"
    report = score(preds, prepared, ScoreOptions(out=tmp_path / "report", by=("artefact",), resamples=100))
    (sure,) = report.calibration
    assert sure.answers == sure.encounters * len(by_task(report)["cvqa"].summary_rows)
    assert sum(row.answers for row in sure.bins) == sure.answers
    assert sure.scores["gain"] == pytest.approx(sure.scores["aurc_random"] - sure.scores["aurc"])
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert schema.problems("report", found, "report.json") == []
    assert found["calibration"][0]["curve"][-1]["risk"] == pytest.approx(sure.scores["aurc_random"])
    page = (tmp_path / "report" / "report.html").read_text()
    assert {"Selective prediction", "Reliability"} <= set(page.replace("<", ">").split(">"))
    assert [divided.by for divided in report.subgroups] == ["ruler", "pen", "hair", "corners", "patch"]
    for divided in report.subgroups:
        assert {row.value for row in divided.rows} <= {divided.by, f"no {divided.by}"}
        assert sum(row.encounters for row in divided.rows) == sure.encounters
    assert report.unimodal == ()  # this system reads texts alone


def test_a_missing_unimodal_control_is_told_with_its_command() -> None:
    settings = {"a": {"modality": "both"}, "b": {"modality": "text"}, "c": {}}
    text, image = unimodal_controls(tasks.get("cvqa"), settings)
    assert (text.systems, list(text.lines())) == (("b",), [])
    command = "magic train cvqa --modality image --out runs/cvqa-image"
    assert image.to_json() == {"task": "cvqa", "reads": "image", "systems": [], "command": command}
    assert list(image.lines()) == [f"no control that reads image alone is among the systems; to make one: {command}"]
    assert list(unimodal_controls(tasks.get("cvqa"), {"a": {"modality": "text"}, "b": {}})) == []
    assert list(unimodal_controls(tasks.get("seg"), {"a": {"modality": "both"}})) == []
