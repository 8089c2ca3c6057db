"""Scores of case retrieval: macro means by hand, what is ranked and what is not, and judgements."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from labelled_photos import make_labelled

from magic_cli.data.prepared import open_prepared
from magic_cli.data.retrieval.gold import RetrievalGold
from magic_cli.data.retrieval.judgements import judged_gold, open_ranking_gold
from magic_cli.data.retrieval.queries import labelled_samples
from magic_cli.data.texts.pair_texts import class_of
from magic_cli.errors import DataError, EmptySplit, SubmissionError
from magic_cli.metrics import bootstrap
from magic_cli.submission.rankings import Asked, RankingFiles, SubmittedRanking, asked_of
from magic_cli.tasks.retrieve import TASK, RetrieveDecision
from magic_cli.tasks.retrieve.config import RetrieveConfig
from magic_cli.tasks.retrieve.predictions import RetrievalPrediction
from magic_cli.tasks.retrieve.score import MONITOR, score, trivial_scores

GALLERY = ("a", "b", "c", "d", "e")

LABELS = {"p": "mel", "q": "nev", "r": "nev", "a": "mel", "b": "nev", "c": "nev", "d": "nev", "e": "mel"}

GOLD = RetrievalGold("x", LABELS, {"p": "g1", "e": "g1", "q": "g2", "r": "g2"}, ("p", "q", "r"), GALLERY)

ROWS = {"p": [1, 2, 0, 0, 9], "q": [5, 4, 3, 2, 1], "r": [0, 3, 2, 1, 0]}


def _predicted(rows: Mapping[str, list[int]] = ROWS) -> list[RetrievalPrediction]:
    return [RetrievalPrediction(name, GALLERY, np.array(row, np.float32)) for name, row in rows.items()]


def test_macro_scores_by_hand() -> None:
    scores = score(GOLD, _predicted())
    mel, q, r = 1 / 2, (1 / 2 + 2 / 3 + 3 / 4) / 3, 1.0  # p: the photo of its own group is not ranked
    assert scores.scores["macro_map"] == pytest.approx((mel + (q + r) / 2) / 2)
    assert scores.scores["map"] == pytest.approx((mel + q + r) / 3)
    assert scores.scores["balanced_acc@1"] == pytest.approx((0 + (0 + 1) / 2) / 2)
    assert scores.scores["acc@2"] == 1.0
    assert scores.scores["vote@4"] == pytest.approx((0 + 1 + 1) / 3)
    assert scores.scores["number_of_queries"] == 3
    assert next(iter(scores.scores)) == MONITOR
    assert [row["class"] for row in scores.summary_rows] == ["mel", "nev"]
    assert scores.summary_rows[0]["chance_ap"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert scores.baselines["majority first"]["acc@1"] == pytest.approx(2 / 3)
    assert trivial_scores(GOLD) == {name: row[MONITOR] for name, row in scores.baselines.items()}


def test_sums_over_groups_give_the_same_scores_and_intervals() -> None:
    scores = score(GOLD, _predicted())
    sums = scores.encounter_sums
    assert sums is not None
    assert sums.ids == ("g1", "g2")
    every = {**scores.scores, **scores.extra}
    for name, value in zip(sums.names, sums.over([0, 1]).tolist(), strict=True):
        assert value == pytest.approx(every[name])
    assert math.isnan(bootstrap.intervals(sums, 50, 1)[MONITOR].low)  # of two groups


def test_a_query_without_a_ranking_counts_as_zero_and_without_positives_is_left_out() -> None:
    scores = score(GOLD, _predicted({"p": ROWS["p"]}))
    assert len(scores.rejected) == 2
    assert scores.scores["map"] == pytest.approx(1 / 2 / 3)
    alone = RetrievalGold("x", {**LABELS, "p": "other"}, GOLD.groups, GOLD.queries, GALLERY)
    scores = score(alone, _predicted())
    assert scores.scores["number_of_queries"] == 2
    assert any("no positive" in note and note.endswith("p") for note in scores.notes)
    with pytest.raises(DataError, match="none of these queries"):
        score(GOLD, [])
    with pytest.raises(DataError, match="twice"):
        score(GOLD, _predicted() + _predicted())
    with pytest.raises(DataError, match="rank no photo of a query's class"):
        score(GOLD, [replace(p, scores=np.full(5, np.nan, np.float32)) for p in _predicted()])


def test_other_queries_and_photos_are_counted() -> None:
    strange = RetrievalPrediction("z", GALLERY, np.zeros(5, np.float32))
    wider = RetrievalPrediction("r", (*GALLERY, "y"), np.array([*ROWS["r"], 9], np.float32))
    scores = score(GOLD, [*_predicted()[:2], wider, strange])
    assert scores.scores == score(GOLD, _predicted()).scores
    assert [note[:2] for note in scores.notes if "other queries" in note or "passed over" in note] == ["1 ", "1 "]


def test_a_query_without_a_class_is_not_counted_as_lost() -> None:
    asked = replace(GOLD, queries=(*GOLD.queries, "unknown"), groups={**GOLD.groups, "unknown": "g3"})
    scores = score(asked, _predicted())
    assert not scores.rejected
    assert scores.scores == score(GOLD, _predicted()).scores


def test_what_a_run_lacks_was_not_found_and_what_a_model_lacks_is_not_in_the_gallery() -> None:
    scores = np.array([5, 4], np.float32)
    run = SubmittedRanking("q", gallery=("a", "b"), scores=scores, is_run=True)
    model = RetrievalPrediction("q", ("a", "b"), scores)
    only = GOLD.only({"q"})
    assert score(only, [run]).scores["map"] == pytest.approx(1 / 2 / 3)
    assert score(only, [model]).scores["map"] == pytest.approx(1 / 2)
    assert any("never found" in note for note in score(only, [run]).notes)
    assert any("not in these queries' gallery" in note for note in score(only, [model]).notes)


def test_the_order_of_gallery_and_queries_is_of_no_consequence() -> None:
    turned = [
        RetrievalPrediction(p.id, tuple(reversed(p.gallery)), p.scores[::-1].copy()) for p in reversed(_predicted())
    ]
    assert score(GOLD, turned).scores == pytest.approx(dict(score(GOLD, _predicted()).scores))


def test_attributes_grade_relevance() -> None:
    told = {"q": {"sex": "male"}, "a": {"sex": "male"}, "b": {"sex": "female"}}
    gold = RetrievalGold("x", LABELS, GOLD.groups, ("q",), GALLERY, told)
    gains, best = np.array([0.5, 0.5, 0.5, 0.5, 0.0]), np.array([0.5, 0.5, 0.5, 0.5, 0.0])
    discounts = 1 / np.log2(np.arange(2, 7))
    found = score(gold, _predicted()).extra["ndcg@10"]
    assert found == pytest.approx((gains * discounts).sum() / (best * discounts).sum())


def test_judgements_are_scored_as_by_ir_measures(tmp_path: Path) -> None:
    import ir_measures
    from ir_measures import AP, Success, nDCG

    rng = np.random.default_rng(1)
    judged = {f"q{q}": {f"d{d}": int(v) for d, v in enumerate(rng.integers(0, 3, 12))} for q in range(6)}
    gallery = tuple(f"d{d}" for d in range(15))  # three of them are not judged
    rows = {q: rng.permutation(15)[:9] for q in judged}
    runs = [
        SubmittedRanking(q, gallery=tuple(gallery[d] for d in row), scores=-np.arange(9, dtype=np.float32), is_run=True)
        for q, row in rows.items()
    ]
    lines = [f"{q} 0 {d} {value}\n" for q, row in judged.items() for d, value in row.items()]
    (tmp_path / "qrels.txt").write_text("".join(lines))
    found = score(open_ranking_gold(tmp_path / "qrels.txt", "valid", gallery), runs)
    qrels = [ir_measures.Qrel(q, d, value) for q, row in judged.items() for d, value in row.items()]
    docs = [ir_measures.ScoredDoc(r.id, d, float(-at)) for r in runs for at, d in enumerate(r.gallery)]
    wanted = ir_measures.calc_aggregate([AP, Success @ 4, nDCG @ 10], qrels, docs)
    every = {**found.scores, **found.extra}
    assert every["map"] == pytest.approx(wanted[AP])
    assert every["acc@4"] == pytest.approx(wanted[Success @ 4])
    assert every["ndcg@10"] == pytest.approx(wanted[nDCG @ 10])
    assert "vote@4" not in found.scores


def test_queries_and_photos_of_the_same_id_are_apart_in_judgements() -> None:
    gold = judged_gold("x", {"1": {"1": 1, "2": 1}, "2": {"3": 1}}, ("4",))
    run = SubmittedRanking("1", gallery=("1", "4", "2"), scores=np.array([3, 2, 1], np.float32), is_run=True)
    scores = score(gold, [run, SubmittedRanking("2", gallery=("3",), scores=np.ones(1, np.float32), is_run=True)])
    assert scores.scores["map"] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    assert scores.scores["vote@4"] == 1.0


def _similarities(path: Path, **more: str) -> RankingFiles:
    arrays = {name: np.array(value) for name, value in more.items()}
    np.savez(path, queries=np.array(["q"]), gallery=np.array(["a"]), scores=np.ones((1, 1), np.float32), **arrays)
    return RankingFiles(path.name, similarities=path)


def test_predictions_tell_gallery_and_class_and_are_not_scored_with_others(tmp_path: Path) -> None:
    silent = _similarities(tmp_path / "silent.npz")
    own = _similarities(tmp_path / "own.npz", protocol="loo", classes="diagnosis_3")
    other = _similarities(tmp_path / "other.npz", protocol="loo", classes="")
    train = _similarities(tmp_path / "train.npz", protocol="train", classes="diagnosis_3")
    assert asked_of([silent]) == Asked()
    assert asked_of([silent, own]) == Asked("loo", "diagnosis_3")
    for pair, message in (([own, train], "gallery train, but loo in own"), ([own, other], "class diagnosis, but")):
        with pytest.raises(SubmissionError, match=message):
            asked_of(pair)
    with pytest.raises(SubmissionError, match="another layout"):
        asked_of([_similarities(tmp_path / "bad.npz", protocol="all")])


def test_the_gallery_is_the_one_that_was_ranked(drawn_photos: Path) -> None:
    """By what predictions say, or by the photos that they rank; these may come one by one."""
    train, valid = (labelled_samples(open_prepared(drawn_photos), split) for split in ("train", "valid"))
    for samples, protocol in ((train, "train"), (valid, "loo")):
        gold = open_ranking_gold(drawn_photos, "valid", (sample.id for sample in samples))
        assert (gold.protocol, gold.gallery) == (protocol, tuple(sample.id for sample in samples))
        assert open_ranking_gold(drawn_photos, "valid", (), protocol).gallery == gold.gallery
    with pytest.raises(DataError, match="no case of split valid with attribute none"):
        open_ranking_gold(drawn_photos, "valid", (), "train", "none")


@pytest.fixture
def drawn_photos(tmp_path: Path) -> Path:
    return make_labelled(tmp_path, patients=1)


def test_an_attribute_is_the_class_where_the_settings_say_so(drawn_photos: Path) -> None:
    prepared = open_prepared(drawn_photos)
    cases = {name: replace(case, attributes={"sex": "male"}) for name, case in prepared.cases.items()}
    first = next(iter(cases))
    cases[first] = replace(cases[first], attributes={})
    prepared = replace(prepared, cases=cases)
    config = RetrieveConfig(classes="sex")
    samples = TASK.training_samples(prepared, "train", config)
    assert {class_of(sample.case) for sample in samples} == {"male"}
    assert len(samples) == len(labelled_samples(prepared, "train")) - 1
    gold = TASK.configured(config.as_dict(), RetrieveDecision(gallery="loo")).gold(prepared, "valid")
    assert (gold.classes, gold.protocol, set(gold.labels.values())) == ("sex", "loo", {"male"})
    told = [replace(s, case=replace(s.case, question="A male patient.")) for s in samples]
    assert "tell sex, their class" in TASK.data_warnings(prepared, told, config)[-1]
    with pytest.raises(EmptySplit, match="attribute 'age', their class; --set classes= one of sex"):
        TASK.training_samples(prepared, "train", RetrieveConfig(classes="age"))
