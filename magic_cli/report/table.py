"""A table of short texts, drawn by Rich on a terminal and as plain aligned lines elsewhere.

Files and pipes need plain text, and importing Rich costs a fifth of the time of scoring.
"""

import sys
from dataclasses import dataclass
from itertools import zip_longest

from magic_cli.errors import printable

_MARK = "*"


@dataclass(frozen=True)
class Table:
    """Rows of cells under a heading; the first column is a name, the others are numbers unless in `words`.

    `marked` are (row, column) of cells to emphasise: with an asterisk. A cell may
    have several lines.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[tuple[int, int]] = frozenset()
    words: frozenset[int] = frozenset()

    def lines(self) -> list[str]:
        """Return the table for this process's stdout: Rich on a terminal, plain elsewhere."""
        return self.drawn() if sys.stdout.isatty() else self.plain()

    def _cell(self, row: int, column: int) -> list[str]:
        """Return the lines of a cell; of a marked one, the first ends in an asterisk."""
        first, *rest = self.rows[row][column].split("\n")
        return [printable(line) for line in (first + _MARK if (row, column) in self.marked else first, *rest)]

    def plain(self) -> list[str]:
        """Return aligned lines without colour, as wide as they need to be."""
        lines = [[printable(name) for name in self.head]]
        for number in range(len(self.rows)):
            cells = [self._cell(number, column) for column in range(len(self.head))]
            lines += [list(line) for line in zip_longest(*cells, fillvalue="")]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        left_aligned = {0, *self.words}
        padded = [
            [
                cell.ljust(w) if i in left_aligned else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            ]
            for line in lines
        ]
        return [self.title, *(("  " + "  ".join(line)).rstrip() for line in padded)]

    def drawn(self) -> list[str]:
        """Return the lines that Rich draws for this terminal, without colour."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(title=Text(self.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for column, name in enumerate(self.head):
            justify = "left" if column == 0 or column in self.words else "right"
            table.add_column(Text(printable(name)), justify=justify, no_wrap=column not in self.words)  # type: ignore[arg-type]
        for number in range(len(self.rows)):
            cells = ["\n".join(self._cell(number, column)) for column in range(len(self.head))]
            table.add_row(*map(Text, cells))
        console = Console(color_system=None)  # what prints results shows escape sequences instead of sending them
        with console.capture() as capture:
            console.print(table)
        return capture.get().rstrip("\n").split("\n")
