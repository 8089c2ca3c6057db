"""Confusions of parent questions as heat tables, and the encounters behind each cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from magic_cli.report.gallery.photos import Photo, PhotoStore

Row = Mapping[str, Any]

_MOST_CONFUSIONS = 4

_MOST_ENCOUNTERS = 8  # behind a cell; per_item.csv has all of them


@dataclass(frozen=True, slots=True)
class Encounter:
    """An encounter behind a cell: its id and photos, and the options of gold and answer in words."""

    name: str
    photos: tuple[Photo, ...]
    gold: str
    answer: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of wrong answers that can be opened: an id in the page, what is confused, and its encounters.

    `more` is the number of encounters that are not listed.
    """

    key: str
    words: str
    encounters: tuple[Encounter, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """Confusion of a parent question as a heat table of the options that occur.

    Attributes:
        parent, question, accuracy, n: of its row in the report.
        names: of the options; the last entry is None and stands for no counterpart.
        rows, columns: indices of the options that occur.
        table: counts, gold by answer. shares: the same, each row divided by its sum.
        last: index of "no counterpart".
        absent: names of the options that are never right and never answered.
        pairs: count, gold and answer of the most frequent confusions.
        cells: wrong cells by gold and answer, those with encounters.
    """

    parent: str
    question: str
    accuracy: float | None
    n: int
    names: list[str | None]
    rows: list[int]
    columns: list[int]
    table: list[list[float]]
    shares: list[list[float]]
    last: int
    absent: list[str | None]
    pairs: list[tuple[float, int, int]]
    cells: Mapping[tuple[int, int], Cell]

    @property
    def has_errors(self) -> bool:
        """Whether anything is confused, missed or added."""
        return any(n > 0 for g, line in enumerate(self.table) for p, n in enumerate(line) if g != p)


def confusions(rows: Sequence[Row], items: Sequence[Row], store: PhotoStore) -> list[Confusion]:
    """Return the confusion of each parent question that has one.

    Args:
        rows: `TaskScores.summary_rows`. items: `TaskScores.per_item`, for the encounters behind the cells.
        store: the page's photos.
    """
    by_parent: dict[str, list[Row]] = {}
    for item in items:
        if "parent" in item and item["credit"] < 1:
            by_parent.setdefault(item["parent"], []).append(item)
    tables = [row for row in rows if row.get("confusion")]
    return [_confusion(row, by_parent.get(row["parent"], ()), number, store) for number, row in enumerate(tables)]


def _confusion(row: Row, items: Sequence[Row], number: int, store: PhotoStore) -> Confusion:
    table, options = row["confusion"], [*row["options"], "no answer"]
    last = len(table) - 1
    names = [options[k] if k < len(row["options"]) else str(k) for k in range(last)] + [None]
    used = [k for k in range(last) if any(table[k]) or any(line[k] for line in table)]
    total = [sum(line) for line in table]
    pairs = sorted(
        ((n, g, p) for g, line in enumerate(table) for p, n in enumerate(line) if g != p and n >= 1),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    return Confusion(
        parent=row["parent"],
        question=row["question"],
        accuracy=row["accuracy"],
        n=row["n"],
        names=names,
        rows=[k for k in (*used, last) if k < last or any(table[last])],
        columns=[k for k in (*used, last) if k < last or any(line[last] for line in table)],
        table=table,
        shares=[[n / total[g] if total[g] else 0 for n in line] for g, line in enumerate(table)],
        last=last,
        absent=[names[k] for k in range(last) if k not in used],
        pairs=pairs[:_MOST_CONFUSIONS],
        cells=_cells(items, names, number, store),
    )


def _cells(
    items: Sequence[Row], names: Sequence[str | None], number: int, store: PhotoStore
) -> dict[tuple[int, int], Cell]:
    """Return the encounters behind each wrong cell: of an encounter, each missed option meets each false one."""
    last = len(names) - 1
    found: dict[tuple[int, int], list[Row]] = {}
    for item in items:
        gold, answer = _indices(item["gold"], last), _indices(item["predicted"], last)
        lost, false = gold - answer, answer - gold
        pairs = [(g, p) for g in sorted(lost) for p in sorted(false)]
        pairs += [(g, last) for g in sorted(lost) if len(false) < len(lost)]
        pairs += [(last, p) for p in sorted(false) if len(lost) < len(false)]
        for pair in pairs:
            found.setdefault(pair, []).append(item)
    return {
        pair: Cell(
            key=f"c{number}-{pair[0]}-{pair[1]}",
            words=_words(pair, names),
            encounters=tuple(_encounter(item, names, store) for item in rows[:_MOST_ENCOUNTERS]),
            more=max(0, len(rows) - _MOST_ENCOUNTERS),
        )
        for pair, rows in found.items()
    }


def _indices(text: str, last: int) -> set[int]:
    """Return the options in a cell of per_item.csv; "?" stands for an invalid one."""
    return {int(word) for word in text.split() if word.isdigit() and int(word) < last}


def _words(pair: tuple[int, int], names: Sequence[str | None]) -> str:
    gold, answer = names[pair[0]], names[pair[1]]
    if gold is None:
        return f"“{answer}” added"
    return f"“{gold}” missed" if answer is None else f"“{gold}” taken for “{answer}”"


def _encounter(item: Row, names: Sequence[str | None], store: PhotoStore) -> Encounter:
    last = len(names) - 1
    gold, answer = (
        ", ".join(str(names[k]) for k in sorted(_indices(item[key], last))) or "nothing"
        for key in ("gold", "predicted")
    )
    return Encounter(item["encounter"], store.of_case(item["encounter"]), gold, answer)
