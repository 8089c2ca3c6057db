"""The prediction loop, for every task: encode for the cache, predict batches on all processes, average models."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object, send_to_device

from magic_cli.config import Config
from magic_cli.data.imaging.images import Box
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
    """A model that predicts samples, and may look at them again.

    Attributes:
        model: on the device.
        config: its settings; with `second_look` 0 it does not look again.
        samples: as the model reads them; those of other models have the same ids, in the same order.
        views: of a photo, that its predictions are averaged over.
        learned: ids of samples that it learned from.
    """

    model: TaskModel
    config: Config
    samples: Sequence[Sample]
    views: Sequence[int] = (0,)
    learned: Collection[str] = ()


_AT_ONCE = 8  # samples that are looked at again together; as many photos are kept decoded (tasks/encoding.py)

_WAITING = 32  # predictions that wait for one that is looked at again


@dataclass(frozen=True)
class _Again:
    """A prediction, its place among the samples, and the part that is to be seen again; None: one look was enough."""

    first: Prediction
    place: int
    box: Box | None


def look_again(
    predictions: Iterable[Prediction], looks: Sequence[Look], accelerator: Accelerator
) -> Iterator[Prediction]:
    """Yield predictions in order; where a model asks for a closer look (`TaskModel.closer`), those of both looks.

    Who learned from a sample looks at it again only if all models learned from it, as in `average_predictions`. Several
    processes share the second looks, as all of them have all of the first ones.

    Args:
        predictions: of the first look, one per sample.
        looks: the models, of which at least one looks again.
        accelerator: of the run.
    """
    waiting: list[_Again] = []
    for place, first in enumerate(predictions):
        held_out = [look for look in looks if first.id not in look.learned] or looks
        again = [look for look in held_out if look.config.second_look]
        box = again[0].model.closer(first, again[0].config.second_look) if again else None
        waiting.append(_Again(first, place, box))
        count = sum(each.box is not None for each in waiting)
        if count in (0, _AT_ONCE) or len(waiting) == _WAITING:
            yield from _of_both(waiting, looks, accelerator)
            waiting = []
    yield from _of_both(waiting, looks, accelerator)


def _of_both(waiting: Sequence[_Again], looks: Sequence[Look], accelerator: Accelerator) -> Iterator[Prediction]:
    asked = [each for each in waiting if each.box is not None]
    twice = [look for look in looks if look.config.second_look]
    rank, processes = accelerator.process_index, accelerator.num_processes
    size = CPU_BATCH if accelerator.device.type == "cpu" else _AT_ONCE
    size = min(size, *(look.config.batch_size for look in twice))
    own = asked[rank::processes]
    found: dict[str, Prediction] = {}
    for start in range(0, len(own), size):
        found |= _second(own[start : start + size], twice, accelerator)
    if processes > 1 and asked:
        found = dict(gather_object(list(found.items())))
    for each in waiting:
        yield each.first if each.box is None else twice[0].model.both_looks(each.first, found[each.first.id], each.box)


def _second(asked: Sequence[_Again], looks: Sequence[Look], accelerator: Accelerator) -> dict[str, Prediction]:
    """Return the second prediction of samples by their ids, the mean over models and views."""
    runs, learned = [], []
    for look in looks:
        parts = [_part(look.samples[each.place], each.box) for each in asked]
        look.model.eval()
        for view in look.views:
            batch = send_to_device(look.model.collate(parts, [view] * len(parts)), accelerator.device)
            with torch.inference_mode(), autocast(look.config.precision, accelerator.device):
                runs.append(list(look.model.predict(batch, view)))
            learned.append(look.learned)
    return {prediction.id: prediction for prediction in average_predictions(runs, learned)}


def _part(sample: Sample, box: Box | None) -> Sample:
    """Return a sample whose first photo is a part of what it was."""
    photo, (left, top, right, bottom) = sample.images[0], box or (0.0, 0.0, 1.0, 1.0)
    height, width = (
        max(1, round(part * side)) for part, side in ((bottom - top, photo.height), (right - left, photo.width))
    )
    return replace(sample, images=(replace(photo, box=box, height=height, width=width), *sample.images[1:]))


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
