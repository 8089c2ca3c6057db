"""The model of a task: everything between samples, loss and predictions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor, nn

from magic_cli.data.imaging.images import Box
from magic_cli.models.cache.features import FeatureCache, Item
from magic_cli.models.encoders import Encoder
from magic_cli.records import Prediction, Sample

NOT_FINITE = "half precision may overflow: --precision bf16 or no; else training diverged: lower lr and train again"
"""What to do about a model whose scores are no finite numbers."""


@dataclass(frozen=True)
class Batch:
    """The input of a model for one step; every model has its own subclass, a frozen dataclass.

    All tensors in fields, in lists and dicts of fields, and in nested batches are pinned and moved together: torch's
    loaders call `pin_memory`, and accelerate calls `to`, on any object that has it.
    """

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Return a copy with all tensors on a device; arguments as for `Tensor.to`."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return a copy with all tensors in pinned memory."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{field.name: _changed(getattr(self, field.name), change) for field in fields(self)})


def _changed(value: object, change: Callable[[Tensor], Tensor]) -> object:
    """Return a field's value with every tensor changed; values without tensors are returned unchanged."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Batch):
        return value._with(change)
    if isinstance(value, dict):
        return {key: _changed(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    return value


class TaskModel(nn.Module):
    """A task's model: encoders + head, with everything between samples and predictions.

    `view` is the number of an augmented view of a photo; 0 is the unchanged photo.

    `loss_spans_processes` says that the mean over processes of what `loss` returns is the loss of the whole batch; else
    it is the mean loss of a process's own samples.
    """

    cache: FeatureCache | None = None
    loss_spans_processes = False

    def frozen(self, samples: Sequence[Sample], views: int) -> Iterable[tuple[Encoder, Item]]:  # noqa: ARG002
        """Yield all inputs of frozen encoders for these samples, in views 0..views-1."""
        return ()

    def begin(self, samples: Sequence[Sample]) -> None:
        """Set values that depend on the training data (priors, scales); called once, before the first step."""

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> Batch:
        """Load samples into a batch of CPU tensors; runs in the data loader's workers."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """Return the scalar training loss of a batch."""
        raise NotImplementedError

    def predict(self, batch: Batch, view: int) -> Sequence[Prediction]:
        """Return one prediction per sample, with the view undone; no gradients."""
        raise NotImplementedError

    def closer(self, first: Prediction, factor: float) -> Box | None:  # noqa: ARG002
        """Return the part of a photo that a second look should see, given the first prediction; None for one look."""
        return None

    def both_looks(self, first: Prediction, second: Prediction, box: Box) -> Prediction:
        """Return the prediction of two looks: at a photo, and at the part of it that `closer` returned."""
        raise NotImplementedError

    def constrain(self) -> None:
        """Bring weights back into their bounds; called after every update."""

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss; a distributed wrapper needs it in `forward`."""
        return self.loss(batch)
