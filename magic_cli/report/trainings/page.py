"""The page of several trainings: their curves in one plot, their scores, and which settings differ between them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from magic_cli.report import page
from magic_cli.report.plots import Line, lines
from magic_cli.report.score_text import SCORE_NAMES
from magic_cli.report.short_names import short_names, without_folders, without_place
from magic_cli.report.trainings.table import HEAD, Run, rows_of

MOST_CURVES = 18  # of a plot: no more can be told apart


@dataclass(frozen=True)
class TaskPart:
    """The runs of a task: two plots, and a table of the settings in which they differ."""

    task: str
    score: Markup
    loss: Markup
    left_out: int
    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    same: int


def is_page(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is such a page."""
    return b'<meta name="generator" content="magic ' in head and bool(re.search(rb"<title>\d+ trainings</title>", head))


def html(listed: Sequence[Run]) -> str:
    """Return the page of runs; nothing in it is a photo, a text or an id of a patient, or an absolute path."""
    names = [run.folder for run in listed]
    local = [without_folders(name, [name]) for name in names]
    short = short_names(list(dict.fromkeys(names)))
    shown = local if len(set(local)) == len(short) else [short[name] for name in names]
    changed = (None if run.changed is None else _without_places(run.changed) for run in listed)
    parts = zip(listed, shown, changed, strict=True)
    runs = [replace(run, folder=name, changed=row) for run, name, row in parts]
    tasks = list(dict.fromkeys(run.task for run in runs if run.task))
    rows = [(row, run.changes, run.state, run.folds) for run, row in zip(runs, rows_of(runs), strict=True)]
    return page.render(
        "runs.html.jinja",
        head=(*HEAD, "changed settings"),
        rows=rows,
        parts_of_tasks=[_part([run for run in runs if run.task == task]) for task in tasks],
        notes=[note for run in runs for note in run.notes],
    )


def _part(runs: Sequence[Run]) -> TaskPart:
    drawn = [run for run in runs if run.history][:MOST_CURVES]
    monitor = next((run.monitor for run in runs if run.monitor), "")
    name = SCORE_NAMES.get(monitor, (monitor, ""))[0]
    curves = [_curve(run, run.monitor, run.best_epoch) for run in drawn]
    losses = [_curve(run, "loss", None) for run in drawn]
    known = [run for run in runs if run.settings]
    differing, same = _differing(known)
    return TaskPart(
        task=runs[0].task,
        score=lines(curves, title=f"{name}, validation samples", x_axis="epoch", y_axis=name),
        loss=lines(losses, title="Training loss", x_axis="epoch", y_axis="loss"),
        left_out=sum(bool(run.history) for run in runs) - len(drawn),
        names=tuple(run.folder for run in known),
        rows=differing,
        same=same,
    )


def _curve(run: Run, key: str, best: int | None) -> Line:
    points = []
    for row in run.history:
        epoch, value = row.get("epoch"), row.get(key)
        if isinstance(epoch, int) and isinstance(value, int | float):
            points.append((float(epoch), float(value)))
    at = next((number for number, (epoch, _) in enumerate(points) if epoch == best), None)
    return Line(run.folder, points, at)


def _differing(runs: Sequence[Run]) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], int]:
    """Return the settings that are not the same in all runs, with their values, and how many are the same."""
    names = list(dict.fromkeys(name for run in runs for name in run.settings))
    rows = [(name, tuple(_shown(run.settings.get(name)) for run in runs)) for name in names]
    differing = tuple((name, tuple(map(without_place, row))) for name, row in rows if len(set(row)) > 1)
    return differing, len(rows) - len(differing)


def _without_places(settings: Mapping[str, object]) -> dict[str, object]:
    return {name: without_place(value) if isinstance(value, str) else value for name, value in settings.items()}


def _shown(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
