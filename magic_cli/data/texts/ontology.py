"""A hierarchy of diseases from a file: which classes a disease belongs to, from the widest on."""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from magic_cli.data.texts.terms import words_of
from magic_cli.errors import DataError, kind_in_words, problem
from magic_cli.io.json_files import MAX_JSON, read_json
from magic_cli.io.regular_file import open_regular

_DEEPEST = 50  # levels

_EXPECTED = 'JSON as {"class": {"disease": {}}} or {"disease": "class"}, or a CSV with the columns child and parent'

_SEPARATOR = re.compile(r"\s*(?:>|→|\||\u203a|->|;|\s/\s)\s*")


class Ontology:
    """Names and their paths, found whatever the case, plural and hyphens of a name."""

    def __init__(self, paths: Mapping[str, tuple[str, ...]]) -> None:
        """Take the path of each name, which ends with it."""
        self._paths: dict[tuple[str, ...], tuple[str, ...]] = {}
        for name, path in paths.items():
            self._paths.setdefault(_key(name), path)

    def path(self, name: str) -> tuple[str, ...]:
        """Return the classes of a disease from the widest on, and its own name last; () if it is unknown."""
        return self._paths.get(_key(name), ())


def _key(name: str) -> tuple[str, ...]:
    return tuple(words_of(name).keys) or (name.strip(),)


def parts_of(path: str) -> tuple[str, ...]:
    """Return the classes of a path such as "malignant > malignant epidermal > bcc"."""
    return tuple(part for part in _SEPARATOR.split(path.strip()) if part)


def read_ontology(path: Path) -> Ontology:
    """Read a hierarchy: nested objects or lists, an object of child to parent, or a table of child and parent.

    Raises:
        DataError: it is missing, damaged, none of these forms, or goes in a circle; one line.
    """
    if path.suffix.casefold() in (".csv", ".tsv", ".txt"):
        return Ontology(_paths(dict(_pairs(path)), path))
    value = read_json(path)
    if isinstance(value, dict) and value and all(isinstance(parent, str | None) for parent in value.values()):
        return Ontology(_paths({child: parent or "" for child, parent in value.items()}, path))
    if not isinstance(value, dict | list) or not value:
        raise DataError(problem(path, kind_in_words(type(value)) if value else "nothing", _EXPECTED, "fix the file"))
    return Ontology({names[-1]: names for names in _nested(value, (), path)})


def _nested(value: object, above: tuple[str, ...], path: Path, depth: int = 0) -> Iterator[tuple[str, ...]]:
    """Yield the path of every name below a class."""
    if depth > _DEEPEST:
        raise DataError(problem(path, f"more than {_DEEPEST} levels", "fewer", "is it the right file?"))
    if isinstance(value, dict):
        for name, below in value.items():
            if not name.strip():
                raise DataError(problem(path, "an empty name", _EXPECTED, "name it"))
            yield (*above, name.strip())
            yield from _nested(below, (*above, name.strip()), path, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _nested(item, above, path, depth + 1)
    elif isinstance(value, str):
        if value.strip():
            yield (*above, value.strip())
    elif value is not None:
        raise DataError(problem(path, f"{kind_in_words(type(value))} as a name", _EXPECTED, "fix the file"))


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with open_regular(path) as file:
            data = file.read(MAX_JSON)
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError):
        raise DataError(problem(path, "a file that cannot be read", _EXPECTED, "save it as UTF-8")) from None
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error as error:
        raise DataError(problem(path, str(error), _EXPECTED, "fix the file")) from None
    header = [cell.strip().casefold() for cell in rows[0]] if rows else []
    if "child" not in header or "parent" not in header:
        raise DataError(problem(path, "no columns child and parent", _EXPECTED, "name the columns"))
    child, parent = header.index("child"), header.index("parent")
    for number, row in enumerate(rows[1:], 2):
        if not any(row):
            continue
        if len(row) != len(header) or not row[child].strip():
            raise DataError(problem(f"{path}:{number}", f"{len(row)} cells", "a child and its parent", "fix the row"))
        yield row[child].strip(), row[parent].strip()


def _paths(parents: Mapping[str, str], path: Path) -> dict[str, tuple[str, ...]]:
    """Return the path of every child and every parent."""
    paths = {}
    for name in {**parents, **dict.fromkeys(filter(None, parents.values()))}:
        names = [name]
        while parent := parents.get(names[-1], "").strip():
            names.append(parent)
            if parent in names[:-1] or len(names) > _DEEPEST:
                raise DataError(problem(path, "a circle of parents", _EXPECTED, "fix the rows of one of its names"))
        paths[name] = tuple(reversed(names))
    return paths
