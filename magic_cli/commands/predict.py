"""Predict a split with one or several checkpoints, and write the task's files."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from magic_cli import tasks
from magic_cli.config import Config, from_dict
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.errors import CheckpointError, DataError
from magic_cli.io.files import refuse_existing
from magic_cli.io.progress import log
from magic_cli.records import Prediction, Sample
from magic_cli.training import checkpoint
from magic_cli.training.devices import accelerator_for
from magic_cli.training.inference import average, fill_cache, predict
from magic_cli.training.loader import workers
from magic_cli.training.runtime import Place
from magic_cli.training.task import Decision
from magic_cli.training.task_model import TaskModel

TTA_VIEWS = (0, 1, 2, 3)


def restored(path: Path, name: str, prepared: Prepared, weights: str | None = None) -> tuple[TaskModel, Config]:
    """Return the model of a checkpoint, and its settings.

    Raises:
        CheckpointError: it is damaged, of another task, of other questions, or of other encoder weights.
    """
    meta, learned = checkpoint.load_best(path, name)
    found_here = {"weights_dir": weights} if weights else {}
    config = from_dict(tasks.config_class(name), {**meta.config, **found_here}, str(path))
    if list(meta.questions) != prepared.questions.as_json() and tasks.get(name).uses_questions:
        raise CheckpointError(f"{path}: was trained on other questions than {prepared.root} has; train anew")
    model = tasks.get(name).build(config, prepared.questions)
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
    task = tasks.get(name)
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
    decision: Decision | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Predict a split with checkpoints that are looked up in runs/TASK/ too, and write the task's files to `out`.

    `decision` are options of the task's `write`. A dry run loads the checkpoints, counts the samples
    and writes nothing.
    """
    found: list[Path] = []
    for ckpt in ckpts:
        paths, note = checkpoint.find(ckpt, name)
        if note:
            log(note)
        found += paths
    refuse_existing(out, overwrite)
    prepared = open_prepared(data)
    task = tasks.get(name)
    result = {"task": name, "split": split, "out": str(out), "checkpoints": [str(path) for path in found]}
    if dry_run:
        configs = [restored(path, name, prepared, options.get("weights"))[1] for path in found]
        return result | {"samples": len(task.samples(prepared, split, configs[0])), "files": 0}
    with workers(out, "run the same command again"):
        files = task.write(predictions(name, found, prepared, split, place, **options), prepared, out, decision)
    return result | {"files": len(files)}
