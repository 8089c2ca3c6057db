"""MAKE's loss as the authors' release computes it: its documented differences to the paper, frozen, for tests only.

Each difference can be switched on by itself. None of the release's code is here.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from magic_cli.models.contrastive import PairFeatures

DIFFERENCES = {
    "D2": "the map of photo i is from row i of the flat texts: text i % C of photo i // C",
    "D3": "weights are from rows N to 2 N, as if texts were sorted by kind, and meet rows sorted by photo",
    "D4": "weights are exp(s - max s) in the place of s / max s",
    "D5": "no weights from text to image",
    "D6": "local loss from image to text, over all texts",
    "D7": "the first N rows are no positives of the local loss, in the place of raw, disease and concept texts",
    "D8": "the map is L2-normalised, the pooled vector is not",
    "D9": "padded texts compete",
    "D10": "texts of one photo compete",
    "D11": "similarities up to 0.3 count as 0",
}
ALL = frozenset(DIFFERENCES)


def release_parity(features: PairFeatures, scale: float, differences: frozenset[str] = ALL) -> list[float]:
    """Return t2i, i2t and local of photos that have their raw text, masked texts finite; without differences, ours."""
    photos, count = features.mask.shape
    flat, there = features.texts.flatten(0, 1), features.mask.flatten()
    owner, column = torch.arange(photos).repeat_interleave(count), torch.arange(count).repeat(photos)
    weights = release_weights(features, differences) * there
    images = scale * flat @ features.images.T
    t2i = F.cross_entropy(images, owner, reduction="none")
    competing = there.expand(photos, -1) | ("D9" in differences)
    siblings = owner == torch.arange(photos)[:, None]
    i2t = to_texts(images.T, competing & ~siblings, siblings & competing if "D10" in differences else None)
    pooled = pooled_vectors(features, differences)
    positives = there & (torch.arange(photos * count) >= photos if "D7" in differences else column >= 3)
    if "D6" in differences:
        local = to_texts(scale * pooled @ flat.T, competing & ~siblings, siblings & competing)
    else:
        local = F.cross_entropy(scale * flat @ pooled.T, owner, reduction="none")
    t2i_weights = there.double() if "D5" in differences else weights
    means = ((t2i, t2i_weights), (i2t, weights), (local, weights * positives))
    return [((losses * w).sum() / w.sum()).item() for losses, w in means]


def to_texts(logits: Tensor, others: Tensor, siblings: Tensor | None) -> Tensor:
    """Return the loss of each of the N C texts in the row of its photo, against others and, if given, its siblings."""
    photos, count = len(logits), logits.shape[1] // len(logits)
    losses = []
    for text in range(photos * count):
        row = text // count
        competing = others[row] | (siblings[row] if siblings is not None else False)
        competing = competing | (torch.arange(photos * count) == text)
        losses.append(torch.logsumexp(logits[row][competing], 0) - logits[row, text])
    return torch.stack(losses)


def release_weights(features: PairFeatures, differences: frozenset[str]) -> Tensor:
    """Return the weights (N C) of the flat texts."""
    (photos, count), flat = features.mask.shape, features.texts.flatten(0, 1)
    disease, subtexts, there = features.texts[:, 1], features.texts[:, 3:], features.mask[:, 3:]
    if "D3" in differences:
        disease = flat[photos : 2 * photos]
        subtexts = flat[3 * photos :].view(count - 3, photos, -1).transpose(0, 1)
        there = features.mask.flatten()[3 * photos :].view(count - 3, photos).T
    s = torch.einsum("nd,nkd->nk", disease, subtexts).masked_fill(~there, -torch.inf)
    largest = s.amax(1, keepdim=True)
    shares = torch.where(largest > 0, s.clamp(min=0) / largest, 1.0)
    weights = torch.where(features.mask[:, 1:2], torch.exp(s - largest) if "D4" in differences else shares, 1.0)
    if "D3" in differences:
        return torch.cat([weights.new_ones(3 * photos), weights.T.flatten()]).nan_to_num(1.0)
    return torch.cat([weights.new_ones(photos, 3), weights], 1).flatten().nan_to_num(1.0)


def pooled_vectors(features: PairFeatures, differences: frozenset[str]) -> Tensor:
    assert features.patches is not None
    anchors = features.texts.flatten(0, 1)[: len(features.texts)] if "D2" in differences else features.texts[:, 0]
    similar = torch.einsum("npd,nd->np", features.patches, anchors)
    kept = torch.where(similar > (0.3 if "D11" in differences else 0.0), similar, 0.0)
    if "D8" in differences:
        return torch.einsum("np,npd->nd", F.normalize(kept, dim=1), features.patches)
    parts = torch.where(kept.sum(1, keepdim=True) > 0, kept / kept.sum(1, keepdim=True), 1 / kept.shape[1])
    return F.normalize(torch.einsum("np,npd->nd", parts, features.patches), dim=1)
