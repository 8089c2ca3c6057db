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
    targets = torch.softmax((-distances / TEMPERATURE).masked_fill(~related, floor_of(logits)), 1)
    return total - (targets * logits).sum(1)


def distances_between(rows: Tensor, columns: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (R, G) distances in [0, 1] between diseases, of a float dtype, and (R, G) bool: both diseases are known.

    The distance is 1 - 2 common / (depth a + depth b), with the number of classes that two paths begin with in common:
    the tree's path between two diseases over the longest that their depths allow (Wu & Palmer, Verb semantics and
    lexical selection, ACL 1994). O-MAKE divides distances in its tree into [0, 1], too, so that its temperature fits.

    Args:
        rows: (R, L) int64, hashes of classes from the widest on, then 0.
        columns: (G, L), likewise.
    """
    depths = (rows != 0).sum(1)[:, None] + (columns != 0).sum(1)
    same = torch.ones_like(depths, dtype=torch.bool)
    common = torch.zeros_like(depths)
    for row, column in zip(rows.T, columns.T, strict=True):
        same &= (row != 0)[:, None] & (row[:, None] == column)
        common += same
    return 1 - 2 * common.to(dtype) / depths.clamp(min=1), is_known(rows)[:, None] & is_known(columns)


def is_known(paths: Tensor) -> Tensor:
    """Return (R,) bool: whether a path (R, L) has a class at all."""
    return paths[:, 0] != 0


def mixed(plain: Tensor, spread: Tensor, paths: Tensor, beta: float) -> Tensor:
    """Return (1 - beta) plain + beta spread (R,), and the plain loss of rows whose disease is not known."""
    return torch.where(is_known(paths), (1 - beta) * plain + beta * spread, plain)
