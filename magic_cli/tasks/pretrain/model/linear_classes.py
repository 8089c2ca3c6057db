"""Classes of photos by a linear model fitted on split train: of concept scores, sparse units, or vectors.

Of concept scores it is a concept bottleneck (robust CBM: Yan et al., Robust and Interpretable Medical Image Classifiers
via Concept Bottleneck Models, 2023, with a list of concepts as data; KnoBo: Yang et al., A Textbook Remedy for Domain
Shifts, NeurIPS 2024); of units of a sparse autoencoder, one whose concepts nobody named (DermFM-Zero, arXiv
2602.10624). Vectors are what it is compared with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from magic_cli.config import from_dict
from magic_cli.data.pair_gold import prepared_pair_gold
from magic_cli.data.pairs import pair_samples
from magic_cli.data.prepared import Prepared
from magic_cli.io.progress import log
from magic_cli.models.logistic import best_strength, linear_model
from magic_cli.records import Sample
from magic_cli.submission.bottleneck import STRONGEST, BottleneckFile, Change, Inputs, Output
from magic_cli.tasks.bottleneck import (
    HIGH,
    Bottleneck,
    Evidence,
    Seen,
    check_question,
    flips,
    levels,
    probabilities,
    read_what_if,
)
from magic_cli.tasks.encoding import load_run, published_images
from magic_cli.tasks.pretrain.asked import Asked, Concept, PretrainDecision, concepts_in
from magic_cli.tasks.pretrain.config import PretrainConfig
from magic_cli.tasks.pretrain.model.concepts import ConceptReader, known_concepts
from magic_cli.tasks.pretrain.model.probe import Photos, image_vectors, photos_with_class
from magic_cli.tasks.pretrain.model.sparse_units import SparseAutoencoder, codes_of, fit, reconstruction
from magic_cli.tasks.pretrain.predictions import PairPrediction
from magic_cli.tasks.pretraining_runs import TASK
from magic_cli.training import checkpoint
from magic_cli.training.devices import accelerator_for
from magic_cli.training.runtime import Runtime

Floats = NDArray[np.float64]

_TOP_PHOTOS = 3

_FOLD_SEED = 0  # of the folds that choose the penalty


@dataclass(frozen=True, eq=False)
class ReadPhotos:
    """Photos as a run sees them: joint unit vectors (N, d), concept scores (N, K), the encoder's own vectors (N, D)."""

    joint: Floats
    concepts: Floats
    encoder: Floats


@dataclass(frozen=True, eq=False)
class Reader:
    """A pretraining run that reads photos, on a device.

    Attributes:
        path: best.pt.
        config: its settings.
        concepts: what is scored.
        runtime: device and cache.
    """

    path: Path
    config: PretrainConfig
    concepts: Sequence[Concept]
    runtime: Runtime

    @classmethod
    def of(cls, path: Path, concepts: Sequence[Concept], runtime: Runtime, weights: str | None) -> "Reader":
        """Return the reader of a run; `weights` is the folder of Hub checkpoints, None for that of the run."""
        meta, _ = checkpoint.load_best(path, TASK)
        moved = {} if weights is None else {"weights_dir": weights}
        config = from_dict(PretrainConfig, {**meta.config, **moved}, str(path))
        return cls(path, replace(config, image_weights="", text_weights=""), concepts, runtime)

    @cached_property
    def scorer(self) -> ConceptReader:
        """The image encoder with its projection, and the prompts of the concepts."""
        return ConceptReader(self.config, self.path, self.concepts)

    def read(self, samples: Sequence[Sample], with_encoder: bool = False) -> ReadPhotos:
        """Return what is seen of photos; the encoder's own vectors only if they are asked for, else (N, 0)."""
        device = accelerator_for(self.config, self.runtime.device).device
        cache, scorer = self.runtime.features(self.config), self.scorer
        joint = F.normalize(torch.from_numpy(image_vectors(scorer.images, samples, cache, device)).float(), dim=-1)
        with torch.inference_mode():
            scores = scorer.cpu()(joint).double().numpy()
        own = np.zeros((len(samples), 0))
        if with_encoder:
            encoder = published_images(self.config, "patches" if self.config.image_encoder == "tiny" else "pooled")
            load_run(encoder, self.path, "images", projected=False)
            own = image_vectors(encoder, samples, cache, device)
        return ReadPhotos(joint.double().numpy(), np.asarray(scores), own)

    def directions(self) -> Floats:
        """Return the unit vector (K, d) of each concept: its prompts less those that name no concept."""
        vectors = (self.scorer.targets - self.scorer.references).mean(1)
        return np.asarray(F.normalize(vectors.double(), dim=-1).cpu().numpy())


@dataclass(frozen=True, eq=False)
class Classified:
    """Predictions of photos with what was asked, and what a bottleneck tells of itself; None for vectors."""

    predictions: Sequence[PairPrediction]
    asked: Asked
    file: BottleneckFile | None


def classify(
    path: Path, prepared: Prepared, split: str, how: tuple[Runtime, str | None], decision: PretrainDecision
) -> Classified:
    """Fit a linear model on the photos of split train that have a class, and predict the photos of a split.

    Features are standardised, and folds over groups of training photos choose the penalty (models/logistic.py).

    Args:
        path: best.pt of a pretraining run.
        prepared: the dataset.
        split: valid or test, or train, which it has learned.
        how: device and cache; folder of Hub checkpoints, None for that of the run.
        decision: what the model reads; its concepts, None for the lexicon's under the names of the dataset.

    Raises:
        DataError: fewer than two classes in train. ConfigError: concepts that cannot be read, or `--what-if` of what is
            not there.
    """
    train, _ = photos_with_class(prepared, "train")
    samples = pair_samples(prepared, split, needs_text=False)
    gold = prepared_pair_gold(prepared, split)
    concepts = concepts_in(decision.concepts) if decision.concepts else known_concepts(gold.concept_names)
    reader, own = Reader.of(path, concepts, *how), decision.classes_by == "encoder"
    before, after = reader.read(train.samples, own), reader.read(samples, own)
    asked = Asked(tuple(train.names), (), tuple(concepts))
    inputs = None
    if decision.classes_by in ("joint", "encoder"):
        rows, others = (getattr(part, decision.classes_by) for part in (before, after))
    else:
        inputs, rows, others = _inputs(reader, train, (before, after), decision)
    strength = best_strength(rows, train.gold, train.groups, len(train.names), _FOLD_SEED)
    _, weight, bias = linear_model(rows, train.gold, strength)
    chances = torch.softmax(torch.from_numpy(others @ weight.T + bias), 1).numpy()
    predictions = tuple(
        PairPrediction(
            id=sample.id,
            image=after.joint[row].astype(np.float32),
            classes=asked.classes,
            class_scores=chances[row].astype(np.float32),
            concepts=tuple(concept.name for concept in concepts),
            concept_scores=after.concepts[row].astype(np.float32),
        )
        for row, sample in enumerate(samples)
    )
    if inputs is None:
        return Classified(predictions, asked, None)
    model = Bottleneck(tuple(inputs.names), weight, bias, np.array(inputs.absent), np.array(inputs.present))
    seen = {sample.id: (Evidence(model, row),) for sample, row in zip(samples, others, strict=True)}
    return Classified(predictions, asked, _file(inputs, model, seen, (asked.classes, decision)))


def _inputs(
    reader: Reader, train: Photos, read: tuple[ReadPhotos, ReadPhotos], decision: PretrainDecision
) -> tuple[Inputs, Floats, Floats]:
    """Return what the model reads, and its values for training photos and for the others."""
    before, after = read
    names = tuple(concept.name for concept in reader.concepts)
    if decision.classes_by == "concepts":
        absent, present = levels(before.concepts)
        return Inputs("concepts", names, absent.tolist(), present.tolist()), before.concepts, after.concepts
    model = fit(before.joint, *decision.units())
    of_train, of_split = (reconstruction(model, part.joint) for part in (before, after))
    facts = {
        "units": len(model.encoder),
        "active": model.active,
        "dead": of_train.dead,
        "error_train": of_train.error,
        "error_split": of_split.error,
    }
    errors = f"squared error {of_train.error:.3f} of the variance on train, {of_split.error:.3f} on the split"
    log(f"sparse autoencoder: {len(model.encoder)} units, {model.active} at once, {of_train.dead} dead; {errors}")
    rows, others = codes_of(model, before.joint), codes_of(model, after.joint)
    units = _units(model, rows, names, (reader.directions(), [sample.id for sample in train.samples]))
    highs = [float(np.percentile(row[row > 0], HIGH)) if (row > 0).any() else 0.0 for row in rows.T]
    labels = tuple(f"unit {number} ({unit['nearest']})" for number, unit in enumerate(units))
    return Inputs("sparse", labels, [0.0] * len(labels), highs, units, facts), rows, others


def _units(
    model: SparseAutoencoder, codes: Floats, names: Sequence[str], known: tuple[Floats, Sequence[str]]
) -> list[Mapping[str, object]]:
    """Return of each unit the concept whose direction is nearest to its own, and the photos with the highest values."""
    directions, photos = known
    cosines = model.directions().double().numpy() @ directions.T
    return [
        {
            "nearest": names[int(row.argmax())],
            "cosine": round(float(row.max()), 4),
            "top_photos": [photos[at] for at in np.argsort(-values, kind="stable")[:_TOP_PHOTOS] if values[at] > 0],
        }
        for row, values in zip(cosines, codes.T, strict=True)
    ]


def _file(
    inputs: Inputs, model: Bottleneck, seen: Mapping[str, Seen], how: tuple[Sequence[str], PretrainDecision]
) -> BottleneckFile:
    """Return what the bottleneck tells of itself: weights, the strongest changes of each photo, what is asked."""
    classes, decision = how
    outputs = [
        Output("", name, float(bias), row.tolist())
        for name, bias, row in zip(classes, model.bias, model.weight, strict=True)
    ]
    changes = [
        _change(name, own, classes, dict([flip]))
        for name, own in seen.items()
        for flip in flips(own, [len(classes)]).most([0], STRONGEST)
    ]
    asked = []
    if decision.what_if is not None:
        question = read_what_if(decision.what_if)
        check_question(question, seen)
        asked = [_change(question.case, seen[question.case], classes, question.states)]
    for change in asked:
        log(change.line())
    return BottleneckFile(inputs, outputs, changes, asked)


def _change(case: str, seen: Seen, classes: Sequence[str], states: Mapping[str, str]) -> Change:
    (before,), (after,) = (probabilities(seen, [len(classes)], each) for each in ({}, states))
    answer = int(before.argmax())
    becomes = classes[int(after.argmax())]
    return Change(case, "", states, classes[answer], float(before[answer]), float(after[answer]), becomes)
