"""Scores of subgroups of the encounters, such as skin types or ages, and how each differs from all others.

Each subgroup has its own 95 % intervals (metrics/bootstrap.py). Its difference to the rest is resampled over all
encounters at once, and its p-value is that of a permutation test of the labels: which encounters form the subgroup is
drawn anew, as many each time (Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magic_cli.metrics.bootstrap import FEW, FEWEST, Difference, against_rest, intervals
from magic_cli.metrics.row_scores import leaves
from magic_cli.records import EncounterScores, EncounterSums, Interval

MISSING = "not stated"

OTHERS = "others"

MOST = 12

"""At most this many subgroups; the smallest ones are put together as "others"."""

_SAME = 1e-10  # gaps closer than this differ by rounding only

_AGES = (30, 45, 60, 75)


@dataclass(frozen=True, slots=True)
class Subgroup:
    """The encounters that share a value.

    Attributes:
        value: what they share.
        encounters: how many.
        scores: by name; NaN where undefined.
        intervals: 95 %, NaN for fewer than FEWEST encounters.
        differences: of each score to that of all other encounters; {} if there are none, or fewer than FEWEST on
            either side.
    """

    value: str
    encounters: int
    scores: Mapping[str, float]
    intervals: Mapping[str, Interval]
    differences: Mapping[str, Difference]


def subgroups(
    scores: EncounterScores, value_of: Mapping[str, str], resamples: int = 10_000, seed: int = 2025
) -> list[Subgroup]:
    """Return the scores of each subgroup, the largest first, "not stated" last.

    Only scores that are sums over encounters are divided; those of ranks, as AUROC, are left out.

    Args:
        scores: of all encounters.
        value_of: the value of each encounter's id; an id that is not in it is "not stated".
        resamples: as for `bootstrap.intervals`, and of label permutations.
        seed: same seed, same result.
    """
    order = sorted(range(len(scores.ids)), key=scores.ids.__getitem__)  # whatever the order of the gold
    divided = [part.ordered(order) for part in leaves(scores) if isinstance(part, EncounterSums)]
    values = [value_of.get(scores.ids[at], MISSING) for at in order]
    found = []
    for value in _ordered(values):
        rows = [at for at, other in enumerate(values) if other == value]
        inside = np.zeros(len(values), bool)
        inside[rows] = True
        own: dict[str, float] = {}
        bounds: dict[str, Interval] = {}
        gaps: dict[str, Difference] = {}
        for part in divided:
            alone = part.ordered(rows)
            own |= dict(zip(part.names, alone.over(range(len(rows))).tolist(), strict=True))
            bounds |= intervals(alone, resamples, seed)
            if min(len(rows), len(values) - len(rows)) >= FEWEST:
                gaps |= against_rest(part, inside, resamples, seed)
        found.append(Subgroup(value, len(rows), own, bounds, gaps))
    return found


@dataclass(frozen=True, slots=True)
class Gap:
    """The best subgroup's score minus the worst one's: a simple measure of unequal performance.

    Attributes:
        best, worst: what their encounters share.
        difference, low, high: with its 95 % interval, for these two subgroups as if they had been named beforehand.
        p: share of deals of the labels among all encounters with a gap as large between any two subgroups; the
            observed one counts. The gap of many small subgroups is large by chance alone: this allows for it.
    """

    best: str
    worst: str
    difference: float
    low: float
    high: float
    p: float


def widest_gaps(
    scores: EncounterScores, value_of: Mapping[str, str], resamples: int = 10_000, seed: int = 2025
) -> dict[str, Gap]:
    """Return the gap of each score that is a sum over encounters, between the subgroups of FEW encounters or more.

    "not stated" is no subgroup here. A score that is undefined in a subgroup has no gap; {} with fewer than two.

    Args:
        scores, value_of, resamples, seed: as for `subgroups`; at most GAP_DEALS deals of the labels.
    """
    order = sorted(range(len(scores.ids)), key=scores.ids.__getitem__)
    values = np.array([value_of.get(scores.ids[at], MISSING) for at in order])
    names = [value for value in _ordered(values.tolist()) if value != MISSING and (values == value).sum() >= FEW]
    if len(names) < 2:
        return {}
    gaps: dict[str, Gap] = {}
    for part in leaves(scores):
        if isinstance(part, EncounterSums):
            gaps |= _gaps_of(part.ordered(order), values, names, resamples, seed)
    return gaps


GAP_DEALS = 2_000


def _gaps_of(
    part: EncounterSums, values: NDArray[np.str_], names: Sequence[str], resamples: int, seed: int
) -> dict[str, Gap]:
    kept = np.flatnonzero(np.isin(values, names))
    part, places = part.ordered(kept.tolist()), np.array([names.index(value) for value in values[kept]])
    reached = np.stack([part.over(np.flatnonzero(places == k).tolist()) for k in range(len(names))])
    rng, deals = np.random.default_rng([seed, 3]), min(resamples, GAP_DEALS)
    as_large = np.ones(len(part.names))
    observed = reached.max(0) - reached.min(0)  # NaN where a subgroup has none
    for _ in range(deals):
        dealt = rng.permutation(places)
        of_each = part.weighted((dealt == np.arange(len(names))[:, None]).astype(np.float64))
        as_large += ~(of_each.max(0) - of_each.min(0) < observed - _SAME)
    gaps = {}
    pairs: dict[tuple[int, int], dict[str, Difference]] = {}
    for at, name in enumerate(part.names):
        if np.isfinite(observed[at]):
            best, worst = int(reached[:, at].argmax()), int(reached[:, at].argmin())
            if (best, worst) not in pairs:
                both = np.flatnonzero((places == best) | (places == worst))
                pairs[best, worst] = against_rest(part.ordered(both.tolist()), places[both] == best, resamples, seed)
            row = pairs[best, worst][name]
            p = float(as_large[at] / (deals + 1))
            gaps[name] = Gap(names[best], names[worst], float(observed[at]), row.low, row.high, p)
    return gaps


def _ordered(values: Sequence[str]) -> list[str]:
    counts = {value: values.count(value) for value in values}
    return sorted(counts, key=lambda value: (value in (OTHERS, MISSING), value == MISSING, -counts[value], value))


def binned(name: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return values fit to form subgroups: ages and other numbers in ranges, at most MOST values.

    Args:
        name: of the attribute; one that has the word "age" is divided at 30, 45, 60 and 75 years, other numbers of
            more than MOST distinct values at their terciles.
        values: of each encounter, as stated.

    >>> binned("age", {"a": "29", "b": "30", "c": "80", "d": "unknown"})
    {'a': 'below 30', 'b': '30 to 44', 'c': '75 and above', 'd': 'unknown'}
    """
    numbers = {key: number for key, value in values.items() if (number := _number(value)) is not None}
    words = {key: " ".join(value.split()) or MISSING for key, value in values.items() if key not in numbers}
    if "age" in name.lower().replace("-", "_").split("_"):
        words |= {key: _range_of(number, _AGES) for key, number in numbers.items()}
    elif len(set(numbers.values())) > MOST:
        cuts = np.quantile(np.array(list(numbers.values())), (1 / 3, 2 / 3)).tolist()
        words |= {key: _range_of(number, sorted(set(cuts))) for key, number in numbers.items()}
    else:
        words |= {key: values[key].strip() for key in numbers}
    kept = [value for value in _ordered(list(words.values())) if value != MISSING]
    rare = set(kept[MOST - 1 :]) if len(kept) > MOST else set()
    return {key: OTHERS if words[key] in rare else words[key] for key in values}


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _range_of(number: float, cuts: Sequence[float]) -> str:
    """Return the range that a number is in, as "30 to 44" between whole cuts."""
    place = sum(number >= cut for cut in cuts)
    if place == 0:
        return f"below {cuts[0]:g}"
    if place == len(cuts):
        return f"{cuts[-1]:g} and above"
    low, high = cuts[place - 1], cuts[place]
    is_whole = float(low).is_integer() and float(high).is_integer()
    return f"{low:g} to {high - 1:g}" if is_whole else f"{low:g} to below {high:g}"
