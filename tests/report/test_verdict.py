"""report/verdict.py: every sentence follows from the numbers, and says where an interval includes the other one."""

import math
from dataclasses import replace
from typing import Any

import pytest

from magic_cli.metrics.bootstrap import Difference
from magic_cli.records import EncounterSums, Interval, TaskScores
from magic_cli.report.verdict import Paired, Verdict, judge
from magic_cli.tasks import get

NAN = math.nan


def photo(number: int, dice: float | None, **fields: Any) -> dict[str, Any]:
    row = {"image": f"IMG_{number}", "encounter": f"E{number}", "fault": "", "lesion": 0.1, "predicted": 0.1}
    return row | {"dice_max": dice} | fields


def masks(value: float = 0.7, low: float = 0.65, high: float = 0.75, **fields: Any) -> TaskScores:
    scores = TaskScores(
        "seg",
        {"dice_meanofmax": value},
        intervals={"dice_meanofmax": Interval(low, high)},
        baselines={"empty": {"dice_meanofmax": 0.1}, "mean mask": {"dice_meanofmax": 0.6}},
        per_item=(photo(1, 0.8), photo(2, 0.55)),
    )
    return replace(scores, **fields)


def answers(accuracy: float = 0.5, majority: float = 0.4, **fields: Any) -> TaskScores:
    row = {"parent": "CQID010", "question": "How much?", "accuracy": accuracy, "n": 10, "options": ["a", "b"]}
    table = [[4, 3, 0], [0, 1, 2], [0, 0, 0]] if accuracy < 1 else [[5, 0, 0], [0, 5, 0], [0, 0, 0]]
    scores = TaskScores(
        "cvqa",
        {"accuracy_CQID010": accuracy, "accuracy_all": accuracy},
        summary_rows=(row | {"confusion": table},),
        intervals={"accuracy_all": Interval(accuracy - 0.05, accuracy + 0.05)},
        baselines={"training majority": {"accuracy_CQID010": majority, "accuracy_all": majority}},
    )
    return replace(scores, **fields)


def verdict(scores: TaskScores, *pairs: Paired, **others: TaskScores) -> Verdict:
    return judge(get(scores.task), {"a": scores, **others}, pairs, {"a": "A", "b": "B"})


def pair(difference: float, low: float, high: float, p: float = 0.01, turned: bool = False) -> Paired:
    names = ("b", "a") if turned else ("a", "b")
    return Paired(*names, {"dice_meanofmax": Difference(difference, low, high, p)})


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.7, 0.65, 0.75, "A is better than answers that look at no photo: Dice 0.700 (95 % interval 0.650 to 0.750)"),
        (0.62, 0.58, 0.66, "A is not shown to be better than answers that look at no photo: Dice 0.620"),
        (0.5, 0.45, 0.55, "A is worse than answers that look at no photo: Dice 0.500"),
        (0.7, NAN, NAN, "A: Dice 0.700 (no interval), 0.600 for the best trivial answer, mean mask: nothing can be"),
        (NAN, NAN, NAN, "A: Dice is not defined for this gold."),
    ],
)
def test_beside_trivial_answers(value: float, low: float, high: float, expected: str) -> None:
    assert verdict(masks(value, low, high)).sentences[0].startswith(expected)


def test_an_interval_that_includes_the_trivial_answer_names_it() -> None:
    assert "which includes the 0.600 of the best of these, mean mask" in verdict(masks(0.62, 0.58, 0.66)).sentences[0]
    assert "no trivial answer to compare with" in verdict(masks(baselines={})).sentences[0]


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (pair(0.02, 0.01, 0.03), "It is better than B: Dice +0.020 (95 % interval +0.010 to +0.030)."),
        (pair(0.02, 0.01, 0.03, turned=True), "It is worse than B: Dice -0.020 (95 % interval -0.030 to -0.010)."),
        (
            pair(0.02, -0.01, 0.05, 0.2),
            "No clear difference to B: Dice +0.020 (95 % interval -0.010 to +0.050, include",
        ),
        (
            pair(0.02, 0.01, 0.05, 0.2),
            "No clear difference to B: Dice +0.020 (95 % interval +0.010 to +0.050, p 0.200)",
        ),
        (pair(0.02, NAN, NAN), "Beside B: Dice +0.020, without an interval, so nothing can be concluded."),
    ],
)
def test_beside_another_system(pair: Paired, expected: str) -> None:
    assert verdict(masks(), pair).sentences[1].startswith(expected)


def test_beside_many_systems_and_beside_what_is_not_shown() -> None:
    names = {"a": "A"}
    rows = [
        Paired("a", other, {"dice_meanofmax": Difference(value, value - 0.01, value + 0.01, 0.01)})
        for other, value in (("b", 0.05), ("c", -0.05), ("d", 0.0), ("e", 0.04))
    ]
    told = judge(get("seg"), {"a": masks()}, rows, names).sentences[1]
    assert told == "Its Dice beside other systems: higher than b and e; lower than c; no clear difference to d."
    for useless in (Paired("b", "c", rows[0].differences), Paired("a", "b", {}), pair(NAN, NAN, NAN)):
        assert verdict(masks(), useless).sentences == verdict(masks()).sentences


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.2, -0.05, "It is short of the annotators' agreement with each other: Dice 0.850, this system 0.750"),
        (-0.2, 0.05, "No clear difference to the annotators' agreement with each other"),
        (0.01, 0.05, "It is above the annotators' agreement with each other"),
        (NAN, NAN, "Annotators against each other: Dice 0.850, this system 0.750 against the same masks."),
    ],
)
def test_beside_the_annotators(low: float, high: float, expected: str) -> None:
    key = "dice_meanofmax"
    agreement = {"human": {key: 0.85}, "system": {key: 0.75}}
    row = {"difference": -0.1, "low": low, "high": high, "p": 0.01}
    told = verdict(masks(agreement=agreement | {"differences": {key: row}})).sentences
    assert told[1].startswith(expected)
    assert verdict(masks(agreement={"human": {}, "system": {}})).sentences == verdict(masks()).sentences


FINE = [photo(number, 0.9, lesion=0.1 + number / 100) for number in range(8)]


@pytest.mark.parametrize(
    ("items", "expected", "step"),
    [
        ([photo(1, 0.0, fault="missing"), photo(2, 0.8)], "1 of 2 photos count as zero", ""),
        (
            [photo(1, 0.0, predicted=0.0), *FINE[:7]],
            "What goes wrong most: 1 of 8 photos with a lesion have an empty",
            "--threshold 0.3",
        ),
        (
            [photo(9, 0.4, lesion=0.01), photo(10, 0.5, lesion=0.02), *FINE],
            "Small lesions go wrong most: where the lesion takes at most 2 % of the photo, median Dice is 0.450, els",
            "image_size",
        ),
        (
            [photo(9, 0.6, lesion=0.8), photo(10, 0.6, lesion=0.9), *FINE],
            "Large lesions go wrong most: where the lesion takes 80 % or more",
            "crop",
        ),
        (
            [photo(1, 0.3, predicted=0.5), photo(2, 0.9)],
            "1 of 2 photos have a Dice below 0.5; 1 of these are drawn too large.",
            "--threshold 0.6",
        ),
        (
            [photo(1, 0.3, predicted=0.01), photo(2, 0.9)],
            "1 of 2 photos have a Dice below 0.5; 1 of these are drawn too small.",
            "--threshold 0.4",
        ),
        ([photo(1, 0.3), photo(2, 0.9)], "1 of 2 photos have a Dice below 0.5, of all lesion sizes.", "worst photos"),
        ([photo(1, 0.3, predicted=None), photo(2, 0.9)], "1 of 2 photos have a Dice below 0.5, of all", "worst photos"),
        ([photo(1, 0.8), photo(2, 0.55)], "No photo has a Dice below 0.5; the lowest is 0.550, IMG_2.", ""),
    ],
)
def test_what_goes_wrong_most_with_masks(items: list[dict[str, Any]], expected: str, step: str) -> None:
    told = verdict(masks(per_item=tuple(items)))
    assert told.sentences[-1].startswith(expected)
    assert step in told.next_step
    assert bool(step) == bool(told.next_step)


def test_nothing_to_say_about_photos_that_no_score_is_defined_for() -> None:
    assert len(verdict(masks(per_item=(photo(1, None),))).sentences) == 1


def test_what_goes_wrong_most_with_questions() -> None:
    told = verdict(answers())
    wrong = 'The question that goes wrong most: "How much?" (CQID010), accuracy 0.500; '
    wrong += 'most often "a" is taken for "b" (3 of 10).'
    assert told.sentences[-1] == wrong
    assert "behind the confusions" in told.next_step
    same = verdict(answers(majority=0.5))
    most = "In 1 of 1 questions it is no better than the most frequent answer of training."
    assert same.sentences[-1] == f"{wrong} {most}"
    assert "default preset" in same.next_step  # as a whole it is no better either
    assert verdict(answers(1.0, 1.0)).sentences[-1] == "Every question is answered as in the gold."
    missed = {"parent": "Q", "question": "", "accuracy": 0.1, "n": 4, "options": ["a"], "confusion": [[0, 3], [1, 0]]}
    told = verdict(answers(summary_rows=(missed,)))
    assert told.sentences[-1].endswith('most: Q, accuracy 0.100; most often "a" is missed (3 of 4).')
    added = missed | {"confusion": [[0, 1], [3, 0]]}
    assert '"a" is added (3 of 4)' in verdict(answers(summary_rows=(added,))).sentences[-1]
    assert verdict(answers(summary_rows=(missed | {"confusion": [[1]]},))).sentences[-1].endswith("0.100.")


def test_the_next_step_is_the_most_urgent_one() -> None:
    few = EncounterSums(("E1",), (), None, None)  # type: ignore[arg-type]
    stopped = masks(official_errors=("KeyError",), encounter_sums=few)
    assert verdict(stopped).next_step.startswith("Next: mend what is rejected or stops the official scorer")
    assert verdict(masks(rejected=("IMG_1",))).next_step.startswith("Next: mend")
    assert verdict(masks(encounter_sums=few)).next_step == "Next: more encounters; 1 are too few to tell systems apart."
    assert "stronger model" in verdict(masks(0.62, 0.58, 0.66)).next_step


def test_a_contrastive_model_is_judged_by_its_best_system_and_its_worst_class() -> None:
    rows = ({"class": "nevus", "photos": 9, "recall": 0.1}, {"class": "acne", "photos": 5, "recall": 0.9})
    scores = TaskScores(
        "pretrain",
        {"mean_of_tasks": 0.5},
        summary_rows=rows,
        intervals={"mean_of_tasks": Interval(0.4, 0.6)},
        baselines={"chance": {"mean_of_tasks": 0.2}},
        has_official=False,
    )
    told = verdict(replace(scores, scores={"mean_of_tasks": 0.3}), b=scores)
    assert told.system == "b"
    told = verdict(scores)
    assert told.sentences[0].startswith("A is better than trivial answers: mean of tasks 0.500")
    assert told.sentences[-1] == "The class that is missed most: nevus, recall 0.100 over 9 photos."
    assert verdict(replace(scores, summary_rows=())).sentences == told.sentences[:1]


def test_lines_for_the_terminal_hold_the_same_sentences() -> None:
    told = verdict(masks(0.62, 0.58, 0.66))
    assert told.lines() == ["in short:", *(f"  {line}" for line in (*told.sentences, told.next_step))]
    expected = {"task": "seg", "system": "a", "sentences": list(told.sentences), "next": told.next_step}
    assert told.to_json() == expected
