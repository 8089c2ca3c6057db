"""Losses as pure functions of tensors."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F


def mask_loss(logits: Tensor, masks: Tensor, kind: str) -> Tensor:
    """Return the loss of (B, h, w) logits against (B, H, W) masks in [0, 1]; logits are upsampled first.

    "bce": binary cross-entropy on logits (IReL paper, section 4.1.4). "bce+dice": plus 1 - soft Dice an
    image, smoothed by one pixel. "focal": `focal_loss`.
    """
    logits = logits.float()  # the sums below overflow in half precision
    if logits.shape[-2:] != masks.shape[-2:]:
        logits = F.interpolate(logits[:, None], masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    if kind == "focal":
        return focal_loss(logits, masks)
    loss = F.binary_cross_entropy_with_logits(logits, masks)
    if kind == "bce+dice":
        found = torch.sigmoid(logits)
        overlap = (found * masks).sum((1, 2))
        dice = (2 * overlap + 1) / (found.sum((1, 2)) + masks.sum((1, 2)) + 1)
        loss = loss + (1 - dice).mean()
    return loss


def focal_loss(logits: Tensor, masks: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Return the mean over pixels of -a (1 - p)^gamma log p, p the probability of what the pixel is.

    Lin et al., Focal loss for dense object detection, ICCV 2017, equation 5 with its best gamma and alpha: a is alpha
    for lesion and 1 - alpha for skin. A soft mask mixes both terms. gamma 0 and alpha 0.5 are half of "bce".
    """
    lesion = alpha * torch.sigmoid(-logits) ** gamma * F.softplus(-logits)
    skin = (1 - alpha) * torch.sigmoid(logits) ** gamma * F.softplus(logits)
    return (masks * lesion + (1 - masks) * skin).mean()


def slot_loss(scores: Tensor, starts: list[int], gold: Tensor) -> Tensor:
    """Return the mean cross-entropy over the slots of (B, R) option scores.

    Slot i owns the rows starts[i]:starts[i + 1]; gold (B, slots) holds option indices, -1 = no answer.
    """
    losses = [
        F.cross_entropy(scores[:, a:b].float(), gold[:, slot], ignore_index=-1, reduction="sum")
        for slot, (a, b) in enumerate(pairwise(starts))
    ]
    return torch.stack(losses).sum() / (gold >= 0).sum().clamp(min=1)
