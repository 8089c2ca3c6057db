"""Scores of contrastive models: zero-shot classes, concepts, and retrieval between photos and texts.

The protocols are those of MAKE's public code; how ties count, and what the scores are, is said in
metrics/classification.py and metrics/ranking.py. Chance level is computed for the same photos. `mean_of_tasks`, which
chooses the epoch of a training, is the mean of what can be scored of three: balanced accuracy, the mean AUROC of
concepts, and recall@10, which is the mean of both directions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.issues import counted
from magic_cli.data.pair_gold import PairGold
from magic_cli.data.prompts import name_key
from magic_cli.errors import shorten
from magic_cli.metrics.calibration import confidence_scores
from magic_cli.metrics.classification import auroc, chance, classify, mean_defined, operating_point
from magic_cli.metrics.ranking import Ranking, caption_keys, rank_gallery
from magic_cli.metrics.row_scores import (
    Groups,
    JoinedScores,
    RowScores,
    class_scores,
    concept_scores,
    joined,
    ranking_scores,
)
from magic_cli.records import EncounterScores, EncounterSums, Rules, TaskScores
from magic_cli.tasks.pretrain.grounding import Grounding, grounding
from magic_cli.tasks.pretrain.matched import Classes, Concepts, Matched, Pair, Retrieval, matched
from magic_cli.training.task import RULES

MONITOR, RECALL = "mean_of_tasks", "recall@10"

TASKS = ("balanced_accuracy", "concept_auroc", RECALL)
"""Scores that `mean_of_tasks` is the mean of."""

KS = (10, 50, 100)

_SUM = 1e-3  # as far as the scores of a photo's classes may be from a sum of 1, to be probabilities

HIGH = 0.7
"""AUROC above which concepts are counted, as in MAKE's public code."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Part:
    """The scores of one protocol.

    Attributes:
        scores, extra: by name; `extra` are less prominent ones.
        baselines: of trivial answers, by name.
        rows: a row per class or concept.
        items: facts about a photo, by its id.
        notes: remarks for the reader.
        resampled: the scores for resampling groups of photos.
    """

    scores: Mapping[str, float]
    extra: Mapping[str, float] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rows: Sequence[Mapping[str, object]] = ()
    items: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    resampled: Sequence[EncounterScores] = ()


def score(gold: PairGold, predictions: Iterable[Pair], rules: Rules = RULES) -> TaskScores:
    """Score predictions for the photos of `gold`; others are ignored.

    Args:
        gold: classes, concepts and texts of photos; what is missing, or was not asked, is not scored.
        predictions: one per photo.
        rules: `group_identical`: any photo with the very same text is a hit of retrieval, else its own only.

    Raises:
        DataError: see tasks/pretrain/matched.py.
    """
    both = matched(gold, predictions)
    pairs, every = both.retrieval, sorted({gold.groups[name] for name in both.ids})

    def groups_of(ids: Sequence[str]) -> Groups:
        return Groups.of([gold.groups[name] for name in ids], every)

    parts = [
        *([] if both.classes is None else [_class_part(both.classes, groups_of(both.classes.ids), gold.majority)]),
        *([] if both.presence is None else [_presence_part(both.presence, groups_of(both.presence.ids))]),
        *([] if both.concepts is None else [_concept_part(both.concepts, groups_of(both.concepts.ids))]),
        *([] if pairs is None else [_retrieval_part(pairs, groups_of(pairs.ids), rules.group_identical)]),
    ]
    grounded = grounding(gold, both.heat)
    if grounded is not None:
        parts.append(_grounding_part(grounded, groups_of(grounded.ids)))
    resampled = [scores for part in parts for scores in part.resampled]
    scores = {name: value for part in parts for name, value in part.scores.items()}
    return TaskScores(
        "pretrain",
        {**scores, MONITOR: mean_of_tasks(scores), "number_of_photos": float(len(both.ids))},
        summary_rows=tuple(row for part in parts for row in part.rows),
        notes=(*gold.notes, *both.notes, *(note for part in parts for note in part.notes)),
        extra={name: value for part in parts for name, value in part.extra.items()},
        per_item=tuple(_items(both, gold, parts)),
        baselines=_baselines(parts),
        encounter_sums=joined(resampled, MONITOR, TASKS) if resampled else None,
        has_official=False,
        confidence=None if both.classes is None else _confidence(both.classes, gold.groups),
    )


def _confidence(classes: Classes, groups: Mapping[str, str]) -> RowScores | None:
    """Return how sure the chosen classes are; None where the scores of the classes are no probabilities."""
    scores = np.asarray(classes.scores, np.float64)
    if not classes.are_ranked or scores.min() < 0 or np.abs(scores.sum(1) - 1).max() > _SUM:
        return None
    correct = scores.argmax(1) == classes.gold
    return confidence_scores([groups[name] for name in classes.ids], scores.max(1), correct)


def mean_of_tasks(scores: Mapping[str, float]) -> float:
    """Return the mean of those of balanced accuracy, mean concept AUROC and recall@10 that are defined; NaN if none."""
    values = np.array([scores.get(name, np.nan) for name in TASKS])
    return float(mean_defined(values))


def trivial_scores(gold: PairGold) -> dict[str, float]:
    """Return `mean_of_tasks` at chance level for the photos of a gold."""
    parts: dict[str, float] = {}
    if len(gold.class_names) > 1:
        parts["balanced_accuracy"] = 1 / len(gold.class_names)
    if gold.concept_names:
        parts["concept_auroc"] = 0.5
    if len(gold.texts) > 1:
        counts = np.unique(caption_keys(list(gold.texts.values()), True), return_counts=True)[1]
        parts[RECALL] = _recall_at_random(counts)
    return {"chance": mean_of_tasks(parts)} if parts else {}


def _recall_at_random(counts: NDArray[np.int64]) -> float:
    """Return recall@10 of a random order of photos, given how many photos share each text."""
    positives, size = np.repeat(counts, counts), int(counts.sum())
    nothing = np.zeros((size, 1))
    ranking = Ranking((min(10, size),), size, positives, nothing[:, 0], nothing, nothing)
    return _recall(ranking.chance(), 10)


def _baselines(parts: Sequence[_Part]) -> dict[str, dict[str, float]]:
    """Return the scores of trivial answers; that of the most frequent class is one of classes only."""
    joined: dict[str, dict[str, float]] = {}
    for part in parts:
        for name, row in part.baselines.items():
            joined[name] = {**joined.get(name, {}), **row}
    if "chance" in joined:
        joined["chance"][MONITOR] = mean_of_tasks(joined["chance"])
    return joined


def _class_part(classes: Classes, groups: Groups, majority: str) -> _Part:
    result, level = classify(classes.scores, classes.gold), chance(classes.gold, len(classes.names))
    hidden = () if classes.are_ranked else ("macro_auroc", "top5")
    scores = {name: value for name, value in result.scores.items() if name not in hidden}
    rows = [
        {
            "class": name,
            "photos": result.photos[place],
            "recall": result.recall[place],
            "auroc": result.auroc[place] if classes.are_ranked else float("nan"),
            "chance": 1 / len(classes.names),
            **(_operating(classes, place) if classes.are_ranked else {}),
        }
        for place, name in enumerate(classes.names)
    ]
    resampled = class_scores(classes.scores, classes.gold, groups, classes.names)
    chosen = classes.scores.argmax(1)
    items = {
        name: {
            "class": classes.names[classes.gold[row]],
            "predicted": classes.names[chosen[row]],
            "probability": float(classes.scores[row, chosen[row]]),
        }
        for row, name in enumerate(classes.ids)
    }
    baselines = {"chance": level.uniform.scores, **_majority(classes, majority)}
    empty = [name for name, photos in zip(classes.names, result.photos, strict=True) if not photos]
    counts = counted(len(empty), "class has", "classes have")
    notes = [f"{counts} no photo and no recall: {shorten(empty, most=5)}"] if empty else []
    return _Part(
        scores,
        baselines={name: {n: v for n, v in row.items() if n not in hidden} for name, row in baselines.items()},
        rows=rows,
        items=items,
        notes=notes,
        resampled=_without_areas(resampled) if hidden else [resampled],
    )


def _operating(classes: Classes, place: int) -> dict[str, float]:
    """Return specificity and threshold of a class at the sensitivity of metrics/classification.py."""
    point = operating_point(classes.scores[:, place], classes.gold == place)
    return {"specificity": point.specificity, "threshold": point.threshold}


def _majority(classes: Classes, training: str) -> dict[str, Mapping[str, float]]:
    """Return the scores of the most frequent class of training; where that is not known, of that of these photos."""
    if not training:
        return {"majority": chance(classes.gold, len(classes.names)).majority.scores}
    is_it = np.array([name_key(name) == training for name in classes.names], np.float64)
    return {"training majority": classify(np.tile(is_it, (len(classes.gold), 1)), classes.gold).scores}


def _without_areas(scores: JoinedScores) -> list[EncounterScores]:
    """Return the scores that do not need ranks of photos."""
    return [part for part in scores.parts if isinstance(part, EncounterSums)]


def _concept_part(concepts: Concepts, groups: Groups) -> _Part:
    values = auroc(concepts.scores, concepts.positive, concepts.known)
    areas = concept_scores(concepts.scores, concepts.positive, concepts.known, groups, concepts.names)
    seen = (concepts.positive & concepts.known).sum(0)
    rows = [
        {"concept": name, "photos": int(seen[k]), "known": int(concepts.known[:, k].sum()), "auroc": float(values[k])}
        for k, name in enumerate(concepts.names)
    ]
    undefined = [name for name, value in zip(concepts.names, values, strict=True) if np.isnan(value)]
    defined = len(values) - len(undefined)
    above = f"{int((values > HIGH).sum())} of {counted(defined, 'concept has', 'concepts have')}"
    notes = [f"{above} an AUROC above {HIGH}"]
    if undefined:
        lost = counted(len(undefined), "concept without AUROC", "concepts without AUROC")
        notes.append(f"{lost}, seen on all photos or on none: {shorten(undefined, most=5)}")
    return _Part(
        {"concept_auroc": float(mean_defined(values))},
        extra={f"concepts_above_{HIGH}": float((values > HIGH).sum())},
        baselines={"chance": {"concept_auroc": 0.5 if defined else float("nan")}},
        rows=rows,
        notes=notes,
        resampled=[replace(areas, names=(*(f"concept_{name}" for name in areas.names[:-1]), "concept_auroc"))],
    )


def _presence_part(presence: Concepts, groups: Groups) -> _Part:
    """Return how well the likest place of a photo tells classes that are there from those that are not."""
    value = float(mean_defined(auroc(presence.scores, presence.positive, presence.known)))
    areas = concept_scores(presence.scores, presence.positive, presence.known, groups, presence.names)
    names = (*(f"presence_{name}" for name in areas.names[:-1]), "presence_auroc")
    return _Part(
        {},
        extra={"presence_auroc": value},
        baselines={"chance": {"presence_auroc": 0.5 if value == value else value}},
        resampled=[replace(areas, names=names)],
    )


def _grounding_part(grounded: Grounding, groups: Groups) -> _Part:
    counts = counted(len(grounded.ids), "photo that has masks and a text", "photos that have masks and a text")
    return _Part(
        {},
        extra=grounded.scores(),
        baselines=grounded.trivial(),
        notes=[f"grounding: maps of {counts}"],
        resampled=grounded.resampled(groups),
    )


def _retrieval_part(pairs: Retrieval, groups: Groups, group_identical: bool) -> _Part:
    keys = caption_keys(pairs.texts, group_identical)
    ways = {
        "i2t": rank_gallery(pairs.images, pairs.vectors, (keys, keys), KS),
        "t2i": rank_gallery(pairs.vectors, pairs.images, (keys, keys), KS),
    }
    of_way = {way: _named(way, ranking.scores()) for way, ranking in ways.items()}
    at_random = {way: _named(way, ranking.chance()) for way, ranking in ways.items()}
    main = {name: value for row in of_way.values() for name, value in row.items() if _is_main(name)}
    rest = {name: value for row in of_way.values() for name, value in row.items() if not _is_main(name)}
    level = {name: value for row in at_random.values() for name, value in row.items()}
    ranks = np.stack([ranking.rank for ranking in ways.values()], 1).tolist()
    distinct = len(set(pairs.texts))
    rule = "any photo or text of the very same wording is a hit" if group_identical else "only the own one is a hit"
    return _Part(
        {**main, RECALL: (_recall(ways["i2t"].scores(), 10) + _recall(ways["t2i"].scores(), 10)) / 2},
        extra=rest,
        baselines={"chance": {**level, RECALL: _recall(ways["i2t"].chance(), 10)}},
        items={name: {"i2t_rank": row[0], "t2i_rank": row[1]} for name, row in zip(pairs.ids, ranks, strict=True)},
        notes=[f"retrieval among {len(pairs.ids)} photos with {distinct} distinct texts; {rule}"],
        resampled=[
            *(ranking_scores(ranking, groups, f"{way}_") for way, ranking in ways.items()),
            EncounterSums(groups.ids, (RECALL,), groups.sums(_recall_terms(list(ways.values()))), _mean),
        ],
    )


def _named(way: str, scores: Mapping[str, float]) -> dict[str, float]:
    return {f"{way}_{name}": value for name, value in scores.items()}


def _is_main(name: str) -> bool:
    return "recall_any" in name or "median" in name


def _recall(scores: Mapping[str, float], k: int) -> float:
    """Return recall@k, 1 where the gallery has no more than k items."""
    return scores.get(f"recall_any@{k}", 1.0)


def _recall_terms(ways: Sequence[Ranking]) -> Floats:
    """Return (n, 2): whether a hit is among the first 10, the mean of both ways; and 1."""
    hits = [way.any_in[:, way.ks.index(10)] if 10 in way.ks else np.ones(way.queries) for way in ways]
    return np.stack([np.mean(hits, 0), np.ones(len(hits[0]))], 1)


def _mean(sums: Floats) -> Floats:
    """Return (..., 1) from the sums (..., 2) of `_recall_terms`."""
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[..., :1] / sums[..., 1:], np.float64)


def _items(both: Matched, gold: PairGold, parts: Sequence[_Part]) -> Iterator[Mapping[str, object]]:
    for name in both.ids:
        facts = {key: value for part in parts for key, value in part.items.get(name, {}).items()}
        yield {"image": name, "group": gold.groups[name], **facts}
