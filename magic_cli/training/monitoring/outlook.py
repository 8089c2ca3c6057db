"""What is said of a training: before its first step, beside its bar, and after each epoch; times are measured ones."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from magic_cli.data.issues import counted
from magic_cli.io import memory
from magic_cli.io.progress import Status, duration, log
from magic_cli.training.workers import RESUMES

_MEASURED = 5  # steps after which the time is told; the first of them is not counted: it allocates
_WORTH_TELLING = 20.0  # seconds
_BETWEEN_READINGS = 2.0  # seconds; each reading of the loss waits for a GPU


@dataclass(frozen=True)
class Plan:
    """What a training will do.

    Attributes:
        epochs: at most.
        steps: batches of an epoch; `every` of them make an update.
        every: as above.
        samples: that an epoch draws, in batches of `batch_size`.
        batch_size: as above.
        valid: number of validation samples; 0: no epoch is chosen.
        monitor: the score that chooses the best epoch.
        patience: epochs without a better score after which it stops; 0: never.
        best: where its weights go, once it is complete; until then they are in the folder `work`.
        work: as above.
    """

    epochs: int
    steps: int
    every: int
    samples: int
    batch_size: int
    valid: int
    monitor: str
    patience: int
    best: Path
    work: Path

    def lines(self, device: torch.device) -> list[str]:
        """Return the block that is logged before the first step."""
        updates = -(-self.steps // self.every) * self.epochs
        sizes = f"{self.samples:,} samples in {counted(self.steps, 'batch', 'batches')} of {self.batch_size}"
        early = f"; it ends earlier after {counted(self.patience, 'epoch', 'epochs')} without a better score"
        stops = early if 0 < self.patience < self.epochs and self.valid else ""
        draft = f", until the run is complete in {self.work}" if self.work != self.best.parent else ""
        if self.valid:
            valid = counted(self.valid, "validation sample", "validation samples")
            where = [
                f"scored on {valid} after each epoch; * is the best so far",
                f"best {self.monitor}: {self.best}{draft}",
            ]
        else:
            where = [f"weights of the last epoch: {self.best}{draft}"]
        return [
            f"plan: {counted(self.epochs, 'epoch', 'epochs')} of {sizes}; {updates:,} updates in all{stops}",
            *(f"  {line}" for line in where),
            f"  memory: {memory_text(device)}; the time is measured in the first steps",
            f"  Ctrl-C stops and saves; {RESUMES}",
        ]

    def undefined(self) -> str:
        """Return what is said where no epoch has the score that chooses the best one."""
        samples = counted(self.valid, "validation sample", "validation samples")
        why = f"note: {self.monitor} is undefined on {samples}: no epoch is best so far, and the last weights are kept"
        return f"{why} if that stays so; give more validation data, or another --set monitor="


@dataclass
class Outlook:
    """How far a training is and how long the rest will take.

    Attributes:
        plan: what it will do.
        device: where.
        epoch: the epoch that runs, counted from 0; `done` of its steps are done.
        done: as above.
        best: the best score so far, None before the first.
        loss: mean training loss of the epoch so far, None before it is read.
    """

    plan: Plan
    device: torch.device
    epoch: int = 0
    done: int = 0
    best: float | None = None
    loss: float | None = None
    _steps: int = 0  # that were timed, and their seconds
    _seconds: float = 0.0
    _scored: list[float] = field(default_factory=list)  # seconds of scoring an epoch
    _before: float | None = None  # the end of the step before
    _began: float = 0.0  # when the epoch began, or was gone on with
    _read: float = 0.0  # when the loss was read
    _told: bool = False

    def begin_epoch(self, epoch: int, done: int, best: float | None) -> None:
        """Start, or go on with, an epoch; the time since the last step is not a step's."""
        self.epoch, self.done, self.loss = epoch, done, None
        self.best = best if best is not None and math.isfinite(best) else None
        self._began = time.monotonic()
        self._before = self._began if self._steps else None

    def step(self, total: torch.Tensor, done: int) -> None:
        """Count a step.

        Args:
            total: () sum of the losses of the epoch's first `done` steps, on the device.
            done: as above.
        """
        now = time.monotonic()
        is_due = now - self._read > _BETWEEN_READINGS or (not self._told and done <= _MEASURED)
        if is_due:
            self.loss = total.item() / done
            now = self._read = time.monotonic()  # a GPU has really done the step
        if self._before is not None:
            self._steps += 1
            self._seconds += now - self._before
        self._before, self.done = now, done
        if not self._told and self._steps >= _MEASURED - 1:
            self._told = True
            self._tell()

    @property
    def left(self) -> float | None:
        """Seconds until the last epoch is scored, by the mean of the steps so far; None before some are measured."""
        if not self._steps:
            return None
        steps = (self.plan.epochs - self.epoch) * self.plan.steps - self.done
        scoring = sum(self._scored) / len(self._scored) if self._scored else 0.0
        return steps * self._seconds / self._steps + (self.plan.epochs - self.epoch) * scoring

    def status(self) -> Status:
        """Return what the bar of an epoch says; it reads no tensor, as it is called from another thread."""
        texts = [
            *([f"loss {self.loss:.3f}"] if self.loss is not None else []),
            *([f"best {self.best:.3f}"] if self.best is not None else []),
        ]
        return Status(", ".join(texts), self.left)

    def scored(self, score: float, is_best: bool, each: Mapping[str, float]) -> str:
        """Return an epoch's score, of several datasets with that of each, as the text of its line."""
        value = f"{score:.4f}" if math.isfinite(score) else "undefined"
        parts = ", ".join(f"{name} {own:.4f}" for name, own in each.items())
        return f"{self.plan.monitor} {value}{' *' if is_best else ''}{f' ({parts})' if parts else ''}"

    def end_epoch(self, loss: float, scored: str, seconds: float) -> str:
        """Return the line of an epoch that has ended: its loss, its score, both durations and the time left.

        Args:
            loss: mean over its batches.
            scored: the score with its name and what is to be said of it; "" without validation samples.
            seconds: that the scoring took.
        """
        trained = duration(time.monotonic() - self._began - seconds)
        self.epoch, self.done = self.epoch + 1, 0
        if scored:
            self._scored.append(seconds)
            scored = f"; {scored}, scored in {duration(seconds)}"
        left = self.left if self.epoch < self.plan.epochs else None
        rest = f"; about {duration(left)} left" if left is not None and left >= 1 else ""
        return f"epoch {self.epoch} of {self.plan.epochs}: training loss {loss:.4f} in {trained}{scored}{rest}"

    def _tell(self) -> None:
        left = self.left
        if left is None or left < _WORTH_TELLING:
            return
        epochs = counted(self.plan.epochs - self.epoch, "epoch", "epochs")
        each = f"{self._seconds / self._steps:.2g} s a step"
        but = ", without scoring" if self.plan.valid and not self._scored else ""
        log(f"about {duration(left)} for {epochs} ({each}{but}); memory {memory_text(self.device)}")


def memory_text(device: torch.device) -> str:
    """Return the most memory that was used so far and what there is: of the process, and of its GPU."""
    used, most = memory.peak(), memory.total()
    texts = [f"{used / 1e9:.1f}{f' of {most / 1e9:.0f}' if most else ''} GB used at most"] if used else []
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
        texts.append(f"GPU {torch.cuda.max_memory_reserved(device) / 1e9:.1f} of {there / 1e9:.0f} GB")
    return ", ".join(texts) or "unknown"
