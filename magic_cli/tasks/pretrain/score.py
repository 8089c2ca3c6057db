"""Scores of contrastive models: zero-shot classes, concepts, and retrieval between photos and texts."""

from collections.abc import Iterable

import numpy as np

from magic_cli.data.pair_gold import PairGold
from magic_cli.records import TaskScores
from magic_cli.tasks.pretrain.predictions import PairPrediction


def score(gold: PairGold, predictions: Iterable[PairPrediction]) -> TaskScores:
    """Score predictions for the photos of `gold`; others are ignored."""
    found = [p for p in predictions if p.id in gold.groups]
    scores: dict[str, float] = {}
    rows = [(p.class_scores, gold.classes[p.id]) for p in found if p.id in gold.classes and p.class_scores is not None]
    if rows:
        names = list(found[0].classes)
        predicted = np.array([int(np.argmax(scores_of)) for scores_of, _ in rows])
        truth = np.array([names.index(name) for _, name in rows])
        recalls = [float((predicted[truth == c] == c).mean()) for c in np.unique(truth)]
        scores["accuracy"] = float((predicted == truth).mean())
        scores["balanced_accuracy"] = float(np.mean(recalls))
    pairs = [(p.id, p.image, p.text) for p in found if p.text is not None and p.id in gold.texts]
    if pairs:
        cosines = np.stack([image for _, image, _ in pairs]) @ np.stack([text for *_, text in pairs]).T
        same = np.array([[gold.texts[a] == gold.texts[b] for b, *_ in pairs] for a, *_ in pairs])
        for name, matrix in (("i2t", cosines), ("t2i", cosines.T)):
            best = np.where(same, matrix, -np.inf).max(1)
            ranks = (matrix > best[:, None]).sum(1) + 1
            for k in (10, 50):
                scores[f"{name}_recall@{k}"] = float((ranks <= k).mean())
        scores["recall@10"] = (scores["i2t_recall@10"] + scores["t2i_recall@10"]) / 2
    parts = [scores[name] for name in ("balanced_accuracy", "recall@10") if name in scores]
    scores["mean_of_tasks"] = float(np.mean(parts)) if parts else float("nan")
    scores["number_of_photos"] = len(found)
    return TaskScores("pretrain", scores)
