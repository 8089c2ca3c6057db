"""tasks/cvqa/__init__.py: samples, decisions, the official accuracy over sets, the file."""

import dataclasses
import itertools
import json
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from tiny_dataset import ENCOUNTERS, QUESTIONS, answers, make_prepared

from magic_cli.data.gold import AnswerGold, answer_gold
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.data.questions import parse_questions
from magic_cli.errors import DataError, SubmissionError
from magic_cli.records import TaskScores
from magic_cli.submission.reader import open_predictions
from magic_cli.tasks import get
from magic_cli.tasks.cvqa.answers import Answer, AnswerPrediction, Decode, decide, rows_of
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.cvqa.score import Key, _items

cvqa = get("cvqa")

CONFIG = CvqaConfig()
QIDS = list(QUESTIONS.by_qid)
FEW = settings(max_examples=30, deadline=None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return open_prepared(make_prepared(tmp_path_factory.mktemp("cvqa")))


@pytest.fixture(scope="module")
def gold(prepared: Prepared) -> AnswerGold:
    return answer_gold(prepared, "valid")


def hard(encounter: str, row: Mapping[str, int]) -> AnswerPrediction:
    return AnswerPrediction(encounter, chosen=row)


def soft(encounter: str, row: Mapping[str, int]) -> AnswerPrediction:
    sizes = {qid: QUESTIONS.by_qid[qid].size for qid in row}
    return AnswerPrediction(encounter, {q: np.eye(sizes[q], dtype=np.float32)[i] * 0.6 for q, i in row.items()})


def perfect() -> dict[str, dict[str, int]]:
    return {e: answers(e) for e in ("ENC00011", "ENC00012")}


rows = st.fixed_dictionaries({qid: st.integers(0, QUESTIONS.by_qid[qid].size - 1) for qid in QIDS})


def test_samples(prepared: Prepared) -> None:
    for split in ("train", "valid", "test"):
        found = cvqa.prediction_samples(prepared, split, CONFIG)
        assert [s.id for s in found] == [e for e, (of, _) in ENCOUNTERS.items() if of == split]
        assert [len(s.images) for s in found] == [len(ENCOUNTERS[s.id][1]) for s in found]
        assert all(s.qids == tuple(QIDS) for s in found)


def test_encounters_without_answers_are_predicted_but_not_learned_from(prepared: Prepared) -> None:
    bare = dataclasses.replace(prepared.cases["ENC00001"], answers=None)
    some = dataclasses.replace(prepared, cases={**prepared.cases, "ENC00001": bare})
    assert [s.id for s in cvqa.training_samples(some, "train", CONFIG)] == ["ENC00002"]
    none = {e: dataclasses.replace(x, answers=None) for e, x in prepared.cases.items()}
    with pytest.raises(DataError, match="encounters with answers"):
        cvqa.training_samples(dataclasses.replace(prepared, cases=none), "valid", CONFIG)
    for split in ("train", "valid"):
        assert cvqa.training_samples(prepared, split, CONFIG) == cvqa.prediction_samples(prepared, split, CONFIG)
        every = cvqa.prediction_samples(dataclasses.replace(prepared, cases=none), split, CONFIG)
        assert [s.id for s in every] == [e for e, (of, _) in ENCOUNTERS.items() if of == split]


def test_one_sample_a_question(prepared: Prepared) -> None:
    """Of train alone: predicted one by one, the questions of an encounter would encode its photos 27 times."""
    config = CvqaConfig(sample_unit="question")
    found = cvqa.training_samples(prepared, "train", config)
    assert [(s.id, s.qids) for s in found] == [(e, (qid,)) for e in ("ENC00001", "ENC00002") for qid in QIDS]
    for samples in (cvqa.training_samples, cvqa.prediction_samples):
        assert [(s.id, s.qids) for s in samples(prepared, "valid", config)] == [(e, tuple(QIDS)) for e in perfect()]
    every = cvqa.prediction_samples(prepared, "train", config)
    assert [(s.id, s.qids) for s in every] == [(e, tuple(QIDS)) for e in ("ENC00001", "ENC00002")]


def test_modalities_without_photos(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path, photos=False))
    for modality in ("text", "both"):
        assert all(s.images == () for s in cvqa.prediction_samples(prepared, "test", CvqaConfig(modality=modality)))
    config = CvqaConfig(modality="image")
    with pytest.raises(DataError, match=r"2 encounters without a photo \(ENC00001, .*--modality both or text"):
        cvqa.training_samples(prepared, "train", config)
    samples = cvqa.prediction_samples(prepared, "test", config)
    assert [s.id for s in samples] == [e for e, (of, _) in ENCOUNTERS.items() if of == "test"]
    [line] = cvqa.prediction_warnings(prepared, "test", samples, config)
    assert line.startswith("3 of 3 encounters of split test have no photo (ENC00021, ")
    assert cvqa.prediction_warnings(prepared, "test", samples, CvqaConfig(modality="both")) == []


def test_text_leaves_photos_away(prepared: Prepared) -> None:
    assert all(s.images == () for s in cvqa.training_samples(prepared, "train", CvqaConfig(modality="text")))


def test_probabilities_become_canonical_slots() -> None:
    row = answers("ENC00011") | {"CQID011-001": 5, "CQID011-002": 7, "CQID011-003": 2, "CQID011-004": 5}
    decided = decide([soft("E", row)], QUESTIONS)
    assert [decided[f"CQID011-{n:03}"] for n in range(1, 7)] == [2, 5, 7, 7, 7, 7]


def torn(decode: Decode = "slot") -> AnswerPrediction:
    """Likeliest are one site and nothing; a second site is nearly as likely as nothing."""
    arrays: dict[str, Any] = dict(soft("E", answers("ENC00011")).probabilities)
    for number in range(1, 7):
        arrays[f"CQID011-{number:03}"] = np.eye(8)[7]
    arrays["CQID011-001"], arrays["CQID011-002"] = np.eye(8)[0], np.array([0, 0, 0.48, 0, 0, 0, 0, 0.52])
    arrays["CQID012-001"] = np.array([0.45, 0, 0, 0.55])
    arrays["CQID012-002"] = np.array([0, 0.9, 0, 0.1])
    return AnswerPrediction("E", arrays, decode=decode)


def test_sets_are_decided_where_the_model_or_the_caller_says_so() -> None:
    slots, sets = decide([torn("slot")], QUESTIONS), decide([torn("set")], QUESTIONS)
    assert slots == decide([torn("slot")], QUESTIONS, "slot") == decide([torn("set")], QUESTIONS, "slot")
    assert sets == decide([torn("slot")], QUESTIONS, "set") == decide([torn("set")], QUESTIONS, "set")
    assert slots != sets
    assert QUESTIONS.canonical(sets) == sets
    changed = {QUESTIONS.by_qid[qid].parent for qid in slots if slots[qid] != sets[qid]}
    assert changed <= {"CQID011", "CQID012", "CQID020"}


def test_the_scored_rows_are_the_written_ones() -> None:
    for decode in ("slot", "set"):
        [row] = rows_of([torn(decode)], QUESTIONS)["E"]
        assert row.values == decide([torn(decode)], QUESTIONS)


@pytest.mark.parametrize(("ways", "expected"), [("set set slot", "set"), ("set slot", "slot"), ("slot", "slot")])
def test_the_mean_is_decided_as_most_of_the_models_say(ways: str, expected: str) -> None:
    parts = [torn(way) for way in ways.split()]
    mean = AnswerPrediction.mean_of(parts)
    assert mean.decode == expected
    for qid, values in mean.probabilities.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, parts[0].probabilities[qid], atol=1e-7)
    with pytest.raises(ValueError, match="no mean"):
        AnswerPrediction.mean_of([hard("E", {"CQID010-001": 0})])


def test_decisions_pass_unchanged() -> None:
    row = {"CQID011-001": 7, "CQID011-002": 0}
    assert decide([hard("E", row)], QUESTIONS) == row


def test_one_prediction_a_question_makes_one_row() -> None:
    row = answers("ENC00011")
    parts = [soft("E", {qid: index}) for qid, index in row.items()]
    assert decide(parts, QUESTIONS) == decide([soft("E", row)], QUESTIONS) == row


@pytest.mark.parametrize("kind", [hard, soft])
def test_gold_scores_one(gold: AnswerGold, kind: Any) -> None:
    report = cvqa.score(gold, [kind(e, row) for e, row in perfect().items()])
    parents = [f"accuracy_{parent}" for parent in QUESTIONS.parents]
    assert list(report.scores) == [*parents, "accuracy_all", "number_cvqa_instances"]
    assert all(report.scores[name] == 1.0 for name in [*parents, "accuracy_all"])
    assert report.scores["number_cvqa_instances"] == 2
    assert report.official == report.scores
    assert list(report.official) == list(report.scores)
    assert report.extra == {"f1_macro": 1.0}
    assert report.notes == report.official_errors == report.differences == report.rejected == ()
    assert {item["credit"] for item in report.per_item} == {1.0}
    assert {item["fault"] for item in report.per_item} == {""}


def test_rows_name_the_question_and_its_options(gold: AnswerGold) -> None:
    report = cvqa.score(gold, [hard(e, row) for e, row in perfect().items()])
    row = dict(report.summary_rows[0])
    assert np.array(row.pop("confusion")).shape == (5, 5)
    assert row == {
        "parent": "CQID010",
        "question": "Extent of the affected skin",
        "accuracy": 1.0,
        "n": 2,
        "options": ["single spot", "limited area", "widespread", "Not mentioned"],
    }
    assert report.summary_rows[1]["question"] == "Body site of affected area"


def test_sets_not_slots(gold: AnswerGold) -> None:
    """Gold {x, Not mentioned} of CQID011: half credit for x alone, full credit in any order."""
    for change, credit in (({f"CQID011-{n:03}": 7 for n in range(1, 7)}, 0.5), ({}, 1.0)):
        rows_ = perfect()
        first = rows_["ENC00011"]
        value = first["CQID011-001"]
        assert {first[f"CQID011-{n:03}"] for n in range(1, 7)} == {value, 7}
        turned = {f"CQID011-{n:03}": first[f"CQID011-{7 - n:03}"] for n in range(1, 7)}
        rows_["ENC00011"] = first | turned | change
        report = cvqa.score(gold, [hard(e, row) for e, row in rows_.items()])
        assert report.scores["accuracy_CQID011"] == pytest.approx((credit + 1) / 2)


def file_rows() -> list[Any]:
    return [{"encounter_id": e, **row} for e, row in perfect().items()]


def without(key: str, rows_: list[Any]) -> list[Any]:
    """The first row loses every key that starts with `key`."""
    return [{k: v for k, v in rows_[0].items() if not k.startswith(key)}, *rows_[1:]]


class Judge:
    """Rows, or any text, written to a file and scored as `magic score` does."""

    def __init__(self, gold: AnswerGold, root: Path) -> None:
        self.gold, self.path = gold, root / "data_cvqa_sys.json"

    def __call__(self, rows_: Any) -> TaskScores:
        self.path.write_text(rows_ if isinstance(rows_, str) else json.dumps(rows_))
        with open_predictions(self.path) as found:
            return cvqa.score(self.gold, found.submitted_rows(self.gold.questions.by_qid))


@pytest.fixture
def judge(gold: AnswerGold, tmp_path: Path) -> Judge:
    return Judge(gold, tmp_path)


def all_of(report: TaskScores) -> float:
    return report.scores["accuracy_all"]


def official(report: TaskScores) -> Mapping[str, float]:
    assert report.official is not None
    assert report.official_errors == ()
    return report.official


def same(report: TaskScores) -> None:
    """Both tracks agree, and nothing is said to differ."""
    assert official(report) == pytest.approx(dict(report.scores), abs=1e-12)
    assert report.differences == ()


def zeroed(report: TaskScores, encounter: str, fault: str) -> None:
    """All of one encounter counts zero, the other is perfect."""
    assert all(report.scores[f"accuracy_{parent}"] == 0.5 for parent in QUESTIONS.parents)
    assert report.scores["number_cvqa_instances"] == 2
    credit = {item["encounter"]: item["credit"] for item in report.per_item}
    assert credit[encounter] == 0.0
    assert sum(credit.values()) == 1.0
    faults = {item["fault"] for item in report.per_item if item["encounter"] == encounter}
    assert len(faults) == 1
    assert fault in faults.pop()
    [line] = report.rejected
    assert line.startswith(f"1 of 2 encounters count as zero: {fault} ({encounter}")


def test_case_01_a_missing_encounter_counts_zero_where_official_stops(judge: Judge) -> None:
    report = judge(file_rows()[:1])
    zeroed(report, "ENC00012", "no row")
    assert report.official is None
    assert report.official_errors == ("KeyError: 1 of 2 encounters have no row (ENC00012)",)
    assert report.differences == ()


def test_case_02_extra_encounters_are_left_out(judge: Judge) -> None:
    report = judge([*file_rows(), file_rows()[0] | {"encounter_id": "ENC00099"}])
    same(report)
    assert all_of(report) == 1.0
    assert report.notes == ("1 predicted encounters have no gold and are left out, as the official scorer does.",)


@pytest.mark.parametrize("parent", ["CQID034", "CQID011"])
def test_cases_03_and_05_a_missing_parent_counts_zero_where_official_stops(judge: Judge, parent: str) -> None:
    report = judge(without(parent, file_rows()))
    assert report.scores[f"accuracy_{parent}"] == 0.5
    assert all_of(report) == pytest.approx(17 / 18)
    assert report.official is None
    assert report.official_errors == (f"KeyError: {parent} has no answer in 1 of 2 encounters (ENC00011)",)
    assert report.rejected == (f"{parent} counts as zero in 1 of 2 encounters: no answer (ENC00011)",)
    [item] = [item for item in report.per_item if item["fault"]]
    assert (item["parent"], item["predicted"], item["credit"], item["fault"]) == (parent, "", 0.0, "no answer")
    assert report.extra["f1_macro"] < 1.0


def test_case_04_missing_siblings_make_the_set_smaller(judge: Judge) -> None:
    rows_ = file_rows()
    for n in range(2, 7):
        rows_ = without(f"CQID011-{n:03}", rows_)
    report = judge(rows_)
    same(report)
    assert report.scores["accuracy_CQID011"] == pytest.approx(0.75)
    assert report.scores["accuracy_CQID010"] == 1.0
    assert report.notes == ("1 encounters lack slots of a question, whose set is smaller, as official: ENC00011.",)


@pytest.mark.parametrize("nothing", ["[]", "{}"])
def test_cases_06_and_08_no_row_at_all(judge: Judge, nothing: str) -> None:
    report = judge(nothing)
    assert set(official(report).values()) == {0.0}
    assert all_of(report) == 0.0
    assert report.scores["number_cvqa_instances"] == 2
    assert report.differences == (
        "the official scorer counts no encounters where there is no row at all: number_cvqa_instances 0 instead of 2",
    )
    assert report.rejected == ("2 of 2 encounters count as zero: no row (ENC00011, ENC00012)",)


def test_case_07_no_file(judge: Judge) -> None:
    with pytest.raises(DataError), open_predictions(judge.path):
        pass


def test_case_08b_an_object_by_encounter(judge: Judge) -> None:
    with pytest.raises(SubmissionError, match="expected a list of objects with an encounter_id"):
        judge(perfect())


@pytest.mark.parametrize(
    ("value", "said"),
    [("0", "text"), ("single spot", "text"), (None, "null"), (99, "99"), (-1, "-1"), (0.5, "0.5"), (4, "4")],
)
def test_cases_09_11_13_what_is_no_index_is_wrong(judge: Judge, value: Any, said: str) -> None:
    first, second = file_rows()
    report = judge([first | {"CQID010-001": value}, second])
    same(report)
    assert report.scores["accuracy_CQID010"] == 0.5
    assert report.rejected == (f"values that are no option index count as wrong: 1 (ENC00011:CQID010-001: {said})",)
    [item] = [item for item in report.per_item if item["fault"]]
    assert (item["predicted"], item["fault"]) == ("?", f"CQID010-001: {said}")
    assert report.extra["f1_macro"] < 1.0


@pytest.mark.parametrize(
    ("values", "size"), [(["x", "x", "y"], 3), ([99, 99.0, -1], 3), ([None, None, None], 2), (["0", "1", "2"], 4)]
)
def test_equal_wrong_values_are_one_element_as_official(judge: Judge, values: list[Any], size: int) -> None:
    first, second = file_rows()
    right = first["CQID011-001"]
    wrong = dict(zip([f"CQID011-{n:03}" for n in range(1, 4)], values, strict=True))
    report = judge([first | dict.fromkeys((q for q in QIDS if q[:7] == "CQID011"), right) | wrong, second])
    same(report)
    assert report.scores["accuracy_CQID011"] == pytest.approx((1 / size + 1) / 2)


def test_f1_of_a_parent_with_a_wrong_value_counts_the_others_where_they_stand() -> None:
    """CQID011: five slots right, one that is no index: F1 0 there (label 7 never found, nothing never gold)."""
    true = QUESTIONS.to_slots({**QUESTIONS.empty_sets(), "CQID011": {0, 3}})
    gold = AnswerGold("g", QUESTIONS, answers={"E": true})
    for changed in ({"CQID011-006": 99}, {"CQID011-001": -1}):
        report = cvqa.score(gold, [hard("E", true | changed)])
        assert report.extra["f1_macro"] == pytest.approx(26 / 27)
    assert cvqa.score(gold, [hard("E", true | {"CQID034-001": 99})]).extra["f1_macro"] == pytest.approx(26 / 27)


def test_case_09_strings_everywhere(judge: Judge) -> None:
    report = judge([{key: str(value) for key, value in row.items()} for row in file_rows()])
    same(report)
    assert all_of(report) == report.extra["f1_macro"] == 0.0
    [line] = report.rejected
    assert line.endswith("... 54 in all)")


def test_case_10_whole_floats_are_integers(judge: Judge) -> None:
    report = judge([{k: float(v) if isinstance(v, int) else v for k, v in row.items()} for row in file_rows()])
    same(report)
    assert all_of(report) == report.extra["f1_macro"] == 1.0
    assert report.rejected == ()


def test_true_and_false_are_no_indices_but_officially_are(judge: Judge) -> None:
    rows_ = file_rows()
    [[at, key], *_] = [[n, q] for n, row in enumerate(rows_) for q, v in row.items() if v == 1 and q[:7] != "CQID011"]
    rows_[at] |= {key: True}
    report = judge(rows_)
    assert official(report)["accuracy_all"] == 1.0
    assert all_of(report) < 1.0
    encounter = rows_[at]["encounter_id"]
    [line] = report.differences
    assert line.startswith(
        f"the official scorer takes true and false for 1 and 0 ({encounter}:{key}): accuracy_all 1.0000 instead"
    )
    assert line.endswith(f"of {all_of(report):.4f}")


@pytest.mark.parametrize(("value", "said"), [([0], "a list"), ({"a": 1}, "an object")])
def test_case_12_a_list_is_wrong_where_official_stops(judge: Judge, value: Any, said: str) -> None:
    first, second = file_rows()
    report = judge([first | {"CQID010-001": value}, second])
    assert report.scores["accuracy_CQID010"] == 0.5
    assert report.official is None
    assert "TypeError" in report.official_errors[0]
    assert report.rejected == (f"values that are no option index count as wrong: 1 (ENC00011:CQID010-001: {said})",)


def test_case_14_rows_that_repeat_each_other_are_one(judge: Judge) -> None:
    report = judge([*file_rows(), file_rows()[0]])
    same(report)
    assert all_of(report) == 1.0
    assert report.notes == ("1 encounters have several rows that agree: ENC00011.",)


def test_rows_that_complete_each_other_are_one(judge: Judge) -> None:
    first, second = file_rows()
    part = {"encounter_id": "ENC00011", "CQID034-001": first["CQID034-001"]}
    report = judge([*without("CQID034", [first]), second, part])
    same(report)
    assert all_of(report) == 1.0


def test_case_15_rows_that_contradict_each_other_count_zero(judge: Judge) -> None:
    first, second = file_rows()
    report = judge([first, second, first | {"CQID010-001": 3}])
    zeroed(report, "ENC00011", "rows that contradict each other")
    assert report.notes == ()
    assert official(report)["accuracy_CQID010"] == pytest.approx(0.75)
    assert report.differences == (
        "the official scorer unites rows that contradict each other (ENC00011): accuracy_all 0.9722 instead of 0.5000",
    )


def test_case_16_an_id_counts_as_written_but_officially_to_its_first_dash(judge: Judge) -> None:
    first, second = file_rows()
    report = judge([first | {"encounter_id": "ENC00011-1"}, second])
    zeroed(report, "ENC00011", "no row")
    assert official(report)["accuracy_all"] == 1.0
    [line] = report.differences
    assert line.startswith(
        "the official scorer takes what stands before the first dash for the id (ENC00011-1): accuracy_all "
    )
    assert line.endswith(" 1.0000 instead of 0.5000")
    assert report.notes == ()


def test_all_ids_with_a_suffix_are_no_other_split(judge: Judge) -> None:
    report = judge([row | {"encounter_id": f"{row['encounter_id']}-1"} for row in file_rows()])
    assert official(report)["accuracy_all"] == 1.0
    assert all_of(report) == 0.0


def test_gold_ids_with_a_dash_stay_apart() -> None:
    gold = AnswerGold("g", QUESTIONS, answers={f"P-{n}": answers(f"ENC0000{n}") for n in (1, 2)})
    report = cvqa.score(gold, [hard(encounter, row) for encounter, row in gold.answers.items()])
    assert all_of(report) == 1.0
    assert report.scores["number_cvqa_instances"] == 2
    same(report)  # united sets of perfect answers are perfect
    moved = [hard("P-1", gold.answers["P-2"]), hard("P-2", gold.answers["P-1"])]
    report = cvqa.score(gold, moved)
    assert all_of(report) < 1
    assert official(report)["accuracy_all"] == 1.0
    assert "before the first dash for the id (P-1, P-2)" in report.differences[0]


@pytest.mark.parametrize("wrong", ["ENC00011_1", "enc00011"])
def test_cases_17_and_18_other_spellings_of_an_id(judge: Judge, wrong: str) -> None:
    first, second = file_rows()
    report = judge([first | {"encounter_id": wrong}, second])
    zeroed(report, "ENC00011", "no row")
    assert report.official_errors == ("KeyError: 1 of 2 encounters have no row (ENC00011)",)


def test_case_19_a_key_without_padding_is_no_question(judge: Judge) -> None:
    first, second = file_rows()
    first["CQID010-1"] = first.pop("CQID010-001")
    report = judge([first, second])
    assert report.scores["accuracy_CQID010"] == 0.5
    assert report.official_errors == ("KeyError: CQID010 has no answer in 1 of 2 encounters (ENC00011)",)
    assert report.notes == ("Keys that are no question are left out: CQID010-1.",)


def test_case_20_extra_keys(judge: Judge) -> None:
    first, second = file_rows()
    report = judge([first | {"explanation": 1}, second])
    assert all_of(report) == 1.0
    assert report.official_errors == (
        "ValueError: a key of 11 characters without exactly one dash (ENC00011:text of 11 characters)",
    )
    assert report.differences == ()
    report = judge([first | {"rationale": "x"}, second])
    same(report)
    assert report.notes == ("Keys that are no question are left out: text of 9 characters.",)


def test_a_slot_that_does_not_exist_counts_officially(judge: Judge) -> None:
    first, second = file_rows()
    report = judge([first | {"CQID010-002": 3}, second])
    assert all_of(report) == 1.0
    assert official(report)["accuracy_CQID010"] == 0.75
    [line] = report.differences
    assert line.startswith("the official scorer counts keys that are no question (ENC00011:CQID010-002): accuracy_all ")
    assert line.endswith(" 0.9722 instead of 1.0000")
    moved = dict(first)
    moved["CQID010-002"] = moved.pop("CQID010-001")
    report = judge([moved, second])
    assert official(report)["accuracy_all"] == 1.0
    assert all_of(report) == pytest.approx(17 / 18)
    assert len(report.differences) == 1


def test_case_25_a_byte_order_mark_stops_the_official_run_only(judge: Judge) -> None:
    judge.path.write_text("\ufeff" + json.dumps(file_rows()))
    with open_predictions(judge.path) as found:
        assert any("byte-order mark" in line for line in found.official_errors)
        assert all_of(cvqa.score(judge.gold, found.submitted_rows(judge.gold.questions.by_qid))) == 1.0


def test_several_causes_add_up(judge: Judge) -> None:
    """Each line starts where the one before ended, from the official figure to the strict one."""
    first, second = file_rows()
    report = judge(
        [first, second | {"CQID010-002": 3}, first | {"CQID025-001": True}, second | {"encounter_id": "ENC00011-2"}]
    )
    steps = [line.rsplit("accuracy_all ", 1)[1].split(" instead of ") for line in report.differences]
    assert len(steps) == 4
    assert steps[0][0] == f"{official(report)['accuracy_all']:.4f}"
    assert steps[-1][1] == f"{all_of(report):.4f}"
    assert all(one[1] == other[0] for one, other in itertools.pairwise(steps))


def test_a_cause_costs_only_what_it_changes(judge: Judge) -> None:
    first, second = file_rows()
    second["CQID010-002"] = second.pop("CQID010-001")
    report = judge([first | {"encounter_id": "ENC00011-1"}, second])
    assert [line.rsplit("accuracy_all ", 1)[1] for line in report.differences] == [
        "1.0000 instead of 0.5000",
        "0.5000 instead of 0.4444",
    ]


def test_a_row_without_an_id_is_refused(judge: Judge) -> None:
    report = judge([*file_rows(), {"CQID010-001": 1}, "ENC00011"])
    assert all_of(report) == 1.0
    assert report.official is None
    assert len(report.rejected) == 2
    assert report.notes == ()
    with pytest.raises(SubmissionError, match="no encounter, expected for ENC00011, ENC00012"):
        judge([{"CQID010-001": 1}])


def test_predictions_of_another_split_are_named_as_such() -> None:
    gold = AnswerGold("g", QUESTIONS, answers={f"ENC{n:05}": answers("ENC00001") for n in range(30)})
    with pytest.raises(SubmissionError, match=r"got answers for ENC00099, .*30 in all; are these .* another split"):
        cvqa.score(gold, [hard("ENC00099", answers("ENC00001"))])


@pytest.mark.parametrize("others", [True, False])
def test_ids_in_other_capitals_are_pointed_out(others: bool) -> None:
    gold = AnswerGold("g", QUESTIONS, answers={f"ENC{n}": answers("ENC00001") for n in range(2)})
    rows = [hard("enc0", answers("ENC00001"))] + [hard("ENC1", answers("ENC00001"))] * others
    hint = "1 of the predicted encounters differ from the gold's in capitals or blanks only (enc0 for ENC0); ids are"
    if others:
        assert any(note.startswith(hint) for note in cvqa.score(gold, rows).notes)
    else:
        with pytest.raises(SubmissionError) as error:
            cvqa.score(gold, rows)
        assert error.value.problems[1].startswith(hint)


def test_314_rows_without_an_id_are_a_line(judge: Judge) -> None:
    report = judge([*file_rows(), *[{"CQID010-001": 1}] * 314])
    assert [line.partition(": ")[0] for line in report.rejected] == ["314 items"]


def test_no_gold() -> None:
    with pytest.raises(DataError, match="no gold answers"):
        cvqa.score(AnswerGold("g", QUESTIONS), [])


def test_probabilities_without_a_parent_count_it_as_zero(gold: AnswerGold) -> None:
    report = cvqa.score(
        gold, [soft(e, {q: i for q, i in r.items() if q[:7] != "CQID034"}) for e, r in perfect().items()]
    )
    assert report.scores["accuracy_CQID034"] == 0.0
    assert all_of(report) == pytest.approx(8 / 9)
    assert report.official_errors == ("KeyError: CQID034 has no answer in 2 of 2 encounters (ENC00011, ENC00012)",)


@FEW
@given(rows)
def test_gold_to_slots_to_probabilities_to_score_is_one(row: dict[str, int]) -> None:
    canonical = QUESTIONS.canonical(row)
    gold = AnswerGold("g", QUESTIONS, answers={"E": canonical})
    for prediction in (hard("E", canonical), soft("E", canonical), soft("E", row)):
        report = cvqa.score(gold, [prediction])
        assert report.scores["accuracy_all"] == 1.0
        assert report.extra["f1_macro"] == 1.0
        same(report)


@FEW
@given(rows, rows)
def test_scores_are_in_range_and_order_of_slots_is_free(found: dict[str, int], true: dict[str, int]) -> None:
    gold = AnswerGold("g", QUESTIONS, answers={"E": true})
    report = cvqa.score(gold, [hard("E", found)])
    assert all(0 <= v <= 1 for k, v in report.scores.items() if k.startswith("accuracy"))
    turned = {q: found[p] for qids in QUESTIONS.parents.values() for q, p in zip(qids, reversed(qids), strict=True)}
    assert cvqa.score(gold, [hard("E", turned)]).scores == report.scores


@FEW
@given(st.lists(st.tuples(rows, rows), min_size=1, max_size=4))
def test_f1_equals_sklearn_over_canonical_slots(pairs: list[tuple[dict[str, int], dict[str, int]]]) -> None:
    gold = AnswerGold("g", QUESTIONS, answers={f"E{n}": true for n, (_, true) in enumerate(pairs)})
    report = cvqa.score(gold, [hard(f"E{n}", found) for n, (found, _) in enumerate(pairs)])
    canonical = [[QUESTIONS.canonical(row) for row in pair] for pair in pairs]
    expected = []
    for qid in QIDS:
        found, true = [f[qid] for f, _ in canonical], [t[qid] for _, t in canonical]
        expected.append(f1_score(true, found, average="macro", labels=sorted({*found, *true})))
    assert report.extra["f1_macro"] == pytest.approx(np.mean(expected), abs=1e-12)


@FEW
@given(st.lists(st.tuples(rows, rows), min_size=1, max_size=4))
def test_items_rows_and_clusters_agree_with_the_figures(pairs: list[tuple[dict[str, int], dict[str, int]]]) -> None:
    gold = AnswerGold("g", QUESTIONS, answers={f"E{n}": true for n, (_, true) in enumerate(pairs)})
    report = cvqa.score(gold, [hard(f"E{n}", found) for n, (found, _) in enumerate(pairs)])
    for row in report.summary_rows:
        items = [item for item in report.per_item if item["parent"] == row["parent"]]
        assert [item["encounter"] for item in items] == list(gold.answers)
        assert np.mean([item["credit"] for item in items]) == pytest.approx(row["accuracy"], abs=1e-12)
        confusion = np.array(row["confusion"])
        assert confusion.min() >= -1e-12
        for axis, column in ((1, "gold"), (0, "predicted")):
            often = np.bincount(
                [int(value) for item in items for value in item[column].split()], minlength=len(row["options"])
            )
            assert confusion.sum(axis)[:-1] == pytest.approx(often, abs=1e-9)
    clusters = report.encounter_sums
    assert clusters is not None
    assert clusters.ids == tuple(gold.answers)
    values = dict(zip(clusters.names, clusters.scores(clusters.sums.sum(0)), strict=True))
    figures = {**report.scores, **report.extra}
    del figures["number_cvqa_instances"]
    assert values == pytest.approx(figures, abs=1e-12)
    one = cvqa.score(gold.only({"E0"}), [hard("E0", pairs[0][0])])
    again = dict(zip(clusters.names, clusters.scores(clusters.sums[0]), strict=True))
    assert again["accuracy_all"] == pytest.approx(all_of(one), abs=1e-12)
    assert again["f1_macro"] == pytest.approx(one.extra["f1_macro"], abs=1e-12)


def test_confusion_by_hand(gold: AnswerGold) -> None:
    """CQID011: gold {a, 7} against {a, 1 or 2, ...}, gold alone, answers alone."""
    true = QUESTIONS.to_slots({**QUESTIONS.empty_sets(), "CQID011": {0, 1, 7}})
    gold = AnswerGold("g", QUESTIONS, answers={"E": true})

    def confusion(*values: int) -> np.ndarray:
        found = true | {f"CQID011-{n:03}": values[n % len(values)] for n in range(1, 7)}
        return np.array(cvqa.score(gold, [hard("E", found)]).summary_rows[1]["confusion"])

    def cells(table: np.ndarray) -> dict[tuple[int, int], float]:
        return {(int(i), int(j)): round(float(table[i, j]), 6) for i, j in zip(*table.nonzero(), strict=True)}

    assert cells(confusion(0, 1, 7)) == {(0, 0): 1, (1, 1): 1, (7, 7): 1}
    assert cells(confusion(0)) == {(0, 0): 1, (1, 8): 1, (7, 8): 1}
    assert cells(confusion(0, 1, 7, 2)) == {(0, 0): 1, (1, 1): 1, (7, 7): 1, (8, 2): 1}
    assert cells(confusion(0, 2)) == {(0, 0): 1, (1, 2): 0.5, (7, 2): 0.5, (1, 8): 0.5, (7, 8): 0.5}
    assert cells(confusion(0, 1, 2, 3)) == {(0, 0): 1, (1, 1): 1, (7, 2): 0.5, (7, 3): 0.5, (8, 2): 0.5, (8, 3): 0.5}
    assert cells(confusion(99)) == {(0, 8): 1, (1, 8): 1, (7, 8): 1}


OTHER = parse_questions(
    [
        {"qid": "Q7", "question_en": "Colour", "options_en": ["red", "blue"]},
        {"qid": "site-1", "question_en": "Site 1", "options_en": ["arm", "leg", "Not mentioned"]},
        {"qid": "site-2", "question_en": "Site 2", "options_en": ["arm", "leg", "Not mentioned"]},
    ],
    "definitions.json",
)


def test_other_questions_are_scored_strictly(tmp_path: Path) -> None:
    """Other qids (one without a dash), other options, other encounter ids; strings stay wrong."""
    gold = AnswerGold(
        "g", OTHER, answers={"a-1": {"Q7": 1, "site-1": 0, "site-2": 2}, "a-2": {"Q7": 0, "site-1": 1, "site-2": 1}}
    )
    report = Judge(gold, tmp_path)(
        [{"encounter_id": "a-1", "Q7": 1, "site-1": 2, "site-2": 2}, {"encounter_id": "a-2", "Q7": "0", "site-1": 1}]
    )
    assert dict(report.scores) == pytest.approx(
        {"accuracy_Q7": 0.5, "accuracy_site": 0.75, "accuracy_all": 0.625, "number_cvqa_instances": 2}
    )
    assert report.official is None
    assert report.official_errors == report.differences == ()
    assert report.notes[0].startswith("The official scorer knows the 27 questions of 2025 only")
    assert [row["options"] for row in report.summary_rows] == [["red", "blue"], ["arm", "leg", "Not mentioned"]]
    assert [row["question"] for row in report.summary_rows] == ["Colour", "Site"]
    assert report.rejected == ("values that are no option index count as wrong: 1 (a-2:Q7: text)",)
    assert list(report.baselines) == ["option 0", "Not mentioned"]
    assert report.baselines["option 0"]["accuracy_Q7"] == 0.5


def test_baselines(prepared: Prepared, gold: AnswerGold) -> None:
    found = cvqa.baseline_scores(cvqa.training_samples(prepared, "train", CONFIG), gold)
    assert list(found) == ["training majority", "option 0", "Not mentioned"]
    assert all(0 <= value < 1 for value in found.values())
    assert "training majority" not in cvqa.baseline_scores([], gold)


def test_reports_hold_the_same_baselines_with_all_figures(prepared: Prepared, gold: AnswerGold) -> None:
    report = cvqa.score(gold, [hard(e, row) for e, row in perfect().items()])
    trained = cvqa.baseline_scores(cvqa.training_samples(prepared, "train", CONFIG), gold)
    assert {name: figures["accuracy_all"] for name, figures in report.baselines.items()} == trained
    zero = cvqa.score(gold, [hard(e, dict.fromkeys(QIDS, 0)) for e in gold.answers])
    assert report.baselines["option 0"] == {**zero.scores, **zero.extra}
    assert gold.majority == QUESTIONS.majority([answers("ENC00001"), answers("ENC00002")])


def test_written_answers_read_back(prepared: Prepared, gold: AnswerGold, tmp_path: Path) -> None:
    found = [soft(e, row) for e, row in perfect().items()]
    path, _ = cvqa.write(iter(found[::-1]), prepared, tmp_path / "new")
    assert path == tmp_path / "new" / "data_cvqa_sys.json"
    assert json.loads(path.read_bytes()) == [{"encounter_id": e, **row} for e, row in perfect().items()]
    with open_predictions(path) as read:
        assert cvqa.score(gold, read.submitted_rows(gold.questions.by_qid)).scores["accuracy_all"] == 1.0


def test_an_incomplete_prediction_is_not_written(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no answer"):
        cvqa.write([soft("ENC00011", {"CQID010-001": 0})], prepared, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_rows_of_items_take_no_more_than_they_hold() -> None:
    """All sums as Python's numbers took 13 kB an encounter: 100 MB at ten times the challenge."""
    row = answers("ENC00001")
    gold = AnswerGold("gold", QUESTIONS, answers={f"ENC{number:05}": row for number in range(200)})
    key, told = Key(gold), {encounter: Answer(row) for encounter in gold.answers}
    sums = key.sums(list(told.values()))
    assert len(key.sets) == 200
    tracemalloc.start()
    try:
        number = sum(1 for _ in _items(key, told, sums))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert number == 200 * len(QUESTIONS.parents)
    assert peak < 200 * 2_000
