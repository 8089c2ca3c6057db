"""report/score_text.py and report/score_report.py: lines for people, JSON for machines, NaN in both."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from score_reports import score_report

from magic_cli.io import schema
from magic_cli.io.json_files import finite
from magic_cli.metrics.bootstrap import Difference
from magic_cli.records import Interval, TaskScores
from magic_cli.report.leaderboard import Entry
from magic_cli.report.score_report import Comparison, ScoreReport, ScoreSettings, SystemScores

SEG = TaskScores(
    "seg",
    {"jaccard_meanofmax": math.nan, "dice_meanofmax": 0.5, "dice": 0.87654, "number_segmentation_instances": 3},
    ({"annotator": "ann0", "images": 3, "dice": 0.7, "jaccard": math.nan},),
    ("a note.",),
    official={"jaccard_meanofmax": math.nan, "dice_meanofmax": 0.25, "dice": 0.8, "number_segmentation_instances": 3},
    differences=("official counts a mask of 0/255 as empty (IMG_E_1)",),
    rejected=("IMG_E_1: values {0, 255}",) * 25,
    per_item=({"image": "IMG_E_1", "fault": "", "lesion": 0.1, "dice_max": math.nan},),
    baselines={"full": {"dice_meanofmax": 0.2, "dice": 0.125}},
    agreement={
        "images": 2,
        "annotators": [],
        "human": {"dice_meanofmax": 0.9, "dice_meanofmean": 0.85},
        "system": {"dice_meanofmax": 0.8, "dice_meanofmean": 0.75},
        "differences": {"dice_meanofmax": {"difference": -0.1, "low": -0.2, "high": 0.01, "p": 0.1}},
    },
)
CVQA = TaskScores(
    "cvqa",
    {"accuracy_CQID010": 0.25, "accuracy_all": 0.25, "number_cvqa_instances": 4},
    ({"parent": "CQID010", "question": "How much of the body?\n " * 9, "accuracy": 0.25, "n": 4, "confusion": [[1]]},),
    extra={"f1_macro": 0.125},
    official_errors=("KeyError: ENC1",),
    baselines={"option 0": {"accuracy_CQID010": 0.1, "accuracy_all": 0.1}},
)


def report_of(*systems: tuple[str, TaskScores], track: str = "both", **fields: Any) -> ScoreReport:
    made = []
    for name, scores in systems:
        intervals = {key: Interval(0.1, 0.95) for key in scores.scores if not key.startswith("number")}
        made.append(SystemScores(name, (), (replace(scores, intervals=intervals),)))
    settings = ScoreSettings(track, "one", accept_255=False, resamples=100, seed=1)
    return score_report(*made, settings=settings, notes=("of the run",), **fields)


def words(text: list[str], start: str) -> list[str]:
    [line] = [line for line in text if line.strip().startswith(start)]
    return line.split()


def test_both_tracks_intervals_and_trivial_answers() -> None:
    text = report_of(("a", SEG)).lines()
    assert text[0] == "segmentation: 3 images; empty against empty counts as one"
    assert text[1].split() == ["strict", "95", "%", "interval", "official", "full"]
    assert words(text, "dice_meanofmax ") == ["dice_meanofmax", "0.5000", "0.100-0.950", "0.2500", "0.2000"]
    assert words(text, "jaccard_meanofmax") == ["jaccard_meanofmax", "0.100-0.950", "NaN"]
    assert "official differs: official counts a mask of 0/255 as empty (IMG_E_1)" in text
    assert sum(line.startswith("counted as zero: IMG") for line in text) == 20
    assert "counted as zero: 5 more, all of them in --json and --out" in text
    assert any(
        "annotators against each other" in line
        and "0.9000 (this system 0.8000, difference -0.1000, -0.2000 to +0.0100)" in line
        for line in text
    )
    assert "note: a note." in text
    assert "note: of the run" in text
    assert text[-2].startswith("95 % intervals")
    assert text[-1].startswith("next: ")


def test_one_track_alone() -> None:
    text = report_of(("a", SEG), track="official").lines()
    assert text[1].split() == ["official"]
    assert words(text, "dice_meanofmax") == ["dice_meanofmax", "0.2500"]
    assert not any("counted as zero" in line or "annotators" in line for line in text)
    text = report_of(("a", SEG), track="strict").lines()
    assert text[1].split() == ["strict", "95", "%", "interval", "full"]


def test_questions_and_an_official_run_that_stops() -> None:
    text = report_of(("a", CVQA)).lines()
    assert text[0] == "closed questions: 4 encounters"
    cells = words(text, "accuracy_CQID010")
    assert cells[:7] == ["accuracy_CQID010", "0.2500", "0.100-0.950", "stops", "0.1000", "How", "much"]
    assert cells[-1].endswith("...")
    assert words(text, "f1_macro")[:3] == ["f1_macro", "0.1250", "stops"]
    assert "official run stops: KeyError: ENC1" in text


def test_several_systems_side_by_side() -> None:
    better = replace(CVQA, scores=CVQA.scores | {"accuracy_all": 0.75})
    text = report_of(("a", CVQA), ("b", better)).lines()
    assert text[0] == "closed questions: strict scores, * is best"
    assert text[1].split() == ["CQID010", "all", "f1_macro"]
    assert words(text[:5], "b ") == ["b", "0.2500*", "0.7500*", "0.1250*"]
    assert words(text[:5], "a ") == ["a", "0.2500*", "0.2500", "0.1250*"]
    assert text[3].split() == ["0.100-0.950", "0.100-0.950"]


def test_remarks_on_systems_side_by_side() -> None:
    """Those on all systems once, others with the name; the official track knows nothing that counts as zero."""
    other = replace(SEG, notes=("a note.", "of b"), rejected=SEG.rejected[:1])
    text = report_of(("a", SEG), ("b", other)).lines()
    assert [line for line in text if line.startswith(("note", "counted"))] == [
        "note: a note.",
        "note: b: of b",
        "counted as zero: IMG_E_1: values {0, 255}",
        "note: of the run",
    ]
    many = replace(SEG, rejected=tuple(f"IMG_{k}" for k in range(30)))
    zeros = [line for line in report_of(("a", SEG), ("b", many)).lines() if line.startswith("counted as zero")]
    assert zeros[1] == "counted as zero: b: IMG_0"
    assert zeros[-1] == "counted as zero: 11 more, all of them in --json and --out"
    assert not any("counted" in line for line in report_of(("a", SEG), ("b", many), track="official").lines())


def test_a_paired_comparison_and_the_leaderboard() -> None:
    compared = Comparison("seg", "a", "b", 81, {"dice": Difference(0.03, -0.01, 0.07, 0.0001)})
    published = {"seg": (Entry("IReL", 2, {"dice": 0.741}),), "cvqa": ()}
    report = report_of(("a", SEG), comparisons=(compared,), published=published)
    assert not any("minus" in line for line in report.lines())  # nobody asked for a table
    report = replace(report, files=replace(report.files, against=Path("b")))
    text = report.lines()
    assert "segmentation: a minus b, 81 encounters" in text
    assert any(line.split() == ["dice", "+0.0300", "-0.0100", "to", "+0.0700", "0.0001"] for line in text)
    assert any(line.split() == ["IReL,", "run", "2", "0.741"] for line in text)
    made = report.to_json()
    assert made["comparisons"][0]["figures"] == {"dice": {"difference": 0.03, "low": -0.01, "high": 0.07, "p": 0.0001}}
    assert made["leaderboard"] == [{"task": "seg", "team": "IReL", "run": 2, "figures": {"dice": 0.741}}]
    assert problems(report) == []


def problems(report: ScoreReport) -> list[str]:
    return schema.problems("report", {"schema": 1, **report.to_json()}, "report")


def test_json_is_valid_and_fits_its_schema() -> None:
    """The keys of report.json are a documented format, whatever the fields are called."""
    report = report_of(("a", SEG), ("b", CVQA))
    assert problems(report) == []
    made = report.to_json()
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    first = made["systems"][0]["reports"][0]
    assert first["figures"]["jaccard_meanofmax"] is None
    assert first["figures"]["dice_meanofmax"] == 0.5
    assert first["intervals"]["dice"] == [0.1, 0.95]
    assert first["items"] == [{"image": "IMG_E_1", "fault": "", "lesion": 0.1, "dice_max": None}]
    assert first["rows"] == finite(SEG.summary_rows)
    assert first["refused"] == list(SEG.rejected)
    assert made["systems"][1]["reports"][0]["stops"] == ["KeyError: ENC1"]
    assert problems(report_of())


def test_the_track_decides_what_is_a_problem() -> None:
    for track, code in (("both", 0), ("strict", 4), ("official", 0)):
        assert report_of(("a", SEG), track=track).exit_code == code  # rejected items
    for track, code in (("both", 0), ("strict", 0), ("official", 4)):
        assert report_of(("a", replace(SEG, rejected=())), ("b", CVQA), track=track).exit_code == code  # it stops


def test_scores_hold_the_official_keys_alone_in_order() -> None:
    made = SystemScores("a", (), (SEG, CVQA)).official_json()
    assert list(made) == [*SEG.scores, *CVQA.scores]
    assert made["dice"] == 0.8
    assert made["jaccard_meanofmax"] is made["accuracy_all"] is None
    assert schema.problems("scores", made, "scores") == []
    assert schema.problems("scores", made | {"f1_macro": 0.1}, "scores")
