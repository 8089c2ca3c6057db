"""A training run and a prediction run from the outside: data, settings and checkpoints in, folders out."""

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from magic_cli import tasks
from magic_cli.config import Config, from_dict, resolve
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.errors import CheckpointError, ConfigError, DataError, EmptySplit
from magic_cli.io import run_record
from magic_cli.io.progress import log
from magic_cli.records import Sample
from magic_cli.training import selection
from magic_cli.training.devices import insist
from magic_cli.training.resume import state_meta
from magic_cli.training.run_folder import Draft
from magic_cli.training.runtime import Place
from magic_cli.training.task import Task
from magic_cli.training.trainer import Data, Trainer

FILES = ("best.pt", "state.pt", "metrics.jsonl", selection.FILE)


def divide(task: Task, prepared: Prepared, config: Config) -> Data:
    """Return train and valid samples; a part of the train encounters where valid has no gold.

    Raises:
        DataError: nothing to train on, or nothing left to validate on.
    """
    train = list(task.samples(prepared, "train", config))
    split, valid = "valid", _valid(task, prepared, config)
    if not valid:
        split = "train"
        encounters = sorted({sample.case.case_id for sample in train})
        random.Random(config.seed).shuffle(encounters)  # noqa: S311  not a secret
        held = set(encounters[: round(config.holdout_fraction * len(encounters))])
        share = f"{len(held)} of {len(encounters)} train encounters"
        log(f"split valid has no gold: {share} are held out (--set holdout_fraction=)")
        valid = once(s for s in train if s.case.case_id in held)
        train = [s for s in train if s.case.case_id not in held]
    if not train or not valid:
        got = f"{len(train)} samples to train on, {len(valid)} to validate on"
        raise DataError(f"{prepared.root}: {got}; `magic prepare` says what was found, and what was left out")
    gold = task.gold(prepared, split).only({sample.id for sample in valid})
    return Data(task, train, valid, gold, prepared.questions, prepared.sha256)


def once(samples: Iterable[Sample]) -> list[Sample]:
    """Return samples to be judged by: of several that differ in their mask alone (--merge each), one."""
    return list({(sample.id, sample.qids): sample for sample in samples}.values())


def _valid(task: Task, prepared: Prepared, config: Config) -> list[Sample]:
    """Return the valid samples, none where the split has no gold."""
    try:
        return list(task.samples(prepared, "valid", config))
    except EmptySplit:
        return []


def settled(
    name: str, where: Path, meta: Mapping[str, Any], preset: str, settings: Sequence[str], flags: Mapping[str, Any]
) -> Config:
    """Return the settings that are asked for, or those of the run that is resumed, which wrote `meta` to `where`.

    Raises:
        CheckpointError: `meta` is of another task. ConfigError: wrong settings, or other ones than the resumed run's,
            which are refused, not ignored.
    """
    if not meta:
        return resolve(tasks.config_class(name), preset or "small", settings, **flags)
    if meta["task"] != name:
        raise CheckpointError(f"{where}: is of task '{meta['task']}', not '{name}'; give that run's --out")
    config = from_dict(tasks.config_class(name), meta["config"], str(where))
    asked = resolve(tasks.config_class(name), preset or config.preset, settings, **flags).as_dict()
    given = {pair.partition("=")[0] for pair in settings} | {k for k, v in flags.items() if v is not None}
    given |= {"preset"} if preset else set()
    other = [
        f"{key}={asked[key]} (the run has {meta['config'][key]})" for key in given if asked[key] != meta["config"][key]
    ]
    if other:
        raise ConfigError(f"{where}: --resume keeps the run's own settings, got {', '.join(other)}; leave them out")
    return config


def train(
    name: str,
    data: Path,
    out: Path,
    place: Place,
    *,
    preset: str = "",
    settings: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    deterministic: bool = False,
    **flags: Any,
) -> dict[str, Any]:
    """Train a task into `out` and return what to report: figures of the best epoch, baselines, checkpoint.

    Raises:
        MagicError: any of its kinds; nothing that was finished is lost.
    """
    draft = Draft(out, "run", "metrics.jsonl", _files)
    if not dry_run:
        draft.settle()
    work = draft.folder(resume, overwrite)
    state = work / "state.pt"
    before = state_meta(state) if resume and state.is_file() else {}
    config = settled(name, state, before, preset, settings, flags)
    if deterministic:
        insist()
    task = tasks.get(name)
    prepared = open_prepared(data)
    parts = divide(task, prepared, config)
    log(f"{name}: {len(parts.train)} training samples, {len(parts.valid)} validation samples, preset {config.preset}")
    trainer = Trainer(name, parts, config, work, place.device, place.features(config))
    everything = list(trainer.core.parameters())
    learning = sum(p.numel() for p in everything if p.requires_grad)
    log(f"{learning:,} of {sum(p.numel() for p in everything):,} parameters learn")
    report: dict[str, Any] = {"task": name, "config": config.as_dict(), "parameters": learning}
    report |= {"train_samples": len(parts.train), "valid_samples": len(parts.valid)}
    review = selection.review_data(task, prepared, [*parts.train, *parts.valid], config)
    report["review"] = review.to_json()
    if dry_run:
        return report
    with draft.alone(work, resume):
        for old in () if resume else FILES:
            (work / old).unlink(missing_ok=True)
        run_record.begin(work / run_record.FILE)
        at = trainer.run(resume)
        chosen = selection.choose_settings(trainer)
        best = at.history[at.best_epoch] if at.history else {}
        baselines = dict(task.baseline_scores(parts.train, parts.gold))
        report |= {"best": best, "epochs": at.epoch, "baselines": baselines, "chosen": chosen}
        report["review"] = selection.review_run(trainer, review).to_json()
        trainer.accelerator.wait_for_everyone()
        draft.publish(work)
    return report | {"checkpoint": str(out / "best.pt")}


def _files(folder: Path) -> list[Path]:
    """Return the files of a run that are in a folder."""
    return run_record.with_record([folder / name for name in FILES if (folder / name).is_file()], folder)
