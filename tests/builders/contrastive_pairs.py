"""Drawn vectors of photos and texts for the tests of contrastive losses, and MAKE's loss in plain loops."""

import math
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from magic_cli.models.contrastive import ContrastiveOptions, PairFeatures


def drawn_pairs(photos: int = 5, texts: int = 6, width: int = 7, patches: int = 4, seed: int = 0) -> PairFeatures:
    """Return normalised float64 vectors; photo 1 lacks its disease text, photo 2 its subtexts, photo 3 its raw text."""
    random = torch.Generator().manual_seed(seed)

    def vectors(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, width, generator=random, dtype=torch.float64) + 0.3
        return F.normalize(drawn, dim=-1)

    mask = torch.rand(photos, texts, generator=random) < 0.8
    mask[:, :3] = True
    for photo, columns in ((1, slice(1, 2)), (2, slice(3, None)), (3, slice(0, 1))):
        mask[photo : photo + 1, columns] = False
    return PairFeatures(
        images=vectors(photos),
        texts=vectors(photos, texts),
        mask=mask,
        text_ids=torch.arange(photos * texts).view(photos, texts),
        case_ids=torch.arange(photos),
        patches=vectors(photos, patches),
    )


def with_gradient(features: PairFeatures) -> PairFeatures:
    """Return a copy whose vectors are leaves that require gradients."""
    assert features.patches is not None
    leaves = [t.detach().clone().requires_grad_() for t in (features.images, features.texts, features.patches)]
    return replace(features, images=leaves[0], texts=leaves[1], patches=leaves[2])


def reordered(features: PairFeatures, order: Tensor) -> PairFeatures:
    """Return the photos in another order, or some of them."""
    fields = {name: value[order] for name, value in vars(features).items() if value is not None}
    return replace(features, **fields)


def weights_in_loops(features: PairFeatures, kind: str) -> Tensor:
    """Eq. 7 of MAKE with its guards, photo by photo."""
    weights = features.mask.double()
    for photo, mask in enumerate(features.mask):
        subtexts = [j for j in range(3, len(mask)) if mask[j]]
        if kind == "none" or not mask[1] or not subtexts:
            continue
        similar = {j: float(features.texts[photo, 1] @ features.texts[photo, j]) for j in subtexts}
        if kind == "max":
            similar = {j: max(s, 0) for j, s in similar.items()}
        else:
            similar = {j: math.exp(s) for j, s in similar.items()}
        largest = max(similar.values())
        for j, s in similar.items():
            weights[photo, j] = s / largest if largest > 0 else 1
    return weights


def mean(losses: dict[tuple[int, int], float], weights: Tensor) -> float:
    total = sum(float(weights[pair]) for pair in losses)
    return sum(float(weights[pair]) * loss for pair, loss in losses.items()) / total if total else 0.0


def loss_in_loops(features: PairFeatures, scale: float, options: ContrastiveOptions) -> tuple[float, float, float]:
    """Return t2i, i2t and local of mkcl without same_text and ontology."""
    weights = weights_in_loops(features, options.weighting)
    pairs = [(i, j) for i, j in product(*map(range, features.mask.shape)) if features.mask[i, j]]
    logit = {
        (n, pair): scale * float(features.images[n] @ features.texts[pair])
        for n in range(len(features.images))
        for pair in pairs
    }
    t2i, i2t, local = {}, {}, {}
    pooled = [vector_in_loops(features, photo, options.local_threshold) for photo in range(len(features.images))]
    for i, j in pairs:
        pair = (i, j)
        over_images = math.log(sum(math.exp(logit[n, pair]) for n in range(len(features.images))))
        t2i[pair] = over_images - logit[i, pair]
        rivals = [p for p in pairs if options.denominator == "all" or p[0] != i or p == pair]
        over_texts = math.log(sum(math.exp(logit[i, rival]) for rival in rivals))
        i2t[pair] = t2i[pair] if options.denominator == "image" else over_texts - logit[i, pair]
        if j >= 3:
            cosines = [scale * float(features.texts[pair] @ vector) for vector in pooled]
            local[pair] = math.log(sum(map(math.exp, cosines))) - cosines[i]
    return mean(t2i, weights), mean(i2t, weights), mean(local, weights)


def vector_in_loops(features: PairFeatures, photo: int, threshold: float) -> Tensor:
    """MAKE, Eq. 5, for one photo; disease or concept text in the place of a missing raw text."""
    assert features.patches is not None
    patches = features.patches[photo]
    text = next((features.texts[photo, j] for j in range(3) if features.mask[photo, j]), None)
    similar = [float(patch @ text) if text is not None else 0.0 for patch in patches]
    kept = [s if s > threshold else 0.0 for s in similar]
    shares = [s / sum(kept) for s in kept] if sum(kept) else [1 / len(patches)] * len(patches)
    total = sum(share * patch for share, patch in zip(shares, patches, strict=True))
    assert isinstance(total, Tensor)
    return total / total.norm()
