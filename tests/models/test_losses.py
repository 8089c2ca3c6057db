"""models/losses.py against loops, and finite where scores are extreme."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from magic_cli.models.losses import allowed_successors, parent_loss, slot_loss

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
