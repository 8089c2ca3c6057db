"""A training run and a prediction run from the outside: data, settings and checkpoints in, folders out."""

import dataclasses
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from magic_cli import checkpoint, provenance, review, tasks
from magic_cli.choosing import choose
from magic_cli.config import Config, from_dict, resolve
from magic_cli.data.gold import gold_of
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.draft import Draft
from magic_cli.engine import Task, TaskModel, accelerator_for, average, fill_cache, insist, predict, workers
from magic_cli.errors import CheckpointError, ConfigError, DataError, EmptySplit
from magic_cli.files import cache_root, refuse_existing
from magic_cli.model.cache import FeatureCache
from magic_cli.progress import log
from magic_cli.records import Prediction, Sample
from magic_cli.trainer import Data, Trainer

TTA_VIEWS = (0, 1, 2, 3)
FILES = ("best.pt", "state.pt", "metrics.jsonl", review.FILE)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run computes and caches: `cache` None switches the feature cache off."""

    device: str = "auto"
    cache: Path | None = None

    @classmethod
    def of(cls, device: str, cache_dir: Path | None, no_cache: bool) -> "Place":
        """Return the place that the options --device, --cache-dir and --no-cache name."""
        return cls(device, None if no_cache else cache_dir or cache_root() / "features")

    def features(self, config: Config) -> FeatureCache | None:
        """Return the feature cache in the precision that a config names."""
        return FeatureCache(self.cache, config.cache_dtype) if self.cache else None


def divide(task: Task, prepared: Prepared, config: Config) -> Data:
    """Return train and valid samples; a part of the train encounters where valid has no gold.

    Raises:
        DataError: nothing to train on, or nothing left to validate on.
    """
    train = list(task.samples(prepared, "train", config))
    split, valid = "valid", _valid(task, prepared, config)
    if not valid:
        split = "train"
        encounters = sorted({sample.encounter.encounter_id for sample in train})
        random.Random(config.seed).shuffle(encounters)  # noqa: S311  not a secret
        held = set(encounters[: round(config.holdout_fraction * len(encounters))])
        share = f"{len(held)} of {len(encounters)} train encounters"
        log(f"split valid has no gold: {share} are held out (--set holdout_fraction=)")
        valid = once(s for s in train if s.encounter.encounter_id in held)
        train = [s for s in train if s.encounter.encounter_id not in held]
    if not train or not valid:
        got = f"{len(train)} samples to train on, {len(valid)} to validate on"
        raise DataError(f"{prepared.root}: {got}; `magic prepare` says what was found, and what was left out")
    gold = gold_of(prepared, split).only({sample.id for sample in valid})
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
        return resolve(tasks.CONFIGS[name], preset or "small", settings, **flags)
    if meta["task"] != name:
        raise CheckpointError(f"{where}: is of task '{meta['task']}', not '{name}'; give that run's --out")
    config = from_dict(tasks.CONFIGS[name], meta["config"], str(where))
    asked = resolve(tasks.CONFIGS[name], preset or config.preset, settings, **flags).as_dict()
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
    before = checkpoint.state_meta(state) if resume and state.is_file() else {}
    config = settled(name, state, before, preset, settings, flags)
    if deterministic:
        insist()
    task: Task = tasks.load(name)
    prepared = open_prepared(data)
    parts = divide(task, prepared, config)
    log(f"{name}: {len(parts.train)} training samples, {len(parts.valid)} validation samples, preset {config.preset}")
    trainer = Trainer(name, parts, config, work, place.device, place.features(config))
    everything = list(trainer.core.parameters())
    learning = sum(p.numel() for p in everything if p.requires_grad)
    log(f"{learning:,} of {sum(p.numel() for p in everything):,} parameters learn")
    report: dict[str, Any] = {"task": name, "config": config.as_dict(), "parameters": learning}
    report |= {"train_samples": len(parts.train), "valid_samples": len(parts.valid)}
    report["review"] = review.of_data(task, prepared, [*parts.train, *parts.valid], config)
    if dry_run:
        return report
    with draft.alone(work, resume):
        for old in () if resume else FILES:
            (work / old).unlink(missing_ok=True)
        provenance.begin(work / provenance.FILE)
        at = trainer.run(resume)
        chosen = choose(trainer)
        best = at.history[at.best_epoch] if at.history else {}
        baselines = task.baselines(parts.train, parts.gold)
        report |= {"best": best, "epochs": at.epoch, "baselines": baselines, "chosen": chosen}
        report["review"] = review.of_run(trainer, report["review"])
        trainer.accelerator.wait_for_everyone()
        draft.publish(work)
    return report | {"checkpoint": str(out / "best.pt")}


def _files(folder: Path) -> list[Path]:
    """Return the files of a run that are in a folder."""
    return provenance.with_record([folder / name for name in FILES if (folder / name).is_file()], folder)


def restored(path: Path, name: str, prepared: Prepared, weights: str | None = None) -> tuple[TaskModel, Config]:
    """Return the model of a checkpoint, and its settings.

    Raises:
        CheckpointError: it is damaged, of another task, of other questions, or of other encoder weights.
    """
    meta, learned = checkpoint.load_best(path, name)
    found_here = {"weights_dir": weights} if weights else {}
    config = from_dict(tasks.CONFIGS[name], {**meta.config, **found_here}, str(path))
    if list(meta.questions) != prepared.questions.as_json() and name == "cvqa":
        raise CheckpointError(f"{path}: was trained on other questions than {prepared.root} has; train anew")
    model: TaskModel = tasks.load(name).build(config, prepared.questions)
    for where, encoder in checkpoint.encoders(model).items():
        if meta.encoders.get(f"{where}={encoder.source}") != encoder.weights_sha256:
            got = f"weights of {encoder.source} that differ from those in training"
            raise CheckpointError(f"{path}: {got}; bring the same ones (--weights DIR) or train anew")
    checkpoint.load_learned(model, learned, path)
    return model, config


def predictions(
    name: str,
    ckpts: Sequence[Path],
    prepared: Prepared,
    split: str,
    place: Place,
    *,
    tta: bool = False,
    limit: int | None = None,
    weights: str | None = None,
    precision: str | None = None,
) -> Iterator[Prediction]:
    """Yield the predictions of one checkpoint, or the mean of several; with `tta`, over four flipped views.

    With a `precision` of its own, prediction encodes anew: the cache holds what full precision gave.
    """
    task: Task = tasks.load(name)
    runs = []
    for path in ckpts:
        model, config = restored(path, name, prepared, weights)
        if precision:
            config = from_dict(type(config), config.as_dict() | {"precision": precision}, "--precision")
        samples: Sequence[Sample] = list(islice(task.samples(prepared, split, config), limit))
        if not samples:
            raise DataError(
                f"{prepared.root}: nothing to predict in split {split}; `magic prepare` says what was found"
            )
        model.cache = place.features(config) if precision in (None, "no") else None
        runs += seen(model, config, samples, place, TTA_VIEWS if tta else (0,))
    return average(runs) if len(runs) > 1 else runs[0]


def seen(
    model: TaskModel, config: Config, samples: Sequence[Sample], place: Place, views: Sequence[int] = (0,)
) -> list[Iterator[Prediction]]:
    """Return the predictions of a model, one iterator a view; its cache, if it has one, is filled at once."""
    accelerator = accelerator_for(config, place.device)
    fill_cache(model, samples, len(views), accelerator)
    model.to(accelerator.device)
    return [predict(model, samples, config, accelerator, view) for view in views]


def predict_to(
    name: str,
    ckpts: Sequence[Path],
    data: Path,
    split: str,
    out: Path,
    place: Place,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    decision: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Predict a split with checkpoints that are looked up in runs/TASK/ too, and write the task's files to `out`.

    `decision` are options of the task's `write` (tasks.DECISIONS). A dry run loads the checkpoints, counts the samples
    and writes nothing.
    """
    decision = {key: value for key, value in (decision or {}).items() if value not in (None, False)}
    others = [_flag(key) for key in decision if key not in tasks.DECISIONS[name]]
    if others:
        raise ConfigError(f"{', '.join(others)}: of another task than '{name}'; leave it out")
    found: list[Path] = []
    for ckpt in ckpts:
        paths, note = checkpoint.find(ckpt, name)
        if note:
            log(note)
        found += paths
    refuse_existing(out, overwrite)
    prepared = open_prepared(data)
    task = tasks.load(name)
    result = {"task": name, "split": split, "out": str(out), "checkpoints": [str(path) for path in found]}
    if dry_run:
        configs = [restored(path, name, prepared, options.get("weights"))[1] for path in found]
        return result | {"samples": len(task.samples(prepared, split, configs[0])), "files": 0}
    with workers(out, "run the same command again"):
        files = task.write(predictions(name, found, prepared, split, place, **options), prepared, out, **decision)
    return result | {"files": len(files)}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
