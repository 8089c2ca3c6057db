"""What the processes of a training agree on at every update: the loss of the batch, and whether one has to stop.

A process that is alone asks nobody. Of several, each draws its random numbers from (seed, epoch, batch, rank): dropout
differs between shares of a batch, and a run that goes on anywhere, from the state that one of them saved, draws as one
that was not interrupted.
"""

import random

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

_READ_EVERY = 10  # updates; reading waits for a GPU


def draw_anew(accelerator: Accelerator, seed: int, epoch: int, batch: int) -> None:
    """Seed torch for a batch of an epoch; a process that is alone goes on with its random numbers."""
    if accelerator.num_processes > 1:
        drawn = random.Random(f"{seed}/{epoch}/batch {batch}/{accelerator.process_index}")  # noqa: S311  not a secret
        torch.manual_seed(drawn.getrandbits(63))


def any_process(accelerator: Accelerator, is_so: bool) -> bool:
    """Return whether it is so on any process; all have to ask."""
    if accelerator.num_processes == 1:
        return is_so
    found: Tensor = accelerator.reduce(torch.tensor(float(is_so), device=accelerator.device), "sum")
    return found.item() > 0


def first_says(accelerator: Accelerator, value: float) -> float:
    """Return the value that the first process has: others may round it otherwise, and would decide otherwise."""
    if accelerator.num_processes == 1:
        return value
    found: Tensor = broadcast(torch.tensor(value, device=accelerator.device, dtype=torch.float64))
    return found.item()


class EpochLoss:
    """Sum of the losses of an epoch's batches; after every update it is the same on all processes.

    Attributes:
        total: () float32 on the device, without the batches since the last update; reading it waits for a GPU.
    """

    def __init__(self, accelerator: Accelerator, total: float) -> None:
        self._accelerator = accelerator
        self.total = torch.tensor(total, device=accelerator.device)
        self._alone = accelerator.num_processes == 1
        self._before = self.total.clone()
        self._own = torch.zeros_like(self.total)

    def add(self, loss: Tensor) -> None:
        """Add the loss of a batch; its mean over processes is that of the batch."""
        if self._alone:  # one sum in the order of batches
            self.total += loss
        else:
            self._own += loss

    @property
    def so_far(self) -> Tensor:
        """The sum with this process's part of the batches since the last update."""
        return self.total if self._alone else self.total + self._own

    def close(self, was_skipped: bool) -> bool:
        """Close an update; return whether its batches count.

        Args:
            was_skipped: float16 overflowed, and the weights did not change. If the loss itself overflowed, its batches
                are left out of the sum.
        """
        if not self._alone:
            self.total += self._accelerator.reduce(self._own, "mean")
            self._own.zero_()
        counts = not was_skipped or bool(self.total.isfinite())
        if not counts:
            self.total.copy_(self._before)
        self._before.copy_(self.total)
        return counts


def has_to_stop(accelerator: Accelerator, requested: bool, update: int, is_last: bool) -> bool:
    """Return whether a signal came, to any process; on a GPU others are asked at every tenth update only.

    Args:
        accelerator: of the run.
        requested: whether it came to this one.
        update: number of the update, the same on all processes.
        is_last: of the epoch.
    """
    if accelerator.num_processes > 1 and accelerator.device.type != "cpu" and update % _READ_EVERY and not is_last:
        return False
    return any_process(accelerator, requested)
