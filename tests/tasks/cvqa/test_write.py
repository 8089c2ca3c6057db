"""tasks/cvqa/write.py: predictions.jsonl beside the submission, read back only where it belongs to it; sure errors.

And neighbours.json, the similar cases beside these.
"""

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from challenge_folders import draw_photo, save_photo
from page_outline import check
from tiny_dataset import QUESTIONS, answers, make_prepared
from typer.testing import CliRunner

from magic_cli.cli.app import app
from magic_cli.commands.package import package
from magic_cli.data.gold import AnswerGold
from magic_cli.data.prepared import open_prepared
from magic_cli.io import schema
from magic_cli.io.json_files import read_json, read_jsonl, write_jsonl
from magic_cli.io.run_record import Call, running
from magic_cli.records import Neighbour
from magic_cli.submission.archive import open_archive
from magic_cli.submission.expected import expected_of
from magic_cli.submission.lint import lint
from magic_cli.submission.reader import open_predictions
from magic_cli.tasks import get
from magic_cli.tasks.cvqa.answers import AnswerPrediction
from magic_cli.tasks.cvqa.write import MOST

cvqa = get("cvqa")

NAME, PROBABILITIES, NEIGHBOURS = "data_cvqa_sys.json", "predictions.jsonl", "neighbours.json"
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


COLOUR, SITE = "CQID034-001", ("CQID011-001", "CQID011-002")
TRUTH = answers("ENC00011") | {SITE[0]: 3, SITE[1]: 4}  # two body sites


def with_similar(out: Path, data: Path, sites: tuple[int, int] = (3, 5)) -> AnswerGold:
    """Write a colour that is wrong, and one of two sites, with five similar cases; return gold with both sites."""
    right, other = TRUTH, TRUTH | {COLOUR: 5, SITE[0]: 1, SITE[1]: 2}
    wrong = TRUTH | {COLOUR: 6, SITE[0]: sites[0], SITE[1]: sites[1]}
    half = right | {SITE[0]: 4, SITE[1]: QUESTIONS.not_mentioned("CQID011") or 0}
    names = ("ENC00001", "ENC00002", "ENC00003", "ENC00004", "=cmd()<b>")
    rows = zip(names, (right, wrong, other, half, right), strict=True)
    near = tuple(Neighbour(e, f"IMG_{e}_00001", 0.9 - k / 10, row) for k, (e, row) in enumerate(rows))
    prediction = replace(soft("ENC00011", wrong, 0.9), neighbours=near)
    cvqa.write([prediction], open_prepared(data), out)
    return AnswerGold("g", QUESTIONS, answers={"ENC00011": TRUTH})


def test_similar_cases_stand_beside_an_error_and_how_they_compare(tmp_path: Path) -> None:
    gold = with_similar(tmp_path / "out", make_prepared(tmp_path / "prepared"))
    found = {row["parent"]: row["neighbours"] for row in misses(tmp_path / "out", gold)}
    assert [row["agrees"] for row in found["CQID034"]] == ["gold", "option", "neither", "gold", "gold"]
    assert [row["agrees"] for row in found["CQID011"]] == ["gold", "option", "neither", "part", "gold"]
    assert found["CQID034"][1] == {
        "case_id": "ENC00002",
        "image_id": "IMG_ENC00002_00001",
        "similarity": 0.8,
        "answer": QUESTIONS.option(COLOUR, 6),
        "agrees": "option",
    }
    assert found["CQID011"][3]["answer"] == QUESTIONS.option(SITE[0], 4)  # without padding
    assert found["CQID011"][0]["answer"] == ", ".join(QUESTIONS.option(SITE[0], k) for k in (3, 4))


def test_the_page_shows_similar_cases_with_their_photos(tmp_path: Path) -> None:
    data = make_prepared(tmp_path / "prepared")
    with_similar(tmp_path / "out", data)
    (data / "photos").mkdir()
    for number, name in enumerate(("ENC00001_00001", "ENC00011_00002")):  # the first photo of the latter is missing
        save_photo(data / "photos" / f"IMG_{name}.jpg", draw_photo((24, 32), number))
    rows = [{**row, "sha256": ""} for row in read_jsonl(data / "images.jsonl")]
    write_jsonl(data / "images.jsonl", rows)
    words = ["score", str(tmp_path / "out"), str(data), "--resamples", "100"]
    shown = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "report"), "--json"])
    assert shown.exit_code == 0, shown.output
    assert schema.problems("report", json.loads(shown.stdout), "--json") == []
    page = check((tmp_path / "report" / "report.html").read_text())
    errors = json.loads(shown.stdout)["systems"][0]["reports"][0]["errors"]
    assert page.text.count("=cmd()<b>") == len(errors) > 1
    labels = set(re.findall(r'aria-label="([^"]*photo of [^"]*)"', (tmp_path / "report" / "report.html").read_text()))
    assert labels == {"The most similar photo of ENC00001", "A photo of ENC00011"}
    for said in ("as the gold", "as answered", "neither", "0.80"):
        assert said in page.text
    (tmp_path / "out" / NEIGHBOURS).unlink()
    CliRunner().invoke(app, [*words, "--out", str(tmp_path / "without")])
    assert "most similar photo" not in (tmp_path / "without" / "report.html").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "what cannot be read"),
        ("\udcff", "what cannot be read"),
        ("[" * 100_000, "what cannot be read"),
        ("[]", "another layout"),
        ('{"schema": 1, "encounters": {"ENC00011": [{"case_id": 7}]}}', "another layout"),
        (
            '{"schema": 1, "encounters": {"E": [{"case_id": "C", "image_id": "I", "similarity": NaN, "answers": {}}]}}',
            "a similarity that is no number",
        ),
    ],
)
def test_damaged_similar_cases_are_told_and_not_shown(text: str, said: str, tmp_path: Path) -> None:
    gold = with_similar(tmp_path, make_prepared(tmp_path / "prepared"))
    (tmp_path / NEIGHBOURS).write_bytes(text.encode("utf-8", "surrogateescape"))
    _, [note] = read_back(tmp_path)
    assert note.startswith(f"{tmp_path / NEIGHBOURS}: got {said}")
    assert "not shown" in note
    assert [row for row in misses(tmp_path, gold) if "neighbours" not in row]
