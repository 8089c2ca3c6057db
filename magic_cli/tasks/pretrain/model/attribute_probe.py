"""Attribute probes: whether frozen vectors tell sex, age, skin type, site or source, though a diagnosis should not"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.imaging.artefacts import ARTEFACTS
from magic_cli.data.imaging.artefacts.cases import artefacts_of
from magic_cli.data.pairs import pair_samples
from magic_cli.data.prepared import Prepared
from magic_cli.errors import ConfigError, did_you_mean, problem
from magic_cli.metrics.bootstrap import intervals
from magic_cli.metrics.row_scores import Groups, class_scores
from magic_cli.metrics.subgroups import MISSING, OTHERS, binned
from magic_cli.models.logistic import best_strength, probabilities
from magic_cli.records import SPLITS, Sample
from magic_cli.tasks.pretrain.model.probe import Floats, vectors_by_system
from magic_cli.training.runtime import Runtime

FOLDS, COMPONENTS, FEWEST_GROUPS = 5, 128, 10
"""Folds; principal components that a probe reads; groups below which a value is left out."""

RESAMPLES = 2000


@dataclass(frozen=True)
class Known:
    """The photos of which an attribute is known: their places, the value of each, the names, and their groups."""

    rows: NDArray[np.intp]
    gold: NDArray[np.intp]
    names: Sequence[str]
    groups: Sequence[str]


def attribute_probe(
    path: Path, prepared: Prepared, names: Sequence[str], runtime: Runtime, weights: str | None
) -> dict[str, object]:
    """Fit linear probes of attributes on frozen vectors, by folds of whole groups over all splits, against chance.

    Each is a logistic regression on the first principal components of the other folds' vectors (standardised; strength
    chosen by folds within them), so that every photo is judged by a probe that has not seen its group. Nothing is said
    about causes: vectors may tell a site because its skin looks different.

    Args:
        path: best.pt of a pretraining run.
        prepared: the dataset.
        names: attributes of the cases, "label", or artefacts of the photos (data/imaging/artefacts/). Ages and other
            numbers are put in ranges; values of fewer than FEWEST_GROUPS groups are left out, as are "others".
        runtime: device and cache.
        weights: folder of Hub checkpoints; None for that of the run.

    Returns:
        What attributes.json holds (schemas/attributes.schema.json): for each attribute and system the balanced
        accuracy with its 95 % interval over groups, and chance level, 1 / values.

    Raises:
        ConfigError: no case has such an attribute, or it has fewer than two values.
    """
    samples = [sample for split in SPLITS for sample in pair_samples(prepared, split, needs_text=False)]
    known = {name: attribute_of(samples, name) for name in names}
    rows = []
    for system, (vectors,) in vectors_by_system(path, (samples,), runtime, weights):
        for name, attribute in known.items():
            rows.append({"attribute": name, "system": system, **scored(vectors[attribute.rows], attribute)})
    return {"schema": 1, "format": "magic-attributes", "folds": FOLDS, "photos": len(samples), "rows": rows}


def attribute_of(samples: Sequence[Sample], name: str) -> Known:
    """Return the photos of which an attribute is known; arguments and errors as of `attribute_probe`."""
    values = _values(samples, name)
    groups = [sample.case.group_id or sample.case.case_id for sample in samples]
    of_value = Counter(value for value, _ in {(values[s.id], g) for s, g in zip(samples, groups, strict=True)})
    kept = sorted(v for v, n in of_value.items() if n >= FEWEST_GROUPS and v not in (MISSING, OTHERS))
    if len(kept) < 2:
        counts = ", ".join(f"{value}: {count}" for value, count in sorted(of_value.items())) or "none"
        known = sorted({key for sample in samples for key in sample.case.attributes} | {"label", *ARTEFACTS})
        expected = f"two values or more of {FEWEST_GROUPS} groups each"
        got, remedy = f"groups by value: {counts}", did_you_mean(name, known)
        raise ConfigError(problem(f"--attributes {name}", got, expected, remedy))
    rows = np.array([at for at, sample in enumerate(samples) if values[sample.id] in kept], np.intp)
    gold = np.array([kept.index(values[samples[at].id]) for at in rows], np.intp)
    return Known(rows, gold, kept, [groups[at] for at in rows])


def _values(samples: Sequence[Sample], name: str) -> Mapping[str, str]:
    stated = {s.id: s.case.label if name == "label" else s.case.attributes.get(name) for s in samples}
    if name in ARTEFACTS and not any(stated.values()):
        seen = artefacts_of(sample.images[0] for sample in samples)
        return {s.id: (name if name in seen[s.id] else f"no {name}") if s.id in seen else MISSING for s in samples}
    said = binned(name, {photo: value for photo, value in stated.items() if value})
    return {sample.id: said.get(sample.id, MISSING) for sample in samples}


def scored(vectors: Floats, known: Known) -> dict[str, object]:
    """Return what vectors (N, D) of these photos tell of an attribute, by folds of whole groups."""
    answers = np.zeros((len(vectors), len(known.names)))
    groups = np.array(known.groups)
    every = sorted(set(known.groups))
    order = np.random.default_rng(0).permutation(len(every))
    fold_of = {every[at]: place % FOLDS for place, at in enumerate(order)}
    folds = np.array([fold_of[group] for group in known.groups])
    for mine, held in ((folds != fold, folds == fold) for fold in range(FOLDS)):
        before, after = _components(vectors[mine], vectors[held])
        strength = best_strength(before, known.gold[mine], groups[mine].tolist(), len(known.names), 0)
        answers[held] = probabilities(before, known.gold[mine], after, len(known.names), strength)
    scores = class_scores(answers, known.gold, Groups.of(known.groups), known.names)
    value = dict(zip(scores.names, scores.over(range(len(scores.ids))).tolist(), strict=True))["balanced_accuracy"]
    pair = intervals(scores, RESAMPLES)["balanced_accuracy"]
    bounds = {end: bound if np.isfinite(bound) else None for end, bound in (("low", pair.low), ("high", pair.high))}
    counts = np.bincount(known.gold, minlength=len(known.names)).tolist()
    return {
        "values": dict(zip(known.names, counts, strict=True)),
        "photos": len(vectors),
        "groups": len(every),
        "chance": 1 / len(known.names),
        "balanced_accuracy": {"value": value, **bounds},
    }


def _components(train: Floats, held: Floats) -> tuple[Floats, Floats]:
    """Return the principal components of the training rows, COMPONENTS at most, and the held-out rows along them."""
    mean = train.mean(0)
    _, _, axes = np.linalg.svd(train - mean, full_matrices=False)
    kept = axes[:COMPONENTS].T
    return (train - mean) @ kept, (held - mean) @ kept
