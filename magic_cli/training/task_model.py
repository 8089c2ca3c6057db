"""The model of a task: everything between samples, loss and predictions."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from magic_cli.models.cache.features import FeatureCache, Item
from magic_cli.models.encoders import Encoder
from magic_cli.records import Prediction, Sample

Batch = dict[str, Any]


class TaskModel(nn.Module):
    """A task's model: encoders + head, with everything between samples and predictions.

    `view` is a number that names an augmented view of a photo; 0 is the photo as it is.
    """

    cache: FeatureCache | None = None

    def frozen(self, samples: Sequence[Sample], views: int) -> Iterable[tuple[Encoder, Item]]:  # noqa: ARG002
        """Yield what frozen encoders will be asked for by these samples, in views 0..views-1."""
        return ()

    def begin(self, samples: Sequence[Sample]) -> None:
        """Set what depends on the training data (priors, scales), once, before the first step."""

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> Batch:
        """Load samples into a batch of CPU tensors; runs in the data loader's workers."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """Return the scalar training loss of a batch."""
        raise NotImplementedError

    def predict(self, batch: Batch, view: int) -> Sequence[Prediction]:
        """Return one prediction per sample, with the view undone; no gradients."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss: what a distributed wrapper has to go through."""
        return self.loss(batch)
