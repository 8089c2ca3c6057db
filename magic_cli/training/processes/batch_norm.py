"""BatchNorm over the batch of all processes, on any device: statistics and gradients are those of one process.

torch's SyncBatchNorm is for GPUs only, and counts a process without a share of a batch as if it had one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

_counts: ContextVar[bool] = ContextVar("counts", default=True)


@contextmanager
def uncounted() -> Iterator[None]:
    """Leave what this process encodes in the block out of the statistics; it is normalised by those of the others."""
    token = _counts.set(False)
    try:
        yield
    finally:
        _counts.reset(token)


def share_statistics(model: nn.Module) -> None:
    """Let all BatchNorm of a model, in training mode, normalise by the statistics of all processes from now on.

    Names and tensors of the model stay as they are. Every process has to run each layer as often as the others; one
    that has nothing to encode runs it on anything, in `uncounted`.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(module: _BatchNorm, values: Tensor) -> Tensor:
    if not module.training:
        return type(module).forward(module, values)
    found, mean, variance, rows = _Normalised.apply(values, module.weight, module.bias, module.eps, _counts.get())
    if module.track_running_stats:
        _follow(module, mean, variance, rows)
    for name in ("drop", "act"):  # timm's BatchNormAct2d goes on with these
        if hasattr(module, name):
            found = getattr(module, name)(found)
    return cast(Tensor, found)


@torch.no_grad()
def _follow(module: _BatchNorm, mean: Tensor, variance: Tensor, rows: Tensor) -> None:
    """Update the running statistics, as torch does: with the unbiased variance; not if no process counts."""
    assert module.running_mean is not None  # noqa: S101
    assert module.running_var is not None  # noqa: S101
    assert module.num_batches_tracked is not None  # noqa: S101
    is_there = rows > 0
    module.num_batches_tracked += is_there
    share = module.momentum if module.momentum is not None else 1 / module.num_batches_tracked.clamp(min=1)
    weight = share * is_there.float()
    module.running_mean.lerp_(mean.to(module.running_mean.dtype), weight)
    unbiased = variance * rows / (rows - 1).clamp(min=1)
    module.running_var.lerp_(unbiased.to(module.running_var.dtype), weight)


class _Normalised(torch.autograd.Function):
    """Values (N, C, ...) normalised by mean and variance over the rows of all processes, times weight, plus bias.

    Also returns the mean and the biased variance (C,) and the number of rows: of places, for photos. If there are none,
    the statistics are those of this process's values.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, counts: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        exact = values.float()
        rows = values.numel() // values.shape[1] if counts else 0
        variance, mean = torch.var_mean(exact, _others(values), correction=0)
        own = torch.cat([mean, variance, mean.new_tensor([float(rows)])])
        found = own.new_empty(dist.get_world_size(), len(own))
        dist.all_gather(list(found.unbind()), own)
        means, variances, of_each = found[:, : len(mean)], found[:, len(mean) : -1], found[:, -1:]
        total = of_each.sum()
        shares = of_each / total.clamp(min=1)
        mean = torch.where(total > 0, (shares * means).sum(0), mean)
        spread = (shares * (variances + (means - mean).square())).sum(0)  # Chan et al., 1979
        variance = torch.where(total > 0, spread, variance)
        scale = torch.rsqrt(variance + eps)
        result = (exact - _wide(mean, values)) * _wide(scale, values)
        if weight is not None:
            result = result * _wide(weight, values)
        if bias is not None:
            result = result + _wide(bias, values)
        ctx.save_for_backward(values, weight, mean, scale, total)  # type: ignore[arg-type]
        ctx.counts, ctx.has_bias = counts, bias is not None  # type: ignore[attr-defined]
        ctx.mark_non_differentiable(mean, variance, total)
        return result.to(values.dtype), mean, variance, total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, mean, scale, total = ctx.saved_tensors  # type: ignore[attr-defined]
        gradient = gradients[0].float()
        normal = (values.float() - _wide(mean, values)) * _wide(scale, values)
        sums = torch.cat([gradient.sum(_others(values)), (gradient * normal).sum(_others(values))])
        shared = sums.clone()
        dist.all_reduce(shared)
        of_bias, of_weight = (shared / total.clamp(min=1)).chunk(2)
        if ctx.counts:  # type: ignore[attr-defined]
            gradient = gradient - _wide(of_bias, values) - normal * _wide(of_weight, values)
        factor = scale if weight is None else scale * weight
        own_bias, own_weight = sums.chunk(2)
        return (
            (gradient * _wide(factor, values)).to(values.dtype),
            None if weight is None else own_weight.to(weight.dtype),
            own_bias if ctx.has_bias else None,  # type: ignore[attr-defined]
            None,
            None,
        )


def _others(values: Tensor) -> list[int]:
    return [number for number in range(values.ndim) if number != 1]


def _wide(row: Tensor, values: Tensor) -> Tensor:
    """Return a row (C,) in the shape of values (N, C, ...)."""
    return row.view(1, -1, *[1] * (values.ndim - 2))
