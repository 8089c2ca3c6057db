"""The result of a search as lines, JSON, CSV and a TREC run; who votes, and what is close."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from search_results import make_result

from magic_cli.io import schema
from magic_cli.io.json_files import finite
from magic_cli.report.search.result import STATEMENT, SearchResult, agreement
from magic_cli.report.search.votes import CONFIRMED, LESS, MORE, UNCLEAR, UNCONFIRMED, UNSTATED, confirmation, votes


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return make_result(tmp_path_factory.mktemp("hits"), k=2, size=(48, 64))


def test_lines_tell_the_query_the_hits_and_what_they_are(result: SearchResult) -> None:
    lines = result.lines()
    text = "\n".join(lines)
    assert lines[0].startswith("query: a photo and ")
    assert "note: The photo is not sharp." in lines
    assert "the 12 most similar of 894 cases" in text
    row = next(line for line in lines if line.strip().startswith("1 "))
    assert "(the query's own photo)" in row
    assert "0.970" in row
    assert row.split()[-2:] == [result.hits[0].case, "ISIC_0000000"]  # the name on the page, and the id
    assert "nevus: 6 of 10, 60 % (95 % interval 26 to 88 %); gallery 64 %: no clear difference" in text
    assert "Merkel cell carcinoma: 0.310, rank 143, case " in text
    assert "no close case" not in text
    assert lines[-1] == STATEMENT


def test_the_querys_own_photo_and_patient_are_no_evidence(result: SearchResult) -> None:
    assert [hit.rank for hit in result.hits if hit.is_known] == [1, 3]
    assert sum(vote.count for vote in result.votes) == 10
    far = replace(result, low_score=0.95)
    assert far.hits[0].score > 0.95
    assert far.is_close is False
    assert "no close case: the best score, 0.930, is below 0.950" in "\n".join(far.lines())
    assert "look unlike each other" not in far.distance
    low = replace(result, low_score=-0.12).distance
    assert (
        "not below -0.120, which 95 % of the pairs of one class reach on validation (1 is the same; it is below" in low
    )


@pytest.mark.parametrize("change", [{"low_score": None}, {"hits": ()}])
def test_closeness_is_unknown(result: SearchResult, change: dict[str, object]) -> None:
    changed = replace(result, **change)  # type: ignore[arg-type]
    assert changed.is_close is None
    assert changed.distance == ""
    assert changed.lines()


def test_a_search_in_words_alone_with_a_plain_encoder(result: SearchResult) -> None:
    hits = tuple(replace(hit, parts={"image": hit.score}, agreement=(), fields={"sex": "male"}) for hit in result.hits)
    plain = replace(result, query_image=None, attributes={}, hits=hits, nearest={}, prior={}, quality=())
    text = "\n".join(plain.lines())
    assert text.startswith('query: "A male patient')
    assert "cosine" in text
    assert "class not stated" in text
    assert "agreement" not in text


@pytest.mark.parametrize("kind", ["full", "empty", "not finite"])
def test_json_fits_its_schema(result: SearchResult, kind: str) -> None:
    if kind == "empty":
        result = replace(result, query_image=None, text="", attributes={}, hits=(), nearest={}, prior={}, provenance={})
    if kind == "not finite":
        result = replace(result, hits=(replace(result.hits[0], score=float("nan")),))
    found = {"schema": 1, "command": "search", **result.to_json()}
    assert schema.problems("search", json.loads(json.dumps(finite(found), allow_nan=False)), "search") == []


def test_csv_has_every_hit_and_no_formula(result: SearchResult) -> None:
    odd = replace(result.hits[0], id="=cmd()", fields={"diagnosis": "+1", "site": "a,b\nc"})
    rows = list(csv.DictReader(io.StringIO(replace(result, hits=(odd, *result.hits[1:])).csv())))
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 13)]
    assert rows[0]["id"] == "'=cmd()"
    assert rows[0]["label"] == "'+1"
    assert rows[0]["field:site"] == "a,b\\x0ac"
    assert float(rows[1]["local_l"]) == result.hits[1].parts["local_l"]
    assert rows[1]["match"] == str(result.hits[1].agreed("match"))


def test_trec_has_ids_without_blanks_and_scores_that_fall(result: SearchResult) -> None:
    odd = replace(result.hits[0], id="two words")
    rows = [line.split(" ") for line in replace(result, hits=(odd, *result.hits[1:])).trec("q1").splitlines()]
    assert all(len(row) == 6 for row in rows)
    assert rows[0][2] == odd.case
    assert rows[1] == ["q1", "Q0", "ISIC_0000001", "2", "11", "magic"]
    scores = [int(row[4]) for row in rows]
    assert scores == sorted(set(scores), reverse=True)


def test_agreement_and_confirmation() -> None:
    rows = agreement({"veil": " Present ", "streaks": "absent", "age": ""}, {"veil": "present", "streaks": "regular"})
    assert [row.verdict for row in rows] == ["match", "differs", "missing"]
    signs = agreement({"a": "yes", "b": "absent", "c": "present", "d": "1"}, {"a": "1", "b": "0", "c": "no", "d": "12"})
    assert [row.verdict for row in signs] == ["match", "match", "differs", "differs"]
    assert confirmation({"diagnosis_confirm_type": "histopathology"}) == CONFIRMED
    assert confirmation({"dx_type": "consensus"}) == UNCONFIRMED
    assert confirmation({"biopsy": " "}) == UNSTATED


def test_votes_are_compared_by_their_interval() -> None:
    found = {vote.name: vote for vote in votes(["a"] * 9 + ["b"], {"a": 10, "b": 100, "c": 5})}
    assert list(found) == ["a", "b", "c"]
    assert [found[name].verdict for name in "abc"] == [MORE, LESS, UNCLEAR]
    assert votes(["a", "", ""], {"a": 3}) == votes(["a"], {"a": 3})  # cases without a class are in neither
    [alone] = votes([], {"a": 1})
    assert (alone.share, alone.low, alone.high, alone.prior_share) == (0.0, 0.0, 1.0, 1.0)


def test_pages_name_cases_by_their_hash(tmp_path: Path, result: SearchResult) -> None:
    assert len({hit.case for hit in result.hits}) == 12
    assert all(len(hit.case) == 12 for hit in result.hits)
    assert result.hits[0].case == replace(result.hits[0], rank=5).case
