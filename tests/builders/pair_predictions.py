"""Predictions of a contrastive model and their gold, drawn without a model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.pair_gold import PairGold
from magic_cli.tasks.pretrain.predictions import PairPrediction

CLASSES = ("melanoma", "nevus", "eczema", "acne", "wart", "psoriasis")
CONCEPTS = ("scale", "plaque", "ulcer")


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def draw(count: int = 30, seed: int = 0, classes: Sequence[str] = CLASSES) -> tuple[PairGold, list[PairPrediction]]:
    """Return gold and predictions, two photos to a patient; every seventh photo has no text, "ulcer" is never seen."""
    rng = np.random.default_rng(seed)
    ids = [f"IMG_{number:04}" for number in range(count)]
    labels = rng.integers(0, len(classes), count)
    seen = rng.random((count, 2)) < 0.4
    images = unit(rng.normal(size=(count, 8)))
    texts = unit(images + 0.2 * rng.normal(size=images.shape))
    scores = rng.random((count, len(classes))) + 0.6 * (np.arange(len(classes)) == labels[:, None])
    scores = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
    concepts = np.hstack([0.3 * seen, np.zeros((count, 1))]) + 0.5 * rng.random((count, 3))
    maps = rng.random((count, 2, 4, 4)).astype(np.float16)
    has_text = [number % 7 > 0 for number in range(count)]
    gold = PairGold(
        "drawn",
        classes={name: classes[label] for name, label in zip(ids, labels, strict=True)},
        concepts={name: frozenset(np.array(CONCEPTS[:2])[row].tolist()) for name, row in zip(ids, seen, strict=True)},
        texts={name: f"patient text {row}" for row, name in enumerate(ids) if has_text[row]},
        groups={name: f"patient {row // 2}" for row, name in enumerate(ids)},
        photos={name: f"/photos/part/{name}.jpg" for name in ids},
        known_concepts=CONCEPTS,
    )
    predictions = [
        PairPrediction(
            name,
            images[row],
            texts[row] if has_text[row] else None,
            tuple(classes),
            scores[row],
            CONCEPTS,
            concepts[row].astype(np.float32),
            maps[row] if has_text[row] else None,
        )
        for row, name in enumerate(ids)
    ]
    return gold, predictions
