"""What a GPU must do, check by check, for tests/gpu and tests/benchmarks/gpu.py; a CPU can rehearse all of it.

Every check returns rows; a row that is not `ok` is a fault. Data are drawn, models are those of preset tiny.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from labelled_photos import make_labelled

from magic_cli import tasks
from magic_cli.commands import predict as predict_command
from magic_cli.commands import train as train_command
from magic_cli.commands.predict import PredictOptions
from magic_cli.commands.prepare import prepare
from magic_cli.commands.run_setup import TrainOptions
from magic_cli.config import resolve
from magic_cli.data.datasets import open_datasets
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources.synthetic.dataset import draw_dataset
from magic_cli.errors import Interrupted
from magic_cli.models.cache.features import FeatureCache
from magic_cli.models.contrastive import ContrastiveOptions, PairFeatures, contrastive_loss
from magic_cli.tasks import config_class
from magic_cli.tasks.pretrain.memory import Comparison
from magic_cli.training.devices import accelerator_for
from magic_cli.training.inference import fill_cache
from magic_cli.training.parts import data_of
from magic_cli.training.runtime import RuntimeOptions
from magic_cli.training.trainer import Trainer
from magic_cli.training.updates import optimizer_for

PRECISIONS = ("no", "fp16", "bf16")

TOLERANCE = {"no": 0.005, "fp16": 0.03, "bf16": 0.06}
"""Largest difference of a probability or cosine from the CPU's float32; "no" has TF32 convolutions on a GPU."""

DECISIONS = {"seg": 0.02, "cvqa": 0.1}
"""Share of pixels, and of answers, that may be decided otherwise; the order of photos alike says nothing."""


@dataclass(frozen=True)
class Row:
    """A figure: of which check, what it is of, its value, what is expected, and whether it is."""

    check: str
    what: str
    value: str
    expected: str = ""
    ok: bool = True


@dataclass
class World:
    """A device, and drawn data to train on."""

    root: Path
    device: str

    @property
    def is_cuda(self) -> bool:
        return self.device == "cuda"

    @cached_property
    def drawn(self) -> Path:
        """Photos with masks, texts and answers."""
        draw_dataset(self.root / "drawn", {"train": 8, "valid": 3, "test": 3})
        prepare(self.root / "drawn", self.root / "prepared")
        return self.root / "prepared"

    @cached_property
    def labelled(self) -> Path:
        """Photos with a class and a text."""
        return make_labelled(self.root / "labelled")

    def data(self, task: str) -> Path:
        return self.drawn if task in ("seg", "cvqa") else self.labelled

    def runtime(self, device: str = "", cache: str = "cache") -> RuntimeOptions:
        return RuntimeOptions(device or self.device, self.root / cache)

    def options(self, *settings: str, **more: Any) -> TrainOptions:
        return TrainOptions(preset="tiny", settings=settings, runtime=self.runtime(), **more)

    def place(self, name: str) -> Path:
        """Return a folder of this name that is not there."""
        shutil.rmtree(self.root / name, ignore_errors=True)
        return self.root / name

    def trainer(self, task: str, out: Path, *settings: str) -> Trainer:
        """Return a training without a cache."""
        config = resolve(config_class(task), "tiny", settings)
        dataset = open_datasets([self.data(task)], (), ("train", "valid"), task == "seg", task == "pretrain")
        out.mkdir(parents=True, exist_ok=True)
        return Trainer(task, data_of(tasks.get(task), dataset, config), config, out, self.device, None)

    @contextmanager
    def memory(self, check: str, rows: list[Row]) -> Iterator[None]:
        """Add a row with the most memory that a block allocated."""
        if self.is_cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        yield
        peak = torch.cuda.max_memory_allocated() / 1e6 if self.is_cuda else 0
        rows.append(Row(check, "peak memory", f"{peak:,.0f} MB" if peak else "not measured on a CPU"))


def task_check(world: World, task: str, precision: str) -> list[Row]:
    """Train, predict, and compare the predictions of the same weights with the CPU's in float32."""
    name, rows, out = f"{task} {precision}", [], world.place(f"run-{task}-{precision}")
    workers = "workers=2" if world.is_cuda else "workers=0"  # forked after CUDA has started
    with world.memory(name, rows):
        found = train_command.train(task, world.data(task), out, world.options(f"precision={precision}", workers))
    losses = [row["loss"] for row in history(out)]
    rows.append(
        Row(name, "training loss", f"{losses[0]:.3f} to {losses[-1]:.3f}", "finite", bool(np.isfinite(losses).all()))
    )
    rows.append(Row(name, "epochs", str(found.epochs), "all", found.epochs == len(losses)))
    here = predictions(world, task, out, world.device, precision)
    there = predictions(world, task, out, "cpu", "no")
    furthest, changed = distance(here, there)
    limit = TOLERANCE[precision if world.is_cuda or precision == "bf16" else "no"]
    rows.append(Row(name, "largest difference from the CPU", f"{furthest:.2g}", f"at most {limit}", furthest <= limit))
    most = DECISIONS.get(task)
    says = "" if most is None else f"at most {most:.0%}"
    rows.append(Row(name, "decisions that differ", f"{changed:.2%}", says, most is None or changed <= most))
    predict_command.predict(
        task, out, world.data(task), "valid", world.place(f"predicted-{name}"), PredictOptions(runtime=world.runtime())
    )
    return rows


def history(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def predictions(world: World, task: str, run: Path, device: str, precision: str) -> list[Any]:
    """Return the predictions of split valid by a run's best weights."""
    options = PredictOptions(precision=precision, runtime=world.runtime(device, f"cache-{device}"))
    prepared = open_prepared(world.data(task))
    return list(predict_command.predictions(tasks.get(task), [run / "best.pt"], prepared, "valid", options))


def distance(here: Sequence[Any], there: Sequence[Any]) -> tuple[float, float]:
    """Return the largest difference between numbers of predictions, and the share of decisions that differ."""
    if [each.id for each in here] != [each.id for each in there]:
        return float("inf"), 1.0
    gaps, changed = [0.0], []
    for one, other in zip(here, there, strict=True):
        pairs = zip(numbers(one), numbers(other), strict=True)
        gaps += [float(np.nanmax(np.abs(a.astype(np.float64) - b), initial=0.0)) for a, b in pairs]
        changed += [np.mean(a != b) for a, b in zip(decisions(one), decisions(other), strict=True)]
    return max(gaps), float(np.mean(changed)) if changed else 0.0


def numbers(prediction: Any) -> list[Any]:
    """Return probabilities of pixels and options, similarities, or unit vectors."""
    named = [getattr(prediction, name, None) for name in ("probability", "scores", "image", "text")]
    return [*(each for each in named if each is not None), *getattr(prediction, "probabilities", {}).values()]


def decisions(prediction: Any) -> list[Any]:
    """Return the mask, or the likeliest options, class or photo."""
    if getattr(prediction, "probability", None) is not None:
        return [prediction.probability > prediction.threshold]
    named = [getattr(prediction, name, None) for name in ("scores", "class_scores")]
    arrays = [*(each for each in named if each is not None), *getattr(prediction, "probabilities", {}).values()]
    return [np.nan_to_num(array, nan=-np.inf).argmax() for array in arrays]


def resume_check(world: World, task: str, precision: str = "no") -> list[Row]:
    """A run that is stopped after an epoch, and resumed, ends as an unbroken one."""
    settings = (f"precision={precision}", "finetune=all", "dropout=0.3", "ema=0.9")
    whole, broken = world.place(f"whole-{task}"), world.place(f"broken-{task}")
    world.trainer(task, whole, *settings).run(resume=False)
    first = world.trainer(task, broken, *settings)

    def stop(progress: Any) -> None:
        first.stop.requested = progress.epoch == 1

    try:
        first.run(resume=False, observers=[stop])
        stopped = False
    except Interrupted:
        stopped = True
    world.trainer(task, broken, *settings).run(resume=True)
    one, other = (torch.load(out / "state.pt", weights_only=True)["weights"] for out in (whole, broken))
    furthest = max(
        float((one[n].float() - other[n].float()).norm() / one[n].float().norm().clamp(min=1e-6)) for n in one
    )
    name, limit = f"resume {task}", 1e-3 if world.is_cuda else 0.0
    return [
        Row(name, "stopped after an epoch", str(stopped), "True", stopped),
        Row(name, "weights, relative difference", f"{furthest:.2g}", f"at most {limit}", furthest <= limit),
    ]


def adapter_check(world: World, task: str) -> list[Row]:
    """Low-rank adapters learn, and are restored."""
    name, rows, out = f"lora {task}", [], world.place(f"lora-{task}")
    with world.memory(name, rows):
        train_command.train(task, world.data(task), out, world.options("finetune=lora", "precision=bf16"))
    weights = torch.load(out / "state.pt", weights_only=True)["weights"]  # best.pt may be of the first update
    adapters = [tensor for key, tensor in weights.items() if ".lora.up" in key]
    learned = bool(adapters) and all(bool(tensor.abs().sum() > 0) for tensor in adapters)
    rows.append(Row(name, "adapters", str(len(adapters)), "all learn", learned))
    furthest, _ = distance(
        predictions(world, task, out, world.device, "no"), predictions(world, task, out, "cpu", "no")
    )
    limit = TOLERANCE["no"]
    rows.append(Row(name, "largest difference from the CPU", f"{furthest:.2g}", f"at most {limit}", furthest <= limit))
    return rows


def cache_check(world: World, task: str) -> list[Row]:
    """Features that one device stored are read by the other: nothing is encoded again, and they are alike."""
    config, prepared = resolve(config_class(task), "tiny", ["cache_dtype=float32"]), open_prepared(world.data(task))
    samples, name, rows, made = (
        list(tasks.get(task).training_samples(prepared, "train", config)),
        f"cache {task}",
        [],
        [],
    )
    for number, device in enumerate(("cpu", world.device)):
        accelerator = accelerator_for(config, device)
        model = tasks.get(task).build(config, prepared.questions)
        model.cache = FeatureCache(world.place(f"features-{number}-{task}"), "float32")
        fill_cache(model, samples, 1, accelerator)
        items = {item.key: (encoder.to(accelerator.device), item) for encoder, item in model.frozen(samples, 1)}
        made.append((model.cache, items, accelerator.device))
    (ours, items, cpu), (theirs, others, device) = made
    again = sum(ours.fill(encoder, [item], device) for encoder, item in others.values())
    again += sum(theirs.fill(encoder, [item], cpu) for encoder, item in items.values())
    rows.append(Row(name, "encoded again on the other device", str(again), "0", again == 0 < len(items)))
    furthest = 0.0
    for key in items:
        one, other = ours.read(key), theirs.read(key)
        for part in one or {"lost": None}:
            if one is None or other is None:
                return [*rows, Row(name, "features", "lost", "kept", ok=False)]
            furthest = max(furthest, float((one[part] - other[part]).norm() / one[part].norm().clamp(min=1e-6)))
    rows.append(Row(name, "relative difference", f"{furthest:.2g}", "at most 1e-4", furthest <= 1e-4))
    return rows


def step_check(world: World, task: str, precision: str) -> list[Row]:
    """A step from forward to the update waits for nothing; with fp16 the scaler reads whether it overflowed."""
    prepared = open_prepared(world.data(task))
    config = resolve(config_class(task), "tiny", [f"precision={precision}"])
    accelerator = accelerator_for(config, world.device)
    samples = list(tasks.get(task).training_samples(prepared, "train", config))[::2][:6]
    model = tasks.get(task).build(config, prepared.questions).to(accelerator.device)
    model.begin(samples)
    batch = send_to_device(model.train().collate(samples, [0] * len(samples)), accelerator.device)
    wrapped, optimizer = accelerator.prepare(model, optimizer_for(model, config))
    total, waits = torch.zeros((), device=accelerator.device), ""

    def step(updates: bool) -> None:
        with accelerator.autocast():
            loss = wrapped(batch)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
        total.add_(loss.detach().float())
        if updates:
            optimizer.step()
            model.constrain()
            optimizer.zero_grad()

    step(updates=True)
    if world.is_cuda:
        torch.cuda.set_sync_debug_mode("error")
    try:
        step(updates=precision != "fp16")
    except RuntimeError as error:
        waits = str(error).splitlines()[0][:120]
    finally:
        if world.is_cuda:
            torch.cuda.set_sync_debug_mode("default")
    finite = bool(total.isfinite())
    return [Row(f"step {task} {precision}", "waits for the GPU", waits or "nowhere", "nowhere", not waits and finite)]


def contrastive_check(
    world: World, photos: int, chunk_rows: int = 1024, width: int = 512, patches: int = 196
) -> list[Row]:
    """The loss of a whole batch and its gradient against the arithmetic of tasks/pretrain/memory.py."""
    name, texts, device = f"contrastive {photos:,}", 11, torch.device(world.device)
    generator = torch.Generator(device).manual_seed(0)

    def vectors(*shape: int) -> torch.Tensor:
        drawn = torch.randn(*shape, width, generator=generator, device=device)
        return torch.nn.functional.normalize(drawn, dim=-1).requires_grad_()

    pairs = PairFeatures(
        images=vectors(photos),
        texts=vectors(photos, texts),
        mask=torch.ones(photos, texts, dtype=torch.bool, device=device),
        text_ids=torch.arange(photos * texts, device=device).view(photos, texts),
        case_ids=torch.arange(photos, device=device),
        patches=vectors(photos, patches),
    )
    expected = Comparison(photos, texts, texts - 3, width, 1, patches)
    there = torch.cuda.memory_allocated() if world.is_cuda else 0
    if world.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    scale = torch.tensor(14.0, device=device, requires_grad=True)
    seconds = timed(
        world, lambda: contrastive_loss(pairs, scale, ContrastiveOptions(chunk_rows=chunk_rows)).total.backward()
    )
    rows = [Row(name, "seconds, loss and gradient", f"{seconds:.2f}")]
    finite = all(
        bool(t.grad is not None and t.grad.isfinite().all()) for t in (pairs.images, pairs.texts, pairs.patches)
    )
    rows.append(Row(name, "gradients", "finite" if finite else "not finite", "finite", finite))
    # a vector has two gradients, from two terms of the loss, before they are added
    by_arithmetic = expected.loss(chunk_rows) + 3 * (expected.gathered + expected.local_vectors)
    if not world.is_cuda:
        return [*rows, Row(name, "by arithmetic", f"{by_arithmetic / 1e9:.2f} GB")]
    peak = torch.cuda.max_memory_allocated() - there
    says = f"at most 1.5 times {by_arithmetic / 1e9:.2f} GB, by arithmetic"
    return [*rows, Row(name, "memory beside the vectors", f"{peak / 1e9:.2f} GB", says, peak <= 1.5 * by_arithmetic)]


def timed(world: World, run: Callable[[], object]) -> float:
    """Return the seconds of a call, whose work on the GPU is done."""
    if world.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if world.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


Check = Callable[[World], list[Row]]


def checks(is_small: bool) -> dict[str, Check]:
    """Return all checks by name; `is_small` leaves out contrastive batches that need a GPU."""
    found: dict[str, Check] = {}
    for task in tasks.NAMES:
        for precision in PRECISIONS:
            found[f"step {task} {precision}"] = partial(step_check, task=task, precision=precision)
            found[f"{task} {precision}"] = partial(task_check, task=task, precision=precision)
        found[f"resume {task}"] = partial(resume_check, task=task)
        found[f"lora {task}"] = partial(adapter_check, task=task)
        found[f"cache {task}"] = partial(cache_check, task=task)
    if is_small:
        found["contrastive"] = partial(contrastive_check, photos=64, chunk_rows=8, width=16, patches=4)
        return found
    return found | {f"contrastive {photos}": partial(contrastive_check, photos=photos) for photos in (2048, 16_384)}
