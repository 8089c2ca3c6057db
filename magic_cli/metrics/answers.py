"""Closed answers: intersection over maximum of option sets, macro-F1 over slots, and the sums both follow from.

IoM: examples/official-scorer.md, cases 21 to 24; macro-F1: the paper's model selection, defined as sklearn does.
"""

from collections.abc import Hashable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_CHUNK = 256
_TINY = 1e-100


def iom(found: AbstractSet[Hashable], gold: AbstractSet[Hashable]) -> float:
    """Return |P ∩ G| / max(|P|, |G|), in [0, 1]; two empty sets give 0.0, as there is nothing right.

    >>> iom({2, 3, 7}, {2, 7})
    0.6666666666666666
    """
    most = max(len(found), len(gold))
    return len(found & gold) / most if most else 0.0


@dataclass(frozen=True)
class AnswerTerms:
    """The sums of an encounter from which all figures follow; the layout depends on the questions alone.

    `parents` is the number of parent questions, `sizes` the number of options of each slot. The terms are: the
    credit of each parent, 1, then for each option of each slot how often it is right, then how often it is found
    plus how often it is gold.
    """

    parents: int
    sizes: tuple[int, ...]

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        """The first option of each slot among those of all slots, and the number of all options."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    def sums(self, credit: NDArray[Any], found: NDArray[Any], gold: NDArray[Any]) -> Floats:
        """Return (encounters, terms) float64.

        Args:
            credit: (encounters, parents) IoM, in [0, 1].
            found, gold: (encounters, slots) option indices; -1 where nothing valid is found. Gold is complete.
        """
        options = int(self._first[-1])
        sums = np.empty((len(credit), self.parents + 1 + 2 * options))
        sums[:, : self.parents], sums[:, self.parents] = credit, 1.0
        for start in range(0, len(credit), _CHUNK):  # what is in between takes twice the memory of the sums
            rows = slice(start, start + _CHUNK)
            one, other = self._there(found[rows]), self._there(gold[rows])
            sums[rows, self.parents + 1 : -options], sums[rows, -options:] = one * other, one + other
        return sums

    def _there(self, indices: NDArray[Any]) -> Floats:
        """Return (encounters, options of all slots): 1 where an option is found, 0 elsewhere."""
        there = np.zeros((len(indices), int(self._first[-1])))
        rows, slots = (indices >= 0).nonzero()
        there[rows, self._first[slots] + indices[rows, slots]] = 1.0
        return there

    def figures(self, sums: Floats) -> Floats:
        """Return (..., parents + 2): the mean credit of each parent, their mean, and macro-F1, each in [0, 1].

        Args:
            sums: (..., terms) of at least one encounter.

        Macro-F1 is the unweighted mean of F1 over the options found or gold in a slot, then over slots. Where no
        valid option is found the gold one is missed; "nothing" is no option whose F1 counts.
        """
        flat, starts = sums.reshape(-1, sums.shape[-1]), self._first[:-1]
        out = np.empty((len(flat), self.parents + 2))
        for start in range(0, len(flat), _CHUNK):  # intermediate values stay in the processor's cache
            part = flat[start : start + _CHUNK]
            accuracy = part[:, : self.parents] / part[:, self.parents, None]
            right, each = np.split(part[:, self.parents + 1 :], 2, axis=1)
            # an option that is nowhere is 0 / tiny = 0, and is not counted
            f1 = right / np.maximum(each, _TINY)
            slots = 2 * np.add.reduceat(f1, starts, axis=1) / np.add.reduceat(np.sign(each), starts, axis=1)
            out[start : start + _CHUNK] = np.column_stack([accuracy, accuracy.mean(1), slots.mean(1)])
        return out.reshape(*sums.shape[:-1], self.parents + 2)
