"""Attributes of cases as a query tells them, compared by name, for relevance, baselines and pages.

Only what a query may tell is compared (data/texts/query_text.py): no class, no management, no notes. Ages within
`YEARS` of each other match; visible concepts are compared as sets; all else matches if it is said in the same words.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.sources.source import AGE, CONCEPTS
from magic_cli.data.texts.query_text import Part, QueryOptions, parts
from magic_cli.records import Case

YEARS = 5

_ALL = QueryOptions()

_BETWEEN = "; "

_AGED = "-year-old"

Verdict = Literal["match", "differs", "missing"]

Floats = NDArray[np.float32]


class Compared(NamedTuple):
    """One attribute of two cases: its name, both values ("" where one has none), and how they compare."""

    name: str
    first: str
    second: str
    verdict: Verdict


def attributes(case: Case, options: QueryOptions = _ALL) -> dict[str, str]:
    """Return the words that a query tells of each attribute of a case, by its name, in the query's order."""
    return values_of(parts(case, options))


def values_of(pieces: Iterable[Part]) -> dict[str, str]:
    """Return the words of pieces of a query by attribute; several visible concepts are one value, "scale; ulcer"."""
    words: dict[str, list[str]] = {}
    for part in pieces:
        words.setdefault(part.name, []).append(part.words)
    return {name: _BETWEEN.join(sorted(set(said))) for name, said in words.items()}


def compare(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[Compared, ...]:
    """Return every attribute that either has, in their order; concepts match if half of them are shared."""
    rows = []
    for name in dict.fromkeys((*first, *second)):
        mine, theirs = first.get(name, ""), second.get(name, "")
        verdict: Verdict = "missing"
        if mine and theirs:
            verdict = "match" if _likeness(name, mine, theirs) >= 0.5 else "differs"
        rows.append(Compared(name, mine, theirs, verdict))
    return tuple(rows)


def agreement(first: Mapping[str, str], second: Mapping[str, str]) -> float | None:
    """Return the mean likeness of the attributes that both have, in [0, 1]; None if they share none.

    >>> agreement({"sex": "male", "site": "back"}, {"sex": "male", "site": "face", "age": "45-year-old"})
    0.5
    """
    shared = [_likeness(name, value, second[name]) for name, value in first.items() if value and second.get(name)]
    return sum(shared) / len(shared) if shared else None


def _likeness(name: str, first: str, second: str) -> float:
    """Return how much two values agree: 1 or 0, for concepts the share of those that both have among all."""
    if name == CONCEPTS:
        mine, theirs = set(first.split(_BETWEEN)), set(second.split(_BETWEEN))
        return len(mine & theirs) / len(mine | theirs)
    if name == AGE and first.endswith(_AGED) and second.endswith(_AGED):
        years = [value.removesuffix(_AGED) for value in (first, second)]
        if all(year.isdecimal() for year in years):
            return float(abs(int(years[0]) - int(years[1])) <= YEARS)
    return float(first == second)


@dataclass(frozen=True, eq=False)
class AgreementTable:
    """`agreement` of many cases with many others, by rows; made by `agreement_table`.

    Each of `columns` is one attribute: the place of its value in the list of its values, int64 (rows,), -1 without one,
    for the first cases and for the others; and the likeness of all values of the first to all of the others, float32.
    """

    shape: tuple[int, int]
    columns: tuple[tuple[NDArray[np.int64], NDArray[np.int64], Floats], ...]

    def rows(self, rows: slice | Sequence[int]) -> Floats:
        """Return float32 (q, others): the agreement of some of the first cases; NaN where they share no attribute."""
        number = len(np.arange(self.shape[0])[rows])
        size = (number, self.shape[1])
        likeness, shared = np.zeros(size, np.float32), np.zeros(size, np.float32)
        for first, second, table in self.columns:
            of_value = np.pad(table, ((0, 1), (0, 1)))  # the last row and column are those of missing values
            likeness += of_value[first[rows]][:, second]
            shared += (first[rows] >= 0)[:, None] & (second >= 0)
        with np.errstate(invalid="ignore"):
            return np.asarray(likeness / shared, np.float32)


def agreement_table(first: Sequence[Mapping[str, str]], second: Sequence[Mapping[str, str]]) -> AgreementTable:
    """Return the agreement of every case of `first` with every one of `second`, computed by rows when asked for."""
    names = dict.fromkeys(name for case in first for name in case)
    columns = []
    for name in names:
        mine, theirs = ([case.get(name, "") for case in cases] for cases in (first, second))
        places = tuple({value: at for at, value in enumerate(sorted({*values} - {""}))} for values in (mine, theirs))
        if not all(places):
            continue
        likeness = np.array([[_likeness(name, a, b) for b in places[1]] for a in places[0]], np.float32)
        codes = [
            np.array([place.get(value, -1) for value in values], np.int64)
            for place, values in zip(places, (mine, theirs), strict=True)
        ]
        columns.append((codes[0], codes[1], likeness))
    return AgreementTable((len(first), len(second)), tuple(columns))
