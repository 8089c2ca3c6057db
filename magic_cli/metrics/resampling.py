"""What resampling needs of scores, or of differences of scores: the values for any weights of the encounters.

Sums over encounters are multiplied by weights; scores of ranks are computed anew (metrics/row_scores.py), of many rows
for fewer resamples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magic_cli.metrics.row_scores import JoinedScores, RowScores, leaves
from magic_cli.records import EncounterScores, EncounterSums

WORK = 100_000_000

"""Numbers that resampling scores of ranks may touch: rows x concepts x resamples; some seconds."""

_LEAST_RESAMPLES = 400

_LEAST_GROUPS = 100

_LEAST_ROWS = 64

"""Resamples of scores of ranks in a block, at least: with a dozen, calls take longer than sums."""

BLOCK = 2_000_000

"""Bytes of the largest array of a block; a few such arrays exist at a time."""

Floats = NDArray[np.float64]

Scores = Callable[[Floats], Floats]


@dataclass(frozen=True, eq=False)
class Resampled:
    """Scores, or differences of scores, of n encounters, as resampling sees them.

    `limits` (2, scores) and `smooth` (scores,) are as in RowScores. `weighted` maps weights (R, n) to (R, scores);
    `without` gives the scores without each of the `groups` from a first to before a last. `width` and `lean` are the
    numbers that one resample, or one group left out, takes.
    """

    n: int
    total: Floats
    limits: Floats
    smooth: NDArray[np.bool_]
    weighted: Scores
    groups: int
    without: Callable[[int, int], Floats]
    width: int
    lean: int


def resamples_of(scores: EncounterScores, wanted: int) -> int:
    """Return how many of the wanted resamples are drawn: all for sums, fewer for ranks over many rows (`WORK`)."""
    cost = _cost(scores)
    return min(wanted, max(_LEAST_RESAMPLES, WORK // cost)) if cost else wanted


def _cost(scores: EncounterScores) -> int:
    """Return the numbers that one resample touches; 0 for sums, whose resamples are a matrix product."""
    return sum(part.cost for part in leaves(scores) if isinstance(part, RowScores))


def total(scores: EncounterScores) -> Floats:
    """Return the scores of all encounters, each once."""
    return scores.over(range(len(scores.ids)))


def alone(scores: EncounterScores) -> Resampled:
    """Return one system's scores as resampling sees them."""
    if isinstance(scores, EncounterSums):
        return _of_sums(scores.sums, scores.scores, least=0.0)
    return _of_rows(scores, scores.weighted, total(scores), _limits(scores))


def gap(a: EncounterScores, b: EncounterScores) -> tuple[Resampled, Scores]:
    """Return a's scores minus b's, and what maps swaps (R, n) of encounters to the differences after them."""
    if isinstance(a, EncounterSums) and isinstance(b, EncounterSums):
        return _gap_of_sums(a, b)
    both = a.beside(b)

    def swapped(swaps: Floats) -> Floats:
        kept = 1 - swaps
        return both.weighted(np.hstack([kept, swaps])) - both.weighted(np.hstack([swaps, kept]))

    def difference(weights: Floats) -> Floats:
        return a.weighted(weights) - b.weighted(weights)

    low, high = _limits(a)
    return _of_rows(a, difference, total(a) - total(b), np.stack([low - high, high - low])), swapped


def parted(scores: EncounterSums, inside: NDArray[np.bool_]) -> Resampled:
    """Return the scores of some encounters minus those of all others; a resample draws from all of them."""
    terms = scores.sums.shape[1]

    def difference(sums: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample may draw none of a part
            return scores.scores(sums[..., :terms]) - scores.scores(sums[..., terms:])

    return _of_sums(np.hstack([scores.sums * inside[:, None], scores.sums * ~inside[:, None]]), difference, least=-1.0)


def _gap_of_sums(a: EncounterSums, b: EncounterSums) -> tuple[Resampled, Scores]:
    terms = a.sums.shape[1]

    def difference(sums: Floats) -> Floats:
        return a.scores(sums[..., :terms]) - b.scores(sums[..., terms:])

    both = np.hstack([a.sums, b.sums])
    change, total = both[:, terms:] - both[:, :terms], both.sum(0)

    def swapped(swaps: Floats) -> Floats:
        moved = swaps @ change
        return difference(total + np.hstack([moved, -moved]))

    return _of_sums(both, difference, least=-1.0), swapped


def _of_sums(sums: Floats, scores: Scores, least: float) -> Resampled:
    total = sums.sum(0)
    value = scores(total)
    return Resampled(
        n=len(sums),
        total=value,
        limits=np.stack([np.full(value.shape, least), np.ones(value.shape)]),
        smooth=np.ones(value.shape, bool),
        weighted=lambda weights: scores(weights @ sums),
        groups=len(sums),
        without=lambda first, last: scores(total - sums[first:last]),
        width=max(sums.shape),
        lean=sums.shape[1],
    )


def _of_rows(scores: EncounterScores, weighted: Scores, total: Floats, limits: Floats) -> Resampled:
    n, parts = len(scores.ids), leaves(scores)
    groups = min(n, max(_LEAST_GROUPS, WORK // (10 * max(_cost(scores), 1))))

    def without(first: int, last: int) -> Floats:
        return weighted((np.arange(n) % groups != np.arange(first, last)[:, None]).astype(np.float64))

    smooth = [not isinstance(part, RowScores) or part.smooth for part in parts for _ in part.names]
    if isinstance(scores, JoinedScores) and scores.mean_of:
        smooth.append(all(smooth[place] for place in scores.mean_of))
    width = max([n, *(len(part.index) for part in parts if isinstance(part, RowScores))])
    width = min(width, BLOCK // (8 * _LEAST_ROWS))
    return Resampled(n, total, limits, np.array(smooth), weighted, groups, without, width, width)


def _limits(scores: EncounterScores) -> Floats:
    """Return the lowest and highest value of each score, (2, scores)."""
    limits = [part.limits if isinstance(part, RowScores) else (0.0, 1.0) for part in leaves(scores) for _ in part.names]
    own = np.array(limits, np.float64)
    if isinstance(scores, JoinedScores) and scores.mean_of:
        own = np.concatenate([own, own[list(scores.mean_of)].mean(0)[None]])
    return own.T
