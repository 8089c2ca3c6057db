"""What the folder of a training says of it, whether it has finished, was interrupted, or is damaged; without torch."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from magic_cli import tasks
from magic_cli.commands.settings.presets import changed_settings
from magic_cli.errors import MagicError
from magic_cli.io import run_record
from magic_cli.io.json_files import read_json, read_jsonl
from magic_cli.models.saved_meta import read_model
from magic_cli.records import CheckpointMeta
from magic_cli.report.trainings.table import DAMAGED, FINISHED, UNFINISHED, Run

BEST, METRICS, FOLDS = "best.pt", "metrics.jsonl", "folds.json"

_DEEPEST = 5  # folders below the one that is given

_TRAINING = ("train", "cross_validate")


def find_runs(folder: Path) -> Iterator[Run]:
    """Yield the runs in a folder and below, in the order of their paths; the folds of a cross-validation as one."""
    base = len(folder.parts)
    for name, folders, files in os.walk(folder):
        here = Path(name)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if len(here.parts) - base < _DEEPEST else []
        if FOLDS in files:
            yield read_folds(here)
            folders[:] = [f for f in folders if not f.startswith("fold-") and f != "folds"]
        if run_record.FILE in files or BEST in files or METRICS in files:
            run = read_run(here)
            if run is not None:
                yield run


def read_run(folder: Path) -> Run | None:
    """Return the run in a folder, as far as its files can be read; None if it holds another kind of result."""
    record, notes = _json(folder / run_record.FILE)
    if record and record.get("verb") not in _TRAINING:
        return None
    known = _Files.of(folder, record, notes)
    config = known.config
    task = str(known.task)
    monitor = str(config.get("monitor") or "") or (tasks.get(task).monitor if task in tasks.NAMES else "")
    best_epoch, score = _best(known.history, monitor)
    planned, times = config.get("epochs"), times_of(record, folder)
    run = Run(
        folder=folder.as_posix(),
        task=task,
        state=known.state,
        settings=config,
        changed=_changed(task, config),
        monitor=monitor,
        score=score,
        best_epoch=best_epoch,
        epochs=len(known.history),
        planned=planned if isinstance(planned, int) else None,
        history=known.history,
        notes=tuple(known.notes),
        seconds=times.seconds,
        started=times.started,
    )
    if known.meta is None:
        return run
    return replace(run, score=known.meta.score, interval=known.meta.interval)


def read_folds(folder: Path) -> Run:
    """Return a cross-validation as one run: its pooled score with its interval."""
    file = folder / FOLDS
    row, notes = _json(file)
    record, _ = _json(folder / "folds" / run_record.FILE)
    config = row.get("config")
    settings = config if isinstance(config, dict) else {}
    task, monitor = str(row.get("task") or ""), str(row.get("monitor") or "")
    figures, parts = row.get("figures"), row.get("parts")
    pooled = figures.get(monitor) if isinstance(figures, dict) else None
    value, low, high = (pooled.get(key) if isinstance(pooled, dict) else None for key in ("value", "low", "high"))
    both = isinstance(low, int | float) and isinstance(high, int | float)
    trained = [part.get("epochs") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    planned, times = settings.get("epochs"), times_of(record, folder)
    return Run(
        folder=folder.as_posix(),
        task=task,
        state=DAMAGED if notes else FINISHED if row.get("finished") is True else UNFINISHED,
        folds=len(trained),
        settings=settings,
        changed=_changed(task, settings),
        monitor=monitor,
        score=float(value) if isinstance(value, int | float) else None,
        interval=(float(low), float(high)) if both else None,  # type: ignore[arg-type]
        epochs=max([epochs for epochs in trained if isinstance(epochs, int)], default=0),
        planned=planned if isinstance(planned, int) else None,
        notes=tuple(notes),
        seconds=times.seconds,
        started=times.started,
    )


@dataclass
class _Files:
    """What the files of a run say; what cannot be read is in `notes`."""

    task: object
    config: Mapping[str, object]
    history: Sequence[Mapping[str, object]]
    meta: CheckpointMeta | None
    state: str
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, record: Mapping[str, object], notes: list[str]) -> "_Files":
        """Read them."""
        arguments, settings = record.get("arguments"), record.get("settings")
        task = arguments.get("task") if isinstance(arguments, dict) else None
        meta, faults = None, list(notes)
        if (folder / BEST).is_file():
            try:
                meta = read_model(folder / BEST).meta
            except MagicError as error:
                faults.append(error.problems[0])
        history = _history(folder / METRICS, faults)
        config: Mapping[str, object] = settings if isinstance(settings, dict) else {}
        if meta is not None:
            task, config, history = meta.task, meta.config, history or meta.history
        ended = record.get("exit") is not None if record else meta is not None
        state = DAMAGED if faults else FINISHED if ended else UNFINISHED
        return cls(task or "", config, history, meta, state, faults)


def _history(file: Path, faults: list[str]) -> Sequence[Mapping[str, object]]:
    if not file.is_file():
        return ()
    try:
        return [row for row in read_jsonl(file) if isinstance(row, dict)]
    except MagicError as error:
        faults.append(error.problems[0])
        return ()


def _json(file: Path) -> tuple[dict[str, object], list[str]]:
    """Return the object in a JSON file, and why it cannot be read; {} if there is none."""
    if not file.is_file():
        return {}, []
    try:
        row = read_json(file)
    except MagicError as error:
        return {}, [error.problems[0]]
    return (row, []) if isinstance(row, dict) else ({}, [f"{file}: got no object, expected one; is it another file?"])


def _best(history: Sequence[Mapping[str, object]], monitor: str) -> tuple[int | None, float | None]:
    """Return the first epoch with the highest score, from 1, and that score; None without any."""
    scored = [(value, -k) for k, row in enumerate(history) if isinstance(value := row.get(monitor), int | float)]
    if not scored:
        return None, None
    value, at = max(scored)
    epoch = history[-at].get("epoch")
    return (epoch if isinstance(epoch, int) else 1 - at), float(value)


def _changed(task: str, settings: Mapping[str, object]) -> dict[str, object] | None:
    if task not in tasks.NAMES or not settings:
        return None
    return changed_settings(tasks.config_class(task), settings)


@dataclass(frozen=True)
class Times:
    """When a run started, ISO 8601, and how many seconds it took; None if that was not recorded."""

    started: str
    seconds: float | None


def times_of(record: Mapping[str, object], folder: Path) -> Times:
    """Return the times of a run by its record, or when a file of it was written last."""
    times = record.get("times")
    if isinstance(times, dict) and isinstance(times.get("start"), str):
        seconds = times.get("seconds")
        return Times(times["start"], float(seconds) if isinstance(seconds, int | float) else None)
    files = [folder / name for name in (BEST, METRICS, FOLDS, run_record.FILE)]
    written = [file.stat().st_mtime for file in files if file.is_file()]
    last = datetime.fromtimestamp(max(written), UTC).isoformat(timespec="seconds") if written else ""
    return Times(last, None)
