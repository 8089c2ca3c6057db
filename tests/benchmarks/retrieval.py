"""Composed retrieval by folds: the model beside its controls, macro figures first, with paired differences.

    python tests/benchmarks/retrieval.py PREPARED [--folds 5] [--only 0 1] [--seed 0] [--preset small]
        [--row NAME key=value,key=value] [--no-controls] [--set key=value ...] [--resamples 2000] [--jobs 2]

Photos are those of splits train and valid with a class; split test is left alone. Folds are dealt by group, class by
class, the same for all rows. Queries are the photos of a fold, the gallery is the other folds: no query is in it, nor
another photo of its group. All models of a fold learn from its gallery, to the last epoch: queries choose nothing.
Rows: the preset; the same model asked without words; the same without the agreement of classes, the
paper's S alone; k = 1; image only (a classifier's vectors, Tschandl et al. 2019); TIRG; and the controls
of tasks/retrieve/controls.py on the classifier's vectors. Then the preset minus each row, paired by query, with 95 %
intervals over groups and p-values (metrics/bootstrap.py).
"""

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from magic_cli import tasks
from magic_cli.config import resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.data.questions import NO_QUESTIONS
from magic_cli.data.retrieval.gold import RetrievalGold
from magic_cli.data.retrieval.queries import labelled_samples, query_of, retrieval_gold
from magic_cli.data.texts.pair_texts import class_of
from magic_cli.metrics import bootstrap
from magic_cli.records import EncounterScores, Sample
from magic_cli.tasks.retrieve.config import RetrieveConfig
from magic_cli.tasks.retrieve.controls import ControlInput, controls
from magic_cli.tasks.retrieve.model.composed import RetrieveModel
from magic_cli.tasks.retrieve.predictions import RetrievalPrediction
from magic_cli.tasks.retrieve.score import score
from magic_cli.tasks.retrieve.write_controls import photo_vectors
from magic_cli.training import runtime
from magic_cli.training.inference import predict
from magic_cli.training.parts import Data, Part
from magic_cli.training.task import of_class
from magic_cli.training.trainer import Trainer

SHOWN = ("macro_map", "balanced_acc@1", "map", "acc@1", "acc@4")

CLASSIFIER = ("composition=none", "objective=classifier", "beta=0", "class_share=0")

ROWS = {
    "k = 1": ("regions=1",),
    "image only": CLASSIFIER,
    "tirg": ("composition=tirg", "beta=0"),
}
"""Trained systems beside the preset, as settings over it."""


@dataclass
class System:
    """A system's predictions, fold by fold, as sums over groups."""

    sums: list[EncounterScores] = field(default_factory=list)

    @property
    def pooled(self) -> EncounterScores:
        """All folds."""
        first, *others = self.sums
        for other in others:
            first = first.beside(other)
        return first


def sums_of(gold: RetrievalGold, predictions: Sequence[RetrievalPrediction]) -> EncounterScores:
    """Return the scores of a fold as sums over groups."""
    sums = score(gold, predictions).encounter_sums
    assert sums is not None
    return sums


def dealt(samples: Sequence[Sample], folds: int) -> dict[str, int]:
    """Return the fold of each group: shuffled, dealt class by class."""
    labels = {group_of(sample): class_of(sample.case) for sample in samples}
    order = sorted(labels)
    random.Random(0).shuffle(order)  # noqa: S311
    order.sort(key=lambda group: labels[group])
    return {group: number % folds for number, group in enumerate(order)}


def group_of(sample: Sample) -> str:
    """Return the group of a sample."""
    return sample.case.group_id or sample.case.case_id


def trained(gold: RetrievalGold, queries: Sequence[Sample], config: RetrieveConfig, seed: int) -> Trainer:
    """Return a training on the gallery, finished and asked."""
    task, place = tasks.get("retrieve"), runtime.RuntimeOptions("cpu").runtime()
    data = Data(task, [Part(gold.samples, (), gold)], NO_QUESTIONS, "folds")
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer("retrieve", data, replace(config, seed=seed), Path(out), "cpu", place.features(config))
        trainer.run(resume=False)
    task.before_predicting(trainer.core, lambda: gold)
    return trainer


def predicted(trainer: Trainer, queries: Sequence[Sample]) -> list[RetrievalPrediction]:
    """Return a model's predictions."""
    rows = predict(trainer.core, queries, trainer.config, trainer.accelerator)
    return [of_class(row, RetrievalPrediction) for row in rows]


def without_classes(trainer: Trainer) -> Trainer:
    """Return a training that compares levels and regions alone, as in the paper."""
    model = of_class(trainer.core, RetrieveModel)
    model.config = replace(model.config, class_share=0.0)
    return trainer


def silent(sample: Sample) -> Sample:
    """Return a sample without words."""
    return replace(sample, case=replace(sample.case, question="", texts={}))


def from_matrix(gold: RetrievalGold, matrix: NDArray[np.floating]) -> Iterator[RetrievalPrediction]:
    """Yield a control's similarities as predictions."""
    for query, row in zip(gold.queries, matrix, strict=True):
        yield RetrievalPrediction(query, gold.gallery, row.astype(np.float32))


@dataclass(frozen=True)
class Work:
    """A training and what it is asked: a fold, a row and its settings."""

    data: Path
    folds: int
    fold: int
    row: str
    config: RetrieveConfig
    seed: int
    has_controls: bool
    threads: int


def splits_of(work: Work) -> tuple[RetrievalGold, list[Sample]]:
    """Return the gold of a fold, and its queries."""
    prepared = open_prepared(work.data)
    samples = [sample for split in ("train", "valid") for sample in labelled_samples(prepared, split)]
    fold = dealt(samples, work.folds)
    queries = [sample for sample in samples if fold[group_of(sample)] == work.fold]
    gallery = tuple(sample for sample in samples if fold[group_of(sample)] != work.fold)
    return retrieval_gold(f"fold {work.fold}", queries, gallery, "train"), queries


def run(work: Work) -> dict[str, EncounterScores]:
    """Return the sums of all systems that come of a training."""
    torch.set_num_threads(work.threads)
    gold, queries = splits_of(work)
    start = time.monotonic()
    trainer = trained(gold, queries, work.config, work.seed)
    print(f"fold {work.fold}, {work.row}: {time.monotonic() - start:.0f} s", flush=True)
    found = {work.row: predicted(trainer, queries)}
    if work.row == "composed":
        found["without words"] = predicted(trainer, [silent(sample) for sample in queries])
        found["S alone"] = predicted(without_classes(trainer), queries)
    if work.has_controls:
        encoder = tasks.get("retrieve").case_encoder(trainer.core)
        texts = ([query_of(sample.case) for sample in samples] for samples in (queries, gold.samples))
        asked = ControlInput(gold, *photo_vectors([encoder], queries, gold.samples), *texts)
        found |= {control: list(from_matrix(gold, matrix)) for control, matrix in controls(asked).items()}
    return {name: sums_of(gold, predictions) for name, predictions in found.items()}


def show(systems: Mapping[str, System], resamples: int) -> None:
    """Print the table and the differences."""
    pooled = {name: system.pooled for name, system in systems.items()}
    first = pooled["composed"]
    shown = [first.names.index(name) for name in SHOWN]
    print("\n" + f"{'':18}" + "".join(f"{name:>24}" for name in SHOWN))
    for name, sums in pooled.items():
        values, bounds = sums.over(range(len(sums.ids))), bootstrap.intervals(sums, resamples)
        cells = [
            f"{values[at]:.3f} [{bounds[n].low:.3f}, {bounds[n].high:.3f}]" for n, at in zip(SHOWN, shown, strict=True)
        ]
        print(f"{name:18}" + "".join(f"{cell:>24}" for cell in cells))
    for name, sums in pooled.items():
        if name != "composed":
            rows = bootstrap.paired(first, sums, resamples)
            cells = [
                f"{n} {(d := rows[n]).difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}] p {d.p:.3f}" for n in SHOWN[:2]
            ]
            print(f"composed - {name}: {'   '.join(cells)}", flush=True)


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", help="these folds only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--set", dest="settings", nargs="*", default=[])
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--row", nargs=2, action="append", default=[], metavar=("NAME", "SETTINGS"))
    parser.add_argument("--no-controls", action="store_true")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, which share the cores")
    given = parser.parse_args()
    settings = {"composed": ()} | {name: ROWS[name] for name in given.rows}
    settings |= {name: tuple(filter(None, text.split(","))) for name, text in given.row}
    rows = {name: resolve(RetrieveConfig, given.preset, [*given.settings, *own]) for name, own in settings.items()}
    threads = max(1, (os.cpu_count() or 1) // given.jobs)
    work = [
        Work(
            data=given.data,
            folds=given.folds,
            fold=fold,
            row=name,
            config=config,
            seed=given.seed,
            has_controls=name == "image only" and not given.no_controls,
            threads=threads,
        )
        for name, config in rows.items()
        for fold in given.only or range(given.folds)
    ]
    systems: dict[str, System] = {}
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
        for found in pool.map(run, work):
            for name, sums in found.items():
                systems.setdefault(name, System()).sums.append(sums)
    show(systems, given.resamples)


if __name__ == "__main__":
    main()
