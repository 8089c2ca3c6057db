"""The projection of an encoder's features into the joint space of photos and texts."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_LOG_SCALE = math.log(100)
"""Largest logarithm of the scale 1 / temperature of cosines (CLIP, Radford et al., ICML 2021)."""


class Projection(nn.Module):
    """Centre and scale features, map them linearly, and normalise: (..., D) -> unit vectors (..., d), float32.

    Features of encoders that were not trained for a joint space have a large common part, which would make all cosines
    alike; centre and scale are those of training samples (`fit`), 0 and 1 before.

    Args:
        features: D.
        dim: d.
        dropout: probability that training leaves out a feature.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(()))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, dim, bias=False)
        nn.init.orthogonal_(self.linear.weight)

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Set centre and scale from features (N, D), whose mean squared norm becomes 1."""
        features = features.float()
        self.mean.copy_(features.mean(0))
        norm = (features - self.mean).pow(2).sum(1).mean().sqrt()
        self.scale.fill_(norm.clamp(min=1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """Return unit vectors of features (..., D)."""
        projected = self.linear(self.dropout((features - self.mean) / self.scale))
        return F.normalize(projected.float(), dim=-1)


class Normalised(nn.Module):
    """The projection of an encoder whose features are in the joint space already: only normalise them."""

    def forward(self, features: Tensor) -> Tensor:
        """Return unit vectors of features (..., d), float32."""
        return F.normalize(features.float(), dim=-1)
