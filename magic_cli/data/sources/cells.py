"""Cells of tables: missing ones, lists and dicts as text, flags and numbers; no cell is ever evaluated."""

import ast
import io
import json
import math
import os
import re
import tokenize
import warnings
from itertools import pairwise

from magic_cli.errors import DataError, problem

# what pandas reads as missing, and what R, SQL and Excel write
MISSING = frozenset(
    {
        *("", "nan", "-nan", "nat", "none", "null", "na", "n/a", "<na>", "#n/a", "#na", "#n/a n/a"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
    }
)

SPLIT_WORDS = {  # in lower case
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev", "development"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}

_LONGEST_MISSING = max(map(len, MISSING))

_YES = frozenset({"1", "1.0", "true", "yes", "y", "t"})

_NO = frozenset({"0", "0.0", "false", "no", "n", "f"})

_LONGEST = 100_000  # characters of a list or dict

_NAMES = {"nan": math.nan, "NaN": math.nan, "null": None, "true": True, "false": False}

_BETWEEN = re.compile(r"""["']\s*[a-zA-Z]?["']""")  # where two texts may follow each other without a comma

_HUGE = re.compile(r"0[xXoObB][0-9a-fA-F_]{1000}")

_ROUNDED = re.compile(r"[+-]?\d(?:[.,]\d+)?[eE]\+\d+")

_NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)


def present(cell: str | None) -> str | None:
    """Return a cell without blanks at its ends; None if it is missing, such as "" or "nan".

    >>> present(" itch "), present("NaN"), present(None)
    ('itch', None, None)
    """
    if cell is None:
        return None
    text = cell.strip()
    return None if len(text) <= _LONGEST_MISSING and text.casefold() in MISSING else text


def literal(cell: str | None, where: str) -> object:
    """Return the list, dict, tuple, number or text that a cell writes in JSON or as a Python literal; None if missing.

    Raises:
        DataError: it is anything else, such as a call; one line.
    """
    text = present(cell)
    if text is None:
        return None
    if len(text) > _LONGEST:
        raise DataError(problem(where, f"{len(text):,} characters", "a list of at most 100,000", "fix the cell"))
    try:
        return _parsed(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError, tokenize.TokenError):
        expected = "a list or dict of texts and numbers, as Python or JSON writes it"
        raise DataError(problem(where, "something else", expected, "fix the cell")) from None


def _parsed(text: str) -> object:
    if text.startswith(("[", "{", '"')):
        try:
            return json.loads(text)
        except ValueError:
            pass
    if _HUGE.search(text):
        raise ValueError("a number of more digits than Python writes")
    if _BETWEEN.search(text):
        _refuse_joined(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on "\d" in a text, which Python keeps as it is
        tree = ast.parse(text, mode="eval")
        return ast.literal_eval(_Names().visit(tree))


def _refuse_joined(text: str) -> None:
    """Refuse ['a' 'b'], as numpy prints two texts: Python would read one."""
    kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    kinds = [kind for kind in kinds if kind not in (tokenize.NL, tokenize.NEWLINE)]
    if any(pair == (tokenize.STRING, tokenize.STRING) for pair in pairwise(kinds)):
        raise ValueError("texts without a comma between them")


class _Names(ast.NodeTransformer):
    """Values that Python writes as names, and pandas or JSON put into lists: nan, null, true, false; sets as lists."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.copy_location(ast.Constant(_NAMES[node.id]), node) if node.id in _NAMES else node

    def visit_Set(self, node: ast.Set) -> ast.expr:
        items = [self.visit(item) for item in node.elts]  # in their order, which a set would lose
        return ast.copy_location(ast.List(items, ast.Load()), node)


def texts(cell: str | None, where: str) -> tuple[str, ...]:
    """Return the texts of a list cell such as "['a', 'b']", missing ones left out; () if the cell is missing.

    Raises:
        DataError: it is no list of texts or numbers.
    """
    value = literal(cell, where)
    if value is None:
        return ()
    items = [_item(item) for item in value] if isinstance(value, list | tuple) else [None]
    if None in items:
        raise DataError(problem(where, "no list", "a list of texts such as ['a', 'b']", "fix the cell"))
    return tuple(text for item in items if (text := present(item)) is not None)


def _item(item: object) -> str | None:
    """Return a text or number of a list as text, "" for a missing one, None for anything else."""
    if item is None:
        return ""
    return str(item) if isinstance(item, str | int | float) else None


def weights(cell: str | None, where: str) -> dict[str, float]:
    """Return the numbers of a dict cell such as "{'Eczema': 0.67}"; {} if the cell is missing.

    Raises:
        DataError: it is no dict of text to finite number.
    """
    value = literal(cell, where)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) and _is_finite(item) for key, item in value.items()):
        raise DataError(problem(where, "no dict", "a dict such as {'Eczema': 0.67}", "fix the cell"))
    return {key: float(item) for key, item in value.items()}


def _is_finite(item: object) -> bool:
    try:
        return isinstance(item, int | float) and math.isfinite(item)
    except OverflowError:  # an int beyond all floats
        return False


def flag(cell: str | None) -> bool | None:
    """Return a yes or no cell in any spelling; None if it is missing or says neither, such as "UNK"."""
    text = (present(cell) or "").casefold()
    return True if text in _YES else False if text in _NO else None


def number(cell: str | None) -> float | None:
    """Return a finite number, with a decimal point or comma; None if it is missing or no number.

    >>> number("45.5"), number("45,5"), number("about 45"), number("1,234.5")
    (45.5, 45.5, None, None)
    """
    text = present(cell) or ""
    value = float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None


def identifier(cell: str | None, where: str) -> str | None:
    """Return an id as it is written, leading zeros and all; None if it is missing.

    Raises:
        DataError: it was a long number that Excel rounded, such as 1.23457E+18.
    """
    text = present(cell)
    if text is not None and _ROUNDED.fullmatch(text):
        remedy = "export the table once more, from its source or with this column as text"
        raise DataError(problem(where, f"id {text:.40}, as Excel rounds a long number", "the whole id", remedy))
    return text


def image_id_of(written: str) -> str:
    """Return the id of a photo that a table names by a path: its name without suffix, made fit to be a file's name."""
    from magic_cli.data.names import PHOTO_SUFFIXES, composed

    name = composed(written.replace("\\", "/").rstrip("/").rpartition("/")[2])
    stem, suffix = os.path.splitext(name)  # noqa: PTH122  there may be hundreds of thousands
    stem = stem if suffix.casefold() in PHOTO_SUFFIXES else name
    return (stem if stem.isprintable() else "".join(char if char.isprintable() else "_" for char in stem))[:200]
