"""Trainings as rows of a table: best score with its interval, epochs, time, date, and which settings were changed."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from textwrap import wrap

from magic_cli.io.json_files import finite
from magic_cli.report.score_text import SCORE_NAMES
from magic_cli.report.table import Table

FINISHED, UNFINISHED, DAMAGED = "finished", "unfinished", "damaged"

_LEAST, _MOST = 24, 60  # characters of the column of changed settings, which is left out where there is less room

_SHORTEST = 12  # characters of a line of a run's name


@dataclass(frozen=True)
class Run:
    """A training, or a cross-validation as one.

    Attributes:
        folder: where it lies, as it was found.
        task: its name; "" if nothing in the folder tells it.
        state: FINISHED, UNFINISHED (it was interrupted, or still runs) or DAMAGED.
        folds: how many folds; 0 for a plain training.
        settings: all of them; {} if unknown.
        changed: those that differ from the preset as it is now; None if the preset is not here.
        monitor: the score that chose the best epoch; "" if unknown.
        score: its best value, of folds the pooled one; None if there is none.
        interval: its 95 % interval; None if it was not recorded.
        best_epoch: the epoch of it, from 1; None if there is none, and of folds.
        epochs: how many were trained; of folds, of the longest one.
        planned: how many the settings ask for.
        seconds: how long it took, of a resumed run its last call; None if not recorded.
        started: when, ISO 8601; of a run without a record, when its last file was written.
        history: rows of metrics.jsonl.
        notes: what could not be read.
    """

    folder: str
    task: str
    state: str
    folds: int = 0
    settings: Mapping[str, object] = field(default_factory=dict)
    changed: Mapping[str, object] | None = None
    monitor: str = ""
    score: float | None = None
    interval: tuple[float, float] | None = None
    best_epoch: int | None = None
    epochs: int = 0
    planned: int | None = None
    seconds: float | None = None
    started: str = ""
    history: Sequence[Mapping[str, object]] = ()
    notes: tuple[str, ...] = ()

    @property
    def preset(self) -> str:
        """The name of its preset; "?" if unknown."""
        return str(self.settings.get("preset") or "?")

    @property
    def changes(self) -> str:
        """The changed settings, as --set takes them; what is known instead if its preset is not here."""
        if self.changed is None:
            return f"preset {self.preset} is not here" if self.settings else ""
        return ", ".join(f"{name}={value}" for name, value in self.changed.items())

    def to_json(self) -> dict[str, object]:
        """Return an element of `runs` in schemas/runs.schema.json."""
        row = asdict(self) | {"preset": self.preset, "settings": dict(self.settings)}
        row["changed"] = None if self.changed is None else dict(self.changed)
        row["history"] = [dict(epoch) for epoch in self.history]
        clean: dict[str, object] = finite(row)
        return clean


def rows_of(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Return the cells of runs for people, without the changed settings; the heads are in HEAD."""
    return [
        (
            run.folder,
            run.task or "?",
            run.preset,
            number(run.score),
            "" if run.interval is None else f"{number(run.interval[0], 3)} to {number(run.interval[1], 3)}",
            epochs_of(run),
            duration(run.seconds),
            run.started[:16].replace("T", " "),
        )
        for run in runs
    ]


HEAD = ("run", "task", "preset", "best score", "95 % interval", "epoch", "time", "started")


def lines_of(runs: Sequence[Run], title: str) -> list[str]:
    """Return an aligned table that fits the terminal; on a narrow one the changed settings follow below."""
    width = shutil.get_terminal_size().columns
    cells = [_stacked(run, row) for run, row in zip(runs, rows_of(runs), strict=True)]
    head: tuple[str, ...] = ("run", "task", "preset", "best score", "epoch", "time", "started")
    columns = zip(head, *cells, strict=True)
    taken = sum(2 + max(len(line) for cell in column for line in cell.split("\n")) for column in list(columns)[1:])
    longest = max(len(run.folder) for run in runs)
    room = max(_SHORTEST, min(longest, width - taken - 3))
    cells = [
        ("\n".join([*_broken(run.folder, room), *_state(run)]), *row[1:]) for run, row in zip(runs, cells, strict=True)
    ]
    left = width - taken - room - 5
    if left >= _LEAST:
        pairs = zip(runs, cells, strict=True)
        cells = [(*row, "\n".join(wrap(run.changes, min(_MOST, left)))) for run, row in pairs]
        head = (*head, "changed settings")
    lines = Table(title, head, tuple(cells), words=frozenset({1, 2, 6, 7})).plain()
    if left < _LEAST:
        lines += [f"{run.folder}: {run.changes}" for run in runs if run.changes]
    names = {run.task: run.monitor for run in runs if run.task and run.monitor}
    lines += [f"best score of {task}: {SCORE_NAMES.get(name, (name, ''))[0]}" for task, name in names.items()]
    return lines


def _stacked(run: Run, row: tuple[str, ...]) -> tuple[str, ...]:
    """Return a row whose interval is below its score, the planned epochs below the trained, the hour below the day."""
    folder, task, preset, score, interval, epochs, time, started = row
    kind = f"\n{run.folds} folds" if run.folds else ""
    day, _, hour = started.partition(" ")
    below = "\n" + interval.replace(" to ", "–") if interval else ""
    return folder, task + kind, preset, score + below, epochs.replace(", planned ", "\nof "), time, f"{day}\n{hour}"


def _state(run: Run) -> list[str]:
    return [] if run.state == FINISHED else [run.state]


def _broken(text: str, width: int) -> list[str]:
    """Return a path in lines of at most `width` characters."""
    return [text[at : at + width] for at in range(0, len(text), width)]


def epochs_of(run: Run) -> str:
    """Return the best epoch, and how many there were, and of those planned where it has not finished."""
    planned = "" if run.state == FINISHED or run.planned is None else f", planned {run.planned}"
    return (f"{run.best_epoch} of {run.epochs}" if run.best_epoch is not None else str(run.epochs)) + planned


def number(value: float | None, digits: int = 4) -> str:
    """Return a score, a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def duration(seconds: float | None) -> str:
    """Return a time with the unit that fits.

    >>> duration(51), duration(754), duration(12240), duration(None)
    ('51 s', '13 min', '3.4 h', '–')
    """
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
