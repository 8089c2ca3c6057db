"""`magic runs`: the trainings below folders as a table, and as a page with their curves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from magic_cli import tasks
from magic_cli.commands.recording import refuse_empty_paths
from magic_cli.commands.run_setup import RUNS
from magic_cli.commands.trainings.folder import find_runs
from magic_cli.errors import ConfigError, DataError, did_you_mean, problem
from magic_cli.io.files import StrPath, refuse_existing, write_text
from magic_cli.io.run_record import VerbResult
from magic_cli.report.trainings import page
from magic_cli.report.trainings.table import Run, lines_of

_ORDERS: dict[str, Callable[[Run], tuple[object, ...]]] = {
    "date": lambda run: (run.started, run.folder),
    "name": lambda run: (run.folder,),
    "score": lambda run: (run.task, run.score is None, -(run.score or 0.0), run.folder),
    "time": lambda run: (run.seconds is None, run.seconds or 0.0, run.folder),
}

ORDERS = tuple(_ORDERS)


@dataclass(frozen=True)
class RunList(VerbResult):
    """The trainings that were found.

    Attributes:
        folders: where they were looked for.
        runs: in order.
        page: the page that was written; None for none.
    """

    folders: tuple[str, ...]
    runs: tuple[Run, ...]
    page: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return schemas/runs.schema.json without its header."""
        return {"folders": list(self.folders), "runs": [run.to_json() for run in self.runs], "page": self.page}

    def lines(self) -> list[str]:
        """Return the table, what could not be read, and the next command."""
        where = ", ".join(self.folders)
        if not self.runs:
            return [f"{where}: no training in it; next: magic train seg"]
        one = len(self.runs) == 1
        lines = lines_of(self.runs, f"{len(self.runs)} {'training' if one else 'trainings'} in {where}")
        lines += [f"note: {note}" for run in self.runs for note in run.notes]
        if self.page is not None:
            return [*lines, f"{self.page}: curves, scores and settings that differ; open it in a browser"]
        return [*lines, f"next: magic show {self.runs[-1].folder}, or the same with --compare runs.html"]


def runs(
    folders: Sequence[StrPath] = (),
    *,
    task: str | None = None,
    sort: str = "date",
    compare: StrPath | None = None,
    overwrite: bool = False,
) -> RunList:
    """Return the trainings in folders and below.

    Args:
        folders: where to look; () for runs/.
        task: only those of this task; None for all.
        sort: "date", the newest last; "name"; "score", by task, the best first; "time", the shortest first.
        compare: a page to write with curves of the runs; None for none.
        overwrite: replace an older page.

    Raises:
        ConfigError: no such order or task. DataError: a folder does not exist, `compare` is taken, or nothing is there
            to compare. What cannot be read of a run is in its notes.
    """
    if sort not in _ORDERS:
        raise ConfigError(problem("--sort", sort, ", ".join(_ORDERS), did_you_mean(sort, _ORDERS)))
    if task is not None and task not in tasks.NAMES:
        raise ConfigError(problem("--task", task, ", ".join(tasks.NAMES), did_you_mean(task, tasks.NAMES)))
    refuse_empty_paths({"folders": list(folders), "compare": compare})
    places = [Path(folder) for folder in folders] or [RUNS]
    for place in places:
        if not place.is_dir():
            remedy = "train first, or name the folder of a run" if place == RUNS else "check the name"
            raise DataError(problem(place, "no such folder", "a folder of trainings", remedy))
    if compare is not None:
        _check_page(Path(compare), overwrite)
    found = {run.folder + str(run.folds > 0): run for place in places for run in find_runs(place)}
    listed = sorted((run for run in found.values() if task in (None, run.task)), key=_ORDERS[sort])
    if compare is not None:
        if not listed:
            raise DataError(
                problem(places[0], "no training in it", "some to compare", "train first, or check the name")
            )
        write_text(Path(compare), page.html(listed))
    return RunList(tuple(map(str, places)), tuple(listed), None if compare is None else str(compare))


def _check_page(file: Path, overwrite: bool) -> None:
    if file.is_dir() or not file.parent.is_dir():
        got = "a folder" if file.is_dir() else "no folder to write it in"
        raise DataError(problem(f"--compare {file}", got, "a new file", "give another name"))
    if file.exists() and not (file.is_file() and page.is_page(file.read_bytes()[:2000])):
        raise DataError(problem(f"--compare {file}", "a file of another kind", "an older page", "give another name"))
    refuse_existing(file, overwrite, "--compare")
