"""Gold answers through slots, files and the scorer give 1; trivial ones what the notes on the data say."""

import json
import statistics
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from magic_cli.commands.package import package
from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data.gold import AnswerGold, answer_gold
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.data.stratify import assign_folds
from magic_cli.io.json_files import read_json
from magic_cli.records import TaskScores
from magic_cli.submission.archive import open_archive
from magic_cli.submission.expected import expected_of
from magic_cli.submission.lint import lint
from magic_cli.submission.reader import ANSWERS, Layout, open_predictions, write_answers
from magic_cli.tasks import get
from magic_cli.tasks.cvqa.config import CvqaConfig

cvqa = get("cvqa")

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "dermavqa-text"
Rows = Mapping[str, Mapping[str, int]]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    if not REAL.is_dir():
        pytest.skip(f"{REAL} is not there")
    out = tmp_path_factory.mktemp("real") / "prepared"
    prepare(REAL, out, PrepareOptions(responses=False))
    return open_prepared(out)


def scored(gold: AnswerGold, rows: Rows, path: Path) -> TaskScores:
    """Write rows as a submission, read them back and score them."""
    write_answers(path, [{"encounter_id": encounter, **row} for encounter, row in rows.items()])
    with open_predictions(path) as found:
        return cvqa.score(gold, found.submitted_rows(gold.questions.by_qid))


def perfect(report: TaskScores) -> None:
    assert all(value == 1.0 for name, value in report.scores.items() if name.startswith("accuracy"))
    assert report.official == report.scores
    assert (report.differences, report.rejected, report.official_errors) == ((), (), ())


def unpadded(gold: AnswerGold) -> set[str]:
    """Encounters whose gold repeats a value where its own convention would write "Not mentioned"."""
    questions = gold.questions
    return {
        encounter
        for encounter, row in gold.answers.items()
        if questions.to_sets(row) != questions.to_sets(questions.canonical(row))
    }


def round_trip(prepared: Prepared, split: str, folder: Path, apart: int = 0) -> None:
    """Gold as it stands, turned around, as sets written back to slots, and as texts: all of it scores 1.

    `apart` encounters are not in the convention that slots are written back in, and have to stand as they are.
    """
    gold, questions = answer_gold(prepared, split), prepared.questions
    odd = unpadded(gold)
    assert len(odd) == apart
    slots = {e: row if e in odd else questions.canonical(row) for e, row in gold.answers.items()}
    turned = {e: {q: row[s] for qids in questions.parents.values() for q, s in zip(qids, qids[::-1], strict=True)}
              for e, row in gold.answers.items()}  # fmt: skip
    texts = {e: {q: questions.index(q, questions.option(q, i)) for q, i in row.items()} for e, row in slots.items()}
    assert texts == slots
    for rows in (gold.answers, slots, turned, texts):
        perfect(scored(gold, rows, folder / ANSWERS))
    for row in (row for encounter, row in slots.items() if encounter not in odd):
        for parent, qids in questions.parents.items():
            values = [row[qid] for qid in qids]
            real = [value for value in values if value != questions.not_mentioned(parent)]
            assert values[: len(real)] == sorted(set(real)), "values first, each once, then padding"


def test_gold_of_drawn_data_scores_one_and_is_packaged(drawn_prepared: Path, tmp_path: Path) -> None:
    prepared = open_prepared(drawn_prepared)
    round_trip(prepared, "valid", tmp_path / "valid")
    round_trip(prepared, "train", tmp_path / "train")
    expected = expected_of(prepared, "valid")
    with open_archive(tmp_path / "valid") as archive:
        assert lint(archive, expected, Layout(None, ANSWERS)) == []
    package(None, tmp_path / "valid", drawn_prepared, "valid", tmp_path / "submission.zip")
    with zipfile.ZipFile(tmp_path / "submission.zip") as file:
        rows = {row.pop("encounter_id"): row for row in json.loads(file.read(ANSWERS))}
    gold = answer_gold(prepared, "valid")
    perfect(scored(gold, rows, tmp_path / "again" / ANSWERS))


@pytest.mark.realdata
def test_gold_of_real_answers_scores_one(real: Prepared, tmp_path: Path) -> None:
    round_trip(real, "train", tmp_path, apart=1)
    assert len(read_json(tmp_path / ANSWERS)) == 300


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "expected", "within"), [("option 0", 0.145, 0.0005), ("Not mentioned", 0.330, 0.0005)]
)  # fmt: skip
def test_constant_answers_on_real_text(
    name: str, expected: float, within: float, real: Prepared, tmp_path: Path
) -> None:
    """The figures of examples/closed-questions.md, "Constants to beat".

    "Not mentioned" was counted by hand too. The nine parents: 0, 0.440, 0.497, 0.410, 0.461, 0.550, 0.023, 0.027 and
    0.560.
    """
    gold, questions = answer_gold(real, "train"), real.questions
    zero = dict.fromkeys(questions.by_qid, 0)
    row = zero if name == "option 0" else questions.to_slots(questions.empty_sets())
    report = scored(gold, dict.fromkeys(gold.answers, row), tmp_path / ANSWERS)
    assert report.scores["accuracy_all"] == pytest.approx(expected, abs=within)
    if name == "Not mentioned":
        by_hand = [0, 0.4395, 0.4967, 0.41, 0.4611, 0.55, 0.0233, 0.0267, 0.56]
        found = [value for key, value in report.scores.items() if key.startswith("accuracy_CQID")]
        assert found == pytest.approx(by_hand, abs=6e-5)
    assert report.baselines[name]["accuracy_all"] == report.scores["accuracy_all"]


@pytest.mark.realdata
@pytest.mark.parametrize("seed", [0, 1])
def test_the_majority_of_the_training_folds_on_real_text(seed: int, real: Prepared, tmp_path: Path) -> None:
    """0.584 (examples/closed-questions.md, "Constants to beat"), through files and our scorer, fold by fold."""
    gold, questions = answer_gold(real, "train"), real.questions
    samples = cvqa.training_samples(real, "train", CvqaConfig(modality="text"))
    dealt = assign_folds(cvqa.strata(samples, questions), 5, seed)
    figures = []
    for held in dealt:
        majority = questions.majority(row for encounter, row in gold.answers.items() if encounter not in held)
        part = gold.only(set(held))
        figures.append(scored(part, dict.fromkeys(part.answers, majority), tmp_path / ANSWERS).scores["accuracy_all"])
    assert sum(len(held) for held in dealt) == 300
    assert statistics.fmean(figures) == pytest.approx(0.584, abs=0.005)
    assert statistics.stdev(figures) < 0.03
