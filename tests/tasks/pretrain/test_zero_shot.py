"""Zero-shot questions: what orders and repeats of prompts change, and what they do not."""

import hashlib
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from magic_cli.tasks.pretrain import prompts
from magic_cli.tasks.pretrain.asked import Asked, Concept
from magic_cli.tasks.pretrain.model import zero_shot
from magic_cli.tasks.pretrain.model.zero_shot import class_probabilities, concept_scores, encode_prompts

CLASSES = ("melanoma", "nevus", "eczema")


def encode(texts: Sequence[str]) -> Tensor:
    """Return a unit vector that depends on the text only."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) for text in texts]
    rows = [torch.randn(16, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return F.normalize(torch.stack(rows), dim=-1)


@pytest.fixture
def images() -> Tensor:
    return F.normalize(torch.randn(7, 16, generator=torch.Generator().manual_seed(3)), dim=-1)


def probabilities(images: Tensor, asked: Asked) -> Tensor:
    found = class_probabilities(images, encode_prompts(asked, encode))
    assert found is not None
    return found


def test_templates_and_prompts_are_as_many_as_published() -> None:
    assert len(prompts.CLASS_TEMPLATES) == 8
    assert len(prompts.CONCEPT_TEMPLATES) == len(prompts.REFERENCE_PROMPTS) == 6
    for target, reference in zip(prompts.CONCEPT_TEMPLATES, prompts.REFERENCE_PROMPTS, strict=True):
        assert target == (f"{reference} of {{}}")


def test_permuting_classes_permutes_probabilities(images: Tensor) -> None:
    order = [2, 0, 1]
    found = probabilities(images, Asked(CLASSES))
    permuted = probabilities(images, Asked(tuple(CLASSES[i] for i in order)))
    torch.testing.assert_close(permuted, found[:, order])
    torch.testing.assert_close(found.sum(1), torch.ones(7))


def test_duplicated_templates_change_nothing(images: Tensor) -> None:
    found = probabilities(images, Asked(CLASSES))
    twice = probabilities(images, Asked(CLASSES, prompts.CLASS_TEMPLATES * 2))
    torch.testing.assert_close(twice, found)


def test_classes_are_normalised_means_at_scale_100(images: Tensor) -> None:
    vectors = [
        F.normalize(encode([t.replace("{}", c) for t in prompts.CLASS_TEMPLATES]).mean(0), dim=0) for c in CLASSES
    ]
    expected = torch.softmax(100 * images @ torch.stack(vectors).T, 1)
    torch.testing.assert_close(probabilities(images, Asked(CLASSES)), expected)


def test_photos_do_not_see_each_other(images: Tensor) -> None:
    asked = encode_prompts(Asked(CLASSES, concepts=(Concept("scale", ("scale", "scaly")),)), encode)
    for function in (class_probabilities, concept_scores):
        whole, parts = function(images, asked), [function(images[i : i + 2], asked) for i in range(0, 7, 2)]
        assert whole is not None
        torch.testing.assert_close(torch.cat([part for part in parts if part is not None]), whole)


def test_a_concept_whose_target_is_the_reference_scores_half(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_shot, "CONCEPT_TEMPLATES", prompts.REFERENCE_PROMPTS)
    found = concept_scores(images, encode_prompts(Asked(concepts=(Concept("nothing", ("nothing",)),)), encode))
    assert found is not None
    assert torch.equal(found, torch.full((7, 1), 0.5))


def test_concept_scores_are_in_the_unit_interval_whatever_the_photo(images: Tensor) -> None:
    asked = encode_prompts(Asked(concepts=(Concept("scale", ("scale",)), Concept("ulcer", ("ulcer",)))), encode)
    assert asked.targets is not None
    ends = torch.cat([images, asked.targets.mean(1), -asked.targets.mean(1)])
    found = concept_scores(F.normalize(ends, dim=1), asked)
    assert found is not None
    assert ((found >= 0) & (found <= 1)).all()
    assert found[7, 0] > 0.99 > 0.01 > found[9, 0]  # a photo that is as the prompts, and its opposite


def test_concept_scores_follow_the_protocol(images: Tensor) -> None:
    """Mean over prompts of softmax([A, R] / temperature)[0], A a mean over terms."""
    concepts = (Concept("scale", ("scale", "scaly", "flaky")), Concept("ulcer", ("ulcer",)))
    found = concept_scores(images, encode_prompts(Asked(concepts=concepts), encode))
    assert found is not None
    for column, concept in enumerate(concepts):
        shares = []
        for template, reference in zip(prompts.CONCEPT_TEMPLATES, prompts.REFERENCE_PROMPTS, strict=True):
            near = (images @ encode([template.replace("{}", term) for term in concept.terms]).T).mean(1)
            far = images @ encode([reference])[0]
            shares.append(torch.softmax(torch.stack([near, far], 1) / prompts.CONCEPT_TEMPERATURE, 1)[:, 0])
        torch.testing.assert_close(found[:, column], torch.stack(shares).mean(0))


def test_braces_in_a_name_are_text() -> None:
    asked = Asked(("{0.__class__}", "a {} b"))
    assert encode_prompts(asked, encode).classes is not None
