"""`magic predict`: predict a split with one or several checkpoints, and write the task's files."""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from magic_cli import tasks
from magic_cli.commands.cases.neighbours import find_neighbours
from magic_cli.commands.prediction.options import PredictOptions as PredictOptions
from magic_cli.commands.prediction.own_photos import check_images, files_read, open_images, photos_read
from magic_cli.commands.prediction.side_files import files_beside, names_beside
from magic_cli.commands.recording import recorded
from magic_cli.config import Config, from_dict, settings_of
from magic_cli.data.datasets import open_dataset
from magic_cli.data.own_photos.dataset import OwnPhotos
from magic_cli.data.prepared import Prepared
from magic_cli.data.prepared_inputs import image_files, table_files
from magic_cli.data.prepared_stamps import PreparedStamps
from magic_cli.data.shards.dataset import ShardStamps, shard_files
from magic_cli.errors import ConfigError, UsageError, printable, problem
from magic_cli.io import run_record
from magic_cli.io.files import StrPath
from magic_cli.io.launcher import launched
from magic_cli.io.ownership import check_target
from magic_cli.io.progress import is_main_process, log
from magic_cli.io.run_record import Hashed, RunFiles, hashed
from magic_cli.models.weights import encoder_digests
from magic_cli.records import Prediction, Sample
from magic_cli.report.next_command import after_predicting
from magic_cli.report.run_text import PredictResult
from magic_cli.setting import SettingValue
from magic_cli.training import checkpoint
from magic_cli.training.devices import accelerator_for
from magic_cli.training.inference import Look, Watch, average_predictions, fill_cache, look_again
from magic_cli.training.inference import predict as predict_samples
from magic_cli.training.restoring import restored
from magic_cli.training.runtime import Probed, Runtime
from magic_cli.training.seen import Exposure, ids_among
from magic_cli.training.task import NeighbourWeight, Task
from magic_cli.training.task_model import TaskModel
from magic_cli.training.workers import report_ends, require_workers

VIEWS = {"none": (0,), "flips": (0, 1, 2, 3), "turns": tuple(range(8))}
"""Views that predictions are averaged over, by the setting `tta`."""

PREDICTIONS = Path("predictions")

_SMALLER = "give fewer --ckpt at a time, --precision bf16, or --device cpu"  # where memory runs out

_DEFAULTS = PredictOptions()


@recorded
def predict(
    task: str,
    ckpt: StrPath | Sequence[StrPath],
    data: StrPath = "prepared",
    split: str = "test",
    out: StrPath | None = None,
    options: PredictOptions = _DEFAULTS,
) -> PredictResult:
    """Predict a split and write the files of the official submission layout.

    Args:
        task: "seg", "cvqa" or "pretrain".
        ckpt: a checkpoint, here or in runs/TASK/, or a folder of runs (folds, seeds); several are averaged. With
            `options.zero_shot` one of task pretrain.
        data: folder that `prepare` wrote; not used with `options.images`.
        split: train, valid or test; not used with `options.images`.
        out: folder of the predictions; None for predictions/TASK, with `probe` predictions/probe.
        options: how to predict and to decide.

    Raises:
        ConfigError: an option of another task was given. CheckpointError: a checkpoint cannot be used.
        DataError: `out` is taken, or the split has no samples. MagicError: any other of its kinds.
    """
    known = tasks.get(task)
    decision = known.decision_from(options.decided)
    known = known.configured({}, decision)  # whose models it takes may depend on the options
    _check_applies(known, options)
    folder = PREDICTIONS / ("probe" if options.probe else task) if out is None else Path(out)
    paths = _checkpoints([ckpt] if isinstance(ckpt, str | os.PathLike) else ckpt, known.trained_as)
    prepared, stamps = _opened(known, paths, (Path(data), split, folder), options)
    result = PredictResult(task, split, str(folder), tuple(map(str, paths)), dry_run=options.dry_run)
    if isinstance(prepared, OwnPhotos):
        result = replace(result, photos=photos_read(prepared))
    if options.dry_run:
        configs = [restored(path, known, prepared, options.weights)[1] for path in paths]
        return replace(result, samples=len(_samples(known, prepared, split, configs[0], options.limit)))
    known = known.configured(checkpoint.best_meta(paths[0])["config"], decision)
    if options.fits:
        return _fitted(result, known, (paths, stamps, prepared), options)
    ids: list[str] = []
    start = time.monotonic()
    with report_ends(folder, "run the same command again", lambda: _SMALLER):
        made, weight, unknown = _predicted(known, (paths, prepared), split, options)
        beside, noted = files_beside(known, prepared, options), _noting(stamps.checked(made), ids)
        files = known.write(noted, prepared, folder, decision, beside) if is_main_process() else _shared(noted)
    record, facts = _run_files(paths, stamps, folder, (split, options)), known.facts()
    if isinstance(prepared, OwnPhotos):
        record = replace(record, inputs=lambda: files_read(prepared, paths, options))
        result = replace(result, photos=photos_read(prepared, time.monotonic() - start, beside, ids))
        following = ""
    else:
        following = after_predicting(known, prepared, data, folder, split, ids)
    exposure = _exposure(known, (paths, prepared), split, options)
    asked = {"zoom": options.zoom} if options.zoom is not None else {}
    record = replace(record, settings={**(record.settings or {}), **asked, **facts, **exposure.to_json()})
    result = replace(result, facts=facts, exposure=exposure)
    if weight is not None:
        record = replace(record, settings={**record.settings, **_settings_of(weight)})
        result = replace(result, neighbours=weight, unknown=unknown)
    return replace(result, files=len(files), following=following, recorded=record)


def _check_applies(task: Task, options: PredictOptions) -> None:
    """Raise ConfigError if options were given that the task, as these options make it, does not have."""
    if options.neighbours is not None and not task.supports_neighbours:
        raise ConfigError(f"--neighbours: of another task than '{task.name}'; leave it out")
    if options.zoom is not None and "zoom" not in settings_of(task.config_class):
        raise ConfigError(f"--zoom: of another task than '{task.name}', or of other options; leave it out")


def _opened(
    task: Task, ckpts: Sequence[Path], places: tuple[Path, str, Path], options: PredictOptions
) -> tuple[Prepared, PreparedStamps]:
    """Return the dataset, or own photos, after the folder of results was checked."""
    data, split, folder = places
    if options.images:
        check_images(task, data, split, options)
    names = (*task.outputs, *names_beside(task, options))
    reading = options.images or (data,)
    if options.images or data.exists():  # a dataset that is missing is told instead
        check_target(folder, f"predict {task.name}", options.overwrite, names, (*ckpts, *map(Path, reading)))
    if options.images:
        return open_images(task, ckpts, options, folder)
    return open_dataset(data, shards=task.reads_shards)


def _settings_of(weight: NeighbourWeight) -> Mapping[str, SettingValue | None]:
    return {f"neighbours_{name}": value for name, value in weight.to_json().items()}


def _predicted(
    task: Task, inputs: tuple[Sequence[Path], Prepared], split: str, options: PredictOptions
) -> tuple[Iterable[Prediction], NeighbourWeight | None, int]:
    """Return the predictions; with `neighbours`, what these weigh, and how many photos of the index are unknown.

    Raises:
        ConfigError: the weight has to be chosen, and split valid has no answers.
    """
    paths, prepared = inputs
    if options.similar is None:
        return predictions(task, paths, prepared, split, options), None, 0
    gold, fixed = task.gold(prepared, "valid"), options.neighbour_weight
    if fixed is None and not len(gold):
        got, expected = "no answers in split valid", "some, to choose the weight of the neighbours on"
        raise ConfigError(problem(prepared.root, got, expected, "give --neighbour-weight W, 0 to 1"))
    made = list(predictions(task, paths, prepared, split, options))
    valid = made
    if fixed is None and (split != "valid" or options.limit is not None):
        valid = list(predictions(task, paths, prepared, "valid", replace(options, limit=None)))
    asking = dict.fromkeys(row.id for row in (*made, *valid))
    similar, unknown = find_neighbours((prepared.cases[name] for name in asking), prepared, options.similar)
    if fixed is not None:
        weight = NeighbourWeight(fixed)
    else:
        weight = task.neighbour_weight((gold, valid), similar, prepared, task.decision_from(options.decided))
    return task.with_neighbours(made, similar, prepared, weight.weight), weight, unknown


def _fitted(
    result: PredictResult, task: Task, inputs: tuple[Sequence[Path], PreparedStamps, Prepared], options: PredictOptions
) -> PredictResult:
    """Fit linear models on what one checkpoint's encoder gives, instead of predicting with the checkpoint alone."""
    paths, stamps, prepared = inputs
    option = "--probe" if options.probe else "--classes-by"
    if launched().processes > 1:
        raise ConfigError(problem(option, f"{launched().processes} processes", "one", "start it without a launcher"))
    if len(paths) > 1:
        raise ConfigError(problem(option, f"{len(paths)} checkpoints", "one", "give a single --ckpt"))
    weights = None if options.weights is None else str(Path(options.weights).resolve())
    names = tuple(filter(None, (name.strip() for name in (options.attributes or "").split(","))))
    asked = Probed(result.split, tuple(dict.fromkeys(names)), weights)
    files = task.probe(paths[0], prepared, asked, Path(result.out), options.runtime.runtime())
    record = _run_files(paths, stamps, Path(result.out), (result.split, options))
    record = replace(record, settings={**(record.settings or {}), **task.facts()})
    return replace(result, files=len(files), facts=task.facts(), recorded=record)


def _shared(predictions: Iterable[Prediction]) -> list[Path]:
    """Compute this process's share of the predictions; the first of several processes writes those of all."""
    deque(predictions, maxlen=0)
    return []


def _noting(predictions: Iterable[Prediction], ids: list[str]) -> Iterator[Prediction]:
    for prediction in predictions:
        ids.append(prediction.id)
        yield prediction


def _run_files(
    paths: Sequence[Path], stamps: PreparedStamps, folder: Path, how: tuple[str, PredictOptions]
) -> RunFiles:
    split, options = how

    def inputs() -> Hashed:
        yield from hashed((*paths, *(Path(path) for path in options.lists.values() if path is not None)))
        if isinstance(stamps, ShardStamps):
            yield from shard_files(stamps)
        else:
            yield from table_files(stamps.root)
            yield from image_files(stamps.root, (split,))
        stamps.check()  # they are those that were read

    configs = [checkpoint.best_meta(path)["config"] for path in paths]
    return RunFiles(
        record=folder / run_record.FILE,
        root=folder,
        inputs=inputs,
        settings=_settings_of_all(configs),
        weights=encoder_digests(configs, options.weights),
        device=options.runtime.device,
    )


def _settings_of_all(configs: Sequence[Mapping[str, SettingValue]]) -> Mapping[str, SettingValue]:
    """Return the settings that all checkpoints were trained with, for reports to tell systems apart."""
    first = configs[0]
    return {key: value for key, value in first.items() if all(config.get(key) == value for config in configs)}


def _checkpoints(names: Sequence[StrPath], task: str) -> list[Path]:
    """Return the checkpoints that names stand for; log it if they were found elsewhere."""
    paths: list[Path] = []
    for name in names:
        matches, note = checkpoint.find(Path(name), task)
        if note:
            log(note)
        paths += matches
    if not paths:
        raise UsageError("--ckpt: got no checkpoint, expected one or more; train first")
    once = {path.resolve(): path for path in reversed(paths)}  # the same file twice would weigh twice
    if len(once) < len(paths):
        log(f"--ckpt: {len(paths) - len(once)} of {len(paths)} checkpoints are given twice; each is used once")
    return list(reversed(once.values()))


def predictions(
    name: str | Task, ckpts: Sequence[Path], prepared: Prepared, split: str, options: PredictOptions = _DEFAULTS
) -> Iterator[Prediction]:
    """Yield the predictions of one checkpoint, or the mean of several; with `tta`, over flipped views.

    What one of several models learned from is predicted by the others, if these did not: each fold what it held out.

    With a `precision` other than "no", features are computed instead of read: the cache holds those of full precision.

    Args:
        name: of the task; or the task itself, as its settings and options make it (`Task.configured`).
        ckpts: the checkpoints.
        prepared: the dataset.
        split: one of its splits.
        options: how to predict.
    """
    task = tasks.get(name) if isinstance(name, str) else name
    runtime, runs, looks = options.runtime.runtime(), [], list[Look]()
    gold, decision = cache(lambda: task.gold(prepared, split)), task.decision_from(options.decided)
    for path in ckpts:
        model, config = restored(path, task, prepared, options.weights)
        task.before_predicting(model, gold, decision)
        config = _as_asked(config, options)
        samples = _samples(task, prepared, split, config, options.limit, warn=path == ckpts[0])
        model.cache = runtime.features(config) if options.precision in (None, "no") else None
        seen = ids_among(samples, checkpoint.load_seen(path).learned) if len(ckpts) > 1 else ()
        looks.append(Look(model, config, samples, _views(config, options.tta), seen))
        runs += predict_views(model, config, samples, runtime, looks[-1].views)
    return of_all_looks(runs, looks, runtime)


def _as_asked(config: Config, options: PredictOptions) -> Config:
    """Return the settings of a model with those that the options replace."""
    asked = {"precision": options.precision or None, "zoom": options.zoom}
    given = {name: value for name, value in asked.items() if value is not None}
    return from_dict(type(config), config.as_dict() | given, "the options") if given else config


def of_all_looks(runs: Sequence[Iterator[Prediction]], looks: Sequence[Look], runtime: Runtime) -> Iterator[Prediction]:
    """Return the mean of predictions over models and views, refined by a second look where models ask for one.

    Args:
        runs: the predictions of each model, view by view, as `predict_views` returns them.
        looks: the models, in the same order.
        runtime: device and cache.
    """
    learned = [look.learned for look in looks for _ in look.views]
    found = average_predictions(runs, learned) if len(runs) > 1 else runs[0]
    if not any(look.config.second_look for look in looks):
        return found
    return look_again(found, looks, accelerator_for(looks[0].config, runtime.device))


def _views(config: Config, asked: bool | None) -> Sequence[int]:
    chosen = "none" if asked is False else "flips" if asked and config.tta == "none" else config.tta
    return VIEWS[chosen]


def _exposure(task: Task, inputs: tuple[Sequence[Path], Prepared], split: str, options: PredictOptions) -> Exposure:
    """Return how many of the samples the models have seen."""
    paths, prepared = inputs
    config = from_dict(task.config_class, checkpoint.best_meta(paths[0])["config"], str(paths[0]))
    samples = _samples(task, prepared, split, config, options.limit, warn=False)
    return Exposure.of(samples, [checkpoint.load_seen(path) for path in paths])


def _samples(
    task: Task, prepared: Prepared, split: str, config: Config, limit: int | None, warn: bool = True
) -> Sequence[Sample]:
    """Return the samples to predict, at most `limit`; log the warnings about them."""
    samples = task.prediction_samples(prepared, split, config)
    for line in task.prediction_warnings(prepared, split, samples, config) if warn else ():
        log(f"note: {printable(line)}")
    return samples[:limit]


def predict_views(
    model: TaskModel, config: Config, samples: Sequence[Sample], runtime: Runtime, views: Sequence[int] = (0,)
) -> list[Iterator[Prediction]]:
    """Return a model's predictions, one iterator per view; its cache, if it has one, is filled first."""
    require_workers(config)
    accelerator = accelerator_for(config, runtime.device)
    fill_cache(model, samples, len(views), accelerator)
    model.to(accelerator.device)
    labels = [
        f"predicting, view {place} of {len(views)}" if len(views) > 1 else "" for place in range(1, len(views) + 1)
    ]
    return [
        predict_samples(model, samples, config, accelerator, view, Watch(label))
        for view, label in zip(views, labels, strict=True)
    ]
