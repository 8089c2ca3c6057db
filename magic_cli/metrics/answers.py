"""Closed answers: intersection over maximum of option sets, and macro-F1 for early stopping.

IoM: specs/peers.md section 2 (cases 21 to 24); macro-F1: the paper's model selection, defined as sklearn does.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

Sets = Mapping[str, AbstractSet[int]]


def iom(found: AbstractSet[int], gold: AbstractSet[int]) -> float:
    """Return |P ∩ G| / max(|P|, |G|), in [0, 1]; two empty sets give 0.0, as there is nothing right.

    >>> iom({2, 3, 7}, {2, 7})
    0.6666666666666666
    """
    most = max(len(found), len(gold))
    return len(found & gold) / most if most else 0.0


def iom_means(pairs: Iterable[tuple[Sets, Sets]], parents: Sequence[str]) -> dict[str, float]:
    """Return the mean IoM of each parent over encounters, in the order of `parents`.

    Args:
        pairs: (found, gold) of each encounter: the option set of each parent. Every parent is in both.
        parents: ids of the parent questions, e.g. CQID020.

    Without any encounter every mean is 0.0, as official.
    """
    credit: dict[str, list[float]] = {parent: [] for parent in parents}
    for found, gold in pairs:
        for parent in parents:
            credit[parent].append(iom(found[parent], gold[parent]))
    return {parent: mean(values) for parent, values in credit.items()}


def mean(values: Sequence[float]) -> float:
    """Return the unweighted mean, 0.0 of nothing: accuracy_all is that of the parents' accuracies."""
    return float(np.mean(values)) if values else 0.0


def f1_macro(found: Sequence[int], gold: Sequence[int]) -> float:
    """Return the F1 of each label in `found` or `gold`, averaged without weights, in [0, 1].

    Args:
        found, gold: option indices of one slot over the same encounters.

    A label occurs in at least one of both, so that no F1 is 0/0. Nothing at all gives 0.0.

    Raises:
        ValueError: lengths differ.
    """
    scores = []
    pairs = list(zip(found, gold, strict=True))
    for label in {label for pair in pairs for label in pair}:
        both = sum(f == g == label for f, g in pairs)
        each = sum((f == label) + (g == label) for f, g in pairs)
        scores.append(2 * both / each)
    return mean(scores)


def f1_macro_slots(slots: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> float:
    """Return the mean over slots of `f1_macro(found, gold)`, in [0, 1]; 0.0 without a slot."""
    return mean([f1_macro(found, gold) for found, gold in slots.values()])
