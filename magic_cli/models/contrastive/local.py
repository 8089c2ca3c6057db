"""The local loss: each subtext with the patches of its photo that belong to it, against those of other photos."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from magic_cli.models.contrastive.features import SUBTEXTS, ContrastiveOptions, PairFeatures
from magic_cli.models.contrastive.multi_aspect import text_to_image
from magic_cli.models.contrastive.same_text import rivals
from magic_cli.models.contrastive.share import Share, by_rows, floor_of

ATTENTION = 4.0
"""Sharpness of "xattn", that of GLoRIA (Huang et al., ICCV 2021)."""


def local_loss(share: Share, weights: Tensor, scale: Tensor, options: ContrastiveOptions) -> Tensor:
    """Return the weighted mean over subtexts of their loss against the images of the whole batch (MAKE, Eq. 6).

    What of an image a subtext is compared with, by `local_pool`. "sim": the knowledge-enhanced vector of each image,
    whatever the subtext. The others pool the similarities of the subtext itself to the patches of each image: "max"
    takes the largest (as FILIP), "xattn" their mean with weights softmax(4 similarity) over patches (as the attention
    of GLoRIA and MGCA). With one patch per image all are the loss from text to image.

    Args:
        weights: (N, C), of all texts.

    Raises:
        ValueError: there are no patches.
    """
    if share.rows.patches is None:
        raise ValueError("the local loss needs the vectors of patches; local_weight 0 does without")
    if options.local_pool == "sim":
        pooled = share.of_batch(knowledge_vectors(share.rows, share.rows.patches, options.local_threshold))
        losses = text_to_image(share, pooled, SUBTEXTS, scale, options)
    else:
        losses = _subtext_to_patches(share, share.rows.patches, scale, options)
    return share.mean(losses, weights[:, SUBTEXTS:])


def knowledge_vectors(rows: PairFeatures, patches: Tensor, threshold: float) -> Tensor:
    """Return the knowledge-enhanced vectors (N, d) of photos: patches averaged by their similarity to the raw text.

    MAKE, Eq. 5, with two guards: similarities up to `threshold`, and negative ones, count as 0, and where all do, the
    mean is plain. Vectors are normalised, as Eq. 6 takes cosines. Where the raw text is missing, the disease text
    takes its place, then the concept text; with none of them the mean is plain.

    Args:
        rows: with zeros at masked texts.
        patches: (N, P, d), those of the rows.
    """
    mask = rows.mask[:, :SUBTEXTS]
    text = rows.texts[torch.arange(len(mask), device=mask.device), mask.int().argmax(1)]
    similarity = torch.einsum("npd,nd->np", patches, text)
    kept = torch.where(similarity > max(threshold, 0), similarity, 0.0)
    total = kept.sum(1, keepdim=True)
    parts = torch.where(total > 0, kept / total.clamp(min=torch.finfo(kept.dtype).tiny), 1 / kept.shape[1])
    return F.normalize(torch.einsum("np,npd->nd", parts, patches), dim=1)


def _subtext_to_patches(share: Share, patches: Tensor, scale: Tensor, options: ContrastiveOptions) -> Tensor:
    """Return the losses (N, K) of subtexts against images, with similarities pooled over patches.

    Patches stay where they are: each process compares all subtexts of the batch with its own images, and the parts of
    a subtext's denominator are put together where the subtext belongs.
    """
    columns = share.columns
    texts = share.of_batch(share.rows.texts[:, SUBTEXTS:])
    shape = texts.shape[:2]

    def parts(vectors: Tensor, text_ids: Tensor, case_ids: Tensor, owners: Tensor) -> Tensor:
        similarity = torch.einsum("rd,npd->rnp", vectors, patches)
        if options.local_pool == "max":
            pooled = similarity.amax(2)
        else:
            pooled = (torch.softmax(ATTENTION * similarity, 2) * similarity).sum(2)
        logits = scale * pooled
        competing, matches = rivals(text_ids, case_ids, owners[:, None] == share.owners, share.own, options.same_text)
        total = torch.logsumexp(logits.masked_fill(~competing, floor_of(logits)), 1)
        return torch.stack([total, (logits * matches).sum(1), matches.sum(1).to(logits.dtype)], 1)

    arguments = (
        texts.flatten(0, 1),
        columns.text_ids[:, SUBTEXTS:].flatten(),
        columns.case_ids[:, None].expand(shape).flatten(),
        torch.arange(len(columns), device=patches.device)[:, None].expand(shape).flatten(),
    )
    one_each = replace(share.gather, rows=(1,) * share.gather.processes)
    total, matching, number = one_each(by_rows(parts, arguments, options.chunk_rows)[None]).unbind(2)
    losses = torch.logsumexp(total, 0) - matching.sum(0) / number.sum(0)
    return losses.view(shape)[share.first : share.first + len(patches)]
