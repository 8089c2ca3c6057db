"""Composed retrieval by folds: the model beside its controls, macro figures first, with paired differences.

    python tests/benchmarks/retrieval.py PREPARED [--folds 5] [--only 0 1] [--seed 0] [--preset small]
        [--row NAME key=value,key=value] [--no-controls] [--set key=value ...] [--resamples 2000]

Photos are those of splits train and valid with a class; split test is left alone. Folds are dealt by group, class by
class, the same for all rows. Queries are the photos of a fold, the gallery is the other folds: no query is in it, nor
another photo of its group. All models of a fold learn from its gallery, to the last epoch: queries choose nothing.
Rows: the preset; the same model asked without words; k = 1; image only (a classifier's vectors, Tschandl et al. 2019);
TIRG; and the controls of tasks/retrieve/controls.py on the classifier's vectors. Then the preset minus each row, paired
by query, with 95 % intervals over groups and p-values (metrics/bootstrap.py).
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
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
from magic_cli.tasks.retrieve.predictions import RetrievalPrediction
from magic_cli.tasks.retrieve.score import score
from magic_cli.training import runtime
from magic_cli.training.inference import predict
from magic_cli.training.parts import Data, Part
from magic_cli.training.task import of_class
from magic_cli.training.trainer import Trainer

SHOWN = ("macro_map", "balanced_acc@1", "map", "acc@1", "acc@4")

CLASSIFIER = ("composition=none", "objective=classifier", "beta=0")

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

    def add(self, gold: RetrievalGold, predictions: Sequence[RetrievalPrediction]) -> None:
        """Score a fold."""
        sums = score(gold, predictions).encounter_sums
        assert sums is not None
        self.sums.append(sums)

    @property
    def pooled(self) -> EncounterScores:
        """All folds."""
        first, *others = self.sums
        for other in others:
            first = first.beside(other)
        return first


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


def silent(sample: Sample) -> Sample:
    """Return a sample without words."""
    return replace(sample, case=replace(sample.case, question="", texts={}))


def vectors(trainer: Trainer, samples: Sequence[Sample]) -> NDArray[np.float32]:
    """Return the vectors of photos by a trained classifier: global ones only."""
    encoder = tasks.get("retrieve").case_encoder(trainer.core)
    rows, places, start = encoder.photos(samples), [], 0
    for part in encoder.parts:
        if part.kind == "global":
            places += range(start, start + part.width)
        start += part.width
    chosen: NDArray[np.float32] = rows[:, places]
    return chosen


def from_matrix(gold: RetrievalGold, matrix: NDArray[np.floating]) -> Iterator[RetrievalPrediction]:
    """Yield a control's similarities as predictions."""
    for query, row in zip(gold.queries, matrix, strict=True):
        yield RetrievalPrediction(query, gold.gallery, row.astype(np.float32))


def run_fold(
    gold: RetrievalGold, queries: Sequence[Sample], rows: Mapping[str, RetrieveConfig], given: argparse.Namespace
) -> Iterator[tuple[str, list[RetrievalPrediction]]]:
    """Yield the predictions of every system on a fold."""
    for name, config in rows.items():
        start = time.monotonic()
        trainer = trained(gold, queries, config, given.seed)
        print(f"  {name}: {time.monotonic() - start:.0f} s", flush=True)
        yield name, predicted(trainer, queries)
        if name == "composed":
            yield "without words", predicted(trainer, [silent(sample) for sample in queries])
        if name == "image only" and not given.no_controls:
            asked = ControlInput(
                gold=gold,
                query_vectors=vectors(trainer, queries),
                gallery_vectors=vectors(trainer, gold.samples),
                query_texts=tuple(query_of(sample.case) for sample in queries),
                gallery_texts=tuple(query_of(sample.case) for sample in gold.samples),
            )
            for control, matrix in controls(asked).items():
                yield control, list(from_matrix(gold, matrix))


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
    given = parser.parse_args()
    prepared = open_prepared(given.data)
    samples = [sample for split in ("train", "valid") for sample in labelled_samples(prepared, split)]
    fold = dealt(samples, given.folds)
    settings = {"composed": ()} | {name: ROWS[name] for name in given.rows}
    settings |= {name: tuple(filter(None, text.split(","))) for name, text in given.row}
    rows = {name: resolve(RetrieveConfig, given.preset, [*given.settings, *own]) for name, own in settings.items()}
    systems: dict[str, System] = {}
    for number in given.only or range(given.folds):
        queries = [sample for sample in samples if fold[group_of(sample)] == number]
        gallery = tuple(sample for sample in samples if fold[group_of(sample)] != number)
        gold = retrieval_gold(f"fold {number}", queries, gallery, "train")
        print(f"fold {number}: {len(queries)} queries, {len(gallery)} photos", flush=True)
        for name, predictions in run_fold(gold, queries, rows, given):
            systems.setdefault(name, System()).add(gold, predictions)
    show(systems, given.resamples)


if __name__ == "__main__":
    main()
