"""errors.py: exit codes as documented, and lines that data cannot break or turn into terminal commands."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from magic_cli import errors
from magic_cli.errors import DataError, MagicError, first_lines, printable, problem, shorten

CODES = {
    "MagicError": 1,
    "PeerError": 1,
    "UsageError": 2,
    "DataError": 3,
    "EmptySplit": 3,
    "ResourceError": 3,
    "ConfigError": 3,
    "CheckpointError": 3,
    "SubmissionError": 4,
    "WeightsError": 5,
    "ExtraError": 6,
    "Interrupted": 130,
}


def test_every_error_has_its_documented_exit_code() -> None:
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert {name: kind.exit_code for name, kind in kinds.items() if issubclass(kind, Exception)} == CODES
    assert all(issubclass(kinds[name], MagicError) for name in CODES)


def test_the_table_of_the_docstring_is_true() -> None:
    table = dict(re.findall(r"^\W*(\w+) +(\d+)  ", errors.__doc__ or "", re.MULTILINE))
    assert {name: int(code) for name, code in table.items()} == CODES


def test_problem_has_the_documented_form() -> None:
    assert (
        problem(Path("a/b.json"), 3, "an index in 0..2", "fix it")
        == "a/b.json: got 3, expected an index in 0..2; fix it"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("瘙痒 é ß 😀", "瘙痒 é ß 😀"),
        ("two\nlines\r", "two\\x0alines\\x0d"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("bell\x07 null\x00", "bell\\x07 null\\x00"),
        ("right\u202eto left", "right\\x202eto left"),
        (None, "None"),
    ],
)
def test_printable(text: object, shown: str) -> None:
    assert printable(text) == shown


@settings(deadline=None, derandomize=True)
@given(st.text())
@example("\ud800")
def test_a_line_stays_a_line(text: str) -> None:
    line = problem(text, text, text, text)
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    line.encode()  # no half surrogate is left, which a terminal could not take


def test_problems_are_lines_from_one_text_or_many() -> None:
    assert DataError("one").problems == ("one",)
    many = DataError(line for line in ["first", "sec\nond"])  # type: ignore[arg-type]
    assert many.problems == ("first", "sec\\x0aond")
    assert str(many) == "first\nsec\\x0aond"


def test_lists_name_the_first_and_say_that_there_are_more() -> None:
    assert shorten([]) == ""
    assert shorten(str(n) for n in range(10)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert shorten(map(str, range(4)), most=3) == "0, 1, 2, ..."
    assert shorten(map(str, range(4)), most=3, total=True) == "0, 1, 2, ... 4 in all"
    assert shorten(map(str, range(3)), most=3, total=True) == "0, 1, 2"
    assert first_lines(["a", "b"], "f", most=2) == ["a", "b"]
    assert first_lines(["a", "b", "c", "d"], "f", most=2) == ["a", "b", "f: 2 more problems of this kind"]
