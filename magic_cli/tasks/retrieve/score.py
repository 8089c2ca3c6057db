"""Scores of case retrieval: how well queries find cases of their own class.

Macro scores, means over the classes of the queries, come first: where one class is common, a ranking that puts it first
for every query has a high mean. All scores are expected values under ties (metrics/retrieval.py), and stand beside
those of a random order and of a ranking by the frequency of classes. Relevance for nDCG is 0.5 for the same class, and
0.5 times the agreement of attributes (data/retrieval/attributes.py).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.retrieval.attributes import agreement_table
from magic_cli.data.retrieval.gold import PROTOCOLS, RetrievalGold
from magic_cli.data.retrieval.judgements import positives
from magic_cli.errors import DataError, printable, problem, redact_key, shorten
from magic_cli.metrics.retrieval import KS, TIE_RULE, CaseRetrieval, QueryScores, rank_classes
from magic_cli.metrics.row_scores import Groups
from magic_cli.records import EncounterSums, Rules, TaskScores
from magic_cli.submission.rankings import SubmittedRanking, trec_id
from magic_cli.tasks.retrieve.predictions import RetrievalPrediction
from magic_cli.training.task import RULES

MONITOR = "macro_map"

_CELLS = 1 << 22

_TERMS = ("ap", *(f"acc@{k}" for k in KS), *(f"hits@{k}" for k in KS), "vote@4", "ndcg@10")

_MAIN = ("macro_map", "balanced_acc@1", "map", "acc@1", "acc@2", "acc@4", "vote@4", "balanced_vote@4", "macro_ndcg@10")

_EXTRA = ("balanced_acc@2", "balanced_acc@4", "balanced_acc@10", "ndcg@10")

Floats = NDArray[np.float64]

Ints = NDArray[np.int64]

Ranking = RetrievalPrediction | SubmittedRanking

Graded = Callable[[Sequence[int]], NDArray[np.floating]]
"""Relevance (q, G) in [0, 1] of the gallery for the queries of some rows."""


@dataclass(frozen=True, eq=False)
class _Evaluated:
    """Scores of all queries, by rows: their terms (Q, terms) of the ranking, at random, and by frequency of classes.

    `classes` names the classes, `mine` (Q,) is each query's. `cut` are the photos that were not returned to it, `own`
    those of its own group. `unknown` counts the rankings of other queries, and those of photos that are not ranked.
    """

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    mine: Ints
    positives: Ints
    gallery: Ints
    cut: Ints
    own: Ints
    terms: Mapping[str, Floats]
    unknown: tuple[int, int] = (0, 0)


def score(gold: RetrievalGold, predictions: Iterable[Ranking], _rules: Rules = RULES) -> TaskScores:
    """Score rankings for the queries of `gold`; those of other queries and photos are counted in a note, and ignored.

    A query without a ranking finds nothing, and counts as zero. What belongs to a query's own group is never ranked,
    whatever a prediction says of it.

    Raises:
        DataError: a query twice, no query of the gold among the predictions, or none of its positives in what they say
            the galleries are.
    """
    table, rejected = _evaluate(gold, predictions)
    values = _named(table, table.terms["found"])
    return TaskScores(
        "retrieve",
        {
            **{name: values[name] for name in _MAIN if not _is_lost(values, name)},
            "number_of_queries": float((table.positives > 0).sum()),
        },
        summary_rows=tuple(_rows(table)),
        notes=tuple(_notes(gold, table, _named(table, table.terms["random"]))),
        extra={name: values[name] for name in _EXTRA},
        rejected=tuple(rejected),
        per_item=tuple(_items(gold, table)),
        baselines={name: _shown(_named(table, terms)) for name, terms in table.terms.items() if name != "found"},
        encounter_sums=_sums(gold, table),
        has_official=False,
    )


def trivial_scores(gold: RetrievalGold) -> dict[str, float]:
    """Return MONITOR of a random order, and of the ranking by the frequency of classes."""
    made = score(gold, _nothing(gold)).baselines
    return {name: row[MONITOR] for name, row in made.items()}


def _nothing(gold: RetrievalGold) -> Iterator[RetrievalPrediction]:
    scores = np.zeros(len(gold.gallery), np.float32)
    return (RetrievalPrediction(query, gold.gallery, scores) for query in gold.queries)


def _is_lost(values: Mapping[str, float], name: str) -> bool:
    """Return whether a score is undefined because photos have no class to vote for."""
    return "vote" in name and bool(np.isnan(values[name]))


def _shown(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if not _is_lost(values, name)}


def _evaluate(gold: RetrievalGold, predictions: Iterable[Ranking]) -> tuple[_Evaluated, list[str]]:
    """Return the scores of every query in the order of the gold, and a line per query without a ranking."""
    frame = _Frame.of(gold)
    step = max(1, _CELLS // max(len(gold.gallery), 1))
    parts: list[tuple[list[int], CaseRetrieval, CaseRetrieval]] = []
    batch: dict[int, NDArray[np.float32]] = {}
    met: set[int] = set()
    others = strangers = 0
    for prediction in predictions:
        row = frame.row_of.get(prediction.id)
        if row is None:
            others += 1
            continue
        strangers += prediction.gallery != gold.gallery and not frame.column_of.keys() >= set(prediction.gallery)
        if row in met:
            raise DataError(problem(redact_key(prediction.id), "a query twice", "once", "remove one of them"))
        met.add(row)
        batch[row] = frame.similar(row, prediction)
        if len(batch) == step:
            parts.append(frame.scored(batch))
            batch = {}
    lost = [row for row in range(len(gold.queries)) if row not in met]
    if lost and not met:
        got = "predictions for none of these queries"
        raise DataError(problem(gold.source, got, "the same ids", "choose another --split or gold"))
    for row in lost:
        batch[row] = frame.similar(row, None)
        if len(batch) == step:
            parts.append(frame.scored(batch))
            batch = {}
    parts += [frame.scored(batch)] if batch else []
    table = replace(frame.joined(parts), unknown=(others, strangers))
    if not table.positives.any() and any(positives(gold).values()):
        got = "predictions that rank no photo of a query's class"
        raise DataError(problem(gold.source, got, "rankings of its gallery", "choose another --split or gold"))
    lost = [row for row in lost if table.positives[row] > 0]  # others, as those without a class, count nowhere
    lines = [problem(redact_key(gold.queries[row]), "no ranking of this query", "one", "predict it") for row in lost]
    return table, lines


@dataclass(frozen=True, eq=False)
class _Frame:
    """Queries and gallery of a gold as numbers."""

    gold: RetrievalGold
    classes: tuple[str, ...]
    row_of: Mapping[str, int]
    column_of: Mapping[str, int]
    labels: tuple[Ints, Ints]
    groups: tuple[Ints, Ints]
    relevance: Graded | None

    @classmethod
    def of(cls, gold: RetrievalGold) -> "_Frame":
        """Return the frame; queries and photos without a class are of classes of their own, which nothing shares."""
        if not gold.queries or not gold.gallery:
            got = f"{len(gold.queries)} queries and {len(gold.gallery)} photos to rank"
            raise DataError(problem(gold.source, got, "some of each", "choose another --split or --gallery"))
        of_query = [gold.label_of(query) for query in gold.queries]
        classes = tuple(sorted({*of_query} - {""}))
        others = sorted({gold.labels[photo] for photo in gold.gallery if photo in gold.labels} - {*classes})
        place = {name: at for at, name in enumerate((*classes, *others))}
        none = len(place)
        labels = (
            np.array([place.get(label, none) for label in of_query], np.int64),
            np.array([place.get(gold.labels.get(photo, ""), none + 1) for photo in gold.gallery], np.int64),
        )
        number: dict[str, int] = {}
        groups = [
            np.array([number.setdefault(gold.groups.get(photo, photo), len(number)) for photo in ids], np.int64)
            for ids in (gold.queries, gold.gallery)
        ]
        rows, columns = (
            {trec_id(photo): at for at, photo in enumerate(ids)} | {photo: at for at, photo in enumerate(ids)}
            for ids in (gold.queries, gold.gallery)
        )
        return cls(gold, classes, rows, columns, labels, (groups[0], groups[1]), _relevance(gold, labels))

    def similar(self, row: int, prediction: Ranking | None) -> NDArray[np.float32]:
        """Return (G,) similarities as metrics/retrieval.py has them: NaN within the own group.

        A photo that a model's prediction lacks is not in the query's gallery; one that a run lacks was not found.
        """
        gallery, wanted = self.gold.gallery, np.full(len(self.gold.gallery), -np.inf, np.float32)
        if prediction is not None and prediction.scores is not None:
            if not isinstance(prediction, SubmittedRanking) or not prediction.is_run:
                wanted[:] = np.nan
            given = np.asarray(prediction.scores, np.float32)
            if prediction.gallery is gallery or prediction.gallery == gallery:
                wanted = given.copy()
            else:
                columns = np.array([self.column_of.get(photo, -1) for photo in prediction.gallery], np.int64)
                wanted[columns[columns >= 0]] = given[columns >= 0]
        if not self.gold.relevant:
            wanted[self.groups[1] == self.groups[0][row]] = np.nan
        return wanted

    def scored(self, batch: Mapping[int, NDArray[np.float32]]) -> tuple[list[int], CaseRetrieval, CaseRetrieval]:
        """Return the rows of a batch, their scores, and those of the ranking by frequency of classes."""
        rows, similar = list(batch), np.stack(list(batch.values()))
        relevance = None if self.relevance is None else partial(_of_rows, self.relevance, rows)
        positive = partial(self.relevant, rows) if self.gold.relevant else None
        labels = (self.labels[0][rows], self.labels[1])
        named = [photo in self.gold.labels for photo in self.gold.gallery]
        frequency = np.where(named, np.bincount(self.labels[1])[self.labels[1]], 0).astype(np.float32)
        by_class = np.where(np.isnan(similar), np.float32(np.nan), frequency)
        found, majority = (rank_classes(s, labels, KS, relevance, None, positive) for s in (similar, by_class))
        return rows, found, majority

    def relevant(self, rows: Sequence[int], part: slice) -> NDArray[np.bool_]:
        """Return (q, G) what was judged to be relevant."""
        made = np.zeros((len(rows[part]), len(self.gold.gallery)), bool)
        for at, row in enumerate(rows[part]):
            columns = [self.column_of[photo] for photo in self.gold.relevant.get(self.gold.queries[row], {})]
            made[at, columns] = True
        return made

    def joined(self, parts: Sequence[tuple[list[int], CaseRetrieval, CaseRetrieval]]) -> _Evaluated:
        """Return the scores of all batches in the order of the queries."""
        order = np.argsort([row for rows, _, _ in parts for row in rows])

        def of(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
            return np.concatenate(values)[order]

        has_vote = bool(set(self.labels[1].tolist()) & set(range(len(self.classes))))
        terms = {
            "found": of([_terms(found.found) for _, found, _ in parts]),
            "random": of([_terms(found.chance) for _, found, _ in parts]),
            "majority first": of([_terms(majority.found) for _, _, majority in parts]),
        }
        if not has_vote:  # no photo has a class
            for values in terms.values():
                values[:, _TERMS.index("vote@4")] = np.nan
        positives, gallery, cut = (
            of([getattr(found, name) for _, found, _ in parts]) for name in ("positives", "gallery", "cut")
        )
        sizes = np.bincount(self.groups[1], minlength=int(self.groups[0].max()) + 1)[self.groups[0]]
        own = np.zeros_like(sizes) if self.gold.relevant else sizes
        return _Evaluated(self.gold.queries, self.classes, self.labels[0], positives, gallery, cut, own, terms)


def _of_rows(graded: Graded, rows: Sequence[int], part: slice) -> NDArray[np.floating]:
    return graded(rows[part])


def _relevance(gold: RetrievalGold, labels: tuple[Ints, Ints]) -> Graded | None:
    """Return graded relevance of queries by their rows; None where the gold has neither judgements nor attributes."""
    if gold.relevant:
        column_of = {photo: at for at, photo in enumerate(gold.gallery)}

        def judged(rows: Sequence[int]) -> NDArray[np.floating]:
            made = np.zeros((len(rows), len(gold.gallery)), np.float32)
            for at, row in enumerate(rows):
                for photo, value in gold.relevant.get(gold.queries[row], {}).items():
                    made[at, column_of[photo]] = value
            return made

        return judged
    queries, gallery = ([gold.attributes.get(photo, {}) for photo in ids] for ids in (gold.queries, gold.gallery))
    if not any(queries) or not any(gallery):
        return None
    table = agreement_table(queries, gallery)

    def of(rows: Sequence[int]) -> NDArray[np.floating]:
        agreed = np.nan_to_num(table.rows(rows))
        return np.asarray(0.5 * agreed + 0.5 * (labels[0][rows][:, None] == labels[1]), np.float32)

    return of


def _terms(scores: QueryScores) -> Floats:
    """Return (Q, terms) in the order of _TERMS."""
    columns = [scores.ap[:, None], scores.any_in, scores.hits]
    return np.hstack([*columns, scores.vote[:, [KS.index(4)]], scores.ndcg[:, [KS.index(10)]]])


def _named(table: _Evaluated, terms: Floats) -> dict[str, float]:
    sums = _class_sums(table, terms).sum(0)
    return dict(zip((*_MAIN, *_EXTRA), _scores(len(table.classes), sums).tolist(), strict=True))


def _class_sums(table: _Evaluated, terms: Floats) -> Floats:
    """Return (Q, classes x 2 terms): for each class the terms, and for how many queries each of them is defined."""
    own = np.hstack([np.nan_to_num(terms), ~np.isnan(terms)])
    is_of = table.mine[:, None] == np.arange(len(table.classes))
    return np.asarray((is_of[:, :, None] * own[:, None]).reshape(len(own), -1), np.float64)


def _scores(classes: int, sums: Floats) -> Floats:
    """Return (..., scores) in the order of _MAIN and _EXTRA from the sums of `_class_sums`."""
    totals, counts = np.split(sums.reshape(*sums.shape[:-1], classes, 2 * len(_TERMS)), 2, -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        macro = np.nansum(totals / counts, -2) / (counts > 0).sum(-2)
        mean = totals.sum(-2) / counts.sum(-2)
    of = {"macro_map": macro[..., _TERMS.index("ap")], "map": mean[..., _TERMS.index("ap")]}
    for at, name in enumerate(_TERMS[1:], 1):
        prefix = "macro_" if name.startswith("ndcg") else "balanced_"
        of[prefix + name], of[name] = macro[..., at], mean[..., at]
    return np.asarray(np.stack([of[name] for name in (*_MAIN, *_EXTRA)], -1), np.float64)


def _sums(gold: RetrievalGold, table: _Evaluated) -> EncounterSums:
    groups = Groups.of([gold.groups.get(query, query) for query in table.ids])
    sums = groups.sums(_class_sums(table, table.terms["found"]))
    return EncounterSums(groups.ids, (*_MAIN, *_EXTRA), sums, partial(_scores, len(table.classes)))


def _rows(table: _Evaluated) -> Iterator[Mapping[str, object]]:
    """Yield a row per class of the queries."""
    at = {name: place for place, name in enumerate(_TERMS)}
    for number, name in enumerate(table.classes):
        own = (table.mine == number) & (table.positives > 0)
        mean, level = (
            terms[own].mean(0) if own.any() else np.full(len(_TERMS), np.nan)
            for terms in (table.terms["found"], table.terms["random"])
        )
        yield {
            "class": name,
            "queries": int(own.sum()),
            "ap": float(mean[at["ap"]]),
            "chance_ap": float(level[at["ap"]]),
            "acc@1": float(mean[at["acc@1"]]),
            "chance_acc@1": float(level[at["acc@1"]]),
            "recall@10": float(mean[at["acc@10"]]),
            "chance_recall@10": float(level[at["acc@10"]]),
            "among_first_10": float(mean[at["hits@10"]]),
        }


def _notes(gold: RetrievalGold, table: _Evaluated, chance: Mapping[str, float]) -> Iterator[str]:
    protocol = PROTOCOLS.get(gold.protocol, gold.protocol)
    yield f"{protocol}; {len(table.ids)} queries, {len(gold.gallery)} photos to rank"
    if gold.classes:
        yield f"the class of a case is its attribute {printable(gold.classes)}"
    yield TIE_RULE
    level, average = chance["acc@4"], chance["map"]
    yield f"a random order has Acc@4 {level:.3f} and mAP {average:.3f}: compare with these, and prefer macro scores"
    yield "recall@10 of a class: the share of its queries with any of it among the first 10 (expected under ties)"
    without = [query for query, number in zip(table.ids, table.positives.tolist(), strict=True) if not number]
    if without:
        yield f"{len(without)} queries have no positive in their gallery and are left out: {shorten(without, most=3)}"
    fewer = table.gallery < len(gold.gallery) - table.own
    if fewer.any():
        ranked = f"{table.gallery[fewer].mean():.0f} of {len(gold.gallery)} photos on average"
        yield f"predictions for {int(fewer.sum())} queries rank {ranked}; the others are not in these queries' gallery"
    others, strangers = table.unknown
    if others:
        yield f"{others} other queries are ranked: they are not of this split, or have no class, and are not scored"
    if strangers:
        yield f"{strangers} queries rank photos that are not in the gallery: these are passed over"
    yield from gold.notes
    cut = int(((table.cut > 0) & (table.cut < table.gallery)).sum())
    if cut:
        yield f"{cut} queries do not rank all of their gallery; what is left out counts as never found, as in trec_eval"


def _items(gold: RetrievalGold, table: _Evaluated) -> Iterator[Mapping[str, Any]]:
    at = {name: place for place, name in enumerate(_TERMS)}
    shown = ("ap", "acc@1", "acc@4", "vote@4", "ndcg@10")
    for row, query in enumerate(table.ids):
        values = table.terms["found"][row]
        own = {name: float(values[at[name]]) for name in shown} if table.positives[row] else {}
        label = gold.label_of(query)
        group = gold.groups.get(query, query)
        yield {"image": query, "group": group, "class": label, "positives": int(table.positives[row]), **own}
