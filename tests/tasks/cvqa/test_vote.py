"""tasks/cvqa/vote.py: the vote by hand, against all possible sets, in gold's convention, and through the command."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tiny_dataset import ENCOUNTERS, QUESTIONS, answers, files_of, make_prepared, write_folder, write_zip
from typer.testing import CliRunner

from magic_cli.commands.vote import vote
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import SubmissionError, UsageError
from magic_cli.io import schema
from magic_cli.io.json_files import read_json, read_jsonl
from magic_cli.metrics.answer_sets import iom
from magic_cli.submission.archive import open_archive
from magic_cli.submission.expected import expected_of
from magic_cli.submission.lint import lint
from magic_cli.submission.reader import Layout
from magic_cli.tasks.cvqa.vote import Ballot, merge

NAME = "data_cvqa_sys.json"
TEST = [encounter for encounter, (split, _) in ENCOUNTERS.items() if split == "test"]
SITES = Ballot(3, 5, 4)  # three slots, five options, the last is "Not mentioned"
ONE = Ballot(1, 4, 3)


def sets(*values: set[int]) -> list[frozenset[int]]:
    return [frozenset(one) for one in values]


@pytest.mark.parametrize(
    ("ballot", "votes", "chosen", "tied"),
    [
        (ONE, sets({0}, {1}, {1}), {1}, False),
        (ONE, sets({3}, {0}, {3}), {3}, False),
        (ONE, sets({2}, {0}), {2}, True),
        (ONE, sets({0}, {2}), {0}, True),
        (SITES, sets({0, 4}, {0, 4}, {1, 4}), {0, 4}, False),
        (SITES, sets({0, 1, 4}, {0, 4}, {0, 1, 4}), {0, 1, 4}, False),
        (SITES, sets({4}, {4}, {0, 1, 2}), {4}, False),
        (SITES, sets({0, 1, 2}, {0, 1, 2}, {4}), {0, 1, 2}, False),
        (SITES, sets({1, 4}, {0, 4}), {1, 4}, True),
        (Ballot(2, 3, None), sets({2}, {1, 2}, {2}), {2}, False),
    ],
)
def test_by_hand(ballot: Ballot, votes: list[frozenset[int]], chosen: set[int], tied: bool) -> None:
    assert ballot.elect(votes) == (chosen, tied)


def writable(ballot: Ballot) -> list[frozenset[int]]:
    """All sets that gold's convention can write, the smaller and lower first."""
    real = [option for option in range(ballot.options) if option != ballot.padding]
    found = []
    for values in range(0 if ballot.padding is not None else 1, ballot.slots + 1):
        fill = {ballot.padding} if ballot.padding is not None and values < ballot.slots else set()
        found += [frozenset(fill | set(some)) for some in itertools.combinations(real, values)]
    return found


@pytest.mark.parametrize("ballot", [ONE, SITES, Ballot(2, 4, 0), Ballot(2, 3, None), Ballot(4, 6, 5)])
def test_no_other_set_agrees_better(ballot: Ballot) -> None:
    """All sets, tried one by one: the highest mean IoM, ties by the order of the submissions."""
    draw, every = random.Random(0), writable(ballot)  # noqa: S311
    for _ in range(150):
        votes = draw.choices(every, k=draw.randint(1, 5))
        worth = {one: [round(iom(one, other), 9) for other in votes] for one in every}
        best = max(every, key=lambda one: (round(sum(worth[one]), 6), worth[one]))  # max keeps the first of equals
        most = sum(abs(sum(worth[one]) - sum(worth[best])) < 1e-6 for one in every)
        assert ballot.elect(votes) == (best, most > 1)


def test_one_voice_is_repeated_and_two_of_three_win() -> None:
    rows = {"ENC00021": answers("ENC00021"), "ENC00022": answers("ENC00022")}
    other = {"ENC00021": answers("ENC00022"), "ENC00022": answers("ENC00021")}
    assert merge([rows], QUESTIONS) == (rows, 0)
    assert merge([rows, other, rows], QUESTIONS) == (rows, 0)
    merged, ties = merge([other, rows], QUESTIONS)
    assert (merged, ties) == (other, 18)


def test_any_order_and_padding_is_read_and_golds_is_written() -> None:
    turned = answers("ENC00021") | {"CQID011-001": 7, "CQID011-002": 7, "CQID011-003": 5, "CQID011-004": 1}
    merged, _ = merge([{"E": turned}, {"E": turned}], QUESTIONS)
    assert [merged["E"][f"CQID011-{n:03}"] for n in range(1, 7)] == [1, 5, 7, 7, 7, 7]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_prepared(tmp_path / "prepared")


def changed(path: Path, change: Any, split: str = "test") -> Path:
    """A submission of the split as a JSON file, with its rows changed."""
    rows = json.loads(files_of(split)[NAME])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(change(rows)))
    return path


def test_file_folder_and_zip_become_one_checked_prediction(data: Path, tmp_path: Path) -> None:
    first = changed(tmp_path / "mine.json", lambda rows: rows[::-1])
    folder = write_folder(tmp_path / "theirs", files_of("test"))
    packed = write_zip(tmp_path / "zipped.zip", files_of("test"))
    out = tmp_path / "out"
    found = vote([first, folder, packed], data, "test", out).to_json()
    assert found == {
        "task": "cvqa",
        "split": "test",
        "out": str(out),
        "voted": [str(first), str(folder), str(packed)],
        "samples": 3,
        "ties": 0,
        "answers": 27,
        "files": 2,
    }
    assert read_json(out / NAME) == json.loads(files_of("test")[NAME])
    with open_archive(out) as archive:
        assert lint(archive, expected_of(open_prepared(data), "test"), Layout(None, NAME)) == []
    lines = read_jsonl(out / "predictions.jsonl")
    assert [problem for line in lines for problem in schema.problems("prediction", line, "x")] == []
    assert {answer["probability"] for line in lines for answer in line["answers"].values()} == {1.0}


def test_shares_are_those_of_the_submissions(data: Path, tmp_path: Path) -> None:
    one = changed(tmp_path / "a.json", lambda rows: [row | {"CQID034-001": 3} for row in rows])
    two = changed(tmp_path / "b.json", lambda rows: [row | {"CQID034-001": 3} for row in rows])
    three = changed(tmp_path / "c.json", lambda rows: [row | {"CQID034-001": 5} for row in rows])
    vote([three, one, two], data, "test", tmp_path / "out")
    answer = read_jsonl(tmp_path / "out" / "predictions.jsonl")[0]["answers"]["CQID034-001"]
    assert (answer["index"], answer["probability"]) == (3, pytest.approx(2 / 3, abs=1e-6))
    assert answer["probabilities"][5] == pytest.approx(1 / 3, abs=1e-6)
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_all_faults_of_all_files_at_once(data: Path, tmp_path: Path) -> None:
    good = changed(tmp_path / "good.json", lambda rows: rows)
    short = changed(tmp_path / "short.json", lambda rows: rows[:1])
    foreign = changed(tmp_path / "foreign.json", lambda rows: [row | {"CQID099-001": 0} for row in rows])
    out_of_range = changed(tmp_path / "range.json", lambda rows: [rows[0] | {"CQID010-001": 9}, *rows[1:]])
    masks = write_folder(tmp_path / "seg", {k: v for k, v in files_of("test").items() if k != NAME})
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(SubmissionError) as caught:
        vote([good, short, foreign, out_of_range, masks, broken], data, "test", tmp_path / "out")
    text = "\n".join(caught.value.problems)
    for words in ("ENC00022", "ENC00023", "no such row", "unknown key", "CQID099-001", "out of range", "no answers"):
        assert words in text
    assert str(broken) in text
    assert "good.json" not in text
    assert not (tmp_path / "out").exists()


def test_files_of_other_encounters(data: Path, tmp_path: Path) -> None:
    """An encounter without gold is not required, but then of all files or of none."""
    prepared = [json.loads(line) for line in (data / "cases.jsonl").read_text().splitlines()]
    bare = [row | {"answers": None} if row["case_id"] == "ENC00012" else row for row in prepared]
    (data / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    whole = changed(tmp_path / "whole.json", lambda rows: rows, "valid")
    part = changed(tmp_path / "part.json", lambda rows: rows[:1], "valid")
    assert vote([part, part], data, "valid", tmp_path / "one").samples == 1
    with pytest.raises(SubmissionError, match=r"part\.json: got no row for 1 encounters .*\(ENC00012\)"):
        vote([whole, part], data, "valid", tmp_path / "two")


def test_one_file_is_no_vote(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two or more"):
        vote([tmp_path / "a.json"], data, "test", tmp_path / "out")


def test_the_command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from magic_cli.cli.app import app

    monkeypatch.chdir(tmp_path)
    for name in ("a.json", "b.json"):
        changed(Path(name), lambda rows: rows)
    words = ["predict", "cvqa", "--vote", "a.json", "b.json", "--data", str(data), "--out", "out"]
    dry = CliRunner().invoke(app, [*words, "--dry-run"])
    assert (dry.exit_code, Path("out").exists()) == (0, False), dry.output
    assert "3 encounters of 2 files" in dry.stdout
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert "0 of 27 answers were tied" in told.stdout
    assert told.stdout.strip().endswith(
        f"next: magic package --cvqa out --data {words[words.index('--data') + 1]} --split test"
    )
    assert CliRunner().invoke(app, [*words]).exception is not None  # already there
    found = json.loads(CliRunner().invoke(app, [*words, "--overwrite", "--json"]).stdout)
    assert (found["command"], found["voted"], found["ties"]) == ("predict", ["a.json", "b.json"], 0)
    for wrong in (
        ["predict", "seg", "--vote", "a.json", "b.json"],
        ["predict", "cvqa", "a.json", "b.json", "--ckpt", "best.pt"],
        ["predict", "cvqa"],
        ["predict", "cvqa", "--vote", "a.json", "b.json", "--ckpt", "best.pt"],
        ["predict", "cvqa", "--vote", "a.json"],
        ["predict", "cvqa", "--vote", "a.json", "b.json", "--limit", "2"],
    ):
        failed = CliRunner().invoke(app, [*wrong, "--data", str(data)])
        assert failed.exit_code == 2 or getattr(failed.exception, "exit_code", 0) == 2, (wrong, failed.output)


def test_options_of_models_are_not_passed_over_in_silence(data: Path) -> None:
    from magic_cli.cli.app import app

    words = ["predict", "cvqa", "--vote", "a.json", "b.json", "--data", str(data), "--tta", "--cache-dir", "c"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 2
    assert "leave out --cache-dir, --tta" in " ".join(told.output.replace("│", " ").split())
