"""The task seam, devices, and the one prediction loop, on accelerate; trainer.py holds the one training loop.

Neither ever asks which task it runs. What could only be tested on a CPU here: fp16 with its scaler, CUDA
copies and several GPUs follow accelerate's documented use.
"""

import ctypes
import dataclasses
import functools
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast, gather_object, send_to_device, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader

from magic_cli.batches import Views, shared
from magic_cli.config import Config
from magic_cli.data.gold import Gold
from magic_cli.data.maps import mean_of
from magic_cli.data.prepared import Prepared
from magic_cli.errors import ConfigError, MagicError, problem
from magic_cli.interrupt import Interrupt
from magic_cli.model.cache import FeatureCache, Item
from magic_cli.model.encoders import Encoder
from magic_cli.model.memory import forget
from magic_cli.progress import log, track
from magic_cli.questions import QuestionSchema
from magic_cli.records import Prediction, Report, Rules, Sample

Batch = dict[str, Any]
CPU_BATCH = 4  # photos that a CPU predicts at a time: more of them only leave its caches
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's malloc.h


class TaskModel(nn.Module):
    """A task's model: encoders + head, with everything between samples and predictions.

    `view` is a number that names an augmented view of a photo; 0 is the photo as it is.
    """

    cache: FeatureCache | None = None

    def frozen(self, samples: Sequence[Sample], views: int) -> Iterable[tuple[Encoder, Item]]:  # noqa: ARG002
        """Yield what frozen encoders will be asked for by these samples, in views 0..views-1."""
        return ()

    def begin(self, samples: Sequence[Sample]) -> None:
        """Set what depends on the training data (priors, scales), once, before the first step."""

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> Batch:
        """Load samples into a batch of CPU tensors; runs in the data loader's workers."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """Return the scalar training loss of a batch."""
        raise NotImplementedError

    def predict(self, batch: Batch, view: int) -> list[Prediction]:
        """Return one prediction a sample, with the view undone; no gradients."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss: what a distributed wrapper has to go through."""
        return self.loss(batch)


class Task(Protocol):
    """A module of tasks/: what its samples, model, score and deliverable are."""

    MONITOR: str

    def samples(self, prepared: Prepared, split: str, config: Any) -> Sequence[Sample]: ...
    def build(self, config: Any, questions: QuestionSchema) -> TaskModel: ...
    def score(
        self, gold: Gold, predictions: Iterable[Prediction], rules: Rules = ..., workers: int = ...
    ) -> Report: ...
    def baselines(self, train: Sequence[Sample], gold: Gold) -> Mapping[str, float]: ...
    def choose(self, gold: Gold, predictions: Iterable[Prediction], config: Any) -> Mapping[str, Any]: ...
    def checks(self, prepared: Prepared, samples: Sequence[Sample], config: Any) -> Sequence[str]: ...
    def review(
        self,
        gold: Gold,
        predictions: Iterable[Prediction],
        guesses: Mapping[str, Iterable[Prediction]],
        folds: Sequence[Collection[str]] = ...,
    ) -> Mapping[str, Any]: ...
    def write(
        self, predictions: Iterable[Prediction], prepared: Prepared, out: Path, **decision: Any
    ) -> list[Path]: ...
    def strata(self, samples: Sequence[Sample], questions: QuestionSchema) -> Mapping[str, Sequence[str]]: ...
    def guesses(
        self, parts: Sequence[Sequence[Sample]], questions: QuestionSchema
    ) -> Mapping[str, Iterable[Prediction]]: ...


def loader_for(
    model: TaskModel, dataset: Views, config: Config, batches: Iterable[list[int]], cuda: bool
) -> DataLoader[Any]:
    """Return a loader of these batches of indices; on CUDA through pinned memory, for copies that do not wait."""
    return DataLoader(
        dataset,
        batch_sampler=batches,  # any iterable with a length will do
        num_workers=config.workers,
        pin_memory=cuda,
        worker_init_fn=Interrupt.ignore,
        generator=torch.Generator(),  # else each iterator would draw from the global one, and resuming would differ
        collate_fn=functools.partial(_collate, model),
    )


def moved(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches on a device; copies from pinned memory run beside the step before."""
    for batch in batches:
        yield send_to_device(batch, device, non_blocking=True)


@contextmanager
def workers(where: object, remedy: str) -> Iterator[None]:
    """Say in one line that a worker of a data loader died; torch raises that anywhere, as its signal comes.

    Raises:
        MagicError: it did.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        got = f"the end of a data loader's process ({str(error).splitlines()[0].rstrip('. ')})"
        raise MagicError(problem(where, got, "one that works to the end", f"free memory; {remedy}")) from None


def _collate(model: TaskModel, pairs: Sequence[tuple[Sample, int]]) -> Batch:
    return model.collate([sample for sample, _ in pairs], [view for _, view in pairs])


def keep_memory() -> None:
    """Let glibc keep freed blocks instead of giving them back to the kernel; elsewhere do nothing.

    A convolution on the CPU frees and asks for hundreds of megabytes a step, and every page of them would be
    mapped and zeroed anew: EfficientNet-Lite0 forward on 16 photos took 24 ms a photo without this and
    14 ms with it (median of five pairs, tests/benchmarks/allocator.py).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 1 << 26)):
            mallopt(name, value)


def insist() -> None:
    """Fail on non-deterministic operations instead of warning (--deterministic).

    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html; cuBLAS's workspace: accelerator_for.
    """
    torch.use_deterministic_algorithms(True)


def accelerator_for(config: Config, device: str) -> Accelerator:
    """Return accelerate's handle for this device and precision, seeds set.

    Raises:
        ConfigError: the device is not here.
    """
    here = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not here.get(device):
        found = [name for name, there in here.items() if there]
        raise ConfigError(f"--device {device}: not on this machine; expected one of {', '.join(found)}")
    on_cpu = device == "cpu" or not (here["cuda"] or here["mps"])
    precision = config.precision
    if precision == "fp16" and on_cpu:
        log("precision fp16 needs a GPU: computing in float32 (on the CPU, bf16 is possible)")
        precision = "no"
    if on_cpu:
        keep_memory()
        # Gradients of confident pixels are below 1e-38, and a CPU computes with such numbers many times slower:
        # CLIPSeg's decoder step took 0.25 s without them and 0.40 to 1.1 s with them (tests/benchmarks/clipseg.py).
        torch.set_flush_denormal(True)
        if "MASTER_ADDR" in os.environ and not {"LOCAL_RANK", "WORLD_SIZE"} & os.environ.keys():
            log("the launcher started one process only; several on the CPU: torchrun --nproc_per_node N -m magic_cli …")
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; without it sums may vary
    set_seed(config.seed)
    if not torch.are_deterministic_algorithms_enabled():  # after `insist` they are, without mere warnings
        torch.use_deterministic_algorithms(True, warn_only=True)
    # It fills every new tensor to make the use of unset memory repeatable: a third of a convolution's training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    AcceleratorState._reset_state()  # else a second run in this process would have to have the first one's precision
    return Accelerator(cpu=on_cpu, mixed_precision=precision, step_scheduler_with_optimizer=False)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context of a precision on a device; float16 needs a GPU, and elsewhere nothing changes.

    Accelerate's own is a setting of the whole process, and models of an ensemble may differ.
    """
    kinds = {"bf16": torch.bfloat16} | ({} if device.type == "cpu" else {"fp16": torch.float16})
    return torch.autocast(device.type, kinds.get(precision), enabled=precision in kinds)


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
    forget(model)
    batches = moved(loader, accelerator.device)
    for part in track(parts, "predicting"):
        found: list[Prediction] = []
        if part:
            batch = next(batches)
            with torch.inference_mode(), autocast(config.precision, accelerator.device):
                found = model.predict(batch, view)
        if accelerator.num_processes > 1:
            found = gather_object(found)
        yield from found


def average(runs: Sequence[Iterable[Prediction]]) -> Iterator[Prediction]:
    """Average the arrays of several models or views, prediction by prediction (data/maps.py); all in one order."""
    for group in zip(*runs, strict=True):
        first = group[0]
        mean = {name: mean_of([p.arrays[name] for p in group], first.shape) for name in first.arrays}
        yield dataclasses.replace(group[0], arrays=mean)
