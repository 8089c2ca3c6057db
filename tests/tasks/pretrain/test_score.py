"""Scores of contrastive models do not depend on orders, and say what they leave out."""

from dataclasses import replace

import numpy as np
import pytest
from pair_predictions import CLASSES, draw

from magic_cli.data.pair_gold import PairGold
from magic_cli.errors import DataError
from magic_cli.metrics import bootstrap
from magic_cli.records import Rules
from magic_cli.submission.pairs import SubmittedPair
from magic_cli.tasks.pretrain.matched import matched
from magic_cli.tasks.pretrain.score import MONITOR, RECALL, mean_of_tasks, score, trivial_scores


def test_every_batch_is_scored_in_any_order() -> None:
    """The public code of MAKE returns inside the loop over batches, so that it scores the first one only."""
    gold, predictions = draw(60)
    whole = score(gold, predictions)
    assert whole.scores["number_of_photos"] == 60
    again = score(gold, iter(predictions[::-1]))
    assert again.scores == pytest.approx(whole.scores)
    right = [CLASSES[int(np.argmax(p.class_scores))] == gold.classes[p.id] for p in predictions]  # type: ignore[arg-type]
    assert whole.scores["top1"] == pytest.approx(np.mean(right))


def test_permuted_classes_and_concepts_are_matched_by_name() -> None:
    gold, predictions = draw()
    order, places = [3, 0, 5, 1, 4, 2], [2, 0, 1]
    permuted = [
        replace(
            p,
            classes=tuple(CLASSES[i] for i in order),
            class_scores=p.class_scores[order],  # type: ignore[index]
            concepts=tuple(p.concepts[i] for i in places),
            concept_scores=p.concept_scores[places],  # type: ignore[index]
        )
        for p in predictions
    ]
    assert score(gold, permuted).scores == pytest.approx(score(gold, predictions).scores)


def test_names_match_whatever_their_capitals_blanks_and_underscores() -> None:
    gold, predictions = draw()
    written = replace(gold, classes={name: f" {label.upper()} " for name, label in gold.classes.items()})
    assert score(written, predictions).scores == pytest.approx(score(gold, predictions).scores)


def test_concepts_with_one_class_only_are_undefined_not_half() -> None:
    gold, predictions = draw()
    scores = score(gold, predictions)
    areas = {row["concept"]: row["auroc"] for row in scores.summary_rows if "concept" in row}
    assert np.isnan(areas["ulcer"])
    assert scores.scores["concept_auroc"] == pytest.approx((areas["scale"] + areas["plaque"]) / 2)
    assert "1 concept without AUROC, seen on all photos or on none: ulcer" in scores.notes


def test_identical_captions_are_hits_unless_told_otherwise() -> None:
    gold, predictions = draw(28)
    shared = replace(gold, texts=dict.fromkeys(gold.texts, "the same words"))
    assert score(shared, predictions).scores["i2t_median_rank"] == 1
    alone = score(shared, predictions, Rules(group_identical=False))
    assert alone.extra["i2t_recall_fraction@10"] == alone.scores["i2t_recall_any@10"]
    assert any("only the own one is a hit" in note for note in alone.notes)


def test_chance_is_computed_and_trivial_scores_agree_with_it() -> None:
    gold, predictions = draw()
    scores = score(gold, predictions)
    level = scores.baselines["chance"]
    assert level["balanced_accuracy"] == pytest.approx(1 / 6)
    assert level["concept_auroc"] == 0.5
    count = len(gold.texts)
    assert level["i2t_recall_any@10"] == pytest.approx(10 / count)
    assert trivial_scores(gold)["chance"] == pytest.approx(level[MONITOR])
    assert scores.scores[MONITOR] > level[MONITOR]


def test_the_monitor_is_the_mean_of_what_there_is() -> None:
    gold, predictions = draw()
    bare = PairGold("drawn", texts=gold.texts, groups=gold.groups)
    scores = score(bare, predictions).scores
    assert scores[MONITOR] == scores[RECALL]
    assert "top1" not in scores
    assert mean_of_tasks({"balanced_accuracy": 0.5, "concept_auroc": float("nan"), RECALL: 1.0}) == 0.75
    assert score(gold.only(list(gold.groups)[1:6]), predictions).scores[RECALL] == 1  # R@N is 1


def test_intervals_are_of_patients() -> None:
    gold, predictions = draw(40)
    scores = score(gold, predictions)
    assert scores.encounter_sums is not None
    assert scores.encounter_sums.ids == tuple(sorted(set(gold.groups.values())))
    intervals = bootstrap.intervals(scores.encounter_sums, 200)
    for name in ("top1", "macro_auroc", "recall[acne]", "concept_auroc", "concept_auroc[scale]", "i2t_recall_any@10"):
        assert name in intervals
    resampled = dict(zip(scores.encounter_sums.names, scores.encounter_sums.over(range(20)), strict=True))
    assert resampled["mean_of_tasks"] == pytest.approx(scores.scores["mean_of_tasks"])
    assert intervals["mean_of_tasks"].low < scores.scores["mean_of_tasks"] < intervals["mean_of_tasks"].high
    wide = max(intervals[name].high - intervals[name].low for name in ("balanced_accuracy", "concept_auroc"))
    assert intervals["mean_of_tasks"].high - intervals["mean_of_tasks"].low < wide
    assert intervals["top1"].low <= scores.scores["top1"] <= intervals["top1"].high
    assert intervals["macro_auroc"].low < scores.scores["macro_auroc"] < intervals["macro_auroc"].high


def test_missing_photos_are_told() -> None:
    gold, predictions = draw()
    scores = score(gold, predictions[:12])
    assert scores.scores["number_of_photos"] == 12
    assert any("18 of 30 photos with gold have no prediction" in note for note in scores.notes)


def test_photos_are_found_by_path_name_and_stem() -> None:
    gold, predictions = draw()
    scores = score(gold, predictions).scores
    for form in ("{}.jpg", "/elsewhere/{}.jpg", "C:\\data\\{}.png"):
        renamed = [replace(p, id=form.format(p.id)) for p in predictions]
        assert score(gold, renamed).scores == pytest.approx(scores)


def test_open_gold_leaves_out_what_was_not_asked_and_says_so() -> None:
    gold, predictions = draw(classes=CLASSES)
    few = [replace(p, classes=CLASSES[:3], class_scores=p.class_scores[:3]) for p in predictions]  # type: ignore[index]
    both = matched(gold, few)
    assert both.classes is not None
    assert {gold.classes[name] for name in both.classes.ids} <= set(CLASSES[:3])
    assert any("3 of the gold's classes were not asked for: acne, psoriasis, wart" in note for note in both.notes)
    with pytest.raises(DataError, match="classes that were not asked for"):
        matched(replace(gold, is_closed=True), few)


def test_numbers_are_places_in_the_list_of_classes() -> None:
    gold, predictions = draw()
    numbered = replace(
        gold, classes={name: str(CLASSES.index(label)) for name, label in gold.classes.items()}, is_numbered=True
    )
    scores = score(numbered, predictions)
    assert scores.scores == pytest.approx(score(gold, predictions).scores)
    assert any("numbers" in note for note in scores.notes)
    beyond = replace(numbered, classes={**numbered.classes, "IMG_0000": "6"}, is_closed=True)
    with pytest.raises(DataError, match="were not asked for"):
        score(beyond, predictions)


def test_chosen_classes_alone_have_no_auroc() -> None:
    gold, predictions = draw()
    chosen = [SubmittedPair(p.id, predicted=gold.classes[p.id]) for p in predictions]
    scores = score(gold, chosen)
    assert scores.scores["top1"] == scores.scores["balanced_accuracy"] == 1
    assert not {"macro_auroc", "top5"} & {*scores.scores, *scores.baselines["chance"]}


@pytest.mark.parametrize("change", ["twice", "others", "nothing"])
def test_what_cannot_be_scored_is_one_line(change: str) -> None:
    gold, predictions = draw()
    if change == "twice":
        predictions = [*predictions, predictions[0]]
    elif change == "others":
        predictions = [replace(p, id=f"other {p.id}") for p in predictions]
    else:
        gold = PairGold("drawn", groups=gold.groups)
    with pytest.raises(DataError) as error:
        score(gold, predictions)
    assert len(error.value.problems) == 1
