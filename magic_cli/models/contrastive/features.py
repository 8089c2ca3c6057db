"""What a contrastive loss takes and returns: the vectors of photos and texts, its options, and its terms."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

RAW, DISEASE, CONCEPT, SUBTEXTS = 0, 1, 2, 3
"""Columns of the texts of a photo; subtexts are all from the last on."""

Objective = Literal["mkcl", "infonce", "soft", "dhn", "siglip", "multi_positive"]
Denominator = Literal["others", "all", "image"]
LocalPool = Literal["sim", "max", "xattn"]
Weighting = Literal["max", "softmax", "none"]
SameText = Literal["negative", "ignore", "positive"]


@dataclass(frozen=True)
class PairFeatures:
    """One process's share of a batch: N photos, and of each C texts in the order raw, disease, concept, subtexts.

    Vectors are L2-normalised, of any floating dtype; C is the same on all processes. What is at masked places may be
    anything, NaN included: it changes no value, and its gradient is exactly 0.
    """

    images: Tensor
    """(N, d)"""
    texts: Tensor
    """(N, C, d)"""
    mask: Tensor
    """(N, C) bool: the text is there."""
    text_ids: Tensor
    """(N, C) int64: equal numbers for the very same text, over all processes."""
    case_ids: Tensor
    """(N,) int64: equal numbers for photos of one case."""
    patches: Tensor | None = None
    """(N, P, d), for the local loss; they never leave their process."""
    concepts: Tensor | None = None
    """(N, L) float, multi-hot: the concepts of a photo, for soft targets."""
    paths: Tensor | None = None
    """(N, L) int64: hashes of the classes of the disease from the widest on, then 0; all 0 if it is not known. For
    ontology targets; L is the same on all processes."""


@dataclass(frozen=True)
class ContrastiveOptions:
    """Which loss; the defaults are MAKE as in its paper, with a denominator whose least value is 0."""

    objective: Objective = "mkcl"
    """The global term. mkcl: every text against images, and back. Over one text of a photo, the raw one if it has one:
    infonce (CLIP), soft (MedCLIP), dhn (DHN-NCE), siglip. multi_positive: all texts of an image at once (UniCL)."""
    denominator: Denominator = "others"
    """What a text competes with in mkcl from image to text. others: texts of other photos; all: of its own photo, too;
    image: the text with other photos, as Eq. 3 of the paper is printed, which is Eq. 4 again."""
    subtexts: bool = True
    """False: only raw, disease and concept text, and so no local loss."""
    local_weight: float = 0.7
    """lambda, the weight of the local loss beside any objective; 0: it is not computed."""
    local_threshold: float = 0.0
    """sigma: similarities of patches up to it count as 0."""
    local_pool: LocalPool = "sim"
    weighting: Weighting = "max"
    """How the weight of a subtext follows from its similarity to the disease text."""
    same_text: SameText = "negative"
    """Other photos that have the very same text, or are of the same case. negative: they compete, as in the paper;
    ignore: they are left out of denominators; positive: they are matches as well. Not for soft and multi_positive,
    whose targets say it themselves."""
    ontology_beta: float = 0.0
    """Share of the target that is spread by distances between diseases (`paths`), in mkcl's rows of disease texts."""
    soft_temperature: float = 0.07
    """Of soft targets: softmax(cosine of concepts / temperature)."""
    hardness: float = 0.15
    """beta of DHN-NCE: 0 weighs all negatives alike."""
    chunk_rows: int = 1024
    """Logits are computed for so many rows at a time, and again in backward, if there are more."""


@dataclass(frozen=True)
class ContrastiveLoss:
    """Scalars with gradient; their mean over processes is the loss of the whole batch, and so are gradients."""

    total: Tensor
    t2i: Tensor
    """From texts to images."""
    i2t: Tensor
    """From images to texts."""
    local: Tensor
    """From subtexts to patches; before its weight."""
