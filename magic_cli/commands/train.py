"""`magic train`: train a task on a prepared dataset and write a run folder with the best weights."""

import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from magic_cli.commands.recording import recorded
from magic_cli.commands.run_setup import RUNS, RunSetup, TrainOptions, run_files, set_up
from magic_cli.config import Config
from magic_cli.data.prepared import Prepared
from magic_cli.errors import DataError, EmptySplit
from magic_cli.io import run_record
from magic_cli.io.files import StrPath, check_watched
from magic_cli.io.ownership import kind_of
from magic_cli.io.progress import log
from magic_cli.io.run_record import RunFiles
from magic_cli.records import Sample
from magic_cli.report.next_command import after_training
from magic_cli.report.run_text import TrainResult
from magic_cli.training.run_folder import Draft
from magic_cli.training.task import Task
from magic_cli.training.workers import RESUMES, report_ends

if TYPE_CHECKING:
    from magic_cli.training.trainer import Data

FILES = ("best.pt", "state.pt", "metrics.jsonl", "review.json")

OUTPUTS = ("best.pt", "metrics.jsonl", "review.json")  # state.pt is no result

_DEFAULTS = TrainOptions()


@recorded
def train(
    task: str, data: StrPath = "prepared", out: StrPath | None = None, options: TrainOptions = _DEFAULTS
) -> TrainResult:
    """Train a task and save the weights of its best epoch.

    Args:
        task: "seg" or "cvqa".
        data: folder that `prepare` wrote.
        out: run folder; None for runs/TASK.
        options: settings, and how to run.

    Returns:
        Scores of the best epoch and of trivial answers, and the path of the checkpoint.

    Raises:
        MagicError: any subclass; nothing that was finished is lost.
    """
    folder = RUNS / task if out is None else Path(out)
    setup = set_up(task, Path(data), _draft(folder, task), options, _earlier)
    from magic_cli.training import selection
    from magic_cli.training.trainer import Trainer

    parts = replace(split_train_valid(setup.task, setup.prepared, setup.config), stamps=setup.stamps)
    log(f"{task}: {len(parts.train)} training, {len(parts.valid)} validation samples, preset {setup.config.preset}")
    trainer = Trainer(task, parts, setup.config, setup.work, setup.runtime.device, setup.runtime.features(setup.config))
    sizes = [(p.numel(), p.requires_grad) for p in trainer.core.parameters()]
    learning = sum(size for size, learns in sizes if learns)
    log(f"{learning:,} of {sum(size for size, _ in sizes):,} parameters learn")
    review = selection.review_data(setup.task, setup.prepared, [*parts.train, *parts.valid], setup.config)
    result = TrainResult(
        task=task,
        title=setup.task.title,
        config=setup.config.as_dict(),
        parameters=learning,
        train_samples=len(parts.train),
        valid_samples=len(parts.valid),
        review=review,
    )
    if options.dry_run:
        return result
    files = run_files(setup, Path(data), options, run_record.FILE, OUTPUTS)
    with setup.draft.alone(setup.work, options.resume), report_ends(folder, RESUMES):
        _start(setup, files)
        progress = trainer.run(options.resume)
        chosen = selection.choose_settings(trainer)
        baselines = setup.task.baseline_scores(parts.train, parts.gold)
        review = selection.review_run(trainer, review)
        trainer.accelerator.wait_for_everyone()
        setup.draft.publish(setup.work)
    return replace(
        result,
        checkpoint=str(folder / "best.pt"),
        best=progress.history[progress.best_epoch] if progress.history else {},
        epochs=progress.epoch,
        baselines=baselines,
        chosen=chosen,
        review=review,
        following=after_training(setup.task, setup.prepared, data, folder / "best.pt", setup.config, options.runtime),
        recorded=files,
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
    from magic_cli.training.resume import state_meta

    state, record = work / "state.pt", work / run_record.FILE
    if state.is_file():
        return state, state_meta(state)
    return record, run_record.unfinished_settings(record)


def _files(folder: Path) -> list[Path]:
    """Return the files of a run that are in a folder."""
    return [folder / name for name in FILES if os.path.lexists(folder / name)]


def split_train_valid(task: Task, prepared: Prepared, config: Config) -> "Data":
    """Return train and valid samples; if split valid has no gold, a random part of the train cases is held out.

    Raises:
        DataError: nothing to train on, or nothing left to validate on.
    """
    from magic_cli.training.trainer import Data

    train = list(task.training_samples(prepared, "train", config))
    split, valid = "valid", _valid_samples(task, prepared, config)
    if not valid:
        split = "train"
        cases = sorted({sample.case.case_id for sample in train})
        random.Random(config.seed).shuffle(cases)  # noqa: S311  not a secret
        held_out = set(cases[: round(config.holdout_fraction * len(cases))])
        share = f"{len(held_out)} of {len(cases)} train encounters"
        log(f"split valid has no gold: {share} are held out (--set holdout_fraction=)")
        valid = unique_samples(s for s in train if s.case.case_id in held_out)
        train = [s for s in train if s.case.case_id not in held_out]
    if not train or not valid:
        got = f"{len(train)} samples to train on, {len(valid)} to validate on"
        raise DataError(f"{prepared.root}: {got}; prepare.json lists what was read and what was left out")
    gold = task.gold(prepared, split).only({sample.id for sample in valid})
    return Data(task, train, valid, gold, prepared.questions, prepared.sha256)


def unique_samples(samples: Iterable[Sample]) -> list[Sample]:
    """Return samples to predict: of those that differ only in their mask (--merge each), one."""
    return list({(sample.id, sample.qids): sample for sample in samples}.values())


def _valid_samples(task: Task, prepared: Prepared, config: Config) -> list[Sample]:
    """Return the samples of split valid, none if it has no gold."""
    try:
        return list(task.training_samples(prepared, "valid", config))
    except EmptySplit:
        return []
