"""tasks/cvqa/write.py: predictions.jsonl beside the submission, read back only where it belongs to it; sure errors."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_dataset import QUESTIONS, answers, make_prepared
from typer.testing import CliRunner

from magic_cli.cli.app import app
from magic_cli.commands.package import package
from magic_cli.data.gold import AnswerGold
from magic_cli.data.prepared import open_prepared
from magic_cli.io import schema
from magic_cli.io.json_files import read_json, read_jsonl
from magic_cli.io.run_record import Call, running
from magic_cli.submission.archive import open_archive
from magic_cli.submission.expected import expected_of
from magic_cli.submission.lint import lint
from magic_cli.submission.reader import open_predictions
from magic_cli.tasks import get
from magic_cli.tasks.cvqa.answers import AnswerPrediction
from magic_cli.tasks.cvqa.write import MOST

cvqa = get("cvqa")

NAME, PROBABILITIES = "data_cvqa_sys.json", "predictions.jsonl"
ENCOUNTERS = ("ENC00021", "ENC00022", "ENC00023")

CALL = Call("predict", {"task": "cvqa"})


def soft(encounter: str, row: dict[str, int], sure: float = 0.6) -> AnswerPrediction:
    """A prediction that gives each chosen option the probability `sure`, the others the rest in equal parts."""
    arrays = {}
    for qid, index in row.items():
        size = QUESTIONS.by_qid[qid].size
        arrays[qid] = np.full(size, (1 - sure) / (size - 1), np.float32)
        arrays[qid][index] = sure
    return AnswerPrediction(encounter, arrays)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    prepared = open_prepared(make_prepared(tmp_path / "prepared"))
    with running(CALL):  # which writes the list of the files: without it, nothing could be replaced
        files = cvqa.write([soft(e, answers(e)) for e in ENCOUNTERS], prepared, tmp_path / "out")
    assert files == [tmp_path / "out" / NAME, tmp_path / "out" / PROBABILITIES]
    return tmp_path / "out"


def read_back(out: Path) -> tuple[dict[str, Any], list[str]]:
    """What `magic score` finds: {encounter: {qid: probabilities}} of the rows that have some, and the notes."""
    with open_predictions(out) as found:
        rows = list(found.submitted_rows(QUESTIONS.by_qid))
        return {row.id: row.probabilities for row in rows if row.probabilities}, list(found.notes)


def misses(out: Path, gold: AnswerGold) -> tuple[dict[str, Any], ...]:
    with open_predictions(out) as found:
        return cvqa.score(gold, found.submitted_rows(gold.questions.by_qid)).errors  # type: ignore[return-value]


def test_a_line_an_encounter_in_the_order_of_the_rows(out: Path) -> None:
    lines, rows = read_jsonl(out / PROBABILITIES), read_json(out / NAME)
    assert [line["encounter_id"] for line in lines] == [row["encounter_id"] for row in rows] == list(ENCOUNTERS)
    for line, row in zip(lines, rows, strict=True):
        assert schema.problems("prediction", line, "x") == []
        assert {qid: answer["index"] for qid, answer in line["answers"].items()} == {
            qid: row[qid] for qid in QUESTIONS.by_qid
        }
        for qid, answer in line["answers"].items():
            assert answer["text"] == QUESTIONS.option(qid, row[qid])
            assert answer["probability"] == answer["probabilities"][row[qid]] == pytest.approx(0.6)
            assert len(answer["probabilities"]) == QUESTIONS.by_qid[qid].size


def test_one_prediction_a_question_makes_one_line(out: Path, tmp_path: Path) -> None:
    prepared = open_prepared(tmp_path / "prepared")
    parts = [soft(e, {qid: index}) for e in ENCOUNTERS for qid, index in answers(e).items()]
    cvqa.write(parts, prepared, tmp_path / "parts")
    assert (tmp_path / "parts" / PROBABILITIES).read_bytes() == (out / PROBABILITIES).read_bytes()


def test_decisions_have_no_probabilities_and_an_older_file_goes(out: Path, tmp_path: Path) -> None:
    hard = [AnswerPrediction(e, chosen=answers(e)) for e in ENCOUNTERS]
    with running(CALL):
        assert cvqa.write(hard, open_prepared(tmp_path / "prepared"), out) == [out / NAME]
    assert not (out / PROBABILITIES).exists()


def test_it_is_never_packaged_and_no_fault_of_a_folder(out: Path, tmp_path: Path) -> None:
    prepared, package_ = tmp_path / "prepared", tmp_path / "submission.zip"
    package(None, out, prepared, "test", package_)
    with open_archive(package_) as archive:
        assert list(archive.members) == [NAME]
    with open_archive(out) as archive:
        assert lint(archive, expected_of(open_prepared(prepared), "test")) == []
    with zipfile.ZipFile(package_, "a") as file:
        file.writestr(PROBABILITIES, "{}")
    with open_archive(package_) as archive:
        [line] = lint(archive, expected_of(open_prepared(prepared), "test"))
    assert "an unknown file" in line


def test_probabilities_are_read_back(out: Path) -> None:
    found, notes = read_back(out)
    assert (list(found), notes) == (list(ENCOUNTERS), [])
    assert max(found["ENC00021"]["CQID034-001"]) == pytest.approx(0.6)
    (out / PROBABILITIES).unlink()
    assert read_back(out) == ({}, [])


def first(out: Path) -> dict[str, Any]:
    line: dict[str, Any] = read_jsonl(out / PROBABILITIES)[0]
    return line


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"encounter_id": "E", "answers": {}}', "\udcff"])
def test_a_damaged_file_is_named_and_not_used(text: str, out: Path) -> None:
    (out / PROBABILITIES).write_bytes(text.encode("utf-8", "surrogateescape"))
    found, [note] = read_back(out)
    assert found == {}
    assert str(out / PROBABILITIES) in note
    assert "not used" in note


@pytest.mark.parametrize("change", ["index", "options", "questions"])
def test_a_file_of_other_answers_is_named_and_not_used(change: str, out: Path) -> None:
    line = first(out)
    if change == "index":
        answer = line["answers"]["CQID034-001"]
        answer["index"] = (answer["index"] + 1) % 3
    elif change == "options":
        line["answers"]["CQID034-001"]["probabilities"].append(0.0)
    else:
        line["answers"]["CQID099-001"] = line["answers"].pop("CQID034-001")
    (out / PROBABILITIES).write_text(json.dumps(line) + "\n")
    found, notes = read_back(out)
    assert found == {}
    assert all(f"other answers than {NAME}" in note for note in notes)


def test_sure_errors_come_first_with_texts(tmp_path: Path) -> None:
    """One encounter, wrong twice: a colour (0.9 sure) and a second body site (0.3 in one slot and 0.4 in another)."""
    prepared = open_prepared(make_prepared(tmp_path / "prepared"))
    truth = answers("ENC00021")
    site = truth["CQID011-001"]
    wrong = truth | {"CQID034-001": 6, "CQID011-001": 3, "CQID011-002": 4}
    prediction = soft("ENC00021", wrong)
    prediction.probabilities["CQID034-001"][:] = np.eye(12)[6] * 0.9
    for qid, p in (("CQID011-001", 0.3), ("CQID011-002", 0.1)):
        prediction.probabilities[qid][:] = 0.01
        prediction.probabilities[qid][3] = p
    prediction.probabilities["CQID011-002"][4] = 0.4
    cvqa.write([prediction], prepared, tmp_path / "out")
    gold = AnswerGold("g", QUESTIONS, answers={"ENC00021": truth, "ENC00022": answers("ENC00022")})
    found = misses(tmp_path / "out", gold)
    assert found[0] == {
        "encounter": "ENC00021",
        "parent": "CQID034",
        "option": 6,
        "answer": QUESTIONS.option("CQID034-001", 6),
        "probability": 0.9,
        "gold": QUESTIONS.option("CQID034-001", truth["CQID034-001"]),
    }
    sites = {row["option"]: row for row in found if row["parent"] == "CQID011"}
    assert set(sites) == {3, 4}
    assert sites[3]["probability"] == pytest.approx(0.3 + 0.1 + 4 * 0.4 / 7, abs=1e-4)  # 0.4 / 7 in four other slots
    assert sites[3]["gold"] == QUESTIONS.option("CQID011-001", site)


def test_errors_are_capped_and_none_where_all_is_right(out: Path) -> None:
    gold = AnswerGold("g", QUESTIONS, answers={e: answers(e) for e in ENCOUNTERS})
    assert misses(out, gold) == ()
    other = AnswerGold("g", QUESTIONS, answers={e: answers("ENC00002") for e in ENCOUNTERS})
    found = misses(out, other)
    assert len(found) == MOST or {row["encounter"] for row in found} <= set(ENCOUNTERS)
    assert [row["probability"] for row in found] == sorted((row["probability"] for row in found), reverse=True)


def test_the_command_shows_the_most_confident_errors(tmp_path: Path) -> None:
    """On a folder, in the lines, in --json and on the page; on the JSON alone there is nothing to tell."""
    data = make_prepared(tmp_path / "prepared")
    rows = {e: answers(e) | {"CQID034-001": 6} for e in ("ENC00011", "ENC00012")}
    cvqa.write([soft(e, row, 0.9) for e, row in rows.items()], open_prepared(data), tmp_path / "out")
    words = ["score", str(tmp_path / "out"), str(data)]
    shown = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "report")])
    assert shown.exit_code == 0, shown.output
    table = shown.stdout[shown.stdout.index("most confident wrong answers") :].splitlines()
    assert table[2].split()[:4] == ["ENC00011", "CQID034", "0.90", QUESTIONS.option("CQID034-001", 6)]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Most confident wrong answers" in page
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert schema.problems("report", found, "--json") == []
    [system] = found["systems"]
    assert [row["encounter"] for row in system["reports"][0]["errors"]] == ["ENC00011", "ENC00012"]
    alone = CliRunner().invoke(app, ["score", str(tmp_path / "out" / NAME), str(data)])
    assert "most confident" not in alone.stdout
    assert "most confident" not in CliRunner().invoke(app, [*words, "--official"]).stdout
