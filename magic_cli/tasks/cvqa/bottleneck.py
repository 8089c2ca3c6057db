"""The answer head as a concept bottleneck: which scores stand for absent and present, and its weights by name."""

import numpy as np
import torch
from torch import Tensor, nn

from magic_cli.models.heads import SlotHead
from magic_cli.tasks.bottleneck import Bottleneck, Evidence, Seen, levels
from magic_cli.tasks.pretrain.model.concepts import ConceptReader, lexicon_concepts


class BottleneckLevels(nn.Module):
    """What stands for an absent and for a present concept, float32 (K,), by the training encounters.

    Args:
        count: K, the number of concepts.
    """

    absent: Tensor
    present: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("absent", torch.zeros(count))
        self.register_buffer("present", torch.ones(count))

    @classmethod
    def of(cls, reader: ConceptReader | None) -> "BottleneckLevels":
        """Return the levels of what a reader scores; raises ValueError without one."""
        if reader is None:
            raise ValueError("a bottleneck without concepts")
        return cls(reader.count)

    @torch.no_grad()
    def begin(self, scores: Tensor) -> None:
        """Take the levels from the training encounters' scores (N, K)."""
        for buffer, level in zip((self.absent, self.present), levels(_numpy(scores)), strict=True):
            buffer.copy_(torch.from_numpy(level))

    @torch.no_grad()
    def seen(self, head: SlotHead, inputs: Tensor) -> list[Seen]:
        """Return what the head saw of each encounter, by its concept scores (B, K); the mean photo where they are NaN.

        Concepts are the lexicon's: a model is used with the lexicon that it was trained with, by their number.
        """
        names = tuple(concept.name for concept in lexicon_concepts())
        if len(names) != inputs.shape[1]:  # an older lexicon, whose names are not known
            names = tuple(f"concept {number}" for number in range(inputs.shape[1]))
        weight = head.linear.weight / head.scale
        bias = head.linear.bias - weight @ head.mean
        absent, present = _numpy(self.absent), _numpy(self.present)
        model = Bottleneck(names, _numpy(weight), _numpy(bias), absent, present)
        rows = _numpy(torch.where(inputs.isnan(), head.mean, inputs))
        return [(Evidence(model, row),) for row in rows]


def _numpy(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(tensor.detach().double().cpu().numpy())
