"""Half precision where a CPU can show it, accumulated gradients, and loaders with workers."""

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from run_options import train_options
from small_models import CLIPSEG, save_clipseg
from stopped_runs import stop_after

from magic_cli.commands import train as train_command
from magic_cli.config import Config, resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.data.questions import load_questions
from magic_cli.errors import DataError, Interrupted
from magic_cli.tasks import get
from magic_cli.tasks.seg import model as seg_model
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.training import trainer
from magic_cli.training.devices import accelerator_for
from magic_cli.training.loader import Views, loader_for
from magic_cli.training.resume import TrainProgress
from magic_cli.training.updates import optimizer_for, report_skipped, was_skipped

seg = get("seg")

SETTINGS = ("epochs=2", "batch_size=4", "dropout=0", "ema=0")


def train(data: Path, out: Path, *settings: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    options = train_options(data.parent / "cache", *SETTINGS, *settings)
    return train_command.train("seg", data, out, options).to_json(), torch.load(out / "state.pt", weights_only=True)


def test_bfloat16_trains_as_float32_does_within_its_digits(drawn_prepared: Path, tmp_path: Path) -> None:
    """Its seven bits of mantissa: the loss within 2 %; weights, moments and the checkpoint stay float32."""
    exact, _ = train(drawn_prepared, tmp_path / "no")
    half, state = train(drawn_prepared, tmp_path / "bf16", "precision=bf16")
    assert half["best"]["loss"] == pytest.approx(exact["best"]["loss"], rel=0.02)
    assert half["best"]["loss"] != exact["best"]["loss"]
    assert {tensor.dtype for tensor in state["weights"].values()} == {torch.float32}


@pytest.mark.parametrize("which", ["lite0", "clipseg"])
def test_a_bfloat16_step_of_the_real_models(which: str, drawn_prepared: Path, tmp_path: Path) -> None:
    if which == "clipseg":
        save_clipseg(tmp_path / CLIPSEG)
        config = resolve(SegConfig, "paper", ["image_size=64", "precision=bf16"], weights_dir=str(tmp_path))
    else:
        config = resolve(SegConfig, "small", ["image_size=64", "precision=bf16", "finetune=all"])
    accelerator = accelerator_for(config, "cpu")
    model = seg_model.build(config, load_questions(None)).train()
    samples = seg.training_samples(open_prepared(drawn_prepared), "train", config)[:2]
    wrapped, optimizer = accelerator.prepare(model, optimizer_for(model, config))
    before = [p.detach().clone() for p in model.head.parameters()]
    accelerator.backward(wrapped(model.collate(samples, [0, 0])))
    grads = [p.grad for p in model.parameters() if p.requires_grad and p.grad is not None]
    assert grads
    assert all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in grads)
    optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.head.parameters(), strict=True))


def test_float16_scales_its_loss_skips_what_overflows_and_resumes(
    drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of a GPU, with the CPU's scaler put in: accelerate itself refuses float16 here."""
    accelerators: list[Accelerator] = []

    def scaled(config: Config, device: str) -> Accelerator:
        accelerator = accelerator_for(config, device)
        accelerator.state._mixed_precision, accelerator.native_amp = "fp16", True
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, backoff_factor=2.0**-15)
        accelerators.append(accelerator)
        return accelerator

    monkeypatch.setattr(trainer, "accelerator_for", scaled)
    found, state = train(drawn_prepared, tmp_path / "seg", "batch_size=2")
    assert 1 < state["scaler"]["scale"] <= 2.0**30  # two overflows at least, and then steps that were taken
    assert len(state["optimizer"]["state"]) > 0
    assert all(torch.isfinite(tensor).all() for tensor in state["weights"].values())
    assert found["best"]["loss"] < 10
    options = train_options(drawn_prepared.parent / "cache", preset="", resume=True)
    train_command.train("seg", drawn_prepared, tmp_path / "seg", options)
    assert accelerators[-1].scaler is not None
    assert accelerators[-1].scaler.get_scale() == state["scaler"]["scale"]


def test_a_loss_that_overflows_in_float16_is_left_out_and_the_run_goes_on(
    drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of five losses is inf: its update changes nothing, counts nowhere and can be resumed after; all are too many.

    One process with the CPU's scaler put in, as above.
    """
    loss, calls, overflows = seg_model.SegModel.loss, [], {2}

    def scaled(config: Config, device: str) -> Accelerator:
        accelerator = accelerator_for(config, device)
        accelerator.state._mixed_precision, accelerator.native_amp = "fp16", True
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        return accelerator

    def overflowing(self: seg_model.SegModel, batch: Any) -> torch.Tensor:
        calls.append(1)
        return loss(self, batch) * (float("inf") if len(calls) in overflows else 1.0)

    monkeypatch.setattr(trainer, "accelerator_for", scaled)
    monkeypatch.setattr(seg_model.SegModel, "loss", overflowing)
    found, state = train(drawn_prepared, tmp_path / "one", "batch_size=2", "ema=0.9")
    progress = json.loads(state["meta"])["at"]
    assert [row["loss"] < 10 for row in progress["history"]] == [True, True]
    assert (progress["updates"], int(state["average"][""]), state["scaler"]["scale"]) == (9, 9, 512.0)
    assert "note: 1 of 5 updates in epoch 1 changed nothing" in capsys.readouterr().err
    assert found["best"]["loss"] < 10

    calls.clear()
    stop_after(monkeypatch, 3, signal.SIGINT)
    with pytest.raises(Interrupted):
        train(drawn_prepared, tmp_path / "resumed", "batch_size=2", "ema=0.9")
    options = train_options(drawn_prepared.parent / "cache", preset="", resume=True)
    train_command.train("seg", drawn_prepared, tmp_path / "resumed", options)
    for name in ("best.pt", "metrics.jsonl"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()

    overflows.update(range(1000))
    with pytest.raises(DataError, match="the loss is nan in epoch 1"):
        train(drawn_prepared, tmp_path / "all", "batch_size=2")


def test_too_many_overflows_end_a_run(tmp_path: Path) -> None:
    """Halvings that look for the scale are few, and one update in ten at most is left out later."""
    model = seg_model.build(resolve(SegConfig, "tiny"), load_questions(None))
    for skipped, updates in ((16, 20), (99, 1000)):
        report_skipped(TrainProgress(skipped=skipped), updates, model, tmp_path)
    for skipped, updates in ((17, 20), (101, 1000)):
        with pytest.raises(DataError, match=rf"beyond float16 in {skipped} of {updates} .*--set precision=bf16"):
            report_skipped(TrainProgress(skipped=skipped), updates, model, tmp_path)
    with torch.no_grad():
        next(model.head.parameters()).fill_(float("nan"))
    with pytest.raises(DataError, match="weights that are not finite after epoch 1"):
        report_skipped(TrainProgress(), 20, model, tmp_path)
    optimizer = SimpleNamespace(step_was_skipped=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-9)
    assert was_skipped(optimizer, scaler, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="gradients that are no numbers, whatever the scale"):
        was_skipped(optimizer, torch.amp.GradScaler("cpu", init_scale=2.0**-11), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", ["bce", "bce+dice"])
def test_accumulated_batches_equal_the_large_one_also_at_the_end_of_an_epoch(
    loss: str, drawn_prepared: Path, tmp_path: Path
) -> None:
    """Ten photos, updates of 6 and 4: 3 + 3 and 3 + 1 against 6 and 4.

    Float sums differ in order, and AdamW enlarges that where a gradient is all but zero: 2e-3 of a tensor's norm.
    """
    found = [
        train(drawn_prepared, tmp_path / str(size), f"loss={loss}", f"batch_size={size}", f"grad_accum_steps={n}")[1]
        for size, n in ((3, 2), (6, 1))
    ]
    for name, tensor in found[1]["weights"].items():
        assert (found[0]["weights"][name] - tensor).norm() <= 2e-3 * tensor.norm(), name


def test_workers_bring_the_same_batches(drawn_prepared: Path, tmp_path: Path) -> None:
    settings = ("crop=0.5", "colour=0.3", "epochs=1")
    alone, helped = (train(drawn_prepared, tmp_path / n, *settings, f"workers={n}")[1] for n in ("0", "2"))
    assert all(torch.equal(helped["weights"][name], tensor) for name, tensor in alone["weights"].items())


def test_batches_for_cuda_come_through_pinned_memory() -> None:
    config = resolve(SegConfig, "tiny")
    model = seg_model.build(config, load_questions(None))
    assert loader_for(model, Views([], 0), config, [], cuda=True).pin_memory
    assert not loader_for(model, Views([], 0), config, [], cuda=False).pin_memory
