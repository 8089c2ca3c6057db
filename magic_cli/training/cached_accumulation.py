"""The gradient of a large batch's loss, where the encoders can hold only a part of the batch at a time.

Contrastive losses compare every photo with the whole batch, so that the mean of the gradients of parts is another
gradient. Two passes give the same one (Gao et al., Scaling deep contrastive learning batch size under memory limited
setup, 2021): the first computes the features of all parts without a graph, and the gradient of the loss for them; the
second computes each part's features again, with the same random numbers, and goes back from their inner product with
that gradient. Processes exchange gradients once, with the last part.
"""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from magic_cli.models.encoders import Features
from magic_cli.training.resume import random_states, restore_random_states
from magic_cli.training.task_model import Batch, TaskModel


@dataclass(frozen=True)
class Part(Batch):
    """A part of a batch.

    items: inputs of the encoders by name; None where this part has none.
    gradients: of the loss for the features of this part, by name; with them, the model's output is their inner product
        with the features.
    own: of the loss for the parameters of the loss itself; with the last part only.
    """

    items: dict[str, Any]
    gradients: dict[str, Tensor] = field(default_factory=dict)
    own: list[Tensor] = field(default_factory=list)


class ChunkedModel(TaskModel):
    """A model whose loss is a function of the features of the whole batch, which can be computed part by part."""

    is_divided = False
    """Whether batches are trained on part by part; the same in all processes."""

    @abstractmethod
    def parts(self, batch: Batch) -> Sequence[Part]:
        """Return the parts of a batch, in order; every part has items of every kind unless there are too few."""

    @abstractmethod
    def encode(self, part: Part) -> Features:
        """Return the features of a part: row by row those of the whole batch."""

    @abstractmethod
    def objective(self, batch: Batch, features: Features) -> Tensor:
        """Return the loss of the batch with these features."""

    def loss_parameters(self) -> Sequence[nn.Parameter]:
        """Return the parameters that `objective` uses beside the features."""
        return ()

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch; of a part with gradients, what `backward_in_parts` goes back from."""
        if isinstance(batch, Part):
            features = self.encode(batch)
            total = torch.stack([(features[name].float() * g).sum() for name, g in batch.gradients.items()]).sum()
            own = [(p * g).sum() for p, g in zip(self.loss_parameters(), batch.own, strict=False)]
            return total + sum(own)
        whole, *others = self.parts(batch)
        if others:
            raise ValueError("a batch of several parts; call backward_in_parts")
        return self.objective(batch, self.encode(whole))


def backward_in_parts(
    model: nn.Module, core: ChunkedModel, batch: Batch, accelerator: Accelerator, factor: float, syncs: bool
) -> Tensor:
    """Add the gradient of `factor` x the loss of a batch to the parameters; return the loss, detached.

    Args:
        model: `core`, or its distributed wrapper.
        core: the model.
        batch: on the device.
        accelerator: of the run.
        factor: on the loss.
        syncs: whether processes exchange gradients with the last part.
    """
    parts, states, found = core.parts(batch), [], []
    with torch.no_grad():
        for part in parts:
            states.append(random_states())
            with accelerator.autocast():
                found.append({name: value.float() for name, value in core.encode(part).items()})
    names = list(dict.fromkeys(name for features in found for name in features))
    whole = {n: torch.cat([f[n] for f in found if n in f]).requires_grad_() for n in names}
    with accelerator.autocast():
        loss = core.objective(batch, whole)
    after, own = random_states(), list(core.loss_parameters())
    gradients = torch.autograd.grad(loss * factor, [*whole.values(), *own], allow_unused=True)
    of = dict(zip(names, gradients, strict=False))
    first = dict.fromkeys(names, 0)
    for number, (part, features, state) in enumerate(zip(parts, found, states, strict=True)):
        is_last = number + 1 == len(parts)
        cut: dict[str, Tensor] = {}
        for name, value in features.items():
            gradient, start = of[name], first[name]
            first[name] = start + len(value)
            cut[name] = torch.zeros_like(value) if gradient is None else gradient[start : start + len(value)]
        extra = [torch.zeros_like(p) if g is None else g for p, g in zip(own, gradients[len(names) :], strict=True)]
        restore_random_states(state)
        with nullcontext() if is_last and syncs else accelerator.no_sync(model):
            with accelerator.autocast():
                output = model(Part(part.items, cut, extra if is_last else []))
            accelerator.backward(output)
    restore_random_states(after)
    return loss.detach()
