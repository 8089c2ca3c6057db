"""Losses of answers to closed questions, as pure functions of tensors."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F


def slot_loss(scores: Tensor, starts: list[int], gold: Tensor) -> Tensor:
    """Return the mean cross-entropy over the slots of (B, R) option scores.

    Slot i owns the rows starts[i]:starts[i + 1]; gold (B, slots) holds option indices, -1 = no answer.
    """
    losses = [
        F.cross_entropy(scores[:, a:b].float(), gold[:, slot], ignore_index=-1, reduction="sum")
        for slot, (a, b) in enumerate(pairwise(starts))
    ]
    return torch.stack(losses).sum() / (gold >= 0).sum().clamp(min=1)


def parent_loss(scores: Tensor, starts: list[int], parents: Sequence[Sequence[int]], gold: Tensor) -> Tensor:
    """Return the mean binary cross-entropy, over the options of parents, of being in the set of the slots' answers.

    Args:
        scores: (B, R) option scores; slot i owns the rows starts[i]:starts[i + 1].
        parents: the slots of each parent question, which share their options.
        gold: (B, slots) option indices, -1 = no answer; a parent that lacks an answer is left out.

    Slots are treated as independent: an option is in the set with probability 1 - Π (1 - p_slot(option)).
    """
    losses, counted = [], []
    for slots in parents:
        probabilities = torch.stack([torch.softmax(scores[:, starts[s] : starts[s + 1]].float(), 1) for s in slots], 1)
        missed = torch.log1p(-probabilities.clamp(max=1 - 1e-6)).sum(1)
        hit = torch.log(-torch.expm1(missed.clamp(max=-1e-6)))
        answers = torch.stack([gold[:, slot] for slot in slots], 1)  # a list as index would be copied to the GPU
        is_answer = F.one_hot(answers.clamp(min=0), probabilities.shape[2]).amax(1).float()
        loss = -(is_answer * hit + (1 - is_answer) * missed).mean(1)
        is_whole = (answers >= 0).all(1)
        losses.append(torch.where(is_whole, loss, 0.0))  # a boolean index would wait for the GPU
        counted.append(is_whole)
    return torch.cat(losses).sum() / torch.cat(counted).sum().clamp(min=1)


def allowed_successors(starts: list[int], parents: Sequence[tuple[Sequence[int], int]], gold: Tensor) -> Tensor:
    """Return (B, R) bool: whether an option may follow the gold answer of the previous slot (tasks/cvqa/decode.py).

    Args:
        starts: as in `parent_loss`.
        parents: slots and index of "Not mentioned" of each parent question.
        gold: as in `parent_loss`.
    """
    allowed = torch.ones(len(gold), starts[-1], dtype=torch.bool, device=gold.device)
    for slots, padding in parents:
        for before, slot in pairwise(slots):
            options = torch.arange(starts[slot + 1] - starts[slot], device=gold.device)
            last = gold[:, before, None]
            allowed[:, starts[slot] : starts[slot + 1]] = ((options > last) & (last != padding)) | (options == padding)
    return allowed
