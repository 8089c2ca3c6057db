"""The official scorer as examples/official-scorer.md describes it: small, slow, one pixel and one answer at a time.

Nothing of the package is used, and no numpy arithmetic: plain loops over lists, Python sets. Where the official
scorer stops, these functions raise the same exception. tests/test_parity.py compares the package with them.
"""

import math
from typing import Any

PARENTS = {  # the number of slots of each parent question
    "CQID010": 1,
    "CQID011": 6,
    "CQID012": 6,
    "CQID015": 1,
    "CQID020": 9,
    "CQID025": 1,
    "CQID034": 1,
    "CQID035": 1,
    "CQID036": 1,
}
Pixels = list[list[Any]]


def ratio(numerator: float, denominator: float) -> float:
    """As numpy divides: 0/0 is NaN."""
    return numerator / denominator if denominator else math.nan


def average(values: list[float]) -> float:
    """NaN spreads, as in numpy's mean."""
    return sum(values) / len(values)


def largest(values: list[float]) -> float:
    """NaN spreads, as in numpy's max."""
    return math.nan if any(math.isnan(value) for value in values) else max(values)


def flat(mask: Pixels) -> list[int]:
    """Rows one after the other, so that only the number of pixels counts; each value cut to uint8 (256 is 0)."""
    return [int(value) % 256 for row in mask for value in row]


def counts(predicted: list[int], gold: list[int]) -> tuple[int, int, int]:
    """Pixels that are 1 in both, in `predicted` alone, in `gold` alone: nothing but 1 is foreground."""
    if len(predicted) != len(gold):
        raise ValueError("operands could not be broadcast together")
    pairs = [(p == 1, g == 1) for p, g in zip(predicted, gold, strict=True)]
    return pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True))


def segmentation(gold: dict[str, dict[str, Pixels]], system: dict[str, Pixels]) -> dict[str, float]:
    """The six scores and the number of images.

    `gold`: image to annotator ("ann0".."ann3") to mask; `system`: image to mask, empty where the folder is.
    """
    names = ("jaccard_meanofmax", "jaccard_meanofmean", "dice_meanofmax", "dice_meanofmean", "jaccard", "dice")
    if not system:
        return dict.fromkeys((*names, "number_segmentation_instances"), 0.0)
    per_image: dict[str, list[float]] = {name: [] for name in names[:4]}
    pooled = [0, 0, 0]
    for image, annotators in gold.items():
        predicted = flat(system[image])
        masks = [flat(mask) for _, mask in sorted(annotators.items())]
        jaccards, dices = [], []
        for mask in masks:
            tp, fp, fn = counts(predicted, mask)
            jaccards.append(ratio(tp, tp + fp + fn))
            dices.append(ratio(2 * tp, 2 * tp + fp + fn))
        per_image["jaccard_meanofmax"].append(largest(jaccards))
        per_image["jaccard_meanofmean"].append(average(jaccards))
        per_image["dice_meanofmax"].append(largest(dices))
        per_image["dice_meanofmean"].append(average(dices))
        votes = [sum(values) % 256 for values in zip(*masks, strict=True)]  # uint8: 255 + 1 is 0
        majority = [1 if vote >= math.ceil(len(masks) / 2) else 0 for vote in votes]
        pooled = [total + more for total, more in zip(pooled, counts(predicted, majority), strict=True)]
    tp, fp, fn = pooled
    scores = {name: average(values) for name, values in per_image.items()}
    scores |= {"jaccard": ratio(tp, tp + fp + fn), "dice": ratio(2 * tp, 2 * tp + fp + fn)}
    return scores | {"number_segmentation_instances": len(gold)}


def values_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """Encounter to parent to values. The id ends at its first dash; rows of one id unite; keys count by length."""
    sets: dict[str, dict[str, list[Any]]] = {}
    for row in rows:
        encounter = row["encounter_id"].split("-")[0]
        if encounter not in sets:
            sets[encounter] = {}
        for key in row:
            if len(key) == 11:
                parent, _ = key.split("-")
                if parent not in sets[encounter]:
                    sets[encounter][parent] = []
                sets[encounter][parent].append(row[key])
    return sets


def answers(gold: list[dict[str, Any]], system: list[dict[str, Any]]) -> dict[str, float]:
    """The nine accuracies, their mean, and the number of encounters."""
    scores: dict[str, float] = {}
    if not system:
        scores = {f"accuracy_{parent}": 0.0 for parent in PARENTS}
        return scores | {"accuracy_all": 0.0, "number_cvqa_instances": 0}
    wanted, answered = values_of(gold), values_of(system)
    for parent in PARENTS:
        shares = []
        for encounter in wanted:
            g, p = set(wanted[encounter][parent]), set(answered[encounter][parent])
            shares.append(len(g & p) / max(len(g), len(p)))
        scores[f"accuracy_{parent}"] = average(shares)
    scores["accuracy_all"] = average(list(scores.values()))
    return scores | {"number_cvqa_instances": len(gold)}
