"""models/losses.py against plain numpy, and finite where masks and logits are extreme."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from magic_cli.models.losses import allowed_successors, focal_loss, mask_loss, parent_loss, slot_loss


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
@pytest.mark.parametrize("kind", ["bce+dice", "focal"])
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


@pytest.mark.parametrize("mask", [0.0, 1.0])
def test_the_gradient_leads_to_the_mask(mask: float) -> None:
    logits = torch.zeros(1, 8, 8, requires_grad=True)
    mask_loss(logits, torch.full((1, 8, 8), mask), "bce+dice").backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert ((logits.grad < 0) == (mask == 1)).all()


def test_a_perfect_answer_costs_nothing() -> None:
    masks = torch.zeros(2, 8, 8)
    masks[:, 2:5, 1:7] = 1
    assert mask_loss(masks * 80 - 40, masks, "bce+dice").item() == pytest.approx(0, abs=1e-6)


# --- slots


@settings(deadline=None, derandomize=True)
@given(st.data())
def test_slot_loss_against_a_loop(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(2, 5), min_size=1, max_size=4))
    batch = data.draw(st.integers(1, 4))
    gold = [[data.draw(st.integers(-1, size - 1)) for size in sizes] for _ in range(batch)]
    starts = np.cumsum([0, *sizes]).tolist()
    scores = torch.randn(batch, sum(sizes), generator=torch.Generator().manual_seed(0))
    losses = [
        F.cross_entropy(scores[row, a:b][None], torch.tensor([answer])).item()
        for row in range(batch)
        for a, b, answer in zip(starts, starts[1:], gold[row], strict=False)
        if answer >= 0
    ]
    result = slot_loss(scores, starts, torch.tensor(gold))
    assert result.item() == pytest.approx(np.mean(losses) if losses else 0.0, rel=1e-5)


def test_ignored_slots_get_no_gradient() -> None:
    scores = torch.zeros(2, 5, requires_grad=True)
    slot_loss(scores, [0, 2, 5], torch.tensor([[1, -1], [-1, 0]])).backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert (scores.grad != 0).tolist() == [[True, True, False, False, False], [False, False, True, True, True]]


def test_no_answer_at_all_is_zero_not_nan() -> None:
    scores = torch.randn(2, 5, requires_grad=True)
    loss = slot_loss(scores, [0, 2, 5], torch.full((2, 2), -1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_scores_in_half_precision() -> None:
    scores = torch.tensor([[60_000.0, -60_000.0, 60_000.0]], dtype=torch.float16)
    loss = slot_loss(scores, [0, 3], torch.tensor([[0]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(np.log(2), rel=1e-5)


# --- sets of a parent

STARTS = [0, 3, 6, 8]  # a parent of two slots with three options, and one of one slot


def test_parent_loss_is_the_cross_entropy_of_being_in_the_set() -> None:
    torch.manual_seed(0)
    scores, gold = torch.randn(2, 8), torch.tensor([[0, 2, 1], [1, 1, 0]])
    odds = torch.softmax(scores[:, :6].view(2, 2, 3), 2).double()
    inside = 1 - (1 - odds[:, 0]) * (1 - odds[:, 1])
    there = torch.tensor([[1.0, 0, 1], [0, 1, 0]], dtype=torch.float64)
    expected = F.binary_cross_entropy(inside, there)
    assert parent_loss(scores, STARTS, [[0, 1]], gold).item() == pytest.approx(expected.item(), rel=1e-4)


def test_parent_loss_leaves_out_what_is_not_answered() -> None:
    scores = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
    both = parent_loss(scores, STARTS, [[0, 1]], torch.tensor([[0, 2, 1], [1, -1, 0]]))
    assert both.item() == pytest.approx(parent_loss(scores[:1], STARTS, [[0, 1]], torch.tensor([[0, 2, 1]])).item())
    assert parent_loss(scores, STARTS, [[0, 1]], torch.full((2, 3), -1)).item() == 0


@pytest.mark.parametrize("size", [0.0, 40.0, 1000.0])
def test_parent_loss_is_finite(size: float) -> None:
    scores = torch.tensor([[size, -size, 0.0, size, -size, 0.0, 0.0, 0.0]], requires_grad=True)
    for gold in ([0, 0, 0], [1, 1, 0], [2, 2, 1]):
        loss = parent_loss(scores, STARTS, [[0, 1]], torch.tensor([gold]))
        [slope] = torch.autograd.grad(loss, scores)
        assert torch.isfinite(loss)
        assert torch.isfinite(slope).all()


def test_successors_are_greater_values_or_padding() -> None:
    starts, gold = [0, 4, 8, 12], torch.tensor([[0, 1, 3], [2, 3, 3], [3, 3, 3], [-1, -1, -1]])
    allowed = allowed_successors(starts, [((0, 1, 2), 3)], gold).view(4, 3, 4)
    assert allowed[:, 0].all()
    last = [False, False, False, True]
    assert allowed[:, 1].tolist() == [[False, True, True, True], last, last, [True] * 4]
    assert allowed[0, 2].tolist() == [False, False, True, True]


def test_padding_may_stand_anywhere_among_the_options() -> None:
    allowed = allowed_successors([0, 3, 6], [((0, 1), 0)], torch.tensor([[1, 2], [0, 0], [2, 0]])).view(3, 2, 3)
    assert allowed[:, 1].tolist() == [[True, False, True], [True, False, False], [True, False, False]]
