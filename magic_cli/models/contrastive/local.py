"""The local loss: each subtext with the patches of its photo that belong to it, against those of other photos."""

import torch
from torch import Tensor
from torch.nn import functional as F

from magic_cli.models.contrastive.features import SUBTEXTS, ContrastiveOptions
from magic_cli.models.contrastive.multi_aspect import text_to_image
from magic_cli.models.contrastive.share import Share, full


def local_loss(share: Share, weights: Tensor, scale: Tensor, options: ContrastiveOptions) -> Tensor:
    """Return the weighted mean over subtexts of their loss against images (MAKE, Eq. 6); 0 if there is no subtext.

    Args:
        weights: (N, C), of all texts.
    """
    pooled = share.gather(knowledge_vectors(share, options.local_threshold))
    losses = text_to_image(share, pooled, SUBTEXTS, scale, options, None)
    return share.mean(losses, weights[:, SUBTEXTS:])


def knowledge_vectors(share: Share, threshold: float) -> Tensor:
    """Return the knowledge-enhanced vectors (N, d) of photos: patches averaged by their similarity to the raw text.

    MAKE, Eq. 5, with two guards: similarities up to `threshold`, and negative ones, count as 0, and where all do, the
    mean is plain. Vectors are normalised, as Eq. 6 takes cosines. Where the raw text is missing, the disease text
    takes its place, then the concept text; with none of them the mean is plain.

    Raises:
        ValueError: there are no patches.
    """
    rows = share.rows
    if rows.patches is None:
        raise ValueError("the local loss needs the vectors of patches; local_weight 0 does without")
    patches = full(rows.patches)
    mask = rows.mask[:, :SUBTEXTS]
    text = rows.texts[torch.arange(len(mask), device=mask.device), mask.int().argmax(1)]
    similarity = torch.einsum("npd,nd->np", patches, text)
    kept = torch.where((similarity > max(threshold, 0)) & mask.any(1, keepdim=True), similarity, 0.0)
    total = kept.sum(1, keepdim=True)
    share_of_patch = torch.where(total > 0, kept / total.clamp(min=torch.finfo(kept.dtype).tiny), 1 / kept.shape[1])
    return F.normalize(torch.einsum("np,npd->nd", share_of_patch, patches), dim=1)
