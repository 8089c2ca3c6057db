"""Targets that are spread over related diseases (O-MAKE, arXiv 2512.03445)."""

import torch
from torch import Tensor

from magic_cli.models.contrastive.share import floor_of

TEMPERATURE = 0.07


def spread_loss(logits: Tensor, total: Tensor, distances: Tensor, related: Tensor) -> Tensor:
    """Return the cross-entropy (R,) against softmax(-distance / 0.07) over the related columns.

    Args:
        logits: (R, G).
        total: (R,), the logarithm of the denominator, in which all related columns are.
        distances: (R, G) between the disease of a row and that of a column.
        related: (R, G) bool: columns whose disease is known and that compete; rows of none get a finite value.
    """
    targets = torch.softmax((-distances / TEMPERATURE).to(logits.dtype).masked_fill(~related, floor_of(logits)), 1)
    return total - (targets * logits).sum(1)


def distances_between(rows: Tensor, columns: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
    """Return (R, G) distances, and (R, G) bool: both diseases are known.

    Args:
        rows: (R,) int64 rows of `distances`, -1 unknown.
        columns: (G,), likewise.
        distances: (L, L).
    """
    known = (rows >= 0)[:, None] & (columns >= 0)
    return distances[rows.clamp(min=0)][:, columns.clamp(min=0)], known


def mixed(plain: Tensor, spread: Tensor, nodes: Tensor, beta: float) -> Tensor:
    """Return (1 - beta) plain + beta spread (R,), and the plain loss of rows whose disease is not known."""
    return torch.where(nodes >= 0, (1 - beta) * plain + beta * spread, plain)
