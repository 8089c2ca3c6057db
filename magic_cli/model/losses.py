"""Losses as pure functions of tensors."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F


def mask_loss(logits: Tensor, masks: Tensor, kind: str) -> Tensor:
    """Return the loss of (B, h, w) logits against (B, H, W) masks in [0, 1]; logits are upsampled first.

    "bce": binary cross-entropy on logits (IReL paper, section 4.1.4). "bce+dice": plus 1 - soft Dice an
    image, smoothed by one pixel.
    """
    logits = logits.float()  # the sums below overflow in half precision
    if logits.shape[-2:] != masks.shape[-2:]:
        logits = F.interpolate(logits[:, None], masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    loss = F.binary_cross_entropy_with_logits(logits, masks)
    if kind == "bce+dice":
        found = torch.sigmoid(logits)
        overlap = (found * masks).sum((1, 2))
        dice = (2 * overlap + 1) / (found.sum((1, 2)) + masks.sum((1, 2)) + 1)
        loss = loss + (1 - dice).mean()
    return loss


def slot_loss(scores: Tensor, starts: list[int], gold: Tensor) -> Tensor:
    """Return the mean cross-entropy over the slots of (B, R) option scores.

    Slot i owns the rows starts[i]:starts[i + 1]; gold (B, slots) holds option indices, -1 = no answer.
    """
    losses = [
        F.cross_entropy(scores[:, a:b].float(), gold[:, slot], ignore_index=-1, reduction="sum")
        for slot, (a, b) in enumerate(pairwise(starts))
    ]
    return torch.stack(losses).sum() / (gold >= 0).sum().clamp(min=1)
