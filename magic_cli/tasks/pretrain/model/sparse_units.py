"""A sparse autoencoder over photos' vectors: units of which few are active at a time, as concepts that nobody named.

Top-k autoencoders of Gao et al., Scaling and evaluating sparse autoencoders (arXiv 2406.04093): z = the k largest of
relu(W (x - b)), x' = D z + b with columns of D of length 1, and an auxiliary loss by which units that have not been
active learn what is left over. DermFM-Zero (arXiv 2602.10624) reads diagnoses of skin photos from such units.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

Floats = NDArray[np.float64]

_STEPS, _BATCH, _RATE = 1500, 128, 2e-3

_AUXILIARY = 1 / 32  # weight of the loss of dead units, as in the paper

_IDLE = 100  # steps without activity after which a unit counts as dead in training


class SparseAutoencoder(nn.Module):
    """Vectors (N, d) -> codes (N, units) with at most `active` values above 0 each -> vectors.

    Args:
        dim: d.
        units: number of units.
        active: k.
        seed: of the directions that training begins with.
    """

    scale: Tensor

    def __init__(self, dim: int, units: int, active: int, seed: int = 0) -> None:
        super().__init__()
        self.active = active
        random = torch.Generator().manual_seed(seed)
        directions = F.normalize(torch.randn(units, dim, generator=random), dim=1)
        self.centre = nn.Parameter(torch.zeros(dim))
        self.encoder = nn.Parameter(directions.clone())
        self.decoder = nn.Parameter(directions)  # rows are the columns of D
        self.register_buffer("scale", torch.ones(()))

    def before_top(self, vectors: Tensor) -> Tensor:
        """Return relu(W (x - b)) of vectors (N, d), all units."""
        return F.relu((vectors * self.scale - self.centre) @ self.encoder.T)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the codes (N, units) of vectors (N, d), zero but for the `active` largest."""
        return largest(self.before_top(vectors), self.active)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the vectors (N, d) of codes."""
        return (codes @ self.decoder + self.centre) / self.scale

    def directions(self) -> Tensor:
        """Return the unit vector (units, d) that each unit adds."""
        return F.normalize(self.decoder.detach(), dim=1)


def largest(values: Tensor, count: int) -> Tensor:
    """Return values (N, n) with all but the `count` largest of each row set to 0."""
    top = values.topk(min(count, values.shape[1]), dim=1)
    return torch.zeros_like(values).scatter(1, top.indices, top.values)


def fit(vectors: Floats, units: int, active: int, seed: int = 0) -> SparseAutoencoder:
    """Return an autoencoder trained on vectors (N, d), deterministic for a seed.

    Vectors are scaled so that their distance from the mean has a mean square of d, which makes steps of the optimiser
    as long for unit vectors as for others.
    """
    rows = torch.from_numpy(vectors).float()
    model = SparseAutoencoder(rows.shape[1], units, active, seed)
    spread = (rows - rows.mean(0)).pow(2).mean().sqrt().clamp(min=1e-8)
    with torch.no_grad():
        model.scale.copy_(1 / spread)
        model.centre.copy_(rows.mean(0) / spread)
    optimizer = torch.optim.Adam(model.parameters(), lr=_RATE)
    random = torch.Generator().manual_seed(seed)
    idle = torch.zeros(units, dtype=torch.long)
    with torch.enable_grad():
        for step in range(_STEPS):
            batch = rows[torch.randint(len(rows), (min(_BATCH, len(rows)),), generator=random)]
            codes = model(batch)
            idle = torch.where((codes > 0).any(0), 0, idle + 1)
            loss = _loss(model, batch, codes, idle > _IDLE)
            for group in optimizer.param_groups:
                group["lr"] = _RATE * min(1.0, 5 * (1 - step / _STEPS))  # falls to 0 over the last fifth
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                model.decoder.copy_(F.normalize(model.decoder, dim=1))
    return model.eval()


def _loss(model: SparseAutoencoder, batch: Tensor, codes: Tensor, dead: Tensor) -> Tensor:
    """Return the squared error over the variance, and that of what dead units make of the rest."""
    rest = (batch - model.decode(codes)) * model.scale
    variance = ((batch - batch.mean(0)) * model.scale).pow(2).mean().clamp(min=1e-8)
    loss = rest.pow(2).mean() / variance
    if not dead.any():
        return loss
    revived = largest(model.before_top(batch) * dead, 2 * model.active) @ model.decoder
    return loss + _AUXILIARY * (rest.detach() - revived).pow(2).mean() / variance


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """The squared error of vectors over their variance, 1 if no better than the mean; units never active."""

    error: float
    dead: int


@torch.no_grad()
def reconstruction(model: SparseAutoencoder, vectors: Floats) -> Reconstruction:
    """Return how well vectors (N, d) are reconstructed; their own mean is what an error of 1 is as good as."""
    rows = torch.from_numpy(vectors).float()
    codes = model(rows)
    error = (rows - model.decode(codes)).pow(2).sum() / (rows - rows.mean(0)).pow(2).sum().clamp(min=1e-12)
    return Reconstruction(float(error), int((codes == 0).all(0).sum()))


@torch.no_grad()
def codes_of(model: SparseAutoencoder, vectors: Floats) -> Floats:
    """Return the codes (N, units) of vectors (N, d)."""
    return np.asarray(model(torch.from_numpy(vectors).float()).double().numpy())
