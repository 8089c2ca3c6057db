"""Balance on prepared/index.html: answers in words by split, values of attributes, and what has one value alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magic_cli.data.manifest import LabelCounts
from magic_cli.data.preparation.overview import AnswerBalance, AttributeBalance, Overview
from magic_cli.data.preparation.overview_counter import MOST_KINDS
from magic_cli.records import SPLITS

_SAID = 3  # options of an answer that a sentence names

Cell = tuple[int, float | None]
"""A number of cases of a split, and their share of those that could have it."""


@dataclass(frozen=True, slots=True)
class Answers:
    """One closed question: its most frequent answers by split, all options that occur, and those that do not.

    `said` is () for a split without answers; `more` are further options that occur in it.
    """

    parent: str
    question: str
    only: tuple[str, ...]
    said: tuple[tuple[tuple[tuple[str, float], ...], int], ...]
    rows: tuple[tuple[str, tuple[Cell, ...], bool], ...]
    never: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Values:
    """The values of an attribute, which several names may have: rows (value, cells by split), cases without one."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    without: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of a dataset, by how they are told.

    `listed` have a table each, `throughout` one value ("source", "ISIC 2017"), `others` so many that none is shown
    ("patient", "1,204"); `numbers` are the names of those with a histogram. `labels` are names of columns that say the
    same as the label.
    """

    listed: tuple[Values, ...] = ()
    throughout: tuple[tuple[str, str], ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    numbers: tuple[tuple[str, ...], ...] = ()
    labels: tuple[str, ...] = ()


def answers_of(overview: Overview) -> list[Answers]:
    """Return the questions, those that have one answer throughout at the end."""
    found = [_answers(parent, balance) for parent, balance in overview.answers.items()]
    return sorted(found, key=lambda answers: bool(answers.only))


def _answers(parent: str, balance: AnswerBalance) -> Answers:
    totals = [sum(balance.counts[split][k] for split in SPLITS) for k in range(len(balance.options))]
    ranked = sorted((k for k, total in enumerate(totals) if total), key=lambda k: -totals[k])
    untaught = set(balance.untaught())
    rows = tuple(
        (
            balance.options[k],
            tuple(_cell(balance.counts[split][k], balance.cases[split]) for split in SPLITS),
            balance.options[k] in untaught,
        )
        for k in ranked
    )
    never = tuple(option for option, total in zip(balance.options, totals, strict=True) if not total)
    return Answers(parent, balance.question, balance.only, tuple(_said(balance, s) for s in SPLITS), rows, never)


def _said(balance: AnswerBalance, split: str) -> tuple[tuple[tuple[str, float], ...], int]:
    """Return the most frequent options of a split with their shares, and how many more occur."""
    counts, cases = balance.counts[split], balance.cases[split]
    ranked = sorted((k for k, number in enumerate(counts) if number), key=lambda k: -counts[k])
    said = tuple((balance.options[k], counts[k] / cases) for k in ranked[:_SAID])
    return said, max(0, len(ranked) - _SAID)


def attributes_of(overview: Overview, labels: LabelCounts | None) -> Attributes:
    """Return the attributes; those whose values are told by another name have one table with all names."""
    label_counts = sorted(_numbers(row) for row in labels.counts.values()) if labels else None
    same: dict[object, list[str]] = {}
    for name, balance in overview.attributes.items():
        same.setdefault(_content(name, balance), []).append(name)
    listed, throughout, others, numbers, as_labels = [], [], [], [], []
    for names in same.values():
        balance = overview.attributes[names[0]]
        is_label = label_counts is not None and sorted(_numbers(row) for row in balance.counts.values()) == label_counts
        if is_label:
            as_labels += names
        elif balance.numbers is not None:
            numbers.append(tuple(names))
        elif len(balance.counts) == 1 and not sum(balance.without.values()):
            throughout += [(name, next(iter(balance.counts))) for name in names]
        elif balance.counts:
            listed.append(_values(names, balance, overview))
        else:
            kinds = f"{balance.kinds:,} or more" if balance.kinds >= MOST_KINDS else f"{balance.kinds:,}"
            others += [(name, kinds) for name in names]
    return Attributes(tuple(listed), tuple(throughout), tuple(others), tuple(numbers), tuple(as_labels))


def _content(name: str, balance: AttributeBalance) -> object:
    """Return what attributes that say the same have in common; names themselves where nothing is listed."""
    if balance.numbers is not None:
        return balance.numbers.edges, tuple(balance.numbers.counts.values()), _numbers(balance.without)
    if not balance.counts:
        return name
    return tuple((value, _numbers(row)) for value, row in balance.counts.items())


def _numbers(row: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(row[split] for split in SPLITS)


def _values(names: Sequence[str], balance: AttributeBalance, overview: Overview) -> Values:
    cases = {split: sum(row[split] for row in overview.photos_per_case.values()) for split in SPLITS}
    having = {split: cases[split] - balance.without[split] for split in SPLITS}
    rows = tuple(
        (value, tuple(_cell(row[split], having[split]) for split in SPLITS)) for value, row in balance.counts.items()
    )
    return Values(tuple(names), rows, _numbers(balance.without))


def _cell(number: int, of: int) -> Cell:
    return number, number / of if of else None
