"""Scores that are no sums over encounters, such as a median or AUROC, for resampling whole encounters.

Each row (a photo, a query) belongs to an encounter, or to a patient, and has its weight; scores for given weights are
computed from all rows at once. See records.EncounterScores and metrics/bootstrap.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from magic_cli.metrics.classification import ClassTerms, mean_defined, one_hot, ordered_pairs
from magic_cli.metrics.ranking import Ranking
from magic_cli.records import EncounterScores, EncounterSums

Floats = NDArray[np.float64]

Columns = tuple[NDArray[Any], ...]

Scorer = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Groups:
    """Which encounter each row belongs to: all ids, and (rows,) indices into them. Some may have no row."""

    ids: tuple[str, ...]
    index: NDArray[np.intp]

    @classmethod
    def of(cls, encounters: Sequence[str], ids: Sequence[str] = ()) -> "Groups":
        """Return the groups of rows by the id of each row's encounter.

        Args:
            encounters: an id for each row.
            ids: all encounters of the data, those of other rows included, so that parts can be joined; those of the
                rows if empty.

        Raises:
            ValueError: a row's id is none of `ids`.
        """
        every = tuple(dict.fromkeys(ids or encounters))
        place = {name: at for at, name in enumerate(every)}
        lost = [name for name in encounters if name not in place]
        if lost:
            raise ValueError(f"{len(lost)} rows are of encounters that are not in the list of all")
        return cls(every, np.array([place[name] for name in encounters], np.intp))

    def keep(self, rows: NDArray[np.bool_]) -> "Groups":
        """Return the groups of some rows, with all ids."""
        return Groups(self.ids, self.index[rows])

    def sums(self, terms: Floats) -> Floats:
        """Return (encounters, terms): the sums over the rows of each encounter."""
        sums = np.zeros((len(self.ids), terms.shape[1]))
        np.add.at(sums, self.index, terms)
        return sums


@dataclass(frozen=True, eq=False)
class RowScores(EncounterScores):
    """Scores computed from weighted rows.

    Attributes:
        ids, names: of encounters and of scores.
        index: (rows,) the encounter of each row.
        columns: arrays (rows, ...) that `prepare` needs.
        prepare: makes of columns and `index`, once, what maps weights (encounters, R) to scores (R, len(names)).
        limits: lowest and highest value of these scores.
        smooth: False for scores that leaving out one encounter tells nothing about, such as a median (Efron 1979).
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    index: NDArray[np.intp]
    columns: Columns
    prepare: Callable[[Columns, NDArray[np.intp]], Scorer]
    limits: tuple[float, float] = (0.0, 1.0)
    smooth: bool = True

    @cached_property
    def _scorer(self) -> Scorer:
        return self.prepare(self.columns, self.index)

    @property
    def cost(self) -> int:
        """Numbers that one set of weights touches."""
        return int(self.columns[0].size)

    def over(self, rows: Sequence[int]) -> Floats:
        """Return the scores with weight 1 for these encounters and 0 for others."""
        weights = np.zeros((1, len(self.ids)))
        weights[0, list(rows)] = 1.0
        return np.asarray(self.weighted(weights)[0], np.float64)

    def weighted(self, weights: Floats) -> Floats:
        """Return the scores for weights (R, encounters)."""
        return self._scorer(np.ascontiguousarray(weights.T))

    def ordered(self, order: Sequence[int]) -> Self:
        """Return the same rows with their encounters in this order."""
        return replace(self, ids=tuple(self.ids[at] for at in order), index=np.argsort(order)[self.index])

    def beside(self, other: Self) -> Self:
        """Return the rows of both, those of the other as of further encounters."""
        columns = tuple(np.concatenate(pair) for pair in zip(self.columns, other.columns, strict=True))
        index = np.concatenate([self.index, other.index + len(self.ids)])
        return replace(self, ids=(*self.ids, *other.ids), index=index, columns=columns)


@dataclass(frozen=True, eq=False)
class JoinedScores(EncounterScores):
    """Scores of several kinds on the same encounters; made by `joined`.

    The last score is the mean of those at the places `mean_of`, if there are any places.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    parts: tuple[EncounterScores, ...]
    mean_of: tuple[int, ...] = ()

    def over(self, rows: Sequence[int]) -> Floats:
        """Return the scores of all parts, one after the other."""
        return self._with_mean(np.concatenate([part.over(rows) for part in self.parts]))

    def weighted(self, weights: Floats) -> Floats:
        """Return the scores of all parts for weights (R, encounters)."""
        return self._with_mean(np.concatenate([part.weighted(weights) for part in self.parts], 1))

    def _with_mean(self, scores: Floats) -> Floats:
        """Return scores (..., names without the last) with the mean, if one is asked for."""
        if not self.mean_of:
            return scores
        return np.concatenate([scores, scores[..., list(self.mean_of)].mean(-1, keepdims=True)], -1)

    def ordered(self, order: Sequence[int]) -> Self:
        """Return all parts with the encounters in this order."""
        parts = tuple(part.ordered(order) for part in self.parts)
        return replace(self, ids=parts[0].ids, parts=parts)

    def beside(self, other: Self) -> Self:
        """Return each part beside the other's."""
        parts = tuple(mine.beside(theirs) for mine, theirs in zip(self.parts, other.parts, strict=True))
        return replace(self, ids=parts[0].ids, parts=parts)


def joined(parts: Sequence[EncounterScores], mean: str = "", mean_of: Sequence[str] = ()) -> JoinedScores:
    """Return the scores of all parts as one; parts of parts are taken apart.

    Args:
        parts: scores of the same encounters.
        mean: name of a further score; "" for none.
        mean_of: names of the scores that it is the mean of: of those that are there, and defined for all encounters
            together. Where one of these is not defined, as in a resample, neither is the mean.

    Raises:
        ValueError: no parts, other encounters in a part, or two scores of one name.
    """
    flat = [leaf for part in parts for leaf in leaves(part)]
    names = tuple(name for part in flat for name in part.names)
    if len({part.ids for part in flat}) != 1 or len(set(names)) != len(names):
        raise ValueError(f"{len(flat)} parts with scores {names}: other encounters, or a name twice")
    whole = JoinedScores(flat[0].ids, names, tuple(flat))
    if not set(mean_of) & set(names):
        return whole
    values = whole.over(range(len(whole.ids)))
    places = tuple(k for k, name in enumerate(names) if name in mean_of and not np.isnan(values[k]))
    return replace(whole, names=(*names, mean), mean_of=places) if places else whole


def leaves(scores: EncounterScores) -> tuple[EncounterScores, ...]:
    """Return the parts of joined scores, or the scores themselves."""
    return scores.parts if isinstance(scores, JoinedScores) else (scores,)


def shared(a: EncounterScores, b: EncounterScores) -> tuple[EncounterScores, EncounterScores]:
    """Return of both systems the parts whose scores have the same names; both as they are if these are none, or all.

    Systems may have been asked for other classes, or lack vectors: what they have in common can be compared.
    """
    if a.names == b.names:
        return a, b
    theirs = {part.names: part for part in leaves(b)}
    mine = [part for part in leaves(a) if part.names in theirs]
    return (joined(mine), joined([theirs[part.names] for part in mine])) if mine else (a, b)


def class_scores(
    scores: NDArray[np.floating], gold: NDArray[np.integer], groups: Groups, labels: Sequence[str]
) -> JoinedScores:
    """Return the scores of `classification.classify` for resampling.

    Args:
        scores, gold: as in `classify`: (N, classes) and (N,).
        groups: the encounter of each photo.
        labels: names of the classes, which become "recall[label]" and "auroc[label]".
    """
    terms, is_gold = ClassTerms(len(labels)), one_hot(gold, len(labels))
    names = (*terms.names, *(f"recall[{label}]" for label in labels))
    sums = EncounterSums(groups.ids, names, groups.sums(terms.terms(scores, gold)), terms.scores)
    areas = concept_scores(scores, is_gold, None, groups, labels)
    return joined([sums, replace(areas, names=(*areas.names[:-1], "macro_auroc"))])


def concept_scores(
    scores: NDArray[np.floating],
    positive: NDArray[Any],
    known: NDArray[Any] | None,
    groups: Groups,
    concepts: Sequence[str],
) -> RowScores:
    """Return "auroc[concept]" of each concept, then "mean_auroc" over those that are defined, for resampling.

    Args:
        scores, positive, known: (N, concepts), as in `classification.auroc`.
        groups: the encounter of each photo.
        concepts: their names.

    Scores are replaced by their mid ranks among the photos of which the concept is known: the same AUROC, and two
    systems can exchange results even if their scores have other units (Venkatraman & Begg, Biometrika 1996).
    """
    known = np.ones(np.shape(scores), bool) if known is None else np.asarray(known, bool)
    ranks = np.column_stack([_mid_ranks(s, k) for s, k in zip(np.asarray(scores).T, known.T, strict=True)])
    names = (*(f"auroc[{concept}]" for concept in concepts), "mean_auroc")
    return RowScores(groups.ids, names, groups.index, (ranks, np.asarray(positive, bool), known), _areas)


def ranking_scores(ranking: Ranking, groups: Groups, prefix: str = "") -> JoinedScores:
    """Return the scores of `Ranking.scores` for resampling the encounters of the queries; the gallery stays whole.

    Args:
        ranking: one direction.
        groups: the encounter of each query; queries without positives are left out here.
        prefix: of the names, such as "image_to_text_", so that both directions can be joined.
    """
    kept = ranking.positives > 0
    groups, limits = groups.keep(kept), (1.0, float(ranking.gallery))
    *recalls, median, mean = (prefix + name for name in ranking.names)
    values = np.hstack([ranking.any_in[kept], ranking.fraction_in[kept], np.ones((int(kept.sum()), 1))])
    ranks = (ranking.rank[kept],)
    return joined(
        [
            EncounterSums(groups.ids, tuple(recalls), groups.sums(values), _mean),
            RowScores(groups.ids, (median,), groups.index, ranks, _median, limits, smooth=False),
            RowScores(groups.ids, (mean,), groups.index, ranks, _mean_rank, limits),
        ]
    )


def _mid_ranks(scores: NDArray[Any], known: NDArray[np.bool_]) -> Floats:
    """Return (N,) float64: the mid rank of each score among those known; for others where they would stand."""
    ordered = np.sort(scores[known])
    return np.asarray(sum(np.searchsorted(ordered, scores, side) for side in ("left", "right")) / 2, np.float64)


def _areas(columns: Columns, index: NDArray[np.intp]) -> Scorer:
    pairs = ordered_pairs(columns[0], columns[1], columns[2])
    pairs = [replace(one, positive=index[one.positive], negative=index[one.negative]) for one in pairs]

    def scores(weights: Floats) -> Floats:
        areas = np.column_stack([one.auroc(weights) for one in pairs])
        return np.column_stack([areas, mean_defined(areas)])

    return scores


def _mean(sums: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[..., :-1] / sums[..., -1:], np.float64)


def _mean_rank(columns: Columns, index: NDArray[np.intp]) -> Scorer:
    def scores(weights: Floats) -> Floats:
        rows = weights[index]
        with np.errstate(invalid="ignore"):
            return np.asarray((columns[0] @ rows / rows.sum(0))[:, None], np.float64)

    return scores


def _median(columns: Columns, index: NDArray[np.intp]) -> Scorer:
    """Return what gives (R, 1) weighted medians, the mean of both middle values if the weight is divided there."""
    order = np.argsort(columns[0], kind="stable")
    values, index = columns[0][order], index[order]

    def scores(weights: Floats) -> Floats:
        if not len(values):
            return np.full((weights.shape[1], 1), np.nan)
        up_to = np.cumsum(weights[index], 0)
        half = up_to[-1] / 2
        before = np.stack([(up_to < half).sum(0), (up_to <= half).sum(0)])
        middle = values[np.minimum(before, len(values) - 1)].mean(0)
        return np.where(half > 0, middle, np.nan)[:, None]

    return scores
