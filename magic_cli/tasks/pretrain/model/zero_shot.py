"""Questions in words: the class of a photo by prompts, and whether a concept is seen on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from magic_cli.tasks.pretrain.asked import PLACE, Asked
from magic_cli.tasks.pretrain.prompts import CLASS_SCALE, CONCEPT_TEMPERATURE, CONCEPT_TEMPLATES, REFERENCE_PROMPTS

Encode = Callable[[Sequence[str]], Tensor]
"""Returns unit vectors (texts, d) of texts."""


@dataclass(frozen=True)
class Prompts:
    """The vectors of what is asked; None where nothing is.

    Attributes:
        classes: unit vectors (classes, d): normalised means over the templates' unit vectors.
        targets: (concepts, templates, d), means over a concept's terms of unit vectors.
        references: unit vectors (templates, d) of prompts that name no concept.
    """

    classes: Tensor | None = None
    targets: Tensor | None = None
    references: Tensor | None = None


def encode_prompts(asked: Asked, encode: Encode) -> Prompts:
    """Return the vectors of what is asked."""
    classes = targets = references = None
    if asked.classes:
        texts = [template.replace(PLACE, name) for name in asked.classes for template in asked.templates]
        vectors = encode(texts).reshape(len(asked.classes), len(asked.templates), -1)
        classes = F.normalize(vectors.mean(1), dim=-1)
    if asked.concepts:
        texts = [t.replace(PLACE, term) for c in asked.concepts for t in CONCEPT_TEMPLATES for term in c.terms]
        sizes = [len(concept.terms) * len(CONCEPT_TEMPLATES) for concept in asked.concepts]
        parts = torch.split(encode(texts), sizes)
        targets = torch.stack([p.reshape(len(CONCEPT_TEMPLATES), -1, p.shape[1]).mean(1) for p in parts])
        references = encode(REFERENCE_PROMPTS)
    return Prompts(classes, targets, references)


def class_probabilities(images: Tensor, prompts: Prompts) -> Tensor | None:
    """Return the probability (N, classes) of each class for photos' unit vectors (N, d); None without classes."""
    if prompts.classes is None:
        return None
    return torch.softmax(CLASS_SCALE * images.float() @ prompts.classes.float().T, 1)


def concept_scores(images: Tensor, prompts: Prompts) -> Tensor | None:
    """Return the score (N, concepts) in [0, 1] of each concept by MONET's protocol; None without concepts.

    The score is the mean over templates k of softmax([a_k, r_k] / temperature)[0], where a_k is the mean over terms of
    the photo's cosine with the target prompt, and r_k that with the reference prompt (tasks/pretrain/prompts.py).
    """
    if prompts.targets is None or prompts.references is None:
        return None
    targets = torch.einsum("nd,ckd->nck", images.float(), prompts.targets.float())
    references = images.float() @ prompts.references.float().T
    return torch.sigmoid((targets - references[:, None]) / CONCEPT_TEMPERATURE).mean(2)
