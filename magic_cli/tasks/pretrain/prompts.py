"""Prompts of zero-shot classification and of concept annotation.

The eight sentences about classes, in their order, are those of MAKE's public code. Concepts are annotated by the
protocol of MONET (Kim et al., Nature Medicine 2024) as MAKE's public code has it: six target prompts, and the same six
without a concept. Of the sentences, the first three follow MONET's code; the last three are our wording of the same.
"""

import math
from collections.abc import Mapping

CLASS_TEMPLATES: tuple[str, ...] = (
    "This is a skin image of {}",
    "This is a skin image of {}.",
    "A skin image of {}.",
    "An image of {}, a skin condition.",
    "{}, a skin disorder, is shown in this image.",
    "The skin lesion depicted is {}.",
    "The skin cancer in this image is {}.",
    "This image depicts {}, a type of skin cancer.",
)
"""MAKE's eight templates, in the order of its release."""

TEMPLATE_WORDINGS: Mapping[str, tuple[str, ...]] = {
    "templates-1": (
        "A photo of {}",
        "A photo of {}.",
        "A clinical photograph that shows {}.",
        "Skin with {}.",
        "The patient has {}.",
        "The diagnosis of this lesion is {}.",
        "On this picture one sees {}.",
        "A case of {}, photographed by a clinician.",
    ),
    "templates-2": (
        "{}",
        "{}.",
        "Diagnosis: {}.",
        "Dermatology, {}.",
        "What is visible here is {}.",
        "A close-up of {} on the skin.",
        "A typical picture of {}.",
        "The finding is consistent with {}.",
    ),
}
"""Two other wordings of the eight templates, of our own, by which `magic predict pretrain --reword` asks."""

CLASS_SCALE = 100.0
"""Factor on cosines in zero-shot classification: MAKE's release fixes it, whatever temperature was learned."""

CONCEPT_TEMPLATES = (
    "This is skin image of {}",
    "This is dermatology image of {}",
    "This is image of {}",
    "Skin image of {}",
    "Dermatology image of {}",
    "Image of {}",
)
"""Target prompts of concept annotation; each term of a concept takes the place of {}."""

REFERENCE_PROMPTS = (
    "This is skin image",
    "This is dermatology image",
    "This is image",
    "Skin image",
    "Dermatology image",
    "Image",
)
"""The same prompts without a concept."""

CONCEPT_TEMPERATURE = math.exp(-4.5944)
"""Of the softmax between target and reference: the inverse of the scale in MAKE's public code."""
