"""Decode a parent question: from its slots' probabilities to the set of options with the highest expected accuracy.

Slots in canonical order (data/questions.py) hold values in ascending order, then "Not mentioned". So a set is a path
through the slots. In each slot, the probabilities of possible successors are normalised to 1: values above the
previous one, or "Not mentioned", after which only "Not mentioned" follows.

Accuracy is |P ∩ G| / max(|P|, |G|). For a set P of k options its expectation is the sum over them of
Σ_m Pr(option ∈ G, |G| = m) / max(k, m): of each size, the best set has the largest terms, as in
exact expected-F1 maximisation (Dembczyński et al., An exact algorithm for F-measure maximization, 2011).
"""

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.questions import QuestionSchema
from magic_cli.metrics.answer_sets import credit_per_option

Floats = NDArray[np.float64]


def inclusion(slots: Floats, padding: int) -> Floats:
    """Return Pr(option ∈ G, |G| = m) in column m, float64 (options, slots + 1).

    Args:
        slots: (slots, options) probabilities of a parent's slots in canonical order, rows sum to 1.
        padding: the index of "Not mentioned".

    Forward and backward over (slot, value) for each number of values: no enumeration of sets.
    """
    count, options = slots.shape
    values = np.delete(np.arange(options), padding)
    reached, stop, step = slots[0, values], *_followers(slots[:, values], slots[:, padding])
    # after[j, v, n]: Pr(n values in total | slot j holds value v)
    after = np.zeros((count, len(values), count + 1))
    after[-1, :, count] = 1.0
    for slot in reversed(range(count - 1)):
        after[slot] = step[slot + 1] @ after[slot + 1]
        after[slot, :, slot + 1] += stop[slot + 1]
    n_values = reached @ after[0]
    n_values[0] = slots[0, padding]
    included = np.zeros((len(values), count + 1))
    for slot in range(count):
        included += reached[:, None] * after[slot]
        reached = reached @ step[slot + 1] if slot + 1 < count else reached
    inclusion_by_size = np.zeros((options, count + 1))
    inclusion_by_size[values, 1:] = included[:, :-1]  # n values and "Not mentioned" are n + 1 options
    inclusion_by_size[values, count] += included[:, -1]  # all slots hold values
    inclusion_by_size[padding, 1:] = n_values[:-1]
    return inclusion_by_size


def _followers(values: Floats, padding: Floats) -> tuple[Floats, Floats]:
    """Return transition probabilities after each value: (slots, values) to "Not mentioned", (slots, values, values)."""
    above = np.triu(np.ones((values.shape[1],) * 2), 1)
    step = values[:, None, :] * above
    total = step.sum(2) + padding[:, None]
    nothing = total <= 0
    total = np.where(nothing, 1.0, total)
    return np.where(nothing, 1.0, padding[:, None] / total), step / total[:, :, None]


def best_set(slots: Floats, padding: int) -> frozenset[int]:
    """Return the set with the highest expected accuracy among those that canonical slots can hold.

    These are "Not mentioned" with fewer values than slots, or as many values as slots. Args as for `inclusion`; ties
    go to the smaller set, then to lower indices.
    """
    count, options = slots.shape
    included = inclusion(slots, padding)
    best, most = frozenset({padding}), -1.0
    for size in range(1, min(count, options) + 1):
        worth = included @ np.array([float(credit_per_option(size, gold_size)) for gold_size in range(count + 1)])
        order = [option for option in np.argsort(-worth, kind="stable").tolist() if option != padding]
        full = [order[:size]] if size == count and len(order) >= size else []
        for candidate in ([padding, *order[: size - 1]], *full):
            expected = float(worth[candidate].sum())
            if expected > most + 1e-12:
                best, most = frozenset(candidate), expected
    return best


def several_slots(questions: QuestionSchema) -> list[tuple[list[int], int]]:
    """Return (slot numbers, index of "Not mentioned") of each parent that has several slots and that option."""
    slot_of = {question.qid: number for number, question in enumerate(questions.slots)}
    several = [(parent, qids) for parent, qids in questions.parents.items() if len(qids) > 1]
    padded = [(qids, questions.not_mentioned(parent)) for parent, qids in several]
    return [([slot_of[qid] for qid in qids], padding) for qids, padding in padded if padding is not None]
