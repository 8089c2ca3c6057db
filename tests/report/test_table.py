"""report/table.py: aligned lines for pipes, Rich on a terminal, marks that need no colour, no terminal commands."""

import sys

import pytest

from magic_cli.report.table import Table

TABLE = Table(
    "runs",
    ("", "dice", "why"),
    (("a", "0.5\n0.4-0.6", "plain"), ("longer", "0.75\n0.7-0.8", "best")),
    frozenset({(1, 1)}),
    frozenset({2}),
)


def test_plain_lines_are_aligned_and_marked() -> None:
    assert TABLE.plain() == [
        "runs",
        "             dice  why",
        "  a           0.5  plain",
        "          0.4-0.6",
        "  longer    0.75*  best",
        "          0.7-0.8",
    ]


def test_a_terminal_gets_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TABLE.lines() == TABLE.plain()  # pytest's stdout is no terminal
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    text = "\n".join(TABLE.lines())
    assert "0.75*" in text
    assert "─" in text


def test_data_cannot_drive_the_terminal_nor_rich() -> None:
    hostile = Table("t", ("", "[bold]x[/]"), (("\x1b[31mred\x07", "[link=http://e]1[/link]"),))
    for lines in (hostile.plain(), hostile.drawn()):
        text = "\n".join(lines)
        assert "\\x1b[31mred\\x07" in text
        assert "\x1b[31mred" not in text
        assert "[link=http://e]1[/link]" in text
        assert "[bold]x[/]" in text


def test_no_rows() -> None:
    assert Table("t", ("", "dice"), ()).plain() == ["t", "    dice"]


def test_no_escape_sequence_of_our_own_is_in_a_table() -> None:
    """`emit` shows those of data instead of sending them, and would show ours."""
    table = Table("t", ("", "score"), (("a", "1"), ("b", "2")), frozenset({(1, 1)}))
    assert "\x1b" not in "\n".join(table.drawn())
