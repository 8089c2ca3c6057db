"""Rows of all processes, with gradient: what a loss over the whole batch compares the rows of one process with.

torch's own helpers for this are deprecated, and `Accelerator.gather` has no gradient.
"""

from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx


@dataclass(frozen=True)
class Gather:
    """The processes that share a batch, each with its rows; every process has to make the same calls in the same order.

    A loss is exact over several processes if each returns `processes` times its part of the sum over `total` of the
    denominators: the mean over processes that DistributedDataParallel takes of gradients is then that of the batch.
    """

    rank: int = 0
    processes: int = 1
    rows: tuple[int, ...] | None = None
    """Rows of each process. None: asked of the processes at each call, which waits for the device (see `sized`)."""

    def sized(self, rows: int, device: torch.device) -> "Gather":
        """Return the gather with the rows of each process, known at once or asked in one collective call.

        Args:
            rows: of this process.
            device: where the tensors are that will be gathered; NCCL sends nothing from the CPU.
        """
        if self.rows is not None:
            return self
        if self.processes == 1:
            return replace(self, rows=(rows,))
        own = torch.tensor([rows], device=device)
        counts = own.new_empty(self.processes)
        dist.all_gather(list(counts.chunk(self.processes)), own)
        return replace(self, rows=tuple(counts.tolist()))

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return the rows (R_1 + ... + R_W, ...) of all processes in the order of ranks, of any dtype.

        Processes may have different numbers of rows, none included; all other dimensions are equal. The gradient of a
        row is the sum over processes of what each found for it.
        """
        if self.processes == 1:
            return tensor
        rows = self.sized(len(tensor), tensor.device).rows
        gathered: Tensor = _Rows.apply(tensor, self.rank, rows)
        return gathered

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over processes of a tensor of the same shape on each, without gradient."""
        total = value.detach().clone()
        if self.processes > 1:
            dist.all_reduce(total)
        return total


ALONE = Gather()
"""One process: gathers nothing."""


class _Rows(torch.autograd.Function):
    """Gather rows; backward: add up the gradients of all processes, and keep that of the own rows."""

    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor, rank: int, rows: tuple[int, ...]) -> Tensor:
        ctx.rank, ctx.rows = rank, rows  # type: ignore[attr-defined]
        parts = list(tensor.new_empty(len(rows), max(rows), *tensor.shape[1:]))
        dist.all_gather(parts, _padded(tensor, max(rows)))
        return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        rows: tuple[int, ...] = ctx.rows  # type: ignore[attr-defined]
        own = gradients[0].new_empty(max(rows), *gradients[0].shape[1:])
        dist.reduce_scatter(own, [_padded(part, max(rows)) for part in torch.split(gradients[0], list(rows))])
        return own[: rows[ctx.rank]], None, None  # type: ignore[attr-defined]


def _padded(tensor: Tensor, rows: int) -> Tensor:
    """Return the tensor with zero rows below, contiguous."""
    return torch.cat([tensor, tensor.new_zeros(rows - len(tensor), *tensor.shape[1:])])
