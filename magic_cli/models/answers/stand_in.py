"""What stands in for the photo or the text of an encounter that lacks it: a learned pool that the other one attends to.

After PTUnifier (Chen et al., ICCV 2023), whose pools of soft prompts are read by the modality that is there. Here a
pool has vectors in place of an encoder's own: those of the inputs that are there make the query, and the mean of the
pool, weighted by how well its keys fit, is the stand-in. Before any training it is the mean of the training samples.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_WIDTH = 32  # of queries and keys


class Pool(nn.Module):
    """`size` vectors of `width` values, each with a key; a query from `inputs` values weighs them."""

    def __init__(self, inputs: int, width: int, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(inputs, _WIDTH, bias=False)
        self.keys = nn.Parameter(torch.randn(size, _WIDTH))
        self.values = nn.Parameter(torch.zeros(size, width))

    def forward(self, present: Tensor) -> Tensor:
        """Return (B, width) for inputs (B, inputs)."""
        fit = self.query(present) @ self.keys.T / math.sqrt(_WIDTH)
        return torch.softmax(fit, 1) @ self.values


class StandIn(nn.Module):
    """Fills in the block of an encoder's vector where it is missing, from all other inputs.

    Args:
        inputs: D, all values of an encounter.
        blocks: first and end of the columns of each block that may be missing.
        size: vectors in the pool of each.
    """

    def __init__(self, inputs: int, blocks: Sequence[tuple[int, int]], size: int) -> None:
        super().__init__()
        self.blocks = list(blocks)
        with torch.random.fork_rng(devices=[]):  # whatever is drawn after it is as without the pools
            self.pools = nn.ModuleList(Pool(inputs, end - first, size) for first, end in self.blocks)

    def forward(self, inputs: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """Return inputs (B, D) without NaN, which stands for what is missing; all but the blocks become the mean.

        Args:
            inputs: as they are.
            mean, scale: (D,), by which they are centred and scaled.
        """
        missing = inputs.isnan()
        present = torch.where(missing, torch.zeros_like(inputs), (inputs - mean) / scale)
        filled = torch.where(missing, mean, inputs)
        for (first, end), pool in zip(self.blocks, self.pools, strict=True):
            made = mean[first:end] + scale[first:end] * pool(present)
            lacks = missing[:, first:end]
            filled = torch.cat([filled[:, :first], torch.where(lacks, made, filled[:, first:end]), filled[:, end:]], 1)
        return filled


def hide(inputs: Tensor, groups: Sequence[tuple[int, int]], share: float) -> Tensor:
    """Return inputs (B, D) of which a share of the rows lost one of two groups of columns, by chance: NaN.

    A row that lacks a group already loses nothing.

    Args:
        inputs: as they are.
        groups: first and end of the columns of photos, and of texts.
        share: probability that a row loses a group.
    """
    drawn = torch.rand(2, len(inputs), device=inputs.device)
    whole = ~inputs.isnan().any(1) & (drawn[0] < share)
    hidden = torch.zeros_like(inputs, dtype=torch.bool)
    for number, (first, end) in enumerate(groups):
        hidden[:, first:end] = (whole & ((drawn[1] < 1 / 2) == (number == 0)))[:, None]
    return inputs.masked_fill(hidden, math.nan)
