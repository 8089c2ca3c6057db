"""`magic train`: train a task on one or several prepared datasets and write a run folder with the best weights."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from magic_cli.commands.machine.memory import expectation
from magic_cli.commands.recording import recorded
from magic_cli.commands.run_setup import RUNS, RunSetup, TrainOptions, no_run, run_files, set_up, with_batch_size
from magic_cli.io import run_record
from magic_cli.io.durations import phase
from magic_cli.io.files import StrPath, check_watched
from magic_cli.io.ownership import kind_of
from magic_cli.io.progress import loading_torch, log
from magic_cli.io.run_record import RunFiles
from magic_cli.records import Review
from magic_cli.report.next_command import after_training
from magic_cli.report.progress_page import ProgressPage
from magic_cli.report.train_text import TrainedDataset, TrainResult
from magic_cli.training.monitoring import trackers
from magic_cli.training.run_folder import Draft
from magic_cli.training.workers import RESUMES, report_ends

if TYPE_CHECKING:
    from magic_cli.training.trainer import Trainer

PAGE = "progress.html"

FILES = ("best.pt", "state.pt", "metrics.jsonl", "review.json", PAGE)

OUTPUTS = ("best.pt", "metrics.jsonl", "review.json", PAGE)  # state.pt is no result

_DEFAULTS = TrainOptions()


@recorded
def train(
    task: str,
    data: StrPath | Sequence[StrPath] = "prepared",
    out: StrPath | None = None,
    options: TrainOptions = _DEFAULTS,
) -> TrainResult:
    """Train a task and save the weights of its best epoch.

    Args:
        task: "seg" or "cvqa".
        data: folder that `prepare` wrote, or several: they are trained on together, each is validated by itself, and
            the best epoch is that of the highest mean over them. `options.data_weights` says how often an epoch draws
            each one's samples.
        out: run folder; None for runs/TASK.
        options: settings, and how to run.

    Returns:
        Scores of the best epoch and of trivial answers, and the path of the checkpoint.

    Raises:
        MagicError: any subclass; nothing that was finished is lost.
    """
    folder = RUNS / task if out is None else Path(out)
    folders = [data] if isinstance(data, str | os.PathLike) else list(data)
    setup = set_up(task, folders, _draft(folder, task), options, _earlier)
    with loading_torch():
        from magic_cli.training import selection
        from magic_cli.training.parts import data_of
        from magic_cli.training.trainer import Trainer

    parts = data_of(setup.task, setup.datasets, setup.config)
    setup = with_batch_size(setup, parts, options.dry_run)
    log(f"{task}: {len(parts.train)} training, {len(parts.valid)} validation samples, preset {setup.config.preset}")
    trainer = Trainer(task, parts, setup.config, setup.work, setup.runtime.device, setup.runtime.features(setup.config))
    review = selection.review_data(parts, [dataset.prepared for dataset in setup.datasets], setup.config)
    result = replace(_planned(setup, trainer), review=review)
    if options.dry_run:
        if needs := expectation(setup.config.preset, task):
            log(needs)
        return result
    files = run_files(setup, options, run_record.FILE, OUTPUTS)
    with setup.draft.alone(setup.work, options.resume), report_ends(folder, RESUMES):
        _start(setup, files)
        curves = ProgressPage(setup.work / PAGE, folder.name, setup.task, setup.config)
        with curves.following():
            with trackers.logging_to(setup.log, trackers.Logged(task, folder, setup.config)) as send:
                progress = trainer.run(options.resume, [curves.observer(), lambda now: send(now.history)])
            with phase("scoring"):
                chosen = selection.choose_settings(trainer)
                baselines = {part.name: setup.task.baseline_scores(part.train, part.gold) for part in parts.parts}
                review = selection.review_run(trainer, review)
        trainer.accelerator.wait_for_everyone()
        setup.draft.publish(setup.work)
    first = setup.datasets[0]
    next_one = after_training(
        setup.task, first.prepared, first.folder, folder / "best.pt", setup.config, options.runtime
    )
    result = replace(result, checkpoint=str(folder / "best.pt"), epochs=progress.epoch, chosen=chosen, review=review)
    result = replace(result, following=next_one, recorded=files)
    return result.with_scores(progress.history[progress.best_epoch] if progress.history else {}, baselines)


def _planned(setup: RunSetup, trainer: "Trainer") -> TrainResult:
    """Return what is known before the training; log how much of the model learns."""
    sizes = [(p.numel(), p.requires_grad) for p in trainer.core.parameters()]
    learning = sum(size for size, learns in sizes if learns)
    total = sum(size for size, _ in sizes)
    log(f"{learning:,} of {total:,} parameters learn")
    data = trainer.data
    processes, updates = trainer.accelerator.num_processes, trainer.batches.updates * setup.config.epochs
    for line in data.task.training_notes(trainer.core, data.train, setup.config, processes, updates):
        log(line)
    rows = zip(setup.datasets, data.parts, trainer.train_set.shares, strict=True)
    datasets = tuple(
        TrainedDataset(part.name, str(dataset.folder), part.weight, len(part.train), share.drawn, len(part.valid))
        for dataset, part, share in rows
    )
    return TrainResult(
        task=setup.task.name,
        title=setup.task.title,
        config=setup.config.as_dict(),
        parameters=learning,
        parameters_total=total,
        train_samples=len(data.train),
        valid_samples=len(data.valid),
        review=Review(),
        datasets=datasets if len(datasets) > 1 else (),
        monitor=setup.config.monitor or setup.task.monitor,
    )


def _draft(folder: Path, task: str) -> Draft:
    return Draft(folder, "run", "metrics.jsonl", run_record.FILE, _files, kind_of("train", {"task": task}))


def _start(setup: RunSetup, files: RunFiles) -> None:
    """Remove leftovers of an unfinished run, and record the call."""
    check_watched(setup.work / run_record.FILE)
    for name in () if files.resumed else FILES:
        (setup.work / name).unlink(missing_ok=True)
    run_record.start(replace(files, record=setup.work / run_record.FILE))


def _earlier(work: Path) -> tuple[Path, Mapping[str, object]]:
    """Return state.pt of a run that is resumed, and its meta data; of one that saved nothing, its record; else {}."""
    with loading_torch():
        from magic_cli.training.resume import state_meta

    state, record = work / "state.pt", work / run_record.FILE
    if state.is_file():
        return state, state_meta(state)
    log(no_run(work, state.name))
    return record, run_record.unfinished_settings(record)


def _files(folder: Path) -> list[Path]:
    """Return the files of a run that are in a folder; a page alone belongs to a run that has not begun."""
    found = [folder / name for name in FILES if os.path.lexists(folder / name)]
    return found if found != [folder / PAGE] else []
