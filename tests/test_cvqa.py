"""tasks/cvqa.py: samples, decisions, the official accuracy over sets, the file."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import ENCOUNTERS, QUESTIONS, answers, make_prepared

from magic_cli.config import CvqaConfig
from magic_cli.data.gold import Gold, gold_of
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.errors import DataError, SubmissionError
from magic_cli.records import Prediction
from magic_cli.submission import open_predictions
from magic_cli.tasks import cvqa

CONFIG = CvqaConfig()
QIDS = list(QUESTIONS.by_qid)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return open_prepared(make_prepared(tmp_path_factory.mktemp("cvqa")))


@pytest.fixture(scope="module")
def gold(prepared: Prepared) -> Gold:
    return gold_of(prepared, "valid")


def hard(encounter: str, row: Mapping[str, int]) -> Prediction:
    return Prediction(encounter, {qid: np.array(index) for qid, index in row.items()})


def soft(encounter: str, row: Mapping[str, int]) -> Prediction:
    sizes = {qid: QUESTIONS.by_qid[qid].size for qid in row}
    return Prediction(encounter, {q: np.eye(sizes[q], dtype=np.float32)[i] * 0.6 for q, i in row.items()})


def perfect() -> dict[str, dict[str, int]]:
    return {e: answers(e) for e in ("ENC00011", "ENC00012")}


rows = st.fixed_dictionaries({qid: st.integers(0, QUESTIONS.by_qid[qid].size - 1) for qid in QIDS})


def test_samples(prepared: Prepared) -> None:
    for split in ("train", "valid", "test"):
        found = cvqa.samples(prepared, split, CONFIG)
        assert [s.id for s in found] == [e for e, (of, _) in ENCOUNTERS.items() if of == split]
        assert [len(s.images) for s in found] == [len(ENCOUNTERS[s.id][1]) for s in found]
        assert all(s.qids == tuple(QIDS) for s in found)


def test_encounters_without_answers_are_predicted_but_not_learned_from(prepared: Prepared) -> None:
    bare = dataclasses.replace(prepared.encounters["ENC00001"], answers=None)
    some = dataclasses.replace(prepared, encounters={**prepared.encounters, "ENC00001": bare})
    assert [s.id for s in cvqa.samples(some, "train", CONFIG)] == ["ENC00002"]
    none = {e: dataclasses.replace(x, answers=None) for e, x in prepared.encounters.items()}
    with pytest.raises(DataError, match="encounters with answers"):
        cvqa.samples(dataclasses.replace(prepared, encounters=none), "valid", CONFIG)


def test_one_sample_a_question(prepared: Prepared) -> None:
    found = cvqa.samples(prepared, "valid", CvqaConfig(unit="question"))
    assert [(s.id, s.qids) for s in found] == [(e, (qid,)) for e in perfect() for qid in QIDS]


def test_modalities_without_photos(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path, photos=False))
    for modality in ("text", "both"):
        assert all(s.images == () for s in cvqa.samples(prepared, "test", CvqaConfig(modality=modality)))
    with pytest.raises(DataError, match=r"3 encounters without a photo \(ENC00021, .*--modality both or text"):
        cvqa.samples(prepared, "test", CvqaConfig(modality="image"))


def test_text_leaves_photos_away(prepared: Prepared) -> None:
    assert all(s.images == () for s in cvqa.samples(prepared, "train", CvqaConfig(modality="text")))


def test_probabilities_become_canonical_slots() -> None:
    row = answers("ENC00011") | {"CQID011-001": 5, "CQID011-002": 7, "CQID011-003": 2, "CQID011-004": 5}
    decided = cvqa.decide([soft("E", row)], QUESTIONS)
    assert [decided[f"CQID011-{n:03}"] for n in range(1, 7)] == [2, 5, 7, 7, 7, 7]


def test_decisions_pass_unchanged() -> None:
    row = {"CQID011-001": 7, "CQID011-002": 0}
    assert cvqa.decide([hard("E", row)], QUESTIONS) == row


def test_one_prediction_a_question_makes_one_row() -> None:
    row = answers("ENC00011")
    parts = [soft("E", {qid: index}) for qid, index in row.items()]
    assert cvqa.decide(parts, QUESTIONS) == cvqa.decide([soft("E", row)], QUESTIONS) == row


@pytest.mark.parametrize("kind", [hard, soft])
def test_gold_scores_one(gold: Gold, kind: Any) -> None:
    report = cvqa.score(gold, [kind(e, row) for e, row in perfect().items()])
    parents = [f"accuracy_{parent}" for parent in QUESTIONS.parents]
    assert list(report.figures) == [*parents, "accuracy_all", "number_cvqa_instances"]
    assert all(report.figures[name] == 1.0 for name in [*parents, "accuracy_all"])
    assert report.figures["number_cvqa_instances"] == 2
    assert report.extra == {"f1_macro": 1.0}
    assert report.notes == ()
    assert report.rows[0] == {"parent": "CQID010", "question": "Extent of the affected skin", "accuracy": 1.0, "n": 2}


def test_sets_not_slots(gold: Gold) -> None:
    """Gold {x, Not mentioned} of CQID011: half credit for x alone, full credit in any order."""
    for change, credit in (({f"CQID011-{n:03}": 7 for n in range(1, 7)}, 0.5), ({}, 1.0)):
        rows_ = perfect()
        first = rows_["ENC00011"]
        value = first["CQID011-001"]
        assert {first[f"CQID011-{n:03}"] for n in range(1, 7)} == {value, 7}
        turned = {f"CQID011-{n:03}": first[f"CQID011-{7 - n:03}"] for n in range(1, 7)}
        rows_["ENC00011"] = first | turned | change
        report = cvqa.score(gold, [hard(e, row) for e, row in rows_.items()])
        assert report.figures["accuracy_CQID011"] == pytest.approx((credit + 1) / 2)


def test_case_04_missing_siblings_make_the_set_smaller(gold: Gold) -> None:
    rows_ = perfect()
    for n in range(2, 7):
        del rows_["ENC00011"][f"CQID011-{n:03}"]
    report = cvqa.score(gold, [hard(e, row) for e, row in rows_.items()])
    assert report.figures["accuracy_CQID011"] == pytest.approx(0.75)
    assert report.figures["accuracy_CQID010"] == 1.0


def test_case_13_an_index_out_of_range_is_wrong(gold: Gold) -> None:
    rows_ = perfect()
    rows_["ENC00011"]["CQID010-001"] = 99
    report = cvqa.score(gold, [hard(e, row) for e, row in rows_.items()])
    assert report.figures["accuracy_CQID010"] == 0.5
    assert report.extra["f1_macro"] < 1.0


def test_cases_14_and_15_rows_of_one_encounter_unite(gold: Gold) -> None:
    rows_ = perfect()
    other = rows_["ENC00011"] | {"CQID010-001": 3}
    found = [hard(e, row) for e, row in rows_.items()]
    twice = cvqa.score(gold, [*found, found[0]])
    assert twice.figures["accuracy_all"] == 1.0
    assert "1 encounters have several rows" in twice.notes[0]
    assert cvqa.score(gold, [*found, hard("ENC00011", other)]).figures["accuracy_CQID010"] == pytest.approx(0.75)


def test_case_02_extra_encounters_are_left_out(gold: Gold) -> None:
    found = [hard(e, row) for e, row in (perfect() | {"ENC00099": answers("ENC00011")}).items()]
    report = cvqa.score(gold, found)
    assert report.figures["accuracy_all"] == 1.0
    assert report.notes == ("1 predicted encounters have no gold and are left out, as the official scorer does.",)


def test_missing_encounters_and_parents_are_listed_at_once(gold: Gold) -> None:
    row = {qid: index for qid, index in answers("ENC00012").items() if qid[:7] not in ("CQID034", "CQID011")}
    with pytest.raises(SubmissionError) as error:
        cvqa.score(gold, [hard("ENC00012", row)])
    lines = error.value.problems
    assert len(lines) == 3
    assert lines[0].startswith("1 of 2 encounters have no prediction")
    assert lines[0].endswith(": ENC00011")
    assert [line[:7] for line in lines[1:]] == ["CQID011", "CQID034"]
    assert all("KeyError" in line for line in lines)
    with pytest.raises(SubmissionError, match="CQID034 has no answer"):
        cvqa.score(gold, [soft(e, {q: i for q, i in r.items() if q[:7] != "CQID034"}) for e, r in perfect().items()])


def test_predictions_of_another_split_are_named_as_such() -> None:
    gold = Gold("g", QUESTIONS, answers={f"ENC{n:05}": answers("ENC00001") for n in range(30)})
    with pytest.raises(
        SubmissionError, match=r"30 of 30 encounters .*ENC00009, \.\.\.; are these predictions of another"
    ):
        cvqa.score(gold, [hard("ENC00099", answers("ENC00001"))])


def test_no_gold() -> None:
    with pytest.raises(DataError, match="no gold answers"):
        cvqa.score(Gold("g", QUESTIONS), [])


@given(rows)
def test_gold_to_slots_to_probabilities_to_score_is_one(row: dict[str, int]) -> None:
    canonical = QUESTIONS.canonical(row)
    gold = Gold("g", QUESTIONS, answers={"E": canonical})
    for prediction in (hard("E", canonical), soft("E", canonical), soft("E", row)):
        report = cvqa.score(gold, [prediction])
        assert report.figures["accuracy_all"] == 1.0
        assert report.extra["f1_macro"] == 1.0


@given(rows, rows)
def test_scores_are_in_range_and_order_of_slots_is_free(found: dict[str, int], true: dict[str, int]) -> None:
    gold = Gold("g", QUESTIONS, answers={"E": true})
    report = cvqa.score(gold, [hard("E", found)])
    assert all(0 <= v <= 1 for k, v in report.figures.items() if k.startswith("accuracy"))
    turned = {q: found[p] for qids in QUESTIONS.parents.values() for q, p in zip(qids, reversed(qids), strict=True)}
    assert cvqa.score(gold, [hard("E", turned)]).figures == report.figures


def test_baselines(prepared: Prepared, gold: Gold) -> None:
    found = cvqa.baselines(cvqa.samples(prepared, "train", CONFIG), gold)
    assert list(found) == ["option 0", "Not mentioned", "training majority"]
    assert all(0 <= value < 1 for value in found.values())
    assert "training majority" not in cvqa.baselines([], gold)


def test_written_answers_read_back(prepared: Prepared, gold: Gold, tmp_path: Path) -> None:
    found = [soft(e, row) for e, row in perfect().items()]
    [path] = cvqa.write(iter(found[::-1]), prepared, tmp_path / "new")
    assert path == tmp_path / "new" / "data_cvqa_sys.json"
    assert json.loads(path.read_bytes()) == [{"encounter_id": e, **row} for e, row in perfect().items()]
    with open_predictions(path) as read:
        assert cvqa.score(gold, read.of("cvqa", gold)).figures["accuracy_all"] == 1.0


def test_an_incomplete_prediction_is_not_written(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no answer"):
        cvqa.write([soft("ENC00011", {"CQID010-001": 0})], prepared, tmp_path)
    assert list(tmp_path.iterdir()) == []
