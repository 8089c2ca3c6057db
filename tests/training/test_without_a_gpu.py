"""What a GPU would do, as far as a CPU can tell: every task on a stand-in for CUDA (builders/cuda_stand_in.py).

tests/gpu has what needs a real one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from cuda_stand_in import CUDA, PRECISIONS, StandIn, Touches, Waits
from labelled_photos import make_labelled
from small_models import BERT, CLIPSEG, SWIN, save_bert, save_clip, save_clipseg, save_swin
from torch import Tensor, nn

from magic_cli import tasks
from magic_cli.config import Config, resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import DataError
from magic_cli.records import Sample
from magic_cli.tasks import config_class
from magic_cli.training.cached_accumulation import ChunkedModel, backward_in_parts
from magic_cli.training.devices import accelerator_for
from magic_cli.training.task import Task
from magic_cli.training.task_model import Batch, TaskModel
from magic_cli.training.updates import ModelEma

CASES: dict[str, tuple[str, ...]] = {
    "cvqa tiny, one answer set": ("option_term=true", "hierarchy=1", "responses=apart", "finetune=lora"),
    "cvqa tiny, joint slots": ("joint_slots=true", "modality=text"),
    "cvqa paper": ("image_size=64", "batch_size=4"),
    "seg tiny, two networks": ("ensemble=tiny", "crop=0.5", "finetune=all", "loss=focal"),
    "seg paper": ("image_size=64",),
    "pretrain tiny, last stage": ("objective=soft", "same_text=positive", "chunk_rows=2", "finetune=last"),
    "pretrain tiny, ontology": ("ontology_beta=0.3", "local_pool=xattn", "denominator=all", "weighting=softmax"),
    "pretrain tiny, siglip": ("objective=siglip", "local_weight=0", "finetune=all"),
    "pretrain paper": ("image_size=32", "text_window=20"),
    "retrieve tiny, tirg": ("composition=tirg", "objective=batch", "supcon=1", "class_weight=1", "class_share=0.2"),
    "retrieve paper": ("image_size=64", "dim=16", "heads=2", "side=7", "depth=1", "text_layers=last", "diversity=1"),
}


@dataclass
class Built:
    """A model with samples to train on and to predict."""

    task: Task
    config: Config
    model: TaskModel
    samples: Sequence[Sample]

    def batch(self, training: bool) -> Batch:
        return self.model.train(training).collate(self.samples, [0] * len(self.samples))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_labelled(tmp_path_factory.mktemp("labelled"), patients=2)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    save_clipseg(folder / CLIPSEG)
    save_bert(folder / BERT)
    save_swin(folder / SWIN)
    save_clip(folder / "clip-vit-base-patch16")
    return folder


@pytest.fixture
def built(drawn_prepared: Path, labelled: Path, checkpoints: Path, request: pytest.FixtureRequest) -> Built:
    """The model of a case: "TASK PRESET, what of it" and its settings."""
    PartialState(cpu=True)
    name, preset, *_ = request.param.replace(",", "").split()
    task, data = tasks.get(name), open_prepared(drawn_prepared if name in ("seg", "cvqa") else labelled)
    settings = CASES.get(request.param, ())
    config = resolve(config_class(name), preset, settings, weights_dir=str(checkpoints))
    model, samples = task.build(config, data.questions), list(task.training_samples(data, "train", config))[::2][:6]
    model.begin(samples)
    task.before_predicting(model, lambda: task.gold(data, "train"))
    return Built(task, config, model, samples)


def on_stand_in(built: Built, precision: str) -> None:
    """Train on and predict the samples; numbers that are read back, and copies, are only where they must be."""
    batches, stand_in = [built.batch(training) for training in (True, False)], StandIn()
    stand_in.moved(built.model)
    with stand_in.running(precision) as waits:
        train, held = (batch.to(CUDA) for batch in batches)
        waits.found.clear()
        loss = built.model.train()(train)
        assert (loss.dtype, loss.device, tuple(loss.shape)) == (torch.float32, CUDA, ())
    assert waits.found == []
    built.model.eval()
    with torch.inference_mode(), stand_in.running(precision) as waits:
        predictions = built.model.predict(held, 1)
    assert [prediction.id for prediction in predictions] == [sample.id for sample in built.samples]
    assert {name.partition(" ")[0] for name in waits.found} <= {"to", "_to_copy"}  # what was found, to the CPU


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("built", [f"{name} tiny" for name in tasks.NAMES], indirect=True)
def test_every_task_trains_and_predicts(built: Built, precision: str) -> None:
    on_stand_in(built, precision)


@pytest.mark.parametrize("built", CASES, indirect=True)
def test_other_models_train_and_predict_in_half_precision(built: Built) -> None:
    on_stand_in(built, "fp16")


@pytest.mark.parametrize("built", ["seg tiny", "cvqa paper", "pretrain paper", "retrieve tiny, tirg"], indirect=True)
def test_a_forked_worker_loads_without_touching_the_gpu(built: Built) -> None:
    """Keys of the cache once read the scaling of photos from the GPU, and presets with workers would not have begun."""
    StandIn().moved(built.model)
    for training in (True, False):
        with Touches() as touches:
            assert built.batch(training).ids == [sample.id for sample in built.samples]  # type: ignore[attr-defined]
        assert touches.found == []


@pytest.mark.parametrize(
    "built", ["seg tiny", "cvqa tiny, one answer set", "pretrain tiny", "retrieve tiny"], indirect=True
)
def test_all_of_a_batch_is_pinned_and_moved(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a loader's thread pins, and accelerate's copy moves: every tensor in the batch, wherever it is."""
    pinned: list[int] = []

    def pin(tensor: Tensor) -> Tensor:
        copy = tensor.clone()
        pinned.append(id(copy))
        return copy

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    batch = torch.utils.data._utils.pin_memory.pin_memory(built.batch(training=True))
    there = [id(tensor) for tensor in tensors_in(batch)]
    assert there
    assert set(there) <= set(pinned)
    with StandIn().running("no"):
        assert {tensor.device for tensor in tensors_in(batch.to(CUDA, non_blocking=True))} == {CUDA}


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Batch):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name))
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(each)


@pytest.mark.parametrize("built", [f"{name} tiny" for name in tasks.NAMES], indirect=True)
def test_a_training_step_reads_nothing_back(built: Built) -> None:
    """Forward, backward, clipping and averaging queue work only; the loss is read now and then."""
    accelerator, batch = accelerator_for(built.config, "cpu"), built.batch(training=True)
    averages, model = ModelEma(built.model, 0.9), accelerator.prepare(built.model)
    total = torch.zeros(())
    with Waits() as seen:
        loss = model(batch)
        accelerator.backward(loss * 0.5)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        built.model.constrain()
        averages.update()
        total += loss.detach().float()
    assert seen.found == []


@pytest.mark.parametrize("built", ["pretrain tiny"], indirect=True)
def test_nor_does_one_in_parts(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator, batch, model = accelerator_for(built.config, "cpu"), built.batch(training=True), built.model
    assert isinstance(model, ChunkedModel)
    parts = model.parts(batch)[0].items
    halves = zip(*(items.split(2) for items in parts.values()), strict=True)
    divided = [type(model.parts(batch)[0])(dict(zip(parts, half, strict=True))) for half in halves]
    monkeypatch.setattr(model, "parts", lambda _: divided)
    wrapped = accelerator.prepare(model)
    with Waits() as seen:
        backward_in_parts(wrapped, model, batch, accelerator, 1.0, True)
    assert seen.found == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("built", ["cvqa tiny", "cvqa paper", "retrieve tiny"], indirect=True)
def test_an_overflow_is_not_taken_for_a_missing_photo(
    built: Built, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN stands for an encounter without a photo, or a photo that is not ranked; an encoder's own is an error."""
    images = built.model.images  # type: ignore[attr-defined]
    forward = type(images).forward

    def spoiled(self: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
        found = forward(self, pixels)
        return {name: torch.cat([torch.full_like(t[:1], value), t[1:]]) for name, t in found.items()}

    train, held = built.batch(training=True), built.batch(training=False)
    monkeypatch.setattr(type(images), "forward", spoiled)
    assert not built.model.train()(train).isfinite()
    with torch.inference_mode(), pytest.raises(DataError, match="half precision may overflow"):
        built.model.eval().predict(held, 0)


def test_the_stand_in_finds_what_it_is_for() -> None:
    stand_in, linear = StandIn(), nn.Linear(3, 2)
    stand_in.moved(linear)
    with stand_in.running("fp16") as waits:
        rows = torch.ones(4, 3, device=CUDA)
        assert linear(rows).dtype == torch.float16
        assert waits.found == []
        rows[[0, 2]]
        torch.tensor([1.0, 2.0], device=CUDA)
        assert waits.found == ["_to_copy of cpu, cuda"] * 2
        with pytest.raises(RuntimeError, match="two devices"):
            rows + torch.ones(4, 3)
        with pytest.raises(TypeError, match="numpy"):
            rows.numpy()
        with pytest.raises(TypeError, match="BFloat16"):
            rows.bfloat16().cpu().numpy()
        for read in (lambda: rows[rows > 0], lambda: rows.sum().item(), lambda: bool(rows.all())):
            with pytest.raises(RuntimeError):
                read()
    ones = torch.ones(3)
    with Waits() as waits:
        assert (len(ones[ones > 0]), ones.sum().item(), bool(ones.all())) == (3, 3, True)
    assert waits.found == ["index", "_local_scalar_dense", "_local_scalar_dense"]
    with Touches() as touches:
        linear.weight.sum()
    assert touches.found == ["sum"]
