"""Scores of closed answers: intersection over maximum (IoM) of option sets, macro-F1 over slots, and their sums.

IoM: examples/official-scorer.md, cases 21 to 24; macro-F1: the paper's model selection, defined as in sklearn.
"""

from collections.abc import Hashable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CHUNK = 256

_TINY = 1e-100


def iom(predicted: AbstractSet[Hashable], gold: AbstractSet[Hashable]) -> float:
    """Return |P ∩ G| / max(|P|, |G|), in [0, 1]; 0.0 for two empty sets, which have nothing in common.

    >>> iom({2, 3, 7}, {2, 7})
    0.6666666666666666
    """
    larger = max(len(predicted), len(gold))
    return len(predicted & gold) / larger if larger else 0.0


@lru_cache(maxsize=1024)
def credit_per_option(size: int, other_size: int) -> Fraction:
    """Return 1 / max(size, other_size): the contribution of each shared option to the `iom` of two sets of these sizes.

    `iom` is a sum over shared options. So among all sets of one size, the one with the highest expected or mean `iom`
    holds the options of highest credit: decoding (tasks/cvqa/decode.py) and voting (tasks/cvqa/vote.py) rely on this.
    It is a fraction, because ties between submissions must be exact.

    Args:
        size, other_size: numbers of options, 0 or more.

    Raises:
        ZeroDivisionError: both are 0.

    >>> credit_per_option(2, 3), float(len({2, 3} & {3, 5, 7}) * credit_per_option(2, 3))
    (Fraction(1, 3), 0.3333333333333333)
    """
    return Fraction(1, max(size, other_size))


@dataclass(frozen=True)
class AnswerTerms:
    """Per-encounter sums from which all scores follow; their layout depends only on the questions.

    `parents` is the number of parent questions, `sizes` the number of options of each slot. The terms are: the
    credit of each parent, 1, then for each option of each slot how often it is correct, then how often it is predicted
    plus how often it is gold.
    """

    parents: int
    sizes: tuple[int, ...]

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        """The first option of each slot among those of all slots, and the number of all options."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    def sums(self, credit: NDArray[Any], predicted: NDArray[Any], gold: NDArray[Any]) -> Floats:
        """Return (encounters, terms) float64.

        Args:
            credit: (encounters, parents) IoM, in [0, 1].
            predicted, gold: (encounters, slots) option indices; -1 where nothing valid is predicted. Gold is complete.
        """
        options = int(self._first[-1])
        sums = np.empty((len(credit), self.parents + 1 + 2 * options))
        sums[:, : self.parents], sums[:, self.parents] = credit, 1.0
        for start in range(0, len(credit), _CHUNK):  # intermediate arrays take twice the memory of the sums
            rows = slice(start, start + _CHUNK)
            predicted_options, gold_options = self._one_hot(predicted[rows]), self._one_hot(gold[rows])
            sums[rows, self.parents + 1 : -options] = predicted_options * gold_options
            sums[rows, -options:] = predicted_options + gold_options
        return sums

    def _one_hot(self, indices: NDArray[Any]) -> Floats:
        """Return (encounters, options of all slots): 1 for the option of each slot, 0 elsewhere and for -1."""
        one_hot = np.zeros((len(indices), int(self._first[-1])))
        rows, slots = (indices >= 0).nonzero()
        one_hot[rows, self._first[slots] + indices[rows, slots]] = 1.0
        return one_hot

    def scores(self, sums: Floats) -> Floats:
        """Return (..., parents + 2): the mean credit of each parent, their mean, and macro-F1, each in [0, 1].

        Args:
            sums: (..., terms) of at least one encounter.

        Macro-F1 is the unweighted mean of F1 over the options predicted or gold in a slot, then over slots. Without a
        valid prediction, the gold option counts as missed; "no prediction" is not an option with an F1 of its own.
        """
        flat, starts = sums.reshape(-1, sums.shape[-1]), self._first[:-1]
        out = np.empty((len(flat), self.parents + 2))
        for start in range(0, len(flat), _CHUNK):  # intermediate values stay in the processor's cache
            part = flat[start : start + _CHUNK]
            accuracy = part[:, : self.parents] / part[:, self.parents, None]
            right, each = np.split(part[:, self.parents + 1 :], 2, axis=1)
            # an option neither predicted nor gold gives 0 / tiny = 0 and is not counted
            f1 = right / np.maximum(each, _TINY)
            slots = 2 * np.add.reduceat(f1, starts, axis=1) / np.add.reduceat(np.sign(each), starts, axis=1)
            out[start : start + _CHUNK] = np.column_stack([accuracy, accuracy.mean(1), slots.mean(1)])
        return out.reshape(*sums.shape[:-1], self.parents + 2)
