"""models/masks/losses.py against plain numpy, by their identities, and finite where masks and logits are extreme."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from magic_cli.models.masks.losses import (
    MASK_LOSSES,
    boundary_loss,
    dice_loss,
    focal_loss,
    lovasz_hinge,
    mask_loss,
    tversky_loss,
)


def plain_bce(logits: np.ndarray, masks: np.ndarray) -> float:
    """Binary cross-entropy from its definition, in float64."""
    result = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return float(-(masks * np.log(result) + (1 - masks) * np.log(1 - result)).mean())


def plain_dice(logits: np.ndarray, masks: np.ndarray) -> float:
    """Mean over images of 1 - soft Dice, smoothed by one pixel."""
    losses = []
    for logit, mask in zip(logits.astype(np.float64), masks, strict=True):
        result = 1 / (1 + np.exp(-logit))
        losses.append(1 - (2 * (result * mask).sum() + 1) / (result.sum() + mask.sum() + 1))
    return float(np.mean(losses))


def plain_focal(logits: np.ndarray, masks: np.ndarray, gamma: float = 2, alpha: float = 0.25) -> float:
    """Lin et al. 2017, equations 2 to 5, pixel by pixel; a soft mask is so many pixels of each kind."""
    total = 0.0
    for logit, mask in zip(logits.astype(np.float64).flat, masks.flat, strict=True):
        p = 1 / (1 + np.exp(-logit))
        for weight, p_t, alpha_t in ((mask, p, alpha), (1 - mask, 1 - p, 1 - alpha)):
            total += weight * -alpha_t * (1 - p_t) ** gamma * np.log(p_t)
    return total / logits.size


def enlarging(size: int) -> np.ndarray:
    """The (2 n, n) matrix of bilinear upsampling by two: 3/4 of a pixel and 1/4 of the neighbour at that side."""
    matrix = np.zeros((2 * size, size))
    for i in range(size):
        for row, neighbour in ((2 * i, max(i - 1, 0)), (2 * i + 1, min(i + 1, size - 1))):
            matrix[row, i] += 0.75
            matrix[row, neighbour] += 0.25
    return matrix


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(0, 2, (3, 4, 6)).astype(np.float32), random.random((3, 4, 6)).astype(np.float32)


@pytest.mark.parametrize("kind", ["bce", "bce+dice"])
def test_against_the_definition(pair: tuple[np.ndarray, np.ndarray], kind: str) -> None:
    logits, masks = pair
    expected = plain_bce(logits, masks) + (plain_dice(logits, masks) if kind == "bce+dice" else 0)
    result = mask_loss(torch.from_numpy(logits), torch.from_numpy(masks), kind)
    assert result.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["bce", "bce+dice", "focal"])
def test_logits_are_upsampled_to_the_masks(kind: str) -> None:
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (2, 3, 4)).astype(np.float32)
    masks = (random.random((2, 6, 8)) > 0.6).astype(np.float32)
    big = enlarging(3) @ logits @ enlarging(4).T
    expected = plain_bce(big, masks) + (plain_dice(big, masks) if kind == "bce+dice" else 0)
    if kind == "focal":
        expected = plain_focal(big, masks)
    result = mask_loss(torch.from_numpy(logits), torch.from_numpy(masks), kind)
    assert result.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5), (5.0, 0.9)])
def test_focal_against_the_definition(pair: tuple[np.ndarray, np.ndarray], gamma: float, alpha: float) -> None:
    logits, masks = pair
    result = focal_loss(torch.from_numpy(logits), torch.from_numpy(masks), gamma, alpha)
    assert result.item() == pytest.approx(plain_focal(logits, masks, gamma, alpha), rel=1e-5)
    default = mask_loss(torch.from_numpy(logits), torch.from_numpy(masks), "focal")
    assert default.item() == pytest.approx(plain_focal(logits, masks), rel=1e-5)


def test_focal_without_focus_is_half_of_bce(pair: tuple[np.ndarray, np.ndarray]) -> None:
    logits, masks = map(torch.from_numpy, pair)
    assert focal_loss(logits, masks, 0.0, 0.5).item() == pytest.approx(mask_loss(logits, masks, "bce").item() / 2)


def test_focal_counts_what_is_easy_for_less() -> None:
    """A pixel at p = 0.9 costs (1 - 0.9)^2 = a hundredth of its cross-entropy."""
    logit, mask = torch.full((1, 2, 2), float(np.log(9))), torch.ones(1, 2, 2)
    ratio = focal_loss(logit, mask, alpha=1.0) / mask_loss(logit, mask, "bce")
    assert ratio.item() == pytest.approx(0.01, rel=1e-4)


def test_dice_is_a_mean_over_images_not_over_pixels() -> None:
    """A small lesion that is missed counts as much as a big one that is found."""
    masks = torch.zeros(2, 20, 20)
    masks[0, :10] = 1
    masks[1, 0, 0] = 1
    logits = torch.full((2, 20, 20), -30.0)
    logits[0, :10] = 30
    dice = mask_loss(logits, masks, "bce+dice") - mask_loss(logits, masks, "bce")
    assert dice.item() == pytest.approx((0 + (1 - 1 / 2)) / 2, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mask", [0.0, 1.0])
@pytest.mark.parametrize("logit", [0.0, -60_000.0, 60_000.0])
@pytest.mark.parametrize("kind", MASK_LOSSES)
def test_extremes_are_finite_with_finite_gradients(dtype: torch.dtype, mask: float, logit: float, kind: str) -> None:
    """All empty, all full; half precision holds 256 x 256 pixels, whose sum it could not hold."""
    logits = torch.full((2, 256, 256), logit, dtype=dtype, requires_grad=True)
    loss = mask_loss(logits, torch.full((2, 256, 256), mask), kind)
    loss.backward()  # type: ignore[no-untyped-call]
    exact = mask_loss(logits.detach().float(), torch.full((2, 256, 256), mask), kind)
    assert loss.item() == exact.item()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["bce", "bce+dice", "dicece", "focal", "tversky"])  # those without max and sort
@pytest.mark.parametrize("mask", [0.0, 1.0])
def test_the_gradient_leads_to_the_mask(mask: float, kind: str) -> None:
    logits = torch.zeros(1, 8, 8, requires_grad=True)
    mask_loss(logits, torch.full((1, 8, 8), mask), kind).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert ((logits.grad < 0) == (mask == 1)).all()


@pytest.mark.parametrize("kind", MASK_LOSSES)
def test_steps_down_the_gradient_find_the_lesion(kind: str) -> None:
    masks = torch.zeros(2, 12, 12)
    masks[0, 2:8, 3:9], masks[1, 6:12, :5] = 1, 1
    logits = torch.full((2, 12, 12), -0.5, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        mask_loss(logits, masks, kind).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert torch.equal(logits.detach() > 0, masks > 0)


@pytest.mark.parametrize("kind", MASK_LOSSES)
def test_a_perfect_answer_costs_nothing_and_none_in_an_empty_photo_neither(kind: str) -> None:
    """For "dicece" it shows on which side the sigmoid is: applied twice, at least 0.2 * 0.31 would be left."""
    masks = torch.zeros(2, 8, 8)
    masks[0, 2:5, 1:7] = 1
    assert mask_loss(masks * 80 - 40, masks, kind).item() == pytest.approx(0, abs=1e-6)


def test_dice_ce_is_weighted_as_released(pair: tuple[np.ndarray, np.ndarray]) -> None:
    logits, masks = pair
    expected = plain_dice(logits, masks) + 0.2 * plain_bce(logits, masks)
    result = mask_loss(torch.from_numpy(logits), torch.from_numpy(masks), "dicece")
    assert result.item() == pytest.approx(expected, rel=1e-5)


def test_balanced_tversky_is_soft_dice_and_its_weights_count_misses_for_more(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    logits, masks = map(torch.from_numpy, pair)
    assert tversky_loss(logits, masks, 0.5, 0.5).item() == pytest.approx(dice_loss(logits, masks).item(), rel=1e-6)
    truth = torch.zeros(1, 10, 10)
    truth[0, :4] = 1
    larger, smaller = truth.clone(), truth.clone()
    larger[0, 4], smaller[0, 3] = 1, 0  # a row too many, a row too few
    too_many, too_few = (tversky_loss(found * 80 - 40, truth).item() for found in (larger, smaller))
    assert too_many == pytest.approx(0.3 * 10 / (40.5 + 0.3 * 10), rel=1e-5)
    assert too_few == pytest.approx(0.7 * 10 / (30.5 + 0.7 * 10), rel=1e-5)


def plain_jaccard_loss(found: np.ndarray, truth: np.ndarray) -> float:
    """1 - intersection / union, 0 for two empty masks."""
    union = (found | truth).sum()
    return 0.0 if union == 0 else float(1 - (found & truth).sum() / union)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**25 - 1), st.integers(0, 2**25 - 1))
def test_lovasz_hinge_of_hard_masks_is_the_jaccard_loss(found: int, truth: int) -> None:
    """A logit of +1 or -1 has a hinge error of 0 where it is right, and 2 where it is wrong: twice the loss."""
    mine, true = (np.array([bits >> i & 1 for i in range(25)], bool).reshape(1, 5, 5) for bits in (found, truth))
    logits, masks = torch.from_numpy(mine * 2.0 - 1).float(), torch.from_numpy(true).float()
    expected = plain_jaccard_loss(mine, true)
    assert lovasz_hinge(logits, masks).item() == pytest.approx(2 * expected, abs=1e-5)
    assert lovasz_hinge(logits * 5, masks).item() == pytest.approx(6 * expected, abs=1e-5)


def plain_lovasz(errors: np.ndarray, truth: np.ndarray) -> float:
    """Definition 2.3: the sum of sorted errors times what each adds to the loss of the set of wrong pixels."""
    total, before, wrong = 0.0, 0.0, np.zeros_like(truth)
    for place in np.argsort(-errors, kind="stable"):
        wrong[place] = True
        after = plain_jaccard_loss(truth ^ wrong, truth)
        total, before = total + errors[place] * (after - before), after
    return total


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_lovasz_hinge_against_its_definition_and_convex(share: float) -> None:
    random = np.random.default_rng(3)
    logits, truth = random.normal(0, 2, (2, 2, 4, 5)).astype(np.float32), random.random((2, 4, 5)) < share
    masks = torch.from_numpy(truth).float()
    sign = truth * 2.0 - 1
    one, two = (lovasz_hinge(torch.from_numpy(each), masks).item() for each in logits)
    errors = np.maximum(0, 1 - sign * logits[0]).reshape(2, -1)
    expected = np.mean([plain_lovasz(*row) for row in zip(errors, truth.reshape(2, -1), strict=True)])
    assert one == pytest.approx(expected, rel=1e-5)
    middle = lovasz_hinge(torch.from_numpy(logits.mean(0)), masks).item()
    assert middle <= (one + two) / 2 + 1e-6


def square(top: int, side: int = 12, size: int = 40) -> torch.Tensor:
    """A mask (1, size, size) of a square whose corner is at (top, top)."""
    mask = torch.zeros(1, size, size)
    mask[0, top : top + side, top : top + side] = 1
    return mask


def test_edges_that_are_near_meet_and_distant_ones_do_not() -> None:
    truth = square(10)
    hard = {top: boundary_loss(square(top) * 80 - 40, truth).item() for top in (10, 11, 12, 14, 25)}
    assert hard[10] == pytest.approx(hard[11], abs=1e-6) == pytest.approx(hard[12], abs=1e-6) == 0
    assert 0 < hard[14] < hard[25]
    edge = 12**2 - 10**2  # the outermost pixels of the square
    assert hard[25] == pytest.approx(1 - 1 / (edge + 1), abs=1e-6)
