"""From probabilities of a parent question's slots to a set of options: the one of greatest expected accuracy.

Slots in canonical order (data/questions.py) name values in ascending order, then "Not mentioned". So a set is a path
through the slots, and slot by slot the probabilities of what may follow are made to sum to 1: values above the one
before, or "Not mentioned", after which nothing else comes.

Accuracy is |P ∩ G| / max(|P|, |G|). For a set P of k options its expectation is the sum over them of
Σ_m Pr(option ∈ G, |G| = m) / max(k, m): of each size, the best set is that of the greatest terms. The idea is that
of exact expected-F1 maximisation (Dembczyński et al., An exact algorithm for F-measure maximization, 2011).
"""

import numpy as np
from numpy.typing import NDArray

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
    here, stop, step = slots[0, values], *_followers(slots[:, values], slots[:, padding])
    # after[j, v, n]: Pr(n values in all), where slot j holds value v
    after = np.zeros((count, len(values), count + 1))
    after[-1, :, count] = 1.0
    for slot in reversed(range(count - 1)):
        after[slot] = step[slot + 1] @ after[slot + 1]
        after[slot, :, slot + 1] += stop[slot + 1]
    numbers = here @ after[0]
    numbers[0] = slots[0, padding]
    there = np.zeros((len(values), count + 1))
    for slot in range(count):
        there += here[:, None] * after[slot]
        here = here @ step[slot + 1] if slot + 1 < count else here
    found = np.zeros((options, count + 1))
    found[values, 1:] = there[:, :-1]  # n values and "Not mentioned" are n + 1 options
    found[values, count] += there[:, -1]  # all slots hold values
    found[padding, 1:] = numbers[:-1]
    return found


def _followers(values: Floats, padding: Floats) -> tuple[Floats, Floats]:
    """Return what follows a value in each slot: (slots, values) "Not mentioned", (slots, values, values) a next one."""
    above = np.triu(np.ones((values.shape[1],) * 2), 1)
    step = values[:, None, :] * above
    total = step.sum(2) + padding[:, None]
    nothing = total <= 0
    total = np.where(nothing, 1.0, total)
    return np.where(nothing, 1.0, padding[:, None] / total), step / total[:, :, None]


def best_set(slots: Floats, padding: int) -> frozenset[int]:
    """Return the set of greatest expected accuracy among those that canonical slots can hold.

    These are "Not mentioned" with fewer values than slots, or as many values as slots. Args as `inclusion`; of equal
    sets the smallest, of lower indices.
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
