"""Contrastive pretraining by folds: the rows of MAKE's Table 3 on held-out photos, and paired differences.

    python tests/benchmarks/pretraining.py PREPARED... [--folds 3] [--seeds 0 1 2] [--rotate]
        [--rows clip mkcl slra make] [--set key=value ...] [--row NAME key=value,key=value] [--resamples 2000]
        [--novel-classes]

Photos are those of splits train and valid; split test is left alone. Folds are dealt by group, the same for all rows
and seeds: each photo is predicted by models that saw none of its group. A line per row: zero-shot accuracy and balanced
accuracy among the dataset's classes, and the share of photos whose own text (any photo's with the same words) is
among the first 50 of the fold's texts, and the other way round; means over seeds with 95 % intervals over groups.
Then every row minus the first, and the last minus each, with p-values (metrics/bootstrap.py).

With --novel-classes whole classes are dealt to the folds (as in the reality check of vision-language pretraining, A-row
10 of the related work): each photo is classified, among all classes, by models that saw no photo and no text of its
class; groups with photos of several classes are left out.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magic_cli import tasks
from magic_cli.config import resolve
from magic_cli.data.pair_gold import PairGold, pair_gold
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.data.questions import NO_QUESTIONS
from magic_cli.metrics import bootstrap
from magic_cli.records import EncounterSums, Sample
from magic_cli.tasks.pretrain.config import PretrainConfig
from magic_cli.tasks.pretrain.predictions import PairPrediction
from magic_cli.training import runtime
from magic_cli.training.inference import predict
from magic_cli.training.parts import Data, Part
from magic_cli.training.trainer import Trainer

ROWS = {
    "clip": ("objective=infonce", "local_weight=0", "weighting=none"),
    "knowledge": ("subtexts=false", "local_weight=0", "weighting=none"),
    "mkcl": ("local_weight=0", "weighting=none"),
    "slra": ("weighting=none",),
    "make": (),
}
"""Settings of the rows of Table 3, over those of the preset."""

K = 50


@dataclass(frozen=True)
class Set:
    """A dataset: its photos, their gold, and the number of the fold that each group is held out in."""

    name: str
    samples: Sequence[Sample]
    gold: PairGold
    fold: dict[str, int]

    def held(self, number: int) -> list[Sample]:
        return [sample for sample in self.samples if self.fold[self.gold.groups[sample.id]] == number]


def opened(path: Path, folds: int, by_class: bool = False) -> Set:
    """Return a dataset with its folds: groups shuffled, dealt class by class; or whole classes, if `by_class`."""
    prepared: Prepared = open_prepared(path)
    task, config = tasks.get("pretrain"), resolve(PretrainConfig, "small")
    samples = [s for split in ("train", "valid") for s in task.training_samples(prepared, split, config)]
    gold = pair_gold(str(path), samples)
    if by_class:
        return _by_class(path.name, samples, gold, folds)
    groups = {gold.groups[sample.id]: gold.classes.get(sample.id, "") for sample in samples}
    order = sorted(groups)
    random.Random(0).shuffle(order)  # noqa: S311
    order.sort(key=lambda group: groups[group])
    return Set(path.name, samples, gold, {group: number % folds for number, group in enumerate(order)})


def _by_class(name: str, samples: Sequence[Sample], gold: PairGold, folds: int) -> Set:
    """Return a dataset whose folds are whole classes; photos without a class and mixed groups are left out."""
    found: dict[str, set[str]] = {}
    for sample in samples:
        found.setdefault(gold.groups[sample.id], set()).add(gold.classes.get(sample.id, ""))
    number = {label: at % folds for at, label in enumerate(gold.class_names)}
    fold = {group: number[next(iter(of))] for group, of in found.items() if len(of) == 1 and "" not in of}
    kept = [sample for sample in samples if gold.groups[sample.id] in fold]
    return Set(name, kept, gold, fold)


def terms(known: Set, held: Sequence[Sample], found: Sequence[PairPrediction]) -> dict[str, NDArray[np.float64]]:
    """Return, per photo: right and count of each class, found and count of both directions."""
    names, gold = known.gold.class_names, known.gold
    rows: dict[str, NDArray[np.float64]] = {}
    texts = [p for p in found if p.text is not None]
    cosines = np.stack([p.image for p in texts]) @ np.stack([p.text for p in texts]).T  # type: ignore[misc]
    said = np.array([gold.texts[p.id] for p in texts])
    same = said[:, None] == said[None]
    hits = {}
    for name, matrix in (("i2t", cosines), ("t2i", cosines.T)):
        best = np.where(same, matrix, -np.inf).max(1)
        hits[name] = dict(zip([p.id for p in texts], (matrix > best[:, None]).sum(1) < K, strict=True))
    for p in found:
        row = np.zeros((2, len(names) + 2))
        if (truth := gold.classes.get(p.id)) and p.class_scores is not None:
            place = names.index(truth)
            row[:, place] = p.classes[int(np.argmax(p.class_scores))] == truth, 1
        for place, name in enumerate(hits):
            if p.id in hits[name]:
                row[:, len(names) + place] = hits[name][p.id], 1
        rows[p.id] = row.ravel()
    return rows


def scores_of(n_classes: int) -> tuple[tuple[str, ...], bootstrap.Scores]:
    """Return the names of the scores, and the function from sums of `terms` to them."""

    def scores(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        right, count = np.split(sums, 2, axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = right / count
            accuracy = right[..., :n_classes].sum(-1) / count[..., :n_classes].sum(-1)
        balanced = np.nanmean(np.where(count > 0, recall, np.nan)[..., :n_classes], -1)
        return np.stack([accuracy, balanced, recall[..., n_classes], recall[..., n_classes + 1]], -1)

    return ("accuracy", "balanced accuracy", f"photo to text@{K}", f"text to photo@{K}"), scores


def trained(sets: Sequence[Set], fold: int, config: PretrainConfig) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Train without a fold, and return the terms of its photos, by dataset."""
    task, place = tasks.get("pretrain"), runtime.RuntimeOptions("cpu").runtime()
    parts = []
    for known in sets:
        held = {sample.id for sample in known.held(fold)}
        parts.append(Part([s for s in known.samples if s.id not in held], (), known.gold, known.name))
    data = Data(task, parts, NO_QUESTIONS, "folds")
    found = {}
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer("pretrain", data, config, Path(out), "cpu", place.features(config))
        trainer.run(resume=False)
        for known in sets:
            held_out = known.held(fold)
            task.before_predicting(trainer.core, partial(getattr, known, "gold"))
            predicted = list(predict(trainer.core, held_out, config, trainer.accelerator))
            found[known.name] = terms(known, held_out, predicted)  # type: ignore[arg-type]
    return found


def sums_of(known: Set, seeds: Sequence[dict[str, NDArray[np.float64]]]) -> EncounterSums:
    """Return the sums of groups over photos and seeds."""
    names, scores = scores_of(len(known.gold.class_names))
    groups: dict[str, NDArray[np.float64]] = {}
    for rows in seeds:
        for image, row in rows.items():
            group = known.gold.groups[image]
            groups[group] = groups.get(group, 0) + row
    return EncounterSums(tuple(groups), names, np.stack(list(groups.values())), scores)


def show(
    sets: Sequence[Set], results: dict[str, list[dict[str, dict[str, NDArray[np.float64]]]]], resamples: int
) -> None:
    """Print the tables."""
    for known in sets:
        sums = {row: sums_of(known, [seed[known.name] for seed in seeds]) for row, seeds in results.items()}
        print(f"\n{known.name}: {len(known.samples)} photos, {len(known.gold.class_names)} classes")
        for row, each in sums.items():
            bounds = bootstrap.intervals(each, resamples)
            values = each.scores(each.sums.sum(0))
            cells = [
                f"{n} {v:.3f} [{bounds[n].low:.3f}, {bounds[n].high:.3f}]"
                for n, v in zip(each.names, values, strict=True)
            ]
            print(f"  {row:12} {'   '.join(cells)}")
        names = list(sums)
        pairs = [(name, names[0]) for name in names[1:]] + [(names[-1], name) for name in names[1:-1]]
        for ours, theirs in pairs:
            rows = bootstrap.paired(sums[ours], sums[theirs], resamples)
            cells = [f"{n} {d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}] p {d.p:.3f}" for n, d in rows.items()]
            print(f"  {ours} - {theirs}: {'   '.join(cells)}", flush=True)


def seeds_of(folds: Sequence[int], seeds: Sequence[int], rotate: bool) -> list[dict[int, int]]:
    """Return the seed of each fold, for every time that all folds are trained."""
    if rotate:
        return [{fold: seeds[number % len(seeds)] for number, fold in enumerate(folds)}]
    return [dict.fromkeys(folds, seed) for seed in seeds]


def rows_of(chosen: Iterable[str], own: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the settings of the rows asked for."""
    return {name: ROWS[name] for name in chosen} | {name: tuple(filter(None, text.split(","))) for name, text in own}


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--only", type=int, nargs="+", help="train these folds only")
    parser.add_argument("--novel-classes", action="store_true", help="folds of whole classes")
    parser.add_argument("--rotate", action="store_true", help="one training per fold: fold k with the k-th seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="*", default=["clip", "mkcl", "slra", "make"], choices=list(ROWS))
    parser.add_argument("--row", nargs=2, action="append", default=[], metavar=("NAME", "SETTINGS"))
    parser.add_argument("--set", dest="settings", nargs="*", default=[])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--resamples", type=int, default=2000)
    given = parser.parse_args()
    sets = [opened(path, given.folds, given.novel_classes) for path in given.data]
    results: dict[str, list[dict[str, dict[str, NDArray[np.float64]]]]] = {}
    for row, settings in rows_of(given.rows, given.row).items():
        config = resolve(PretrainConfig, given.preset, [*given.settings, *settings])
        for seeds in seeds_of(given.only or list(range(given.folds)), given.seeds, given.rotate):
            start, merged = time.monotonic(), {known.name: {} for known in sets}
            for fold, seed in seeds.items():
                for name, rows in trained(sets, fold, replace(config, seed=seed)).items():
                    merged[name] |= rows
            results.setdefault(row, []).append(merged)
            print(f"{row}, seeds {[*seeds.values()]}: {time.monotonic() - start:.0f} s", flush=True)
    show(sets, results, given.resamples)


if __name__ == "__main__":
    main()
