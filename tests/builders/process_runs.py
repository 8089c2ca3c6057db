"""Small trainings of every task whose figures must not depend on how many processes share their batches.

Batches are uneven: the last one of an epoch leaves a process without a share. Nothing is drawn at random in a step.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import torch
from lesion_cases import lesion_cases, lesion_trainer
from shape_pairs import shape_trainer

from magic_cli.__main__ import exit_process
from magic_cli.cli.process import run_and_exit
from magic_cli.config import resolve
from magic_cli.data.imaging.images import Box
from magic_cli.data.prepared import open_prepared
from magic_cli.io.json_files import read_jsonl
from magic_cli.io.launcher import launched
from magic_cli.records import Prediction
from magic_cli.tasks import config_class, get
from magic_cli.tasks.seg.model import SegModel
from magic_cli.training.parts import Data, split_train_valid
from magic_cli.training.resume import State
from magic_cli.training.trainer import Trainer

Run = Callable[[Path, Path], Trainer]

STEADY = ("dropout=0", "epochs=2", "patience=0")
_EPSILON = 1e-4


class Steady(Trainer):
    """Adam divides by the roots of moments, so that sums in another order count where a gradient is all but zero."""

    def prepare(self, resume: bool = False) -> State | None:
        """Make also Adam's epsilon larger than that."""
        saved = super().prepare(resume)
        for group in self.optimizer.param_groups:
            group["eps"] = _EPSILON
        return saved


def task_trainer(task: str, prepared: Path, out: Path, *settings: str, without: int = 0) -> Trainer:
    """Return a training on prepared data, `without` photos of its first encounters."""
    config, data, kind = resolve(config_class(task), "tiny", settings), open_prepared(prepared), get(task)
    part = split_train_valid(kind, data, config)
    bare = sorted({sample.case.case_id for sample in part.train})[:without]
    train = [replace(sample, images=()) if sample.case.case_id in bare else sample for sample in part.train]
    out.mkdir(parents=True, exist_ok=True)
    return Steady(task, Data(kind, [replace(part, train=train)], data.questions, "drawn"), config, out, "cpu", None)


def _own(out: Path) -> Path:
    """Return a folder for the photos that each process draws for itself."""
    return out.with_name(f"photos-{out.name}-{launched().rank}")


def _lesions(_prepared: Path, out: Path) -> Trainer:
    settings = ("batch_size=5", "class_weight=1", "diversity=0.1", "attribute_dropout=0", *STEADY)
    made = lesion_trainer(lesion_cases(_own(out)), out, *settings)
    return Steady(made.name, made.data, made.config, out, "cpu", None)


def _seg(*settings: str) -> Run:
    return lambda prepared, out: task_trainer("seg", prepared, out, "batch_size=3", "ema=0.9", *settings, *STEADY)


def _cvqa(*settings: str, without: int) -> Run:
    return lambda prepared, out: task_trainer("cvqa", prepared, out, *settings, *STEADY, without=without)


LITE0 = ("image_encoder=lite0", "image_size=64", "finetune=all", "encoder_lr=1e-3")

RUNS: Mapping[str, tuple[str, Run]] = {
    "seg": ("BatchNorm encoder learns", _seg(*LITE0)),
    "seg-accumulated": ("2 batches an update", _seg("grad_accum_steps=2", "finetune=all")),
    "cvqa": ("an encounter without photos", _cvqa("batch_size=2", "finetune=all", "modality=both", without=1)),
    "cvqa-options": (
        "the paper's head, BatchNorm encoder learns",
        _cvqa("head=options", "batch_size=3", "lr=1e-3", "modality=both", *LITE0, "encoder_lr=1e-4", without=1),
    ),
    "pretrain": (
        "contrastive, in parts",
        lambda _, out: shape_trainer(_own(out), out, "batch_size=5", "micro_batch=1", *STEADY),
    ),
    "retrieve": ("batches of classes", _lesions),
}


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in read_jsonl(out / "metrics.jsonl")]


def weights(out: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(out / "best.pt", weights_only=True)["weights"]
    return found


def difference(one: Path, other: Path) -> tuple[float, float]:
    """Return the largest difference of a loss, and of a tensor: the norm of its difference by its own."""
    loss = max(abs(a - b) for a, b in zip(losses(one), losses(other), strict=True))
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    norms = [float((ours[n].double() - t.double()).norm() / t.double().norm().clamp(min=1)) for n, t in theirs.items()]
    return loss, max(norms)


def train_all(prepared: Path, out: Path, names: Iterable[str] = RUNS) -> None:
    for name in names:
        RUNS[name][1](prepared, out / name).run(resume=False)


def at_the_middle(_: SegModel, first: Prediction, factor: float) -> Box | None:
    """Stand in for `SegModel.closer`: every photo but those with an even last digit is seen again in the middle."""
    assert factor == 2.0
    return None if first.id[-1] in "02468" else (0.25, 0.25, 0.75, 0.75)


def exit_after(run: Callable[[], object]) -> NoReturn:
    """Run a function as `magic` runs a command, and exit as it does: without the interpreter's shutdown."""

    def command(**_: object) -> None:
        run()

    try:
        run_and_exit(command)
    except SystemExit as leaving:
        exit_process(leaving.code if isinstance(leaving.code, int) else 1)


if __name__ == "__main__":
    train_all(Path(sys.argv[1]), Path(sys.argv[2]))
    exit_process(0)
