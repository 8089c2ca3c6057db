"""`--map image=COL,label=COL,...`: which column of a table is what, checked against the table's own columns."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magic_cli.errors import ConfigError, did_you_mean, problem, shorten

KEYS = {  # what a column can be; the text is for people
    "image": "photo: a path or name below --data, several as a list or with |; required unless there is text",
    "label": "class; several columns joined by + are one-hot, of which the one with 1 names the class",
    "text": "what is said about the photo, in English; text.de, text.zh, ... in other languages",
    "id": "case; rows with the same id are one case with several photos (default: the image)",
    "group": "what must not be divided between training and evaluation (default: patient, else lesion)",
    "split": "train, valid (val, validation, dev) or test",
    "mask": "file of the lesion mask, or one per annotator",
    "licence": "licence of the row",
    "patient": "patient",
    "lesion": "lesion",
    "age": "age in years",
    "sex": "sex",
    "site": "body site",
    "skin_type": "Fitzpatrick skin type, 1 to 6 or I to VI",
    "source": "collection within the dataset",
    "label_path": "class path, widest class first: one column with >, or several joined by +",
    "concepts": "what is seen: a list, or several columns of 0 and 1 joined by +",
    "attribute": "further columns to keep under their own names; * for all others",
    "table": "name of the table below --data, where there are several",
}

_SEVERAL = frozenset({"image", "label", "text", "mask", "label_path", "concepts", "attribute"})

_LANGUAGE = re.compile(r"text\.[a-z]{2}")

_EXAMPLE = "--map image=COLUMN,label=COLUMN"


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Keys of `KEYS`, or "text.de", to the columns of a table, each of which exists; "table" is not among them."""

    columns: Mapping[str, tuple[str, ...]]

    def of(self, key: str) -> tuple[str, ...]:
        """Return the columns of a key, () without it."""
        return self.columns.get(key, ())

    def one(self, key: str) -> str:
        """Return the column of a key that has one at most, "" without it."""
        return next(iter(self.of(key)), "")

    @property
    def used(self) -> frozenset[str]:
        """All columns."""
        return frozenset(column for columns in self.columns.values() for column in columns)


def parse_mapping(words: Sequence[str]) -> dict[str, str]:
    """Return the keys and columns of `--map` options; each holds one or several KEY=COLUMN, separated by commas.

    A part with a comma in it stands in double quotation marks: '"text=Description, long",label=dx'.

    Raises:
        ConfigError: no "=", an unknown or repeated key, or no column; all of them at once.
    """
    mapping: dict[str, str] = {}
    lines = []
    parts = [words] if isinstance(words, str) else words
    for item in (item for word in parts for item in next(csv.reader([word], skipinitialspace=True), [])):
        key, equals, column = (part.strip() for part in item.partition("="))
        if not equals or not column:
            lines.append(problem("--map", repr(item), _EXAMPLE, "write KEY=COLUMN, separated by commas"))
        elif key not in KEYS and not _LANGUAGE.fullmatch(key):
            lines.append(
                problem("--map", f"key {key!r}", shorten(KEYS, 40), did_you_mean(key, KEYS, "use one of these"))
            )
        elif key in mapping:
            lines.append(problem("--map", f"{key} twice", "once", f"join columns with +, as {key}=A+B"))
        mapping[key] = column
    if lines:
        raise ConfigError(lines)
    return mapping


def resolve(mapping: Mapping[str, str], columns: Sequence[str], where: str) -> ColumnMap:
    """Return which of a table's columns a mapping names.

    A name that no column has as a whole is divided at its plus signs.

    Args:
        mapping: as `parse_mapping` returns it.
        columns: of the table.
        where: the table, for messages.

    Raises:
        ConfigError: columns that the table does not have, a line each, or several for a key that takes one.
    """
    found: dict[str, tuple[str, ...]] = {}
    lines = []
    for key, written in mapping.items():
        if key == "table" or (key == "attribute" and written == "*"):
            continue
        names = (written,) if written in columns else tuple(part.strip() for part in written.split("+"))
        lines += [_unknown(where, key, name, columns) for name in names if name not in columns]
        if len(names) > 1 and key not in _SEVERAL and not key.startswith("text."):
            lines.append(problem("--map", f"{key}={written}", "one column", f"choose one of {shorten(names)}"))
        found[key] = names
    if lines:
        raise ConfigError(lines)
    if mapping.get("attribute") == "*":
        used = {name for names in found.values() for name in names}
        found["attribute"] = tuple(name for name in columns if name and name not in used)
    return ColumnMap(found)


def _unknown(where: str, key: str, name: str, columns: Sequence[str]) -> str:
    expected = f"one of its columns: {shorten([column or '(unnamed)' for column in columns], 40)}"
    return problem(
        f"--map {key}={name}", f"no such column in {where}", expected, did_you_mean(name, columns, "choose one")
    )
