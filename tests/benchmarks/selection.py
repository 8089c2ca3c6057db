"""How defaults are chosen: rows of settings by folds over splits train and valid, with several seeds, paired.

    python tests/benchmarks/selection.py seg PREPARED --out DIR [--folds 5] [--seeds 0 1] [--preset small]
        [--set key=value ...] [--row NAME key=value,key=value] [--row NAME init=RUN,also=PREPARED2] [--table]

A row is the preset with its own settings; the first one is the preset itself. `also=FOLDER` trains on split train of a
second dataset beside it. Folds are dealt by patient (or other group), the same for all rows and seeds, and split test
is left alone. All models learn to the last epoch, so nothing is chosen on what they are scored on, and predict with the
weights that a run saves (averaged ones with `ema`), over the views and looks of their own settings `tta` and `zoom`;
rows that differ in these alone share their trainings. Each training leaves its sums in DIR/ROW/FOLD-SEED.npz: stopped,
the same line goes on, and --table prints what is there. Figures are means over the seeds that all rows have for a fold;
intervals are over encounters. (A file named like Python's module `select` would hide it from all benchmarks.)
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from magic_cli import tasks
from magic_cli.commands.predict import VIEWS, of_all_looks, predict_views
from magic_cli.config import Config, from_dict, resolve
from magic_cli.data.gold import TaskGold
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.data.stratify import assign_folds
from magic_cli.errors import EmptySplit
from magic_cli.io.files import write_atomic
from magic_cli.metrics import bootstrap
from magic_cli.records import EncounterSums, Prediction, Sample
from magic_cli.training import runtime
from magic_cli.training.inference import Look
from magic_cli.training.parts import Data, Part, groups, unique_samples
from magic_cli.training.restoring import restored
from magic_cli.training.runtime import Runtime
from magic_cli.training.task import Task, of_class
from magic_cli.training.task_model import TaskModel
from magic_cli.training.trainer import Trainer

SPLITS = ("train", "valid")

ONE_VIEW: dict[str, object] = {"tta": "none", "zoom": 0.0}

SHOWN = {"seg": ("dice_meanofmax", "dice_meanofmean", "dice"), "cvqa": ("accuracy_all",)}


@dataclass(frozen=True)
class Row:
    """A candidate: its settings over the preset, and a second dataset to learn from."""

    name: str
    settings: tuple[str, ...] = ()
    also: Path | None = None

    @classmethod
    def of(cls, name: str, text: str) -> "Row":
        """Read `key=value,key=value`."""
        parts = [part for part in text.split(",") if part]
        also = [part.removeprefix("also=") for part in parts if part.startswith("also=")]
        own = tuple(part for part in parts if not part.startswith("also="))
        return cls(name, own, Path(also[0]) if also else None)


@dataclass(frozen=True)
class Selection:
    """A dataset in folds."""

    task: Task
    prepared: Prepared
    samples: Sequence[Sample]
    fold_of: Mapping[str, int]

    @classmethod
    def opened(cls, task: Task, path: Path, folds: int, config: Config) -> "Selection":
        """Deal the labelled cases of both splits: whole groups, stratified as `magic train --folds` does."""
        prepared = open_prepared(path)
        samples: list[Sample] = []
        for split in SPLITS:
            with suppress(EmptySplit):  # the challenge's valid split without its answers
                samples += task.training_samples(prepared, split, config)
        group_of, labels = groups(samples), dict[str, set[str]]()
        for case, own in task.strata(samples, prepared.questions).items():
            labels.setdefault(group_of[case], set()).update(own)
        parts = assign_folds(labels, folds, 0)
        fold_of = {group: fold for fold, part in enumerate(parts) for group in part}
        return cls(task, prepared, samples, {case: fold_of[group] for case, group in group_of.items()})

    def held(self, fold: int) -> list[Sample]:
        """Return what a fold holds out."""
        return unique_samples(s for s in self.samples if self.fold_of[s.case.case_id] == fold)

    def gold(self, held: Sequence[Sample]) -> list[TaskGold]:
        """Return the gold of held-out samples, split by split."""
        ids = {split: {s.id for s in held if s.case.split == split} for split in SPLITS}
        return [self.task.gold(self.prepared, split).only(names) for split, names in ids.items() if names]

    def scored_without_a_model(self) -> EncounterSums:
        """Return trivial predictions' sums, for the names of the scores and the function from sums to scores."""
        held = [self.held(0), self.held(1)]
        trivial = next(iter(self.task.baseline_predictions(held, self.prepared.questions).values()))
        return of_class(self.task.score(self.gold(held[0])[0], trivial).encounter_sums, EncounterSums)

    def trained(self, also: Path | None, configs: Mapping[str, Config], fold: int) -> dict[str, EncounterSums]:
        """Train without a fold, and return the sums of what it holds out, for each of settings with other views."""
        task, place = self.task, runtime.RuntimeOptions("cpu").runtime()
        held = self.held(fold)
        golds, learned = self.gold(held), [s for s in self.samples if self.fold_of[s.case.case_id] != fold]
        parts = [Part(learned, (), golds[0].only(()))]
        config = next(iter(configs.values()))
        if also is not None:
            other = open_prepared(also)
            parts.append(Part(task.training_samples(other, "train", config), (), golds[0].only(()), "also"))
        data = Data(task, parts, self.prepared.questions, "folds")
        with tempfile.TemporaryDirectory() as out:
            Trainer(task.name, data, config, Path(out), "cpu", place.features(config)).run(resume=False)
            model, _ = restored(Path(out) / "best.pt", task, self.prepared)  # with averaged weights, if they are
            model.cache = place.features(config)
            found = {name: predicted(model, each, held, place) for name, each in configs.items()}
            return {name: self.scored(list(rows), golds, held) for name, rows in found.items()}

    def scored(self, found: Sequence[Prediction], golds: Sequence[TaskGold], held: Sequence[Sample]) -> EncounterSums:
        """Return the sums of predictions, split by split."""
        sums = None
        for gold in golds:
            scored = self.task.score(gold, [row for row in found if row.id in _ids(gold, held)])
            own = of_class(scored.encounter_sums, EncounterSums)
            sums = own if sums is None else sums.beside(own)
        return of_class(sums, EncounterSums)


def predicted(model: TaskModel, config: Config, held: Sequence[Sample], place: Runtime) -> Iterator[Prediction]:
    """Return predictions as `magic predict` makes them: over all views and looks of the settings."""
    look = Look(model, config, held, VIEWS[config.tta])
    return of_all_looks(predict_views(model, config, held, place, look.views), [look], place)


def _ids(gold: TaskGold, held: Sequence[Sample]) -> set[str]:
    return {sample.id for sample in held if len(gold.only({sample.id}))}


def kept(path: Path, like: EncounterSums) -> EncounterSums:
    """Return the sums in a file; the function from sums to scores is that of `like`."""
    with np.load(path) as file:
        ids, names, sums = (file[name] for name in ("ids", "names", "sums"))
    if tuple(names) != like.names:
        raise SystemExit(f"{path}: other scores than this version's; remove it")
    return EncounterSums(tuple(map(str, ids)), like.names, sums, like.scores)


def keep(path: Path, sums: EncounterSums) -> None:
    """Write sums."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"ids": np.array(sums.ids), "names": np.array(sums.names), "sums": sums.sums}
    write_atomic(path, lambda file: np.savez(file, **rows))


def pooled(files: Sequence[Path], like: EncounterSums) -> EncounterSums:
    """Return the sums of all folds and seeds, added up by encounter."""
    added: dict[str, np.ndarray] = {}
    for path in files:
        sums = kept(path, like)
        for name, row in zip(sums.ids, sums.sums, strict=True):
            added[name] = added.get(name, 0) + row
    return EncounterSums(tuple(added), like.names, np.stack(list(added.values())), like.scores)


def show(out: Path, rows: Sequence[Row], like: EncounterSums, shown: Sequence[str]) -> None:
    """Print the rows over the folds and seeds that all of them have, and each minus the first."""
    names = [row.name for row in rows if (out / row.name).is_dir()]
    both = set.intersection(*({path.name for path in (out / name).glob("*.npz")} for name in names))
    if not both:
        print("no fold that all rows have yet")
        return
    systems = {name: pooled([out / name / file for file in sorted(both)], like) for name in names}
    print(f"{len(both)} trainings per row: {', '.join(sorted(file.removesuffix('.npz') for file in both))}")
    for name, sums in systems.items():
        values, bounds = sums.over(range(len(sums.ids))), bootstrap.intervals(sums, 2000)
        cells = [f"{values[sums.names.index(n)]:.4f} [{bounds[n].low:.3f}, {bounds[n].high:.3f}]" for n in shown]
        print(f"{name:20}" + "   ".join(cells))
    for name, sums in list(systems.items())[1:]:
        rows_ = bootstrap.paired(sums, systems[names[0]], 2000)
        cells = [f"{n} {(d := rows_[n]).difference:+.4f} [{d.low:+.4f}, {d.high:+.4f}] p {d.p:.3f}" for n in shown]
        print(f"{name} - {names[0]}: {'   '.join(cells)}", flush=True)


def alike(
    rows: Sequence[Row], given: argparse.Namespace, seed: int
) -> dict[tuple[Path | None, Config], dict[str, Config]]:
    """Return the settings of rows, of which those that one training serves are together."""
    together: dict[tuple[Path | None, Config], dict[str, Config]] = {}
    for row in rows:
        settings = [*given.settings, *row.settings, f"seed={seed}"]
        config = tasks.with_runs(resolve(tasks.config_class(given.task), given.preset, settings))
        same = from_dict(
            type(config), {**config.as_dict(), **{n: v for n, v in ONE_VIEW.items() if hasattr(config, n)}}, ""
        )
        together.setdefault((row.also, same), {})[row.name] = config
    return together


def main() -> None:
    """Parse, train what is missing, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=list(SHOWN))
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", help="these folds only")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--set", dest="settings", nargs="*", default=[])
    parser.add_argument("--row", nargs=2, action="append", default=[], metavar=("NAME", "SETTINGS"))
    parser.add_argument("--table", action="store_true", help="train nothing")
    given = parser.parse_args()
    task = tasks.get(given.task)
    rows = [Row(given.preset), *(Row.of(*row) for row in given.row)]
    first = resolve(task.config_class, given.preset, given.settings)
    selection = Selection.opened(task, given.data, given.folds, first)
    like = selection.scored_without_a_model()
    for seed in () if given.table else given.seeds:
        for fold in given.only or range(given.folds):
            for (also, _), configs in alike(rows, given, seed).items():
                paths = {name: given.out / name / f"fold-{fold}-seed-{seed}.npz" for name in configs}
                wanted = {name: config for name, config in configs.items() if not paths[name].is_file()}
                if wanted:
                    start = time.monotonic()
                    for name, sums in selection.trained(also, wanted, fold).items():
                        keep(paths[name], sums)
                    names = ", ".join(wanted)
                    print(f"{names}, fold {fold}, seed {seed}: {time.monotonic() - start:.0f} s", flush=True)
    show(given.out, rows, like, SHOWN[task.name])


if __name__ == "__main__":
    main()
