"""Simulated encounters like the challenge's, whose true scores are known, for tests of intervals.

1 to 6 photos per encounter that are alike (intra-cluster correlation 0.5); Dice near 0.8, skewed, 3 % of lesions
missed; photos of 0.3 to 12 megapixels, the same in an encounter; lesions over orders of magnitude, the bigger ones
easier; nine parents with accuracies of 0.5 to 0.94 that depend on the encounter; slots of nine options, some rare.
"""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from magic_cli.metrics import mask_scores
from magic_cli.metrics.answer_sets import AnswerTerms
from magic_cli.records import EncounterSums

ACCURACIES = (0.6, 0.94, 0.5, 0.85, 0.7, 0.55, 0.9, 0.65, 0.6)
OPTIONS, SLOTS = 9, 27
USUAL = np.array([0.5, 0.2, 0.1, 0.07, 0.05, 0.03, 0.02, 0.02, 0.01])  # of the options of half the slots
PADDED = np.array([0.01] * 8 + [0.92])  # of later slots: "Not mentioned"
PHOTOS = np.array([0.3, 0.25, 0.18, 0.12, 0.08, 0.07])
ANSWERS = AnswerTerms(len(ACCURACIES), (OPTIONS,) * SLOTS)
ALIKE = 0.5
SEG_TRUE = (0.708, 0.556, 0.805, 0.694, 0.653, 0.790)  # as `truth` gives for three million encounters


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def photos(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return sums (n, terms of mask_scores.TERMS)."""
    terms, starts = single_photos(rng, n)
    return np.add.reduceat(terms, starts)


def single_photos(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the terms of each photo of n encounters, (photos, terms), and each encounter's first photo."""
    count = rng.choice(len(PHOTOS), n, p=PHOTOS) + 1
    of = np.repeat(np.arange(n), count)

    def alike() -> np.ndarray:
        return np.sqrt(ALIKE) * rng.standard_normal(n)[of] + np.sqrt(1 - ALIKE) * rng.standard_normal(of.size)

    size = alike()
    lesion = np.exp(rng.uniform(np.log(3e5), np.log(12e6), n))[of] * sigmoid(-2.4 + 1.2 * size)
    best = np.where(rng.random(of.size) < 0.03, 0.0, sigmoid(1.9 + alike() + 0.3 * size))
    mean = best * sigmoid(2.0 + 0.7 * alike())
    predicted = lesion * np.exp(0.3 * rng.standard_normal(of.size))
    both = np.minimum(best * (predicted + lesion) / 2, np.minimum(predicted, lesion))
    jaccard = [dice / (2 - dice) for dice in (best, mean)]
    count_one = np.ones(of.size)
    terms = np.stack([*jaccard, best, mean, count_one, both, predicted - both, lesion - both, 0 * count_one], 1)
    return terms, np.concatenate([[0], np.cumsum(count)[:-1]])


def answers(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return sums (n, terms of ANSWERS)."""
    able = rng.standard_normal(n)
    hard = np.array([NormalDist().inv_cdf(accuracy) for accuracy in ACCURACIES])
    credit = (np.sqrt(0.3) * able[:, None] + np.sqrt(0.7) * rng.standard_normal((n, hard.size)) < hard).astype(float)
    labels = []
    for slot in range(SLOTS):
        shares = np.roll(USUAL, slot) if slot <= SLOTS // 2 else PADDED
        gold, other = (rng.choice(OPTIONS, n, p=shares / shares.sum()) for _ in range(2))
        labels.append((np.where(rng.random(n) < sigmoid(0.4 + able), gold, other), gold))
    answered, gold = np.array(labels).transpose(1, 2, 0)
    return ANSWERS.sums(credit, answered, gold)


def seg_scores(sums: np.ndarray) -> np.ndarray:
    return mask_scores.scores_from_sums(sums, "one")


def from_table(
    sums: np.ndarray, scores: Callable[[np.ndarray], np.ndarray], names: tuple[str, ...] = ()
) -> EncounterSums:
    """Return these sums with made-up encounter ids; scores without names are named by their number."""
    ids = tuple(f"ENC{at:05}" for at in range(len(sums)))
    return EncounterSums(ids, names or tuple(map(str, range(scores(sums[:1]).shape[-1]))), sums, scores)


def truth(make: Callable[[np.random.Generator, int], np.ndarray], scores: Callable, thousands: int) -> np.ndarray:
    """Return the scores of so many thousand encounters."""
    rng = np.random.default_rng(1)
    return scores(sum(make(rng, 1000).sum(0) for _ in range(thousands)))
