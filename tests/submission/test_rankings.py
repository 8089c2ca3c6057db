"""Files of case retrieval: what is written is read, damage is named, and others' programs read it."""

from pathlib import Path

import numpy as np
import pytest

from magic_cli.data.retrieval.gold import RetrievalGold
from magic_cli.errors import SubmissionError
from magic_cli.submission.rankings import JUDGED, RUN, SIMILARITIES, find_rankings, ranked_ids, read_rankings
from magic_cli.submission.reader import holds_only_pairs, holds_only_rankings, open_predictions, submitted_files
from magic_cli.tasks.retrieve.predictions import RetrievalPrediction
from magic_cli.tasks.retrieve.write import save

LABELS = {"q1": "mel", "q2": "nev", "a b": "mel", "c": "nev", "d": "nev"}

GOLD = RetrievalGold("x", LABELS, {"q2": "g", "c": "g"}, ("q1", "q2"), ("a b", "c", "d"))


def _save(folder: Path) -> list[Path]:
    rows = {"q1": [0.5, 0.5, 0.9], "q2": [0.1, np.nan, 0.2]}
    made = (RetrievalPrediction(q, GOLD.gallery, np.array(row, np.float32)) for q, row in rows.items())
    return save(made, GOLD, folder)


def test_files_round_trip(tmp_path: Path) -> None:
    out = tmp_path / "predictions" / "retrieve"
    assert [path.name for path in _save(out)] == sorted((JUDGED, RUN, SIMILARITIES))
    assert (out / RUN).read_text() == (
        "q1 Q0 d 1 2 magic\nq1 Q0 a%20b 2 1 magic\nq1 Q0 c 3 0 magic\nq2 Q0 d 1 1 magic\nq2 Q0 a%20b 2 0 magic\n"
    )
    assert (out / JUDGED).read_text() == "q1 0 a%20b 1\nq2 0 d 1\n"
    for path in (out, out.parent, out / SIMILARITIES):
        found = find_rankings(path)
        assert found is not None
        first, second = read_rankings(found)
        assert (first.id, first.gallery, first.is_run) == ("q1", GOLD.gallery, False)
        np.testing.assert_array_equal(second.scores, np.array([0.1, np.nan, 0.2], np.float32))
    assert holds_only_rankings(out)
    assert not holds_only_pairs(out)
    assert submitted_files(out) == [out / SIMILARITIES]
    with open_predictions(out / RUN) as submission:
        assert submission.rankings is not None
        run = list(submission.of("rankings", {}))
    assert [(r.id, r.gallery, r.is_run) for r in run][1] == ("q2", ("d", "a%20b"), True)  # type: ignore[attr-defined]
    assert ranked_ids(submission.rankings) == ("d", "a%20b", "c")


def test_galleries_of_several_folds_are_joined(tmp_path: Path) -> None:
    made = [
        RetrievalPrediction("q1", ("a b", "c"), np.array([1, 2], np.float32)),
        RetrievalPrediction("q2", ("d",), np.array([3], np.float32)),
    ]
    save(made, GOLD, tmp_path / "out")
    found = find_rankings(tmp_path / "out")
    assert found is not None
    np.testing.assert_array_equal([r.scores for r in read_rankings(found)], [[1, 2, np.nan], [np.nan, np.nan, 3]])


def test_equal_predictions_give_equal_bytes(tmp_path: Path) -> None:
    first, second = _save(tmp_path / "a"), _save(tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("q Q0 a 1 0.5 t\nq Q0 b 2\n", "run.trec:2: got 4 fields"),
        ("q Q0 a 1 nan t\n", "run.trec:1"),
        ("q Q0 a 1 1e39 t\n", "run.trec:1"),
        ("q Q0 a first 0.5 t\n", "run.trec:1"),
        ("q Q0 a 1 0.5 t\nq Q0 a 2 0.4 t\n", "run.trec:2"),
        ("", "no line"),
    ],
)
def test_damaged_lines_of_a_run_are_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "run.trec").write_text(text)
    found = find_rankings(tmp_path / "run.trec")
    assert found is not None
    with pytest.raises(SubmissionError, match=named):
        list(read_rankings(found))


@pytest.mark.parametrize("name", ["run.txt", "results"])
def test_a_run_is_told_by_its_first_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("q Q0 a 1 0.5 t\n")
    (tmp_path / "qrels.txt").write_text("q 0 a 1\n")
    assert find_rankings(tmp_path / name) is not None
    assert find_rankings(tmp_path / "qrels.txt") is None


def _damaged(path: Path) -> list[bytes]:
    arrays = {"queries": np.array(["q"]), "gallery": np.array(["a", "b"]), "scores": np.zeros((1, 2), np.float32)}
    wrong = [
        {"scores": np.zeros((2, 2), np.float32)},
        {"scores": np.array([[0, np.inf]], np.float32)},
        {"scores": np.zeros((1, 2), np.int64)},
        {"gallery": np.array(["a", "a"])},
        {"queries": np.array([1])},
        {"queries": np.array([object()], object)},
    ]
    made = [b"", b"PK\x03\x04 no zip"]
    for change in wrong:
        np.savez(path, **{**arrays, **change})  # type: ignore[arg-type]
        made.append(path.read_bytes())
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return [*made, path.read_bytes()[:-30]]


def test_damaged_similarities_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / SIMILARITIES
    for data in _damaged(path):
        path.write_bytes(data)
        found = find_rankings(path)
        assert found is not None
        with pytest.raises(SubmissionError) as caught:
            list(read_rankings(found))
        assert len(caught.value.problems) == 1
        assert SIMILARITIES in caught.value.problems[0]


def test_two_folders_of_predictions_are_refused(tmp_path: Path) -> None:
    _save(tmp_path / "a")
    _save(tmp_path / "b")
    with pytest.raises(SubmissionError, match="one of them"):
        find_rankings(tmp_path)
