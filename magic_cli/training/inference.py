"""The task seam, devices, and the one prediction loop, on accelerate; training/trainer.py holds the one training loop.

Neither ever asks which task it runs. What could only be tested on a CPU here: fp16 with its scaler, CUDA
copies and several GPUs follow accelerate's documented use.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object

from magic_cli.config import Config
from magic_cli.io.progress import track
from magic_cli.models.cache.features import Item
from magic_cli.models.cache.memo import clear_trainable
from magic_cli.models.encoders import Encoder
from magic_cli.records import Prediction, Sample
from magic_cli.training.devices import autocast
from magic_cli.training.loader import Views, loader_for, shared, to_device
from magic_cli.training.task_model import TaskModel

CPU_BATCH = 4  # photos that a CPU predicts at a time: more of them only leave its caches


def fill_cache(model: TaskModel, samples: Sequence[Sample], views: int, accelerator: Accelerator) -> None:
    """Encode once what the frozen encoders will be asked for, the work shared; without a cache, do nothing."""
    if model.cache is None:
        return
    model.cache.hold()  # shrunk photos are kept in it, too
    wanted: dict[Encoder, dict[str, Item]] = {}
    for encoder, item in model.frozen(samples, views):
        wanted.setdefault(encoder, {}).setdefault(item.key, item)
    rank, processes = accelerator.process_index, accelerator.num_processes
    # Each process encodes its part and then finds the others': waiting for one would last longer than a barrier may.
    for parts in sorted({processes, 1}, reverse=True):
        for encoder, items in wanted.items():
            part = list(items.values())[rank % parts :: parts]
            model.cache.fill(encoder.to(accelerator.device), part, accelerator.device)
        accelerator.wait_for_everyone()


def predict(
    model: TaskModel, samples: Sequence[Sample], config: Config, accelerator: Accelerator, view: int = 0
) -> Iterator[Prediction]:
    """Yield one prediction a sample, in order, each once however many processes share the work."""
    size = min(config.batch_size, CPU_BATCH) if accelerator.device.type == "cpu" else config.batch_size
    parts = shared(len(samples), size, accelerator.process_index, accelerator.num_processes)
    cuda = accelerator.device.type == "cuda"
    loader = loader_for(model, Views(samples, config.seed, view=view), config, [p for p in parts if p], cuda)
    if accelerator.num_processes > 1:
        broadcast(list(model.buffers()))  # statistics of normalisation, which each process made from its own share
    model.eval()
    clear_trainable(model)
    batches = to_device(loader, accelerator.device)
    for part in track(parts, "predicting"):
        found: list[Prediction] = []
        if part:
            batch = next(batches)
            with torch.inference_mode(), autocast(config.precision, accelerator.device):
                found = list(model.predict(batch, view))
        if accelerator.num_processes > 1:
            found = gather_object(found)
        yield from found


def average_predictions(runs: Sequence[Iterable[Prediction]]) -> Iterator[Prediction]:
    """Average several models or views, prediction by prediction; all runs are in the same order."""
    for group in zip(*runs, strict=True):
        yield type(group[0]).mean_of(group)
