"""Tables of scores for working notes, as LaTeX and as Markdown: a row per system, a column per headline score.

Values are the strict scores; the interval stands in brackets behind each, and the best of several systems is bold.
Trivial answers come last, below a line.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from magic_cli import __version__
from magic_cli.data.issues import counted
from magic_cli.errors import printable
from magic_cli.records import TaskScores
from magic_cli.report.score_report import ScoreReport
from magic_cli.report.score_text import SCORE_NAMES, best_of, bounds, number, quality_scores

_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "–": "--",
    "[": "{[}",  # after a line of a table, a bracket or a star would be an argument of the line before
    "*": "{*}",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A score: its text, its interval's text ("" for none), and whether it is the best of several systems."""

    value: str
    interval: str
    best: bool = False


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """A task's table: its name, its caption, the heads of its columns, the rows of systems and of trivial answers."""

    task: str
    caption: str
    heads: tuple[str, ...]
    systems: tuple[tuple[str, tuple[Cell, ...]], ...]
    trivial: tuple[tuple[str, tuple[Cell, ...]], ...]


def score_tables(report: ScoreReport) -> tuple[ScoreTable, ...]:
    """Return a table for each task of a report that has a headline score; systems have their short names."""
    return tuple(_tables(report.for_people()))


def _tables(report: ScoreReport) -> Iterator[ScoreTable]:
    for name, task in report.tasks.items():
        systems = report.by_system(name)
        values = [quality_scores(scores, task) for scores in systems.values()]
        keys = [key for key in task.headline_scores if any(key in row for row in values)]
        if not keys:
            continue
        best = best_of(values) if len(values) > 1 else set()
        first = next(iter(systems.values()))
        rows = tuple(
            (system, tuple(_cell(scores, row.get(key), key, (line, key) in best) for key in keys))
            for line, ((system, scores), row) in enumerate(zip(systems.items(), values, strict=True))
        )
        trivial = tuple(
            (label, tuple(Cell(number(row.get(key)) or "–", "") for key in keys))
            for label, row in first.baselines.items()
        )
        heads = tuple(SCORE_NAMES.get(key, (key, ""))[0] for key in keys)
        yield ScoreTable(name, _caption(report, name, first, len(values) > 1), heads, rows, trivial)


def _cell(scores: TaskScores, value: float | None, key: str, is_best: bool) -> Cell:
    pair = bounds(scores.intervals.get(key))
    return Cell(number(value) or "–", f"[{pair[0]:.3f}, {pair[1]:.3f}]" if pair else "", is_best)


def _caption(report: ScoreReport, name: str, first: TaskScores, several: bool) -> str:
    """Return what the values are, over how many photos and encounters, and what the intervals are."""
    task = report.tasks[name]
    n = first.scores.get(task.count_score)
    encounters = (
        "" if first.encounter_sums is None else counted(len(first.encounter_sums.ids), "encounter", "encounters")
    )
    items = "" if n is None else f"{n:,.0f} {task.unit}"
    sizes = " of ".join(part for part in dict.fromkeys((items, encounters)) if part)
    kind = "Strict scores" if first.has_official else "Scores"
    resampled = f"95 % intervals from {report.settings.resamples:,} bootstrap resamples of whole encounters"
    bold = "; the best of each column is bold" if several else ""
    return f"{task.title.capitalize()} on split {report.split} ({sizes}). {kind} with {resampled}{bold}."


def markdown(tables: tuple[ScoreTable, ...]) -> str:
    """Return the tables as Markdown, as GitHub and Pandoc read it."""
    parts = []
    for table in tables:
        lines = [f"| {' | '.join(_marked(head) for head in ('System', *table.heads))} |"]
        lines.append(f"|{' :--- |' * (1 + len(table.heads))}")
        for name, cells in (*table.systems, *((f"trivial: {name}", cells) for name, cells in table.trivial)):
            shown = (f"**{c.value}** {c.interval}" if c.best else f"{c.value} {c.interval}" for c in cells)
            lines.append(f"| {_marked(name)} | {' | '.join(text.rstrip() for text in shown)} |")
        parts.append("\n".join([*lines, "", f"Table: {_marked(table.caption)}", ""]))
    return "\n".join(parts)


def latex(tables: tuple[ScoreTable, ...]) -> str:
    """Return the tables as LaTeX, for a document that loads the package booktabs."""
    parts = [f"% written by magic {__version__}; needs \\usepackage{{booktabs}}\n"]
    for table in tables:
        rows = [_row(name, cells) for name, cells in table.systems]
        rows += [r"\midrule"] if table.trivial else []
        rows += [_row(f"trivial: {name}", cells) for name, cells in table.trivial]
        columns = "l" * (1 + len(table.heads))
        body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _row("System", heads_of(table)), r"\midrule", *rows]
        body += [r"\bottomrule", r"\end{tabular}"]
        caption = rf"\caption{{{_escaped(table.caption)}}}"
        head = [r"\begin{table}", r"\centering", caption, rf"\label{{tab:{_label(table.task)}}}"]
        parts.append("\n".join([*head, *body, r"\end{table}", ""]))
    return "\n".join(parts)


def heads_of(table: ScoreTable) -> tuple[Cell, ...]:
    """Return the heads of a table's columns as cells."""
    return tuple(Cell(head, "") for head in table.heads)


def _row(name: str, cells: tuple[Cell, ...]) -> str:
    shown = []
    for cell in cells:
        value = rf"\textbf{{{_escaped(cell.value)}}}" if cell.best else _escaped(cell.value)
        shown.append(rf"{value} {{\footnotesize {cell.interval}}}" if cell.interval else value)
    return rf"{_escaped(name)} & {' & '.join(shown)} \\"


def _label(task: str) -> str:
    return re.sub("[^a-z0-9]+", "-", task.lower())


def _escaped(text: str) -> str:
    """Return text for LaTeX: it is set as it is, and no part of it is a command; two hyphens stay two."""
    shown = re.sub("-(?=-)", "-\0", printable(text))
    return "".join("{}" if letter == "\0" else _LATEX.get(letter, letter) for letter in shown)


def _marked(text: str) -> str:
    """Return text for a cell of Markdown: it is shown as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$&])", r"\\\1", printable(text))
