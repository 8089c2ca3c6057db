"""What a row says about its case, column by column as `--map` names them, in the words of the prepared format."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.sources import cells
from magic_cli.data.sources.csv_rows import Row
from magic_cli.data.sources.generic.mapping import ColumnMap
from magic_cli.data.sources.source import (
    AGE,
    CONCEPTS,
    LABEL_PATH,
    LESION,
    LONGEST_ATTRIBUTE,
    PATIENT,
    RAW,
    SEX,
    SITE,
    SKIN_TYPE,
    SOURCE,
    label_path,
)
from magic_cli.errors import DataError, problem, shorten

_SEXES = {
    **dict.fromkeys(("m", "male", "man"), "male"),
    **dict.fromkeys(("f", "female", "woman"), "female"),
}

_SKIN_TYPE = re.compile(
    r"(?:fitzpatrick|fst|skin|photo|type|[ _-])*(?P<type>[1-6]|12|34|56|I{1,3}|IV|VI?)(?:\.0)?", re.I
)

_ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6"}


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What a row says: fields as in `records.Case`; "" and None are absent."""

    texts: Mapping[str, Mapping[str, str]]
    label: str | None
    attributes: Mapping[str, str]
    group: str
    split: str
    licence: str


@dataclass
class FactReader:
    """Reads rows, and counts what it left out.

    Attributes:
        columns: which column is what.
        name: of the table, for messages.
    """

    columns: ColumnMap
    name: str
    issues: IssueLog
    _missing: Counter[str] = field(default_factory=Counter)
    _cut: Counter[str] = field(default_factory=Counter)
    _unclear: Counter[str] = field(default_factory=Counter)

    def read(self, row: Row) -> RowFacts:
        """Return what a row says.

        Raises:
            DataError: an unknown split, an id that Excel rounded, a list that is none; one line.
        """
        attributes = self._attributes(row)
        group = self._id(row, "group") or attributes.get(PATIENT) or attributes.get(LESION) or ""
        return RowFacts(
            self._texts(row), self._label(row), attributes, group, self._split(row), self._cell(row, "licence")
        )

    def note(self) -> None:
        """Say what was read as missing or shortened, once all rows are read."""
        total = self._missing.total()
        if total:
            words = ", ".join(f"{word} {number:,}" for word, number in self._missing.most_common(5))
            columns = shorten(self.columns.of("label"))
            verb = counted(total, "cell is", "cells are")
            self.issues.note(
                f"{self.name}: {verb} read as missing in {columns} ({words}); if one is a class, rename it"
            )
        for column, number in self._cut.items():
            verb = counted(number, "cell is", "cells are")
            self.issues.note(f"{self.name}: {verb} cut to {LONGEST_ATTRIBUTE:,} characters in {column}")
        for key, number in self._unclear.items():
            verb = counted(number, "cell of ", "cells of ")
            self.issues.note(f"{self.name}: {verb}{self.columns.one(key)} not read as {key}")

    def _cell(self, row: Row, key: str) -> str:
        return row.get(self.columns.one(key)) or "" if self.columns.of(key) else ""

    def _id(self, row: Row, key: str) -> str:
        return cells.identifier(self._cell(row, key), row.where) or ""

    def _texts(self, row: Row) -> dict[str, dict[str, str]]:
        texts: dict[str, str] = {}
        for key, columns in self.columns.columns.items():
            if key == "text" or key.startswith("text."):
                parts = dict.fromkeys(text for column in columns if (text := row.get(column)))
                if parts:
                    texts[key.partition(".")[2] or "en"] = "\n".join(parts)
        return {RAW: texts} if texts else {}

    def _label(self, row: Row) -> str | None:
        columns = self.columns.of("label")
        if len(columns) > 1:
            return self._one_hot(row, columns)
        if not columns:
            return None
        label = row.get(columns[0])
        if label is None:
            self._missing[row.cells.get(columns[0], "").strip() or "empty"] += 1
        return label

    def _one_hot(self, row: Row, columns: tuple[str, ...]) -> str | None:
        chosen = [column for column in columns if _is_one(row.get(column))]
        if len(chosen) > 1:
            got = f"{len(chosen)} classes ({shorten(chosen)})"
            self.issues.add_loss(problem(row.where, got, "one", "the row has no label; fix it"))
        elif not chosen:
            self._missing["no class with 1"] += 1
        return chosen[0] if len(chosen) == 1 else None

    def _split(self, row: Row) -> str:
        return split_word(self._cell(row, "split"), row.where)

    def _attributes(self, row: Row) -> dict[str, str]:
        own = {column: text for column in self.columns.of("attribute") if (text := row.get(column)) is not None}
        canonical = {
            AGE: self._normal(row, AGE, age_of),
            SEX: self._cell(row, SEX) and sex_of(self._cell(row, SEX)),
            SITE: self._cell(row, SITE),
            SKIN_TYPE: self._normal(row, SKIN_TYPE, skin_type_of),
            SOURCE: self._cell(row, SOURCE),
            PATIENT: self._id(row, PATIENT),
            LESION: self._id(row, LESION),
            LABEL_PATH: self._label_path(row),
            CONCEPTS: self._concepts(row),
        }
        named = own | {name: value for name, value in canonical.items() if value}
        for name, value in named.items():
            if len(value) > LONGEST_ATTRIBUTE:
                self._cut[name] += 1
        return {name: value[:LONGEST_ATTRIBUTE] for name, value in named.items()}

    def _normal(self, row: Row, key: str, normal: Callable[[str], str]) -> str:
        cell = self._cell(row, key)
        value = normal(cell) if cell else ""
        if cell and not value:
            self._unclear[key] += 1
        return value

    def _label_path(self, row: Row) -> str:
        levels = [level for column in self.columns.of("label_path") if (level := row.get(column))]
        if len(levels) == 1:
            levels = [level.strip() for level in levels[0].split(">")]
        return label_path(levels)

    def _concepts(self, row: Row) -> str:
        columns = self.columns.of("concepts")
        if len(columns) > 1:
            return "; ".join(column for column in columns if _is_one(row.get(column)))
        cell = self._cell(row, "concepts")
        return "; ".join(cells.texts(cell, row.where)) if cell.startswith(("[", "(", "{")) else cell


def split_word(word: str, where: str) -> str:
    """Return "train", "valid" or "test" for their usual words in any case, "" for "".

    Raises:
        DataError: any other word.
    """
    if word and word.casefold() not in cells.SPLIT_WORDS:
        raise DataError(problem(where, f"split {word!r:.40}", "train, valid or test", "fix the row; left out"))
    return cells.SPLIT_WORDS[word.casefold()] if word else ""


def age_of(text: str) -> str:
    """Return an age in years as text, "" if it is none.

    >>> age_of("45.0"), age_of("45,5"), age_of("85+"), age_of("unknown")
    ('45', '45.5', '85', '')
    """
    value = cells.number(text.removesuffix("+"))
    return f"{value:g}" if value is not None and 0 <= value <= 130 else ""


def sex_of(text: str) -> str:
    """Return "male" or "female" for their usual spellings; other words in lower case."""
    return _SEXES.get(text.casefold(), text.casefold())


def skin_type_of(text: str) -> str:
    """Return a Fitzpatrick type "1" to "6", or a pair as "12"; "" if it is none, as -1.

    >>> skin_type_of("FST3"), skin_type_of("IV"), skin_type_of("2.0"), skin_type_of("-1")
    ('3', '4', '2', '')
    """
    match = _SKIN_TYPE.fullmatch(text)
    found = match["type"].casefold() if match else ""
    return _ROMAN.get(found, found) if not text.startswith("-") else ""


def _is_one(cell: str | None) -> bool:
    return cells.number(cell) == 1 or cells.flag(cell) is True
