"""Linear probes: what a logistic regression reads from frozen vectors of photos, by share of the patients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import send_to_device
from numpy.typing import NDArray

from magic_cli.config import from_dict
from magic_cli.data.issues import counted
from magic_cli.data.pair_gold import distinct_names, prepared_pair_gold
from magic_cli.data.pairs import pair_samples
from magic_cli.data.prepared import Prepared
from magic_cli.data.prompts import name_key
from magic_cli.errors import ConfigError, DataError, problem
from magic_cli.io.progress import log, track
from magic_cli.metrics.bootstrap import intervals
from magic_cli.metrics.classification import chance, classify
from magic_cli.metrics.row_scores import Groups, class_scores
from magic_cli.models.cache.features import FeatureCache
from magic_cli.models.encoders import ImageEncoder, Output
from magic_cli.models.handed_on import JOINT
from magic_cli.models.logistic import best_strength, probabilities
from magic_cli.records import Sample
from magic_cli.tasks.encoding import encoded, gather, load_run, photo_item, published_images
from magic_cli.tasks.pretrain.config import PretrainConfig
from magic_cli.tasks.pretraining_runs import TASK
from magic_cli.training import checkpoint
from magic_cli.training.devices import accelerator_for
from magic_cli.training.runtime import Runtime

SHARES, DRAWS = (0.01, 0.1, 1.0), 5

SCORES = ("balanced_accuracy", "top1", "macro_auroc")

RESAMPLES = 2000  # for each of up to five draws, whose bounds are averaged

_AT_ONCE = 16

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Photos:
    """Photos with a class.

    Attributes:
        samples: one per photo.
        gold: (N,) indices into `names`.
        groups: the group of each, mostly a patient.
        names: all classes, of spellings of one name the most frequent.
    """

    samples: Sequence[Sample]
    gold: NDArray[np.intp]
    groups: Sequence[str]
    names: Sequence[str]


def probe(path: Path, prepared: Prepared, split: str, runtime: Runtime, weights: str | None) -> dict[str, object]:
    """Fit linear probes on photos of split train and score them on another split.

    Each is a logistic regression on standardised frozen vectors (models/logistic.py), whose strength folds over the
    training groups choose; on 1, 10 and 100 % of these groups, the first two drawn five times. Systems: "encoder", the
    run's own vectors; "joint", these projected into the joint space; "published", those of the encoder that the run
    began with; "majority", the most frequent class.

    Args:
        path: best.pt of a pretraining run.
        prepared: the dataset; only photos with a class count.
        split: valid or test.
        runtime: device and cache.
        weights: folder of Hub checkpoints; None for that of the run.

    Returns:
        What probe.json holds: for each system and share the mean of balanced_accuracy, top1 (accuracy) and macro_auroc
        over the draws, their standard deviation (n - 1; None for one draw), and the bounds of the 95 % interval over
        groups of the split, which are means over the draws, too.

    Raises:
        ConfigError: split train. DataError: no photo of the split has a class, or fewer than two classes in train.
    """
    if split == "train":
        raise ConfigError(problem("--probe --split", split, "valid or test", "a probe is trained on train"))
    train, held = photos_with_class(prepared, split)
    rows: list[dict[str, object]] = []
    for name, (before, after) in vectors_by_system(path, (train.samples, held.samples), runtime, weights):
        rows += _curve(name, (before, after), train, held)
    level = chance(held.gold, len(held.names))
    majority = np.bincount(train.gold, minlength=len(train.names)).argmax()
    answers = np.tile(np.eye(len(train.names))[majority], (len(held.gold), 1))
    rows.append(_scored("majority", 1.0, [answers], held))
    return {
        "schema": 1,
        "format": "magic-probe",
        "split": split,
        "classes": list(held.names),
        "train_photos": len(train.gold),
        "train_groups": len(set(train.groups)),
        "photos": len(held.gold),
        "groups": len(set(held.groups)),
        "chance": {name: level.uniform.scores[name] for name in SCORES},
        "rows": rows,
    }


def vectors_by_system(
    path: Path, parts: Sequence[Sequence[Sample]], runtime: Runtime, weights: str | None
) -> Iterator[tuple[str, tuple[Floats, ...]]]:
    """Yield the name of each kind of vectors, and the vectors of each part of the photos; arguments as of `probe`."""
    meta, tensors = checkpoint.load_best(path, TASK)
    moved = {} if weights is None else {"weights_dir": weights}
    config = replace(from_dict(PretrainConfig, {**meta.config, **moved}, str(path)), image_weights="", text_weights="")
    device, cache = accelerator_for(config, runtime.device).device, runtime.features(config)
    output: Output = "patches" if config.image_encoder == "tiny" else "pooled"  # tiny's vector depends on it
    own = published_images(config, output)
    load_run(own, path, "images", projected=False)
    found = tuple(image_vectors(own, part, cache, device) for part in parts)
    yield "encoder", found
    if "image_projection.linear.weight" in tensors:
        joint = published_images(config, output)
        load_run(joint, path, "images", projected=True)
        yield "joint", tuple(_projected(joint, rows) for rows in found)
    if own.origin is None:
        log(f"{path}: the run did not train its image encoder: its own vectors are the published ones")
        return
    published = published_images(config, output)
    yield "published", tuple(image_vectors(published, part, cache, device) for part in parts)


@torch.no_grad()
def _projected(encoder: ImageEncoder, vectors: Floats) -> Floats:
    projected: Floats = encoder.get_submodule(JOINT)(torch.from_numpy(vectors).float()).double().numpy()
    return projected


def photos_with_class(prepared: Prepared, split: str) -> tuple[Photos, Photos]:
    """Return the photos of split train, and of another one, or train again, that have a class, by any spelling.

    Raises:
        DataError: fewer than two classes in train, or no photo of the other split.
    """
    golds = {name: prepared_pair_gold(prepared, name) for name in ("train", split)}
    names = distinct_names(label for gold in golds.values() for label in gold.classes.values())
    place = {name_key(name): number for number, name in enumerate(names)}
    parts = {}
    for name, gold in golds.items():
        samples = [s for s in pair_samples(prepared, name, needs_text=False) if s.id in gold.classes]
        labels = np.array([place[name_key(gold.classes[sample.id])] for sample in samples], np.intp)
        parts[name] = Photos(samples, labels, [gold.groups[sample.id] for sample in samples], names)
    train, held = parts["train"], parts[split]
    if len(set(train.gold.tolist())) < 2 or not len(held.gold):
        classes = counted(len(set(train.gold.tolist())), "class in train", "classes in train")
        got = f"{classes}, {counted(len(held.gold), 'photo', 'photos')} with a class in {split}"
        expected, remedy = "two classes or more, and photos", "give another --data or --split"
        raise DataError(problem(prepared.root, got, expected, remedy))
    return train, held


@torch.inference_mode()
def image_vectors(
    encoder: ImageEncoder, samples: Sequence[Sample], cache: FeatureCache | None, device: torch.device
) -> Floats:
    """Return the vectors (N, D) of photos by an encoder, which is frozen."""
    encoder.freeze()
    encoder.to(device)
    items = [photo_item(encoder, sample.images[0], 0) for sample in samples]
    if cache is not None:
        cache.fill(encoder, items, device)
    parts = [items[first : first + _AT_ONCE] for first in range(0, len(items), _AT_ONCE)]
    batches = (send_to_device(gather(encoder, part, cache), device) for part in track(parts, "vectors"))
    return np.concatenate([encoded(encoder, batch)["pooled"].double().cpu().numpy() for batch in batches])


def _curve(name: str, vectors: tuple[Floats, Floats], train: Photos, held: Photos) -> Iterator[dict[str, object]]:
    """Yield the scores of a system for each share of the training groups."""
    before, after = vectors
    groups, every = np.array(train.groups), sorted(set(train.groups))
    for share in SHARES:
        answers = []
        for draw in range(DRAWS if share < 1 else 1):
            rng = np.random.default_rng([draw, round(100 * share)])
            chosen = rng.permutation(len(every))[: max(1, round(share * len(every)))]
            rows = np.isin(groups, [every[at] for at in chosen])
            mine, gold = before[rows], train.gold[rows]
            strength = best_strength(mine, gold, groups[rows].tolist(), len(train.names), draw)
            answers.append(probabilities(mine, gold, after, len(train.names), strength))
        yield _scored(name, share, answers, held)


def _scored(name: str, share: float, answers: Sequence[Floats], held: Photos) -> dict[str, object]:
    """Return the mean scores of several draws, with intervals over the groups of the held-out photos."""
    of_draws = [classify(each, held.gold).scores for each in answers]
    groups = Groups.of(list(held.groups))
    bounds = [intervals(class_scores(each, held.gold, groups, held.names), RESAMPLES) for each in answers]
    scores: dict[str, Mapping[str, float | None]] = {}
    for score in SCORES:
        values = np.array([row[score] for row in of_draws])
        lows, highs = (np.array([getattr(row[score], end) for row in bounds]) for end in ("low", "high"))
        facts = {"value": values.mean(), "low": lows.mean(), "high": highs.mean()}
        spread = float(values.std(ddof=1)) if len(values) > 1 else None
        scores[score] = {n: float(v) if np.isfinite(v) else None for n, v in facts.items()} | {"sd": spread}
    return {"system": name, "share": share, "draws": len(answers), "scores": scores}
