"""tasks/cvqa/validation.py: constant answers, the majority, calibration and the table of parent questions."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tiny_dataset import QUESTIONS, answers

from magic_cli import tasks
from magic_cli.config import resolve
from magic_cli.data.gold import AnswerGold
from magic_cli.io import schema
from magic_cli.metrics.calibration import ece
from magic_cli.tasks.cvqa import validation
from magic_cli.tasks.cvqa.answers import AnswerPrediction
from magic_cli.tasks.cvqa.validation import MAJORITY, Constant, collapsed, constant, validation_review

Row = Mapping[str, int]
IDS = [f"ENC{n:05}" for n in range(1, 13)]
VARYING = {qid for qid in QUESTIONS.by_qid if len({answers(e)[qid] for e in IDS}) > 1}
GOLD = AnswerGold("g", QUESTIONS, answers={e: answers(e) for e in IDS})


def soft(encounter: str, row: Row, sure: float = 0.7) -> AnswerPrediction:
    arrays = {}
    for qid, index in row.items():
        size = QUESTIONS.by_qid[qid].size
        arrays[qid] = np.full(size, (1 - sure) / (size - 1), np.float32)
        arrays[qid][index] = sure
    return AnswerPrediction(encounter, arrays)


def hard(encounter: str, row: Row) -> AnswerPrediction:
    return AnswerPrediction(encounter, chosen=row)


def judged(predictions: list[AnswerPrediction]) -> dict[str, Any]:
    majority = answers("ENC00001")
    baselines = {MAJORITY: (hard(e, majority) for e in [*IDS, "ENC00099"])}
    found = validation_review(GOLD, iter(predictions), baselines).to_json()
    assert schema.problems("review", found, "review") == []
    return found


def test_padding_that_never_varies_is_not_counted() -> None:
    assert len(VARYING) == 9  # the first slot of each parent: the others are padding in all of these
    one = constant(GOLD, {e: answers("ENC00001") for e in IDS})
    assert (set(one.slots), one.varying, one.encounters, one.share) == (VARYING, 9, 12, 1.0)
    assert constant(GOLD, {e: answers(e) for e in IDS}) == Constant((), 9, 12)


@pytest.mark.parametrize(("slots", "of", "warns"), [(9, 10, False), (10, 10, True), (19, 20, True), (0, 0, False)])
def test_more_than_nine_in_ten_warn(slots: int, of: int, warns: bool) -> None:
    lines = collapsed([Constant(tuple(f"Q{n}" for n in range(slots)), of, 5)])
    assert bool(lines) is warns
    if warns:
        assert f"{slots} of {of} slots get one answer for all 5 held-out encounters" in lines[0]
        assert "Q9" in lines[0]
        assert lines[0].count("Q") == 10


def test_a_collapsed_run_is_told() -> None:
    found = judged([soft(e, answers("ENC00002")) for e in IDS])
    assert found["constant"] == {"slots": 9, "of": 9, "share": 1.0, "models": 1}
    assert any("one answer for all 12" in line for line in found["warnings"])


def test_each_model_of_a_cross_validation_is_asked_for_itself() -> None:
    """Folds that collapse to different answers differ from one another, and each of them is constant."""
    folds = [IDS[:4], IDS[4:8], IDS[8:]]
    told = {**dict.fromkeys(folds[0], "ENC00001"), **dict.fromkeys(folds[1], "ENC00002"), **{e: e for e in folds[2]}}
    predictions = [soft(e, answers(told[e])) for e in IDS]
    guesses = {MAJORITY: [hard(e, answers("ENC00001")) for e in IDS]}
    assert validation_review(GOLD, predictions, guesses).to_json()["constant"]["slots"] == 0
    found = validation_review(GOLD, predictions, guesses, folds).to_json()
    assert schema.problems("review", found, "review") == []
    assert found["constant"]["models"] == 3
    assert found["constant"]["slots"] == found["constant"]["of"] * 2 / 3
    assert [line for line in found["warnings"] if line.startswith("fold 1, 2 of 3: ")]


def test_a_good_run_warns_of_nothing() -> None:
    found = judged([soft(e, answers(e)) for e in IDS])
    assert (found["warnings"], found["accuracy"], found["constant"]["share"]) == ([], 1.0, 0.0)
    assert [row["parent"] for row in found["parents"]] == list(QUESTIONS.parents)
    assert {row["n"] for row in found["parents"]} == {12}
    assert {row["accuracy"] for row in found["parents"]} == {1.0}
    assert all(0 < row["majority"] < 1 for row in found["parents"])


def test_below_the_majority_is_told() -> None:
    wrong = [{qid: (answers(e)[qid] + 1) % 3 if qid in VARYING else i for qid, i in answers(e).items()} for e in IDS]
    found = judged([soft(e, row) for e, row in zip(IDS, wrong, strict=True)])
    [line] = found["warnings"]
    assert f"accuracy_all {found['accuracy']:.4f} is below {found['majority']:.4f}" in line
    assert found["accuracy"] < found["majority"] < 1


def test_calibration_is_that_of_slots_against_canonical_gold() -> None:
    rows = [answers(e) if n % 2 else answers("ENC00001") for n, e in enumerate(IDS)]
    found = judged([soft(e, row) for e, row in zip(IDS, rows, strict=True)])
    right = [row[qid] == answers(e)[qid] for e, row in zip(IDS, rows, strict=True) for qid in QUESTIONS.by_qid]
    assert found["ece"] == pytest.approx(ece(np.full(len(right), 0.7), np.array(right)), abs=1e-6)
    one = [right[n] for n in range(len(right)) if list(QUESTIONS.by_qid)[n % 27] == "CQID010-001"]
    assert found["parents"][0]["ece"] == pytest.approx(abs(np.mean(one) - 0.7), abs=1e-6)


def test_sums_are_made_in_the_order_of_the_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of a set is another one in every process, and with it the last digit of a sum."""
    asked: list[list[float]] = []
    monkeypatch.setattr(validation, "ece", lambda confidence, _: asked.append(confidence.tolist()) or 0.0)
    sure = {qid: 0.5 + number / 64 for number, qid in enumerate(QUESTIONS.by_qid)}
    parts = [soft(e, {qid: answers(e)[qid]}, sure[qid]) for e in IDS for qid in QUESTIONS.by_qid]
    judged(parts)
    assert [p for p in sure.values() for _ in IDS] in asked


def test_one_prediction_a_question_is_the_same() -> None:
    whole = judged([soft(e, answers(e)) for e in IDS])
    parts = [
        soft(e, {qid: index}) for e, qid in itertools.product(IDS, QUESTIONS.by_qid) for index in [answers(e)[qid]]
    ]
    assert judged(parts) == whole


def test_decisions_have_no_calibration() -> None:
    found = judged([hard(e, answers(e)) for e in IDS])
    assert (found["ece"], found["parents"][0]["ece"]) == (None, None)
    assert found["accuracy"] == 1.0


def test_encounters_without_gold_are_left_aside() -> None:
    extra = [soft(f"ENC{n:05}", answers("ENC00001")) for n in range(90, 95)]
    assert judged([soft(e, answers(e)) for e in IDS] + extra) == judged([soft(e, answers(e)) for e in IDS])


def test_the_temperature_is_chosen_by_the_likelihood_of_the_validation_answers() -> None:
    task = tasks.get("cvqa")
    right, wrong = [answers(e) for e in IDS], answers("ENC00002")
    sure = [soft(e, row if at % 3 else wrong, 0.98) for at, (e, row) in enumerate(zip(IDS, right, strict=True))]
    asked = resolve(task.config_class, "tiny", ["temperature_for=valid"])
    chosen = task.choose_settings([(GOLD, iter(sure))], asked)
    assert chosen is not None
    assert chosen.settings["temperature"] > 1  # a part of what is 0.98 sure is wrong
    assert chosen.after < chosen.before
    assert chosen.score == "calibration_error"
    cooler = replace(asked, temperature=2.0)  # the same probabilities, made at another temperature
    again = task.choose_settings([(GOLD, iter(sure))], cooler)
    assert again is not None
    assert again.settings["temperature"] == pytest.approx(2 * float(chosen.settings["temperature"]), rel=0.02)
    assert task.choose_settings([(GOLD, iter(sure))], resolve(task.config_class, "tiny")) is None
    assert task.choose_settings([(GOLD, iter(()))], asked) is None
