"""Region masks and vectors: what of a level is compared, and the similarity of all levels as one inner product.

S = beta * sum_i cos(local_i) + (1 - beta) * sum_i cos(global_i), in [-3, 3] for three levels (Eqs. 7 to 9 of the paper,
arXiv 2603.09108). With all vectors of unit length side by side, S is the inner product of the query's, scaled by beta
and 1 - beta, and the photo's: an exact search needs one product, and beta may be changed with every query.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MaskActivation = Literal["none", "sigmoid", "softmax"]

Local = Literal["pooled", "regionwise"]


class RegionMasks(nn.Module):
    """k masks over a level, and the mean of the level under each (Eq. 6)."""

    def __init__(self, dim: int, regions: int, activation: MaskActivation) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, regions, 3, padding=1)
        self.activation = activation

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return region vectors (B, k, D) of a level (B, D, h, w), and the masks (B, k, h, w).

        Masks are in [0, 1] with "sigmoid", sum to 1 over the places with "softmax", and are any number with "none" (as
        the cited code has them). Vectors are means over the places, as the paper's; scale does not matter to cosines.
        """
        masks = self.conv(level)
        if self.activation == "sigmoid":
            masks = torch.sigmoid(masks)
        elif self.activation == "softmax":
            masks = masks.flatten(2).softmax(-1).view_as(masks)
        vectors = torch.einsum("bdhw,bkhw->bkd", level, masks) / (level.shape[2] * level.shape[3])
        return vectors, masks


@dataclass(frozen=True)
class LevelVectors:
    """A level's vectors of unit length, float32: global (B, D), local (B, D) or (B, k * D), and its masks."""

    whole: Tensor
    local: Tensor
    masks: Tensor


def level_vectors(level: Tensor, masks: RegionMasks, local: Local) -> LevelVectors:
    """Return the vectors of a level (B, D, h, w).

    Args:
        level: projected or composed.
        masks: the region masks of this level and this side.
        local: "pooled" compares the mean of the k regions (the paper), "regionwise" region j with region j (the cited
            code), as the mean of k cosines.
    """
    vectors, there = masks(level)
    vectors = vectors.float()
    if local == "pooled":
        one = F.normalize(vectors.mean(1), dim=-1)
    else:
        one = F.normalize(vectors, dim=-1).flatten(1) / vectors.shape[1] ** 0.5
    return LevelVectors(F.normalize(level.float().mean((2, 3)), dim=-1), one, there)


def diversity(masks: Tensor) -> Tensor:
    """Return the mean cosine of different masks (B, k, h, w) of a photo: 1 if all are alike; 0 for a single mask."""
    count = masks.shape[1]
    if count < 2:
        return masks.new_zeros(())
    flat = F.normalize(masks.float().flatten(2), dim=-1)
    cosines = flat @ flat.transpose(1, 2)
    return (cosines.sum((1, 2)) - count).mean() / (count * (count - 1))
