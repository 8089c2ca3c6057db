"""Losses over one text per photo: CLIP's, soft targets (MedCLIP), DHN-NCE and SigLIP's.

The text is the raw one; a photo without takes the first that is there, in the order disease, concept, subtexts. A photo
without any text is still one that others' texts are compared with.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from magic_cli.models.contrastive.features import ContrastiveOptions, PairFeatures
from magic_cli.models.contrastive.multi_aspect import image_to_text, text_to_image
from magic_cli.models.contrastive.same_text import rivals
from magic_cli.models.contrastive.share import Share, by_rows, floor_of

RowLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Losses (R,) from logits (R, G), what competes and what matches (both (R, G) bool), and which photos the rows are."""


@dataclass(frozen=True)
class _Direction:
    """The vectors of rows (N, d), those that they are compared with (G, d), and which of these are there (G,)."""

    rows: Tensor
    columns: Tensor
    there: Tensor


def first_texts(features: PairFeatures) -> PairFeatures:
    """Return the photos with one text each, (N, 1, d), and without patches."""
    rows, first = torch.arange(len(features.mask), device=features.mask.device), features.mask.int().argmax(1)
    return replace(
        features,
        texts=features.texts[rows, first][:, None],
        mask=features.mask[rows, first][:, None],
        text_ids=features.text_ids[rows, first][:, None],
        patches=None,
    )


def infonce(share: Share, scale: Tensor, options: ContrastiveOptions) -> tuple[Tensor, Tensor]:
    """Return the loss from text to image and from image to text of CLIP (Radford et al., ICML 2021)."""
    options = replace(options, denominator="others")
    weights = share.rows.mask.to(share.rows.texts.dtype)
    t2i = text_to_image(share, share.of_batch(share.rows.images), 0, scale, options)
    return share.mean(t2i, weights), share.mean(image_to_text(share, scale, options), weights)


def soft(share: Share, scale: Tensor, options: ContrastiveOptions) -> tuple[Tensor, Tensor]:
    """Return the cross-entropies, from text to image and back, against targets from shared concepts (MedCLIP, 2022).

    The target of a row is softmax(cosine of multi-hot concepts / temperature) over all columns. MedCLIP takes the dot
    product and temperature 1, with which a photo alone of its kind is hardly more than any other in a large batch; as
    the temperature falls to 0, photos without a common concept give CLIP's loss. Rows without concepts have their
    photo alone as the target.

    Raises:
        ValueError: there are no concepts.
    """
    if share.rows.concepts is None:
        raise ValueError("soft targets need the concepts of photos")
    concepts = share.gather(F.normalize(share.rows.concepts.to(share.rows.images.dtype), dim=1))

    def losses(logits: Tensor, competing: Tensor, own: Tensor, owners: Tensor) -> Tensor:
        floor, rows = floor_of(logits), concepts[owners]
        closeness = (rows @ concepts.T / options.soft_temperature).masked_fill(~competing, floor)
        targets = torch.where(rows.any(1, keepdim=True), torch.softmax(closeness, 1), own.to(logits.dtype))
        return torch.logsumexp(logits.masked_fill(~competing, floor), 1) - (targets * logits).sum(1)

    return _both_ways(share, scale, replace(options, same_text="negative"), losses)


def dhn(share: Share, scale: Tensor, options: ContrastiveOptions) -> tuple[Tensor, Tensor]:
    """Return DHN-NCE (MedCLIP-SAM, MICCAI 2024) from text to image and back; the paper adds the two.

    With logits s of a row and B - 1 negatives: -s_ii + log sum_j w_j exp(s_ij) over negatives j alone, with weights
    w_j = (B - 1) exp(beta s_ij) / sum_k exp(beta s_ik). This is the formula; in the authors' code the sum over
    negatives is missing. A row without negatives has loss 0. Without the match in its denominator the loss has no least
    value: once pairs are told apart, it falls as the scale grows, which has to be bounded.
    """

    def losses(logits: Tensor, competing: Tensor, matches: Tensor, _: Tensor) -> Tensor:
        negatives = competing & ~matches
        floor, count = floor_of(logits), negatives.sum(1)
        harder = torch.logsumexp(((1 + options.hardness) * logits).masked_fill(~negatives, floor), 1)
        norm = torch.logsumexp((options.hardness * logits).masked_fill(~negatives, floor), 1)
        total = torch.log(count.clamp(min=1).to(logits.dtype)) + harder - norm
        loss = total - (logits * matches).sum(1) / matches.sum(1)
        return torch.where(count > 0, loss, 0.0)

    return _both_ways(share, scale, options, losses)


def siglip(share: Share, scale: Tensor, bias: Tensor, options: ContrastiveOptions) -> Tensor:
    """Return SigLIP's loss (Zhai et al., ICCV 2023): each pair of image and text is a match or not, by itself.

    The sum over pairs of -log sigmoid(±(logit + bias)), divided by the number of texts; the same in both directions.

    Args:
        bias: scalar; the paper starts at -10, with scale 10.
    """

    def losses(logits: Tensor, competing: Tensor, matches: Tensor, _: Tensor) -> Tensor:
        sign = 2 * matches.to(logits.dtype) - 1
        return -(F.logsigmoid(sign * (logits + bias)) * competing).sum(1)

    texts = share.of_batch(share.rows.texts[:, 0])
    to_texts = _Direction(share.rows.images, texts, share.columns.mask[:, 0])
    return share.mean(_losses(share, to_texts, scale, options, losses), share.rows.mask[:, 0].to(texts.dtype))


def _both_ways(share: Share, scale: Tensor, options: ContrastiveOptions, losses: RowLoss) -> tuple[Tensor, Tensor]:
    rows, texts, mask = share.rows, share.rows.texts[:, 0], share.columns.mask[:, 0]
    weights = rows.mask[:, 0].to(texts.dtype)
    to_images = _Direction(texts, share.of_batch(rows.images), torch.ones_like(mask))
    to_texts = _Direction(rows.images, share.of_batch(texts), mask)
    t2i = _losses(share, to_images, scale, options, losses)
    return share.mean(t2i, weights), share.mean(_losses(share, to_texts, scale, options, losses), weights)


def _losses(share: Share, way: _Direction, scale: Tensor, options: ContrastiveOptions, losses: RowLoss) -> Tensor:
    def of_rows(vectors: Tensor, text_ids: Tensor, case_ids: Tensor, owners: Tensor) -> Tensor:
        own = owners[:, None] == torch.arange(len(way.columns), device=owners.device)
        competing, matches = rivals(text_ids, case_ids, own, share.columns, options.same_text)
        return losses(scale * vectors @ way.columns.T, competing & way.there, matches & (way.there | own), owners)

    arguments = (way.rows, share.own.text_ids[:, 0], share.own.case_ids, share.owners)
    return by_rows(of_rows, arguments, options.chunk_rows)
