"""Cells of tables: missing ones, lists and dicts as text, flags and numbers; no cell is ever evaluated."""

import ast
import math
from pathlib import Path

from magic_cli.errors import DataError, problem

_MISSING = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>", "nat", "#n/a"})

_YES = frozenset({"1", "1.0", "true", "yes", "y", "t"})

_NO = frozenset({"0", "0.0", "false", "no", "n", "f"})

_LONGEST = 100_000  # characters of a list or dict


def present(cell: str | None) -> str | None:
    """Return a cell without blanks at its ends; None if it is missing, such as "" or "nan".

    >>> present(" itch "), present("NaN"), present(None)
    ('itch', None, None)
    """
    text = "" if cell is None else cell.strip()
    return None if text.casefold() in _MISSING else text


def literal(cell: str | None, where: str) -> object:
    """Return the list, dict, tuple, number or text that a cell writes as a Python literal; None if it is missing.

    Raises:
        DataError: it is anything else, such as a call; one line.
    """
    text = present(cell)
    if text is None:
        return None
    if len(text) > _LONGEST:
        raise DataError(problem(where, f"{len(text):,} characters", "a list of at most 100,000", "fix the cell"))
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        expected = "a list or dict of texts and numbers, as Python or JSON writes it"
        raise DataError(problem(where, "something else", expected, "fix the cell")) from None


def texts(cell: str | None, where: str) -> tuple[str, ...]:
    """Return the texts of a list cell such as "['a', 'b']", missing ones left out; () if the cell is missing.

    Raises:
        DataError: it is no list of texts or numbers.
    """
    value = literal(cell, where)
    if value is None:
        return ()
    if not isinstance(value, list | tuple | set) or not all(isinstance(item, str | int | float) for item in value):
        raise DataError(problem(where, "no list", "a list of texts such as ['a', 'b']", "fix the cell"))
    return tuple(text for item in value if (text := present(str(item))) is not None)


def weights(cell: str | None, where: str) -> dict[str, float]:
    """Return the numbers of a dict cell such as "{'Eczema': 0.67}"; {} if the cell is missing.

    Raises:
        DataError: it is no dict of text to finite number.
    """
    value = literal(cell, where)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(
        isinstance(key, str) and isinstance(item, int | float) and math.isfinite(item) for key, item in value.items()
    ):
        raise DataError(problem(where, "no dict", "a dict such as {'Eczema': 0.67}", "fix the cell"))
    return {key: float(item) for key, item in value.items()}


def flag(cell: str | None) -> bool | None:
    """Return a yes or no cell in any spelling; None if it is missing or says neither, such as "UNK"."""
    text = (present(cell) or "").casefold()
    return True if text in _YES else False if text in _NO else None


def number(cell: str | None) -> float | None:
    """Return a finite number; None if it is missing or no number."""
    try:
        value = float(present(cell) or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def image_id_of(written: str) -> str:
    """Return the id of a photo that a table names by a path: its name without suffix, made fit to be a file's name."""
    from magic_cli.data.names import PHOTO_SUFFIXES, composed

    name = composed(written.replace("\\", "/").rstrip("/").rpartition("/")[2])
    suffix = Path(name).suffix
    stem = name[: -len(suffix)] if suffix.casefold() in PHOTO_SUFFIXES else name
    return "".join(char if char.isprintable() else "_" for char in stem)[:200]
