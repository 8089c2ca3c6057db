"""K-fold cross-validation over the labelled encounters of split train: every one is held out once.

A fold never sees what it is judged by: it trains as many epochs as the settings say, without early stopping, and keeps
its last (averaged) weights. Encounters stay whole. What the folds said about their held-out parts is written in the
submission layout and scored once, pooled, as `magic score` does it.

runs/TASK/fold-1/ ...   best.pt and metrics.jsonl of each fold
runs/TASK/folds/        the out-of-fold predictions
runs/TASK/folds.json    which fold held out what, and the figures    schemas/folds.schema.json
"""

import math
import statistics as moments
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from magic_cli import tasks
from magic_cli.commands import predict
from magic_cli.commands import train as train_command
from magic_cli.config import Config
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.data.stratify import assign_folds
from magic_cli.errors import CheckpointError, ConfigError, problem
from magic_cli.io import run_record, schema
from magic_cli.io.files import finite, read_json, read_jsonl, sweep, write_json
from magic_cli.io.progress import log
from magic_cli.metrics import bootstrap
from magic_cli.records import EncounterSums, Prediction, Review, Sample, TaskScores
from magic_cli.submission.probabilities import PROBABILITIES_FILE
from magic_cli.submission.reader import ANSWERS, MASKS, SUFFIX, open_predictions
from magic_cli.training import runtime, selection
from magic_cli.training.devices import accelerator_for, insist
from magic_cli.training.run_folder import Draft
from magic_cli.training.task import Task
from magic_cli.training.trainer import Data, Trainer

FILE, PREDICTIONS = "folds.json", "folds"


@dataclass(frozen=True)
class Plan:
    """A cross-validation before it starts: `parts` are the samples that each fold holds out, in prepared order."""

    name: str
    prepared: Prepared
    config: Config
    out: Path
    place: runtime.Place
    parts: tuple[tuple[Sample, ...], ...]

    @property
    def task(self) -> Task:
        """The task."""
        return tasks.get(self.name)

    def folder(self, fold: int) -> Path:
        """Return the run folder of a fold, which is counted from 0 and named from 1."""
        return self.out / f"fold-{fold + 1}"

    def learned_from(self, fold: int) -> list[Sample]:
        """Return what a fold learns from: all that the others hold out."""
        return [sample for other, part in enumerate(self.parts) if other != fold for sample in part]

    def as_dict(self) -> dict[str, Any]:
        """Return the unfinished folds.json."""
        parts = [
            {
                "fold": fold + 1,
                "encounters": sorted({sample.case.case_id for sample in part}),
                "train_samples": len(self.learned_from(fold)),
                "held_samples": len(train_command.once(part)),
            }
            for fold, part in enumerate(self.parts)
        ]
        made = {"schema": 1, "format": "magic-folds", "task": self.name, "config": self.config.as_dict()}
        return made | {"data": self.prepared.sha256, "folds": len(parts), "finished": False, "parts": parts}


def train(
    name: str,
    data: Path,
    out: Path,
    place: runtime.Place,
    folds: int,
    *,
    preset: str = "",
    settings: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    deterministic: bool = False,
    **flags: Any,
) -> dict[str, Any]:
    """Cross-validate a task and return folds.json: what each fold held out, pooled figures, intervals, baselines.

    Raises:
        MagicError: any of its kinds. ConfigError: more folds than encounters, or other ones than the resumed run's.
        Interrupted: SIGINT or SIGTERM came; folds that are done are kept, and the running one's state.
    """
    draft = Draft(out, "folds", FILE, _files)
    if not dry_run:
        draft.settle()
    work = draft.folder(resume, overwrite)
    file = work / FILE
    before = _before(file) if resume else {}
    config = train_command.settled(name, file, before, preset, settings, flags)
    if deterministic:
        insist()
    plan = _plan(name, open_prepared(data), config, work, place, folds)
    seen = [sample for part in plan.parts for sample in part]
    review = selection.review_data(plan.task, plan.prepared, seen, config)
    record = plan.as_dict() | {"review": review.to_json()}
    if before:
        _check(file, before, record)
    if dry_run:
        return record
    with draft.alone(work, resume):
        run_record.begin(work / PREDICTIONS / run_record.FILE)
        _begin(plan, record, anew=not before)
        for fold in range(folds):
            _train(plan, fold)
        plan.task.write(_held_out(plan), plan.prepared, work / PREDICTIONS)
        record["parts"] = [row | _ended(plan, fold) for fold, row in enumerate(record["parts"])]
        record |= {"finished": True, "predictions": str(out / PREDICTIONS), "prepared": str(data)}
        found, reviewed = judge(name, plan.prepared, work / PREDICTIONS, plan.parts, record["parts"])
        record |= found | {"review": selection.joined(review, reviewed).to_json()}
        write_json(file, record)
        accelerator_for(plan.config, place.device).wait_for_everyone()
        draft.publish(work)
    return record


def _files(folder: Path) -> list[Path]:
    """Return the files of a cross-validation that are in a folder."""
    written = folder / PREDICTIONS
    known = (folder / FILE, written / ANSWERS, written / PROBABILITIES_FILE, *(written / MASKS).glob(f"*{SUFFIX}"))
    runs_ = (path / name for path in folder.glob("fold-*") for name in train_command.FILES)
    return run_record.with_record([path for path in (*known, *runs_) if path.is_file()], written)


def _before(file: Path) -> dict[str, Any]:
    """Return the folds.json of the run that is resumed, {} where it had not begun."""
    if not file.is_file():
        log(f"{file} is not there: starting from the beginning")
        return {}
    before: dict[str, Any] = read_json(file)
    lines = schema.problems("folds", before, str(file))
    if lines:
        raise CheckpointError(lines)
    return before


def _plan(name: str, prepared: Prepared, config: Config, out: Path, place: runtime.Place, folds: int) -> Plan:
    task = tasks.get(name)
    samples = task.samples(prepared, "train", config)
    dealt = assign_folds(task.strata(samples, prepared.questions), folds, config.seed)
    fold_of = {encounter: fold for fold, part in enumerate(dealt) for encounter in part}
    parts = tuple(tuple(s for s in samples if fold_of[s.case.case_id] == fold) for fold in range(folds))
    log(f"{name}: {folds} folds over {len(fold_of)} encounters of split train")
    log("split valid is left alone: no epoch, threshold or other setting is chosen on any photo or answer")
    return Plan(name, prepared, config, out, place, parts)


def _check(file: Path, before: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Refuse to resume with another number of folds, on other data, or where a fold would be judged by what it saw."""
    if before["folds"] != record["folds"]:
        remedy = "leave the number as it is, or start anew with --overwrite"
        raise ConfigError(problem(file, f"--folds {record['folds']}", f"--folds {before['folds']}", remedy))
    if before["data"] != record["data"]:
        raise CheckpointError(f"{file}: the prepared data changed since; train anew with --overwrite")
    if [row["encounters"] for row in before["parts"]] != [row["encounters"] for row in record["parts"]]:
        raise CheckpointError(f"{file}: this version deals encounters into other folds; train anew with --overwrite")


def _begin(plan: Plan, record: Mapping[str, Any], anew: bool) -> None:
    """Remove what an earlier draft left, and say what is planned; of several processes, one does it."""
    accelerator = accelerator_for(plan.config, plan.place.device)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        sweep(plan.out)
        for file in _files(plan.out) if anew else ():
            if file.name != run_record.FILE:  # that is of this run already
                file.unlink(missing_ok=True)
        write_json(plan.out / FILE, record)
    accelerator.wait_for_everyone()


def _train(plan: Plan, fold: int) -> None:
    """Train a fold to its last epoch, or go on where it stopped; a finished one is left as it is."""
    out, count = plan.folder(fold), len(plan.parts)
    if (out / "best.pt").is_file():  # written once, after the last epoch
        log(f"fold {fold + 1} of {count}: finished before")
        sweep(out)
        (out / "state.pt").unlink(missing_ok=True)
        return
    train = plan.learned_from(fold)
    log(f"fold {fold + 1} of {count}: {len(train)} samples to learn from, {len(plan.parts[fold])} held out")
    nothing = plan.task.gold(plan.prepared, "train").only(())
    data = Data(plan.task, train, (), nothing, plan.prepared.questions, plan.prepared.sha256)
    trainer = Trainer(plan.name, data, plan.config, out, plan.place.device, plan.place.features(plan.config))
    trainer.run(resume=(out / "state.pt").is_file())
    (out / "state.pt").unlink(missing_ok=True)  # moments of a finished fold: of no use, and large


def _held_out(plan: Plan) -> Iterator[Prediction]:
    """Yield each fold's predictions of what it has not seen; one model is in memory at a time."""
    for fold, part in enumerate(plan.parts):
        model, config = predict.restored(plan.folder(fold) / "best.pt", plan.name, plan.prepared)
        model.cache = plan.place.features(config)
        yield from predict.seen(model, config, train_command.once(part), plan.place)[0]


def _ended(plan: Plan, fold: int) -> dict[str, Any]:
    """Return how a fold's training ended: number of epochs, loss of the last one."""
    path = plan.folder(fold) / "metrics.jsonl"
    last = (read_jsonl(path) or [None])[-1]
    if not isinstance(last, dict) or not all(isinstance(last.get(key), int | float) for key in ("epoch", "loss")):
        remedy = f"remove {path.with_name('best.pt')}, and --resume trains this fold again"
        raise CheckpointError(problem(path, "no row of a finished training", "its epoch and loss", remedy))
    return {"epochs": last["epoch"], "loss": last["loss"]}


def judge(
    name: str,
    prepared: Prepared,
    predictions: Path,
    parts: Sequence[Sequence[Sample]],
    rows: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], Review]:
    """Return the part of folds.json that holds figures, with NaN as null, and the review of the predictions.

    Args:
        name: the task.
        prepared: its split train is the gold, all of it: what has no prediction counts as zero, as in `magic score`.
        predictions: a folder in the submission layout.
        parts: the samples that each fold held out, from which trivial answers are learned in the same way.
        rows: folds.json's row of each fold, with its "encounters".
    """
    task = tasks.get(name)
    gold = task.gold(prepared, "train")
    with open_predictions(predictions) as found:
        scored: TaskScores = task.score(gold, found.of(name, prepared.questions.by_qid))
        held = [row["encounters"] for row in rows]
        reviewed = task.validation_review(
            gold, found.of(name, prepared.questions.by_qid), task.baseline_predictions(parts, prepared.questions), held
        )
    guessed = {
        label: task.score(gold, guess) for label, guess in task.baseline_predictions(parts, prepared.questions).items()
    }
    clusters = _clusters(scored)
    baselines = {label: {**one.scores, **one.extra} for label, one in guessed.items()} | dict(scored.baselines)
    by_fold = [{**row, "figures": _part(clusters, row["encounters"])} for row in rows]
    found_: dict[str, Any] = {
        "monitor": task.monitor,
        "encounters": len(clusters.ids),
        "parts": by_fold,
        "figures": _figures(clusters, [row["figures"] for row in by_fold]),
        "baselines": {label: {n: row[n] for n in clusters.names if n in row} for label, row in baselines.items()},
        "differences": {label: _differences(clusters, _clusters(one)) for label, one in guessed.items()},
        "notes": [*scored.notes, *(f"counted as zero: {line}" for line in scored.rejected)],
    }
    return finite(found_), reviewed


def _clusters(found: TaskScores) -> EncounterSums:
    if found.encounter_sums is None:
        raise ValueError(f"task {found.task} gives no sums over encounters")
    return found.encounter_sums


def _part(clusters: EncounterSums, encounters: Sequence[str]) -> dict[str, float]:
    """Return the figures of some encounters alone."""
    wanted = set(encounters)
    rows = [number for number, encounter in enumerate(clusters.ids) if encounter in wanted]
    return dict(zip(clusters.names, clusters.scores(clusters.sums[rows].sum(0)).tolist(), strict=True))


def _figures(clusters: EncounterSums, by_fold: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return each figure pooled, with the bounds of its 95 % interval, and mean and sd over the folds that have it."""
    values = dict(zip(clusters.names, clusters.scores(clusters.sums.sum(0)).tolist(), strict=True))
    bounds = bootstrap.intervals(clusters)
    found = {}
    for name, value in values.items():
        there = [row[name] for row in by_fold if not math.isnan(row[name])]
        mean = moments.fmean(there) if there else math.nan
        sd = moments.stdev(there) if len(there) > 1 else math.nan
        found[name] = {"value": value, "low": bounds[name].low, "high": bounds[name].high, "mean": mean, "sd": sd}
    return found


def _differences(ours: EncounterSums, trivial: EncounterSums) -> dict[str, dict[str, float]]:
    """Return each figure minus that of a trivial answer, over the same encounters."""
    return {name: asdict(found) for name, found in bootstrap.paired(ours, trivial).items()}
