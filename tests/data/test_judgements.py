"""Judgements of users as gold of case retrieval: TREC's qrels and BEIR folders, both ways."""

from pathlib import Path

import pytest

from magic_cli.data.retrieval.gold import RetrievalGold
from magic_cli.data.retrieval.judgements import judged_gold, open_ranking_gold, positives, read_judgements, write_beir
from magic_cli.errors import DataError


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_classes_are_queries_with_the_same_relevant_photos(tmp_path: Path) -> None:
    path = _write(tmp_path / "q.txt", "1 0 a 1\n1 0 b 1\n2 0 b 1\n2 0 a 2\n3 0 c 1\n3 0 a 0\n")
    gold = open_ranking_gold(path, "valid", ["a", "z"])
    assert gold.queries == ("1", "2", "3")
    assert gold.gallery == ("a", "b", "c", "z")
    assert [gold.label_of(query) for query in gold.queries] == ["class 1 (2 photos)"] * 2 + ["class 2 (1 photos)"]
    assert gold.labels["b"] == "class 1 (2 photos)"
    assert "z" not in gold.labels
    assert positives(gold) == {"1": {"a": 1, "b": 1}, "2": {"b": 1, "a": 2}, "3": {"c": 1}}
    assert "inferred" in gold.notes[0]


def test_a_query_may_lack_its_own_photo_and_what_overlaps_is_no_class() -> None:
    left_out = judged_gold("x", {"a": {"b": 1, "c": 1}, "b": {"a": 1, "c": 1}, "c": {"a": 1, "b": 1}})
    assert {left_out.label_of(query) for query in "abc"} == {"class 1 (3 photos)"}
    mixed = judged_gold("x", {"p": {"a": 1, "b": 1, "c": 1}, "q": {"c": 1, "d": 1, "e": 1, "f": 1}, "r": {"f": 1}})
    assert len({mixed.label_of(query) for query in "pqr"}) == 3
    assert not any(photo in mixed.labels for photo in "abcdef")
    assert "no vote" in mixed.notes[1]


def test_beir_folders_both_ways(tmp_path: Path) -> None:
    labels = {"q 1": "mel", "q2": "nev", "a": "mel", "b": "nev", "c": "nev"}
    gold = RetrievalGold("x", labels, {"q2": "g", "c": "g"}, ("q 1", "q2"), ("a", "b", "c"))
    files = write_beir(gold, {"q2": "A lesion."}, tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "corpus.jsonl",
        "queries.jsonl",
        "qrels/test.tsv",
    ]
    again = open_ranking_gold(tmp_path, "test")
    assert again.gallery == gold.gallery
    assert positives(again) == positives(gold) == {"q 1": {"a": 1.0}, "q2": {"b": 1.0}}
    assert open_ranking_gold(tmp_path, "valid").queries == gold.queries  # the only table there is


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("1 0 a 1\n1 0 b\n1 0\n", "q.txt:2"),
        ("1 0 a yes\n", "q.txt:1"),
        ("1 0 a 1\n1 0 a 1\n", "q.txt:2"),
        ("\n", "no judgement"),
        ("query-id\tcorpus-id\tscore\n", "no judgement"),
        ("1 0 a 0\n1 0 b -1\n", "no relevance above 0"),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(DataError, match=named):
        read_judgements(_write(tmp_path / "q.txt", text))


def test_what_is_no_text_and_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_bytes(b"1 0 a 1\n\xff\xfe\n")
    with pytest.raises(DataError, match="line 2"):
        read_judgements(tmp_path / "q.txt")
    with pytest.raises(DataError, match="no such file"):
        open_ranking_gold(tmp_path / "none", "valid")
    _write(tmp_path / "beir/qrels/train.tsv", "a\tb\t1\n")
    _write(tmp_path / "beir/qrels/test.tsv", "a\tb\t1\n")
    with pytest.raises(DataError, match=r"train\.tsv"):
        open_ranking_gold(tmp_path / "beir", "valid")
