"""K-fold cross-validation over the labelled encounters of split train: each encounter is held out once.

A fold never sees the encounters that it is scored on: it trains for all epochs of the settings, without early stopping,
and keeps its last (averaged) weights. Encounters are never divided between folds. The predictions of all folds for
their held-out encounters are written in the submission layout and scored once, pooled, as by `magic score`.

runs/TASK/fold-1/ ...   best.pt and metrics.jsonl of each fold
runs/TASK/folds/        the out-of-fold predictions
runs/TASK/folds.json    held-out encounters and scores of each fold schemas/folds.schema.json
runs/TASK/folds.html    the loss of each fold so far, and the time that is left
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from magic_cli.commands.folds.scores import Parts, score_folds
from magic_cli.commands.recording import recorded
from magic_cli.commands.run_setup import RUNS, RunSetup, TrainOptions, no_run, run_files, set_up, with_batch_size
from magic_cli.commands.train import FILES as RUN_FILES
from magic_cli.data.stratify import assign_folds
from magic_cli.errors import CheckpointError, ConfigError, problem
from magic_cli.io import ownership, run_record, schema
from magic_cli.io.files import StrPath, check_watched, sweep, watched
from magic_cli.io.json_files import read_json, read_jsonl, write_json
from magic_cli.io.ownership import kind_of
from magic_cli.io.progress import is_main_process, loading_torch, log
from magic_cli.records import Prediction, Sample
from magic_cli.report.progress_page import ProgressPage
from magic_cli.report.run_text import CrossValidationResult, Fold
from magic_cli.submission import pairs, rankings
from magic_cli.submission.probabilities import PROBABILITIES_FILE
from magic_cli.submission.reader import ANSWERS, MASKS
from magic_cli.training.monitoring import trackers
from magic_cli.training.parts import Data, Part, groups, unique_samples
from magic_cli.training.run_folder import Draft
from magic_cli.training.workers import RESUMES, report_ends

if TYPE_CHECKING:
    from accelerate import Accelerator

FILE, PAGE, PREDICTIONS = "folds.json", "folds.html", "folds"

RECORD = f"{PREDICTIONS}/{run_record.FILE}"

_FOLD = re.compile("fold-[0-9]+")

_DEFAULTS = TrainOptions()


@dataclass(frozen=True)
class Plan:
    """A cross-validation before it starts.

    Attributes:
        setup: what is trained, and where.
        parts: the samples that each fold holds out, in prepared order.
        overlap: a warning if a run that all folds start from learned from what they hold out.
    """

    setup: RunSetup
    parts: Parts
    overlap: tuple[str, ...]

    def folder(self, fold: int) -> Path:
        """Return the run folder of a fold, which is counted from 0 and named from 1."""
        return self.setup.work / f"fold-{fold + 1}"

    def train_samples(self, fold: int) -> Sequence[Sample]:
        """Return the training samples of a fold: those of the other folds that are learned from."""
        samples = [sample for other, part in enumerate(self.parts) if other != fold for sample in part]
        return self.setup.task.learned_from(samples, self.setup.config)

    def data(self, train: Sequence[Sample]) -> Data:
        """Return training samples as the data of a run that validates on nothing."""
        task, (dataset,) = self.setup.task, self.setup.datasets
        part = Part(train, (), task.gold(dataset.prepared, "train").only(()))
        return Data(task, [part], dataset.prepared.questions, dataset.prepared.sha256, [dataset.stamps])

    def everything(self) -> Data:
        """Return the samples of all folds."""
        return self.data([sample for part in self.parts for sample in part])

    def folds(self) -> tuple[Fold, ...]:
        """Return what each fold holds out."""
        return tuple(
            Fold(
                fold=fold + 1,
                encounters=tuple(sorted({sample.case.case_id for sample in part})),
                train_samples=len(self.train_samples(fold)),
                held_samples=len(unique_samples(part)),
            )
            for fold, part in enumerate(self.parts)
        )

    def accelerator(self) -> "Accelerator":
        """Return accelerate's handle for the run's device."""
        from magic_cli.training.devices import accelerator_for

        return accelerator_for(self.setup.config, self.setup.runtime.device)


@recorded
def cross_validate(
    task: str,
    folds: int = 5,
    data: StrPath = "prepared",
    out: StrPath | None = None,
    options: TrainOptions = _DEFAULTS,
) -> CrossValidationResult:
    """Cross-validate a task on split train.

    Args:
        task: "seg", "cvqa" or "pretrain".
        folds: 2 to the number of encounters.
        data: folder that `prepare` wrote.
        out: folder of the runs; None for runs/TASK.
        options: settings, and how to run.

    Returns:
        The held-out encounters of each fold, pooled scores with intervals, and scores of trivial answers.

    Raises:
        MagicError: any subclass. ConfigError: more folds than encounters, or another number than the resumed run's.
        Interrupted: SIGINT or SIGTERM; finished folds are kept, and so is the state of the running one.
    """
    folder = RUNS / task if out is None else Path(out)
    _refuse_weights(options)
    plan = _plan(set_up(task, [data], _draft(folder, task), options, _earlier), folds, options.dry_run)
    setup, (dataset,) = plan.setup, plan.setup.datasets
    from magic_cli.training import selection

    review = selection.review_data(plan.everything(), [dataset.prepared], setup.config)
    result = CrossValidationResult(
        task=task,
        title=setup.task.title,
        config=setup.config.as_dict(),
        data=dataset.prepared.sha256,
        parts=plan.folds(),
        review=review,
        predictions=str(folder / PREDICTIONS),
        prepared=str(data),
    )
    if setup.earlier:
        _check_same(setup.work / FILE, setup.earlier, result)
    if options.dry_run:
        return result
    files = run_files(setup, options, RECORD, ())
    working = replace(files, record=setup.work / RECORD)
    with setup.draft.alone(setup.work, options.resume), report_ends(folder, RESUMES):
        _clear(plan, is_new=not setup.earlier)
        run_record.start(working)
        _begin(plan, result)
        _train_all(plan)
        held_out = dataset.stamps.checked(_held_out_predictions(plan))
        written = setup.task.write(held_out, dataset.prepared, working.record.parent)
        parts = tuple(_ended(part, plan.folder(fold)) for fold, part in enumerate(result.parts))
        scores, reviewed = score_folds(setup.task, dataset.prepared, working.record.parent, plan.parts, parts)
        scores = replace(scores, notes=(*plan.overlap, *scores.notes))
        result = result.with_scores(scores, selection.joined(review, reviewed))
        _publish(plan, result)
    return replace(result, recorded=replace(files, outputs=_outputs(result, written, setup.work)))


def _outputs(result: CrossValidationResult, predictions: Sequence[Path], work: Path) -> tuple[str, ...]:
    """Return the names of all results below the folder of the runs."""
    names = (f"fold-{part.fold}/{name}" for part in result.parts for name in ("best.pt", "metrics.jsonl"))
    return (FILE, PAGE, *names, *(path.relative_to(work).as_posix() for path in predictions))


def _refuse_weights(options: TrainOptions) -> None:
    if options.data_weights:
        got = f"{len(options.data_weights)} weights"
        raise ConfigError(problem("--data-weight", got, "none with --folds", "leave it out: folds are of one dataset"))


def _draft(folder: Path, task: str) -> Draft:
    return Draft(folder, "folds", FILE, RECORD, _files, kind_of("cross_validate", {"task": task}))


def _files(folder: Path) -> list[Path]:
    """Return the files of a cross-validation that are in a folder."""
    owned = ownership.read(folder / RECORD)
    masks = f"{PREDICTIONS}/{MASKS}/"  # by their list alone: masks of others may be there
    listed = (folder / name for name in (owned.files if owned else ()) if name.startswith(masks))
    predicted = (ANSWERS, PROBABILITIES_FILE, *pairs.FILES, *rankings.FILES)
    known = (folder / name for name in (FILE, PAGE, *(f"{PREDICTIONS}/{name}" for name in predicted)))
    folds = [path for path in folder.glob("fold-*") if _FOLD.fullmatch(path.name)]
    return [path for path in (*known, *listed, *(fold / n for fold in folds for n in RUN_FILES)) if path.is_file()]


def _earlier(work: Path) -> tuple[Path, Mapping[str, object]]:
    """Return folds.json of the run that is resumed, and what it holds; {} if the run had not begun."""
    file = work / FILE
    if not file.is_file():
        log(no_run(work, FILE))
        return file, {}
    earlier: Mapping[str, object] = read_json(file)
    lines = schema.problems("folds", earlier, str(file))
    if lines:
        raise CheckpointError(lines)
    return file, earlier


def _plan(setup: RunSetup, folds: int, dry_run: bool) -> Plan:
    with loading_torch():
        from magic_cli.training.restoring import seen_before
        from magic_cli.training.seen import overlap_lines
    task, prepared = setup.task, setup.datasets[0].prepared
    task.check_folds(prepared)
    samples = task.training_samples(prepared, "train", setup.config)
    group_of = groups(samples)
    labels: dict[str, set[str]] = {}
    for case, own in task.strata(samples, prepared.questions).items():
        labels.setdefault(group_of[case], set()).update(own)
    assigned = assign_folds(labels, folds, setup.config.seed)
    fold_of = {group: fold for fold, part in enumerate(assigned) for group in part}
    parts = tuple(tuple(s for s in samples if fold_of[group_of[s.case.case_id]] == fold) for fold in range(folds))
    among = f" of {len(fold_of)} groups" if len(fold_of) < len(group_of) else ""
    log(f"{task.name}: {folds} folds over {len(group_of)} encounters{among} of split train")
    log("split valid is left alone: no epoch, threshold or other setting is chosen on any photo or answer")
    overlap = tuple(overlap_lines(samples, seen_before(setup.config)))
    for line in overlap:
        log(f"note: {line}")
    plan = Plan(setup, parts, overlap)
    return replace(plan, setup=with_batch_size(setup, plan.everything(), dry_run))


def _check_same(file: Path, earlier: Mapping[str, object], result: CrossValidationResult) -> None:
    """Refuse to resume with another number of folds, on other data, or with encounters assigned to other folds."""
    planned = result.to_json()
    if earlier["folds"] != planned["folds"]:
        remedy = "leave the number as it is, or start again with --overwrite"
        raise ConfigError(problem(file, f"--folds {planned['folds']}", f"--folds {earlier['folds']}", remedy))
    if earlier["data"] != planned["data"]:
        raise CheckpointError(f"{file}: the prepared data changed since; train again with --overwrite")
    rows = earlier["parts"]
    held_out = [row["encounters"] for row in rows] if isinstance(rows, list) else []
    if held_out != [list(part.encounters) for part in result.parts]:
        raise CheckpointError(f"{file}: this version assigns encounters to other folds; train again with --overwrite")


def _clear(plan: Plan, is_new: bool) -> None:
    """Remove an earlier draft, before its record is replaced; of several processes, only the main one does so."""
    work = plan.setup.work
    if is_main_process() and is_new and work != plan.setup.draft.out:
        check_watched(work / FILE)
        for file in _files(work):
            file.unlink(missing_ok=True)


def _begin(plan: Plan, result: CrossValidationResult) -> None:
    """Write the plan; of several processes, only the main one does so."""
    work = plan.setup.work
    accelerator = plan.accelerator()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        sweep(work)
        write_json(work / FILE, result.to_json())
    accelerator.wait_for_everyone()


def _train_all(plan: Plan) -> None:
    """Train every fold, and draw their losses on a page meanwhile."""
    setup, count = plan.setup, len(plan.parts)
    curves = ProgressPage(setup.work / PAGE, setup.draft.out.name, setup.task, setup.config, count)
    with curves.following():
        for fold in range(count):
            _train(plan, fold, curves)


def _train(plan: Plan, fold: int, curves: ProgressPage) -> None:
    """Train a fold to its last epoch, or continue where it stopped; a finished fold is not touched."""
    from magic_cli.training.trainer import Trainer

    out, count = plan.folder(fold), len(plan.parts)
    state = out / "state.pt"
    if (out / "best.pt").is_file():  # written once, after the last epoch
        log(f"fold {fold + 1} of {count}: finished before")
        curves.finished(fold, read_jsonl(out / "metrics.jsonl"))
        sweep(out)
        state.unlink(missing_ok=True)
        return
    setup, train = plan.setup, plan.train_samples(fold)
    log(f"fold {fold + 1} of {count}: {len(train)} training samples, {len(plan.parts[fold])} held out")
    data = plan.data(train)
    features = setup.runtime.features(setup.config)
    out.mkdir(parents=True, exist_ok=True)
    logged = trackers.Logged(setup.task.name, setup.draft.out / out.name, setup.config)
    with watched(out), trackers.logging_to(setup.log, logged) as send:
        trainer = Trainer(setup.task.name, data, setup.config, out, setup.runtime.device, features)
        trainer.run(state.is_file(), [curves.observer(fold), lambda now: send(now.history)])
        check_watched(state)
        state.unlink(missing_ok=True)  # large, and not needed for a finished fold


def _publish(plan: Plan, result: CrossValidationResult) -> None:
    """Write the scores, and replace an older cross-validation; raises DataError if files that were read changed."""
    setup = plan.setup
    setup.datasets[0].stamps.check()
    write_json(setup.work / FILE, result.to_json())
    plan.accelerator().wait_for_everyone()
    setup.draft.publish(setup.work)


def _held_out_predictions(plan: Plan) -> Iterator[Prediction]:
    """Yield each fold's predictions for its held-out samples; one model is in memory at a time."""
    from magic_cli.commands.predict import predict_views
    from magic_cli.training.restoring import restored

    setup, prepared = plan.setup, plan.setup.datasets[0].prepared
    gold = setup.task.gold(prepared, "train")
    for fold, part in enumerate(plan.parts):
        model, config = restored(plan.folder(fold) / "best.pt", setup.task, prepared)
        of_fold = partial(setup.task.fold_gold, gold, {sample.id for sample in part})
        setup.task.before_predicting(model, of_fold)
        model.cache = setup.runtime.features(config)
        yield from map(setup.task.held_out, predict_views(model, config, unique_samples(part), setup.runtime)[0])


def _ended(part: Fold, folder: Path) -> Fold:
    """Return a fold with its number of epochs and the loss of the last one."""
    path = folder / "metrics.jsonl"
    last = (read_jsonl(path) or [None])[-1]
    if not isinstance(last, dict) or not all(isinstance(last.get(key), int | float) for key in ("epoch", "loss")):
        remedy = f"remove {path.with_name('best.pt')}, and --resume trains this fold again"
        raise CheckpointError(problem(path, "no row of a finished training", "its epoch and loss", remedy))
    return replace(part, epochs=last["epoch"], loss=last["loss"])
