"""A training while it runs, as a page: its curves, redrawn after each epoch, and the time that is left.

The page reloads itself while the training runs, by a line of its head and without any script; it holds scores and
settings, and nothing of the data. Of several processes, the main one alone writes it.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magic_cli.config import Config
from magic_cli.errors import Interrupted, MagicError
from magic_cli.io.files import write_text
from magic_cli.io.progress import duration, is_main_process, log
from magic_cli.report import page, plots
from magic_cli.report.score_text import SCORE_NAMES
from magic_cli.report.short_names import without_place
from magic_cli.training.task import Task

if TYPE_CHECKING:
    from markupsafe import Markup

    from magic_cli.training.resume import TrainProgress

Row = Mapping[str, Any]

_MOST_SCORES = 3

_FASTEST, _SLOWEST = 5, 60  # seconds between two reloads

_RECENT = 5  # epochs whose mean time is that of the next ones

_STATES = {
    "running": "Training",
    "finished": "Trained",
    "interrupted": "Interrupted",
    "failed": "Ended early",
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What the page says in figures; `best` is the number of an epoch and its score, None without one."""

    done: int
    epochs: int
    loss: float | None
    best: tuple[int, float] | None
    elapsed: str
    left: str


@dataclass
class ProgressPage:
    """The page of a run, or of a cross-validation.

    Attributes:
        file: where it is written.
        name: of the run, for people.
        task: what is trained.
        config: its settings.
        folds: number of folds; 0 for a run without.
        histories: rows of metrics.jsonl of the run, or of each fold that has begun.
    """

    file: Path
    name: str
    task: Task
    config: Config
    folds: int = 0
    histories: list[Sequence[Row]] = field(default_factory=list)
    _begun: float = field(default_factory=lambda: time.monotonic())
    _marks: list[float] = field(default_factory=list)
    _is_written: bool = True

    @contextmanager
    def following(self) -> Iterator[None]:
        """Write the page when the training in this block begins and ends, and say where it is."""
        self._write("running")
        if self._is_written:
            log(f"{self.file}: curves and the time that is left, after each epoch; open it in a browser")
        try:
            yield
        except Interrupted:
            self._write("interrupted")
            raise
        except BaseException:
            self._write("failed")
            raise
        self._write("finished")

    def observer(self, fold: int = 0) -> Callable[["TrainProgress"], None]:
        """Return what a trainer tells its progress, of a fold that is counted from 0."""

        def observe(progress: "TrainProgress") -> None:
            begins = len(self.histories) <= fold
            self.finished(fold, progress.history)
            self._marks += [math.nan] if begins else []  # no epoch lasts from one fold to the next
            self._marks.append(time.monotonic())
            self._write("running")

        return observe

    def finished(self, fold: int, history: Sequence[Row]) -> None:
        """Set the rows of a fold, such as of one that was trained before; earlier folds must be there."""
        self.histories[fold:] = [list(history)]

    def _write(self, state: str) -> None:
        """Write the page; where that fails, the training goes on without it."""
        if not (self._is_written and is_main_process()):
            return
        try:
            write_text(self.file, self._html(state))
        except (OSError, MagicError) as error:
            self._is_written = False
            log(f"note: {self.file} cannot be written ({error}); the training goes on without it")

    def _html(self, state: str) -> str:
        figures = self._figures(state)
        seconds = self._epoch_seconds()
        reload = min(_SLOWEST, max(_FASTEST, round((seconds or 0.0) / 4)))
        return page.render(
            "progress.html.jinja",
            state=state,
            state_text=_STATES[state],
            name=self.name,
            task=self.task,
            config=self.config,
            figures=figures,
            folds=self.folds,
            patience=0 if self.folds else self.config.patience,
            fold=len(self.histories),
            monitor=_name(self.monitor),
            reload=reload,
            now=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
            plots=self._plots(),
            columns=[(key, _name(key)) for key in ("loss", *self._scores())],
            rows=[] if self.folds else list(self.histories[0] if self.histories else ()),
            settings={key: without_place(value) for key, value in self.config.as_dict().items()},
        )

    @property
    def monitor(self) -> str:
        """The score that chooses the best epoch."""
        return self.config.monitor or self.task.monitor

    def _figures(self, state: str) -> Figures:
        rows = [row for history in self.histories for row in history]
        epochs = self.config.epochs * max(1, self.folds)
        seconds = self._epoch_seconds()
        left = "" if seconds is None or state != "running" else f"about {duration(seconds * (epochs - len(rows)))}"
        scored = [(row["epoch"], value) for row in rows if isinstance(value := row.get(self.monitor), int | float)]
        best = max(scored, key=lambda pair: (pair[1], -pair[0]), default=None)
        elapsed = duration(time.monotonic() - self._begun)
        return Figures(len(rows), epochs, rows[-1]["loss"] if rows else None, best, elapsed, left)

    def _epoch_seconds(self) -> float | None:
        """Return the mean time of the latest epochs, None before the first has ended."""
        spent = [after - before for before, after in pairwise(self._marks)]
        recent = [seconds for seconds in spent if math.isfinite(seconds)][-_RECENT:]
        return sum(recent) / len(recent) if recent else None

    def _scores(self) -> list[str]:
        """Return the scores that are drawn: the one that chooses the epoch, and the task's first ones."""
        known = {key for history in self.histories for row in history for key in row}
        wanted = dict.fromkeys((self.monitor, *self.task.headline_scores))
        return [key for key in wanted if key in known][:_MOST_SCORES]

    def _plots(self) -> list["Markup"]:
        epochs = self.config.epochs
        if self.folds:
            lines = [
                plots.Line(f"fold {number}", [(row["epoch"], row["loss"]) for row in history])
                for number, history in enumerate(self.histories, 1)
            ]
            return [plots.lines(lines, title="Training loss of each fold", x_axis="epoch", y_axis="loss", last=epochs)]
        history = self.histories[0] if self.histories else ()
        shown = [plots.curves(history, ["loss"], title="Training loss", axis="loss", epochs=epochs)]
        if scores := self._scores():
            title = "Scores on the validation samples"
            shown.append(plots.curves(history, scores, title=title, axis="score", best=self.monitor, epochs=epochs))
        return shown


def _name(key: str) -> str:
    return SCORE_NAMES.get(key, (key, ""))[0]
