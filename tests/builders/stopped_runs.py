"""Trainings that get a signal in the middle of a step."""

import signal
from typing import Any

import pytest
import torch

from magic_cli.training.trainer import Trainer


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, number: signal.Signals) -> None:
    """Send this process a signal in the middle of the step after `steps` whole ones."""
    original, seen = Trainer._step, []

    def step(self: Trainer, *batch: Any) -> torch.Tensor:
        seen.append(1)
        if len(seen) == steps + 1:
            signal.raise_signal(number)
        return original(self, *batch)

    monkeypatch.setattr(Trainer, "_step", step)
