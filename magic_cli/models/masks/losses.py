"""Losses of masks: what the decoder's logits are compared with the annotators' masks by."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_DICE_CE = 1.0, 0.2  # weights of Dice and cross-entropy in MedVLSM's configuration
_EDGE, _NEAR = 3, 5  # pixels: the window whose change is an edge, and the window in which edges meet


def mask_loss(logits: Tensor, masks: Tensor, kind: str) -> Tensor:
    """Return the loss of (B, h, w) logits against (B, H, W) masks in [0, 1]; logits are upsampled first.

    Args:
        logits: before the sigmoid; every loss here applies it itself, and once.
        masks: the share of lesion of each pixel.
        kind: a key of `MASK_LOSSES`. "bce": binary cross-entropy (IReL paper, section 4.1.4). "bce+dice": plus
            `dice_loss`. "dicece": `dice_loss` + 0.2 cross-entropy, as MedVLSM trains CLIPSeg (Adhikari et al., 2024).
            "focal", "tversky", "lovasz": the functions below. "bce+dice+boundary": plus `boundary_loss`.

    MedVLSM's public step hands outputs *after* the sigmoid to a loss of logits. Its cross-entropy is then of
    sigmoid(sigmoid(x)), which lies in [0.5, 0.73]: it cannot fall below 0.69 on skin, nor below 0.31 on lesion.
    """
    logits = logits.float()  # the sums below overflow in half precision
    if logits.shape[-2:] != masks.shape[-2:]:
        logits = F.interpolate(logits[:, None], masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return MASK_LOSSES[kind](logits, masks)


def supervised_loss(maps: Sequence[Tensor], masks: Tensor, kind: str, weight: float) -> Tensor:
    """Return the `mask_loss` of the finest map, and `weight` times its mean over the coarser ones, if there are any.

    Args:
        maps: logits (B, h, w), fine to coarse.
        masks, kind: as of `mask_loss`.
        weight: of deep supervision (Lee et al., Deeply-supervised nets, AISTATS 2015).
    """
    finest, *coarser = (mask_loss(logits, masks, kind) for logits in maps)
    return finest + weight * torch.stack(coarser).mean() if coarser else finest


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean over images of 1 - soft Dice (Milletari et al., V-Net, 3DV 2016, with sums, not squares).

    Soft Dice is not the score of metrics/mask_scores.py, which is of binary masks: it sums probabilities, so
    that it has a gradient, and adds one pixel to numerator and denominator, so that it is 1 for two empty masks and
    its gradient stays bounded for small lesions.
    """
    probabilities = torch.sigmoid(logits)
    overlap = (probabilities * masks).sum((1, 2))
    soft_dice = (2 * overlap + 1) / (probabilities.sum((1, 2)) + masks.sum((1, 2)) + 1)
    return (1 - soft_dice).mean()


def focal_loss(logits: Tensor, masks: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Return the mean over pixels of -a (1 - p)^gamma log p, with p the probability of the pixel's true class.

    Lin et al., Focal loss for dense object detection, ICCV 2017, equation 5 with its best gamma and alpha: a is alpha
    for lesion and 1 - alpha for skin. A soft mask mixes both terms. gamma 0 and alpha 0.5 are half of "bce".
    """
    lesion = alpha * torch.sigmoid(-logits) ** gamma * F.softplus(-logits)
    skin = (1 - alpha) * torch.sigmoid(logits) ** gamma * F.softplus(logits)
    return (masks * lesion + (1 - masks) * skin).mean()


def tversky_loss(logits: Tensor, masks: Tensor, alpha: float = 0.3, beta: float = 0.7) -> Tensor:
    """Return the mean over images of 1 - TP / (TP + alpha FP + beta FN), of probabilities.

    Salehi et al., Tversky loss function for image segmentation, MLMI 2017, with its best alpha and beta: missed
    lesion costs more than skin that is marked. alpha = beta = 0.5 is `dice_loss`, for which half a pixel is added here.
    """
    probabilities = torch.sigmoid(logits)
    found = (probabilities * masks).sum((1, 2)) + 0.5
    marked = (probabilities * (1 - masks)).sum((1, 2))
    missed = ((1 - probabilities) * masks).sum((1, 2))
    return (1 - found / (found + alpha * marked + beta * missed)).mean()


def lovasz_hinge(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean over images of the Lovász extension of the Jaccard loss at the pixels' hinge losses.

    Berman, Rannen Triki & Blaschko, The Lovász-softmax loss, CVPR 2018, equations 7 to 9 and algorithm 1. Labels are
    +1 where the mask is at least 0.5. With errors max(0, 1 - label * logit) of 0 or 1 it is 1 - Jaccard of the pixels
    with error 0, and 1 - 0/0 is 0; it is convex and linear in the errors as long as their order stays.
    """
    lesion = (masks >= 0.5).flatten(1)
    errors = F.relu(1 - logits.flatten(1) * (2 * lesion.float() - 1))
    errors, order = errors.sort(dim=1, descending=True, stable=True)
    lesion = lesion.gather(1, order).long()  # sums of integers are exact, and the same in any order
    total = lesion.sum(1, keepdim=True)
    left = total - lesion.cumsum(1)  # of the intersection, once the first i pixels are wrong
    union = total + (1 - lesion).cumsum(1)
    jaccard = 1 - left / union  # at least one pixel is in the union: the first one
    slopes = torch.diff(jaccard, dim=1, prepend=torch.zeros_like(jaccard[:, :1]))
    return (errors * slopes).sum(1).mean()


def boundary_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean over images of 1 - F1 of edge pixels, of which those within two pixels meet.

    Bokhovkin & Burnaev, Boundary loss for remote sensing imagery semantic segmentation, ISNN 2019: the edge of a map
    is what a maximum over 3 x 3 pixels adds to its background. One pixel is added to every sum, as in `dice_loss`:
    no edges in both maps cost nothing. Where an edge is far from every other, no gradient leads to it: use it beside a
    loss of areas.
    """
    mine, true = _edges(torch.sigmoid(logits)), _edges(masks)
    precision = ((mine * _widened(true)).sum((1, 2)) + 1) / (mine.sum((1, 2)) + 1)
    recall = ((true * _widened(mine)).sum((1, 2)) + 1) / (true.sum((1, 2)) + 1)
    return (1 - 2 * precision * recall / (precision + recall)).mean()


def _edges(lesion: Tensor) -> Tensor:
    skin = 1 - lesion
    return F.max_pool2d(skin, _EDGE, 1, _EDGE // 2) - skin


def _widened(edges: Tensor) -> Tensor:
    return F.max_pool2d(edges, _NEAR, 1, _NEAR // 2)


def _bce_dice(logits: Tensor, masks: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, masks) + dice_loss(logits, masks)


def _dice_ce(logits: Tensor, masks: Tensor) -> Tensor:
    dice, entropy = _DICE_CE
    return dice * dice_loss(logits, masks) + entropy * F.binary_cross_entropy_with_logits(logits, masks)


def _bce_dice_boundary(logits: Tensor, masks: Tensor) -> Tensor:
    return _bce_dice(logits, masks) + boundary_loss(logits, masks)


MASK_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": F.binary_cross_entropy_with_logits,
    "bce+dice": _bce_dice,
    "dicece": _dice_ce,
    "focal": focal_loss,
    "tversky": tversky_loss,
    "lovasz": lovasz_hinge,
    "bce+dice+boundary": _bce_dice_boundary,
}
