"""The prediction loop, for every task: encode for the cache, predict batches on all processes, average models."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object, send_to_device

from magic_cli.config import Config
from magic_cli.io.durations import phase
from magic_cli.io.progress import track
from magic_cli.io.signals import Interrupt
from magic_cli.models.cache import notes
from magic_cli.models.cache.features import Item
from magic_cli.models.cache.memo import clear_trainable
from magic_cli.models.encoders import Encoder
from magic_cli.records import Prediction, Sample
from magic_cli.training.devices import autocast
from magic_cli.training.loader import Views, batches_of, loader_for, shared
from magic_cli.training.task_model import TaskModel


@dataclass
class Watch:
    """What goes on while a caller predicts.

    Attributes:
        label: what the progress calls it, where the caller tells how long it took; "" for "predicting".
        stop: whether a signal came to this process.
        ends: whether one came to any process; the same on all, and known before the predictions that follow it.
    """

    label: str = ""
    stop: Interrupt | None = None
    ends: bool = False


CPU_BATCH = 4  # photos per batch on a CPU: larger batches no longer fit its caches


def fill_cache(model: TaskModel, samples: Sequence[Sample], views: int, accelerator: Accelerator) -> None:
    """Encode all inputs of frozen encoders into the cache, shared among processes; without a cache, do nothing."""
    if model.cache is None:
        return
    model.cache.hold()  # it holds shrunk photos, too
    wanted: dict[Encoder, dict[str, Item]] = {}
    for encoder, item in model.frozen(samples, views):
        wanted.setdefault(encoder, {}).setdefault(item.key, item)
    rank, processes = accelerator.process_index, accelerator.num_processes
    # Each process encodes its part, then all look for missing items: a barrier could time out while others encode.
    with phase("encoding"):
        for parts in sorted({processes, 1}, reverse=True):
            for encoder, items in wanted.items():
                part = list(items.values())[rank % parts :: parts]
                model.cache.fill(encoder.to(accelerator.device), part, accelerator.device)
            accelerator.wait_for_everyone()


def predict(
    model: TaskModel,
    samples: Sequence[Sample],
    config: Config,
    accelerator: Accelerator,
    view: int = 0,
    watch: Watch | None = None,
) -> Iterator[Prediction]:
    """Yield one prediction per sample, in order, exactly once however many processes share the work.

    Args:
        model: on the device.
        samples: what is predicted.
        config: of the model.
        accelerator: of the run.
        view: of every photo.
        watch: of the caller, who ends it after a signal; None: nobody does.
    """
    watch = watch or Watch()
    size = min(config.batch_size, CPU_BATCH) if accelerator.device.type == "cpu" else config.batch_size
    parts = shared(len(samples), size, accelerator.process_index, accelerator.num_processes)
    cuda = accelerator.device.type == "cuda"
    loader = loader_for(model, Views(samples, config.seed, view=view), config, [p for p in parts if p], cuda)
    if accelerator.num_processes > 1:
        broadcast(list(model.buffers()))  # normalisation statistics, which each process computed from its own share
    model.eval()
    clear_trainable(model)
    with batches_of(loader, accelerator.device) as batches:
        for part in track(parts, watch.label or "predicting", leaves_line=not watch.label):
            predictions: list[Prediction] = []
            if part:
                batch = next(batches)
                with torch.inference_mode(), autocast(config.precision, accelerator.device):
                    predictions = list(model.predict(batch, view))
            watch.ends = watch.stop is not None and watch.stop.requested
            if accelerator.num_processes > 1:
                of_all = gather_object([(predictions, watch.ends)])
                predictions = [prediction for own, _ in of_all for prediction in own]
                watch.ends = any(ends for _, ends in of_all)
            yield from predictions
    notes.current().report()


@dataclass(frozen=True)
class Look:
    """A model that looks again at samples that it has predicted.

    Attributes:
        model: on the device.
        config: its settings; one with `second_look` 0 does not look again.
        views: of a photo, that its predictions are averaged over.
        learned: ids of samples that it learned from.
    """

    model: TaskModel
    config: Config
    views: Sequence[int] = (0,)
    learned: Collection[str] = ()


_AT_ONCE, _WAITING = 8, 64  # samples that are looked at again together; predictions that wait for them


def look_again(
    predictions: Iterable[Prediction], samples: Sequence[Sample], looks: Sequence[Look], accelerator: Accelerator
) -> Iterator[Prediction]:
    """Yield predictions in order; where a model asks for a closer look (`TaskModel.closer`), those of both looks.

    Several processes share the second looks, as all of them have all of the first ones.

    Args:
        predictions: of the first look, one per sample.
        samples: in the same order.
        looks: at least one model with a second look; the first one says what is seen again.
        accelerator: of the run.
    """
    first, waiting, count = looks[0], list[tuple[Prediction, Sample | None]](), 0
    for prediction, sample in zip(predictions, samples, strict=True):
        closer = first.model.closer(sample, prediction, first.config.second_look)
        waiting.append((prediction, closer))
        count += closer is not None
        if count == _AT_ONCE or len(waiting) == _WAITING:
            yield from _of_both(waiting, looks, accelerator)
            waiting, count = [], 0
    yield from _of_both(waiting, looks, accelerator)


def _of_both(
    waiting: Sequence[tuple[Prediction, Sample | None]], looks: Sequence[Look], accelerator: Accelerator
) -> Iterator[Prediction]:
    again = [sample for _, sample in waiting if sample is not None]
    rank, processes = accelerator.process_index, accelerator.num_processes
    found = dict(_second(again[rank::processes], looks, accelerator))
    if processes > 1:
        found = dict(gather_object(list(found.items())))
    for prediction, sample in waiting:
        yield prediction if sample is None else looks[0].model.both_looks(prediction, found[sample.id], sample)


def _second(
    samples: Sequence[Sample], looks: Sequence[Look], accelerator: Accelerator
) -> Iterator[tuple[str, Prediction]]:
    """Yield the second prediction of each sample with its id, the mean over models and views."""
    if not samples:
        return
    runs, learned = [], []
    for look in looks:
        look.model.eval()
        for view in look.views:
            batch = look.model.collate(samples, [view] * len(samples))
            with torch.inference_mode(), autocast(look.config.precision, accelerator.device):
                runs.append(list(look.model.predict(send_to_device(batch, accelerator.device), view)))
            learned.append(look.learned)
    for prediction in average_predictions(runs, learned):
        yield prediction.id, prediction


def average_predictions(
    runs: Sequence[Iterable[Prediction]], learned: Sequence[Collection[str]] = ()
) -> Iterator[Prediction]:
    """Average several models or views, prediction by prediction; all runs are in the same order.

    Args:
        runs: of the models and views.
        learned: for each run, the ids of the samples that its model learned from; () for none. Such a sample is
            predicted by the other models alone, if there are any.
    """
    for group in zip(*runs, strict=True):
        pairs = zip(group, learned or [()] * len(group), strict=True)
        held_out = [prediction for prediction, ids in pairs if prediction.id not in ids]
        yield type(group[0]).mean_of(held_out or group)
