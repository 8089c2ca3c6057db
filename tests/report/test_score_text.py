"""report/score_text.py: lines for people, JSON for machines, NaN in both."""

import json
import math
from dataclasses import replace
from typing import Any

from magic_cli.io import schema
from magic_cli.records import TaskScores
from magic_cli.report import score_text

SEG = TaskScores(
    "seg",
    {"jaccard_meanofmax": math.nan, "dice_meanofmax": 0.5, "dice": 0.87654, "number_segmentation_instances": 3},
    ({"annotator": "ann0", "images": 3, "dice": 0.7, "jaccard": math.nan},),
    ("a note.",),
    official={"jaccard_meanofmax": math.nan, "dice_meanofmax": 0.25, "dice": 0.8, "number_segmentation_instances": 3},
    differences=("official counts a mask of 0/255 as empty (IMG_E_1)",),
    rejected=("IMG_E_1: values {0, 255}",) * 25,
    per_item=({"image": "IMG_E_1", "dice_max": math.nan},),
    baselines={"full": {"dice_meanofmax": 0.2, "dice": 0.125}},
    agreement={
        "images": 2,
        "annotators": [],
        "human": {"dice_meanofmax": 0.9, "dice_meanofmean": 0.85},
        "system": {"dice_meanofmax": 0.8, "dice_meanofmean": 0.75},
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


def judged(*systems: tuple[str, TaskScores], track: str = "both", **more: Any) -> dict[str, Any]:
    rows = []
    for name, one in systems:
        intervals = {key: [0.1, 0.95] for key in one.scores if not key.startswith("number")}
        rows.append({"name": name, "notes": [], "reports": [score_text.task_json(one) | {"intervals": intervals}]})
    return {
        "schema": 1,
        "format": "magic-report",
        "gold": {"source": "gold", "split": "valid"},
        "settings": {"track": track, "empty": "one", "accept_255": False, "resamples": 100, "seed": 1},
        "systems": rows,
        "comparisons": [],
        "provenance": {"argv": ["magic"], "versions": {}, "made": "now"},
        "notes": ["of the run"],
    } | more


def words(text: list[str], start: str) -> list[str]:
    [line] = [line for line in text if line.strip().startswith(start)]
    return line.split()


def test_both_tracks_intervals_and_trivial_answers() -> None:
    text = score_text.lines(judged(("a", SEG)))
    assert text[0] == "segmentation: 3 images; empty against empty counts as one"
    assert text[1].split() == ["strict", "95", "%", "interval", "official", "full"]
    assert words(text, "dice_meanofmax ") == ["dice_meanofmax", "0.5000", "0.100-0.950", "0.2500", "0.2000"]
    assert words(text, "jaccard_meanofmax") == ["jaccard_meanofmax", "0.100-0.950", "NaN"]
    assert "official differs: official counts a mask of 0/255 as empty (IMG_E_1)" in text
    assert sum(line.startswith("counted as zero: IMG") for line in text) == 20
    assert "counted as zero: 5 more, all of them in --json and --out" in text
    assert any("annotators against each other" in line and "0.9000 (this system 0.8000)" in line for line in text)
    assert "note: a note." in text
    assert "note: of the run" in text
    assert text[-1].startswith("95 % intervals")


def test_one_track_alone() -> None:
    text = score_text.lines(judged(("a", SEG), track="official"))
    assert text[1].split() == ["official"]
    assert words(text, "dice_meanofmax") == ["dice_meanofmax", "0.2500"]
    assert not any("counted as zero" in line or "annotators" in line for line in text)
    text = score_text.lines(judged(("a", SEG), track="strict"))
    assert text[1].split() == ["strict", "95", "%", "interval", "full"]


def test_questions_and_an_official_run_that_stops() -> None:
    text = score_text.lines(judged(("a", CVQA)))
    assert text[0] == "closed questions: 4 encounters"
    found = words(text, "accuracy_CQID010")
    assert found[:7] == ["accuracy_CQID010", "0.2500", "0.100-0.950", "stops", "0.1000", "How", "much"]
    assert found[-1].endswith("...")
    assert words(text, "f1_macro")[:3] == ["f1_macro", "0.1250", "stops"]
    assert "official run stops: KeyError: ENC1" in text


def test_several_systems_side_by_side() -> None:
    better = replace(CVQA, scores=CVQA.scores | {"accuracy_all": 0.75})
    text = score_text.lines(judged(("a", CVQA), ("b", better)))
    assert text[0] == "closed questions: strict figures, * is best"
    assert text[1].split() == ["CQID010", "all", "f1_macro"]
    assert words(text, "b ") == ["b", "0.2500*", "0.7500*", "0.1250*"]
    assert words(text, "a ") == ["a", "0.2500*", "0.2500", "0.1250*"]
    assert text[3].split() == ["0.100-0.950", "0.100-0.950"]


def test_a_paired_comparison_and_the_leaderboard() -> None:
    figures = {"dice": {"difference": 0.03, "low": -0.01, "high": 0.07, "p": 0.0001}}
    compared = {"task": "seg", "system": "a", "other": "b", "encounters": 81, "figures": figures}
    published = [{"task": "seg", "team": "IReL", "run": 2, "figures": {"dice": 0.741}}]
    found = judged(("a", SEG), comparisons=[compared], leaderboard=published)
    text = score_text.lines(found)
    assert "segmentation: a minus b, 81 encounters" in text
    assert any(line.split() == ["dice", "+0.0300", "-0.0100", "to", "+0.0700", "0.0001"] for line in text)
    assert any(line.split() == ["IReL,", "run", "2", "0.741"] for line in text)
    assert schema.problems("report", found, "report") == []


def test_json_is_valid_and_fits_its_schema() -> None:
    found = judged(("a", SEG), ("b", CVQA))
    assert schema.problems("report", found, "report") == []
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["systems"][0]["reports"][0]["figures"]["jaccard_meanofmax"] is None
    assert found["systems"][0]["reports"][0]["items"] == [{"image": "IMG_E_1", "dice_max": None}]
    assert schema.problems("report", judged(), "report")


def test_scores_hold_the_official_keys_alone_in_order() -> None:
    found = score_text.scores([score_text.task_json(SEG), score_text.task_json(CVQA)])
    assert list(found) == [*SEG.scores, *CVQA.scores]
    assert found["dice"] == 0.8
    assert found["jaccard_meanofmax"] is found["accuracy_all"] is None
    assert schema.problems("scores", found, "scores") == []
    assert schema.problems("scores", found | {"f1_macro": 0.1}, "scores")
