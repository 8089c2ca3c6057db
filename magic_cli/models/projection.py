"""The projection of an encoder's features into the joint space of photos and texts."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Projection(nn.Module):
    """Centre and scale features, map them linearly, and normalise: (..., D) -> unit vectors (..., d), float32.

    Features of encoders that were not trained for a joint space have a large common part, which would make all cosines
    alike; centre and scale are those of training samples (`fit`), 0 and 1 before.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.linear = nn.Linear(features, dim, bias=False)
        nn.init.normal_(self.linear.weight, std=features**-0.5)

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Set centre and scale from features (N, D), N >= 2; a feature that does not vary is not scaled up."""
        features = features.float()
        self.mean.copy_(features.mean(0))
        deviation = features.std(0)
        typical = deviation.mean().clamp(min=1e-6)
        self.scale.copy_(deviation.clamp(min=0.05 * typical))

    def forward(self, features: Tensor) -> Tensor:
        """Return unit vectors of features (..., D)."""
        projected = self.linear((features - self.mean) / self.scale)
        return F.normalize(projected.float(), dim=-1)


class Normalised(nn.Module):
    """The projection of an encoder whose features are in the joint space already: only normalise them."""

    def forward(self, features: Tensor) -> Tensor:
        """Return unit vectors of features (..., d), float32."""
        return F.normalize(features.float(), dim=-1)
