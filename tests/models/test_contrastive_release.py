"""The loss of the authors' release beside ours: each documented difference by itself, and all of them."""

from dataclasses import replace

import pytest
import torch
from contrastive_pairs import drawn_pairs
from release_parity import ALL, DIFFERENCES, pooled_vectors, release_parity

from magic_cli.models.contrastive import ContrastiveOptions, PairFeatures, contrastive_loss

SCALE = torch.tensor(5.0, dtype=torch.float64)
OPTIONS = ContrastiveOptions()
CHANGED = {
    "D2": [False, False, True],
    "D3": [True, True, True],
    "D4": [True, True, True],
    "D5": [True, False, False],
    "D6": [False, False, True],
    "D7": [False, False, True],
    "D8": [False, False, True],
    "D9": [False, True, False],
    "D10": [False, True, False],
    "D11": [False, False, True],
}


@pytest.fixture
def features() -> PairFeatures:
    """Photos with all of raw, disease and concept text, but one without disease text; some subtexts are masked."""
    features = drawn_pairs(photos=6, texts=7)
    features.mask[3, 0] = True
    return features


def ours(features: PairFeatures, options: ContrastiveOptions = OPTIONS) -> list[float]:
    loss = contrastive_loss(features, SCALE, options)
    return [loss.t2i.item(), loss.i2t.item(), loss.local.item()]


def test_without_differences_the_release_is_ours(features: PairFeatures) -> None:
    assert release_parity(features, 5.0, frozenset()) == pytest.approx(ours(features), abs=1e-12)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_each_difference_changes_the_loss(features: PairFeatures, name: str) -> None:
    pairs = zip(release_parity(features, 5.0, frozenset({name})), ours(features), strict=True)
    assert [abs(release - own) > 1e-3 for release, own in pairs] == CHANGED[name]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("D4", replace(OPTIONS, weighting="softmax")),
        ("D10", replace(OPTIONS, denominator="all")),
        ("D11", replace(OPTIONS, local_threshold=0.3)),
    ],
)
def test_differences_that_are_options(features: PairFeatures, name: str, options: ContrastiveOptions) -> None:
    assert release_parity(features, 5.0, frozenset({name})) == pytest.approx(ours(features, options), abs=1e-12)


def test_a_padded_text_moves_the_loss_of_the_release_alone(features: PairFeatures) -> None:
    moved = replace(features, texts=torch.where(features.mask[..., None], features.texts, features.images[:, None]))
    assert ours(moved) == ours(features)
    before, after = (release_parity(f, 5.0, ALL) for f in (features, moved))
    assert abs(after[1] - before[1]) > 0.01
    assert abs(after[2] - before[2]) > 0.01


def test_only_the_first_photo_of_the_release_has_its_raw_text(features: PairFeatures) -> None:
    own, release = (pooled_vectors(features, frozenset(names)) for names in ((), ("D2",)))
    assert [bool(torch.allclose(a, b)) for a, b in zip(own, release, strict=True)] == [True, *[False] * 5]


def test_pooled_vectors_of_the_release_are_longer(features: PairFeatures) -> None:
    features = replace(features, patches=features.texts[:, :1].expand(-1, 196, -1))
    norms = pooled_vectors(features, frozenset({"D8"})).norm(dim=1)
    assert norms.tolist() == pytest.approx([14.0] * 6)  # the square root of 196 patches


def test_all_differences_together(features: PairFeatures) -> None:
    pairs = zip(release_parity(features, 5.0), ours(features), strict=True)
    assert all(abs(release - own) > 0.01 for release, own in pairs)
