"""Answers to encounters whose photo or text is hidden, by what stands in for it: rows of settings by folds, paired.

    python tests/benchmarks/missing_modality.py PREPARED [--folds 5] [--seed 0] [--row NAME key=value,key=value]

Folds are those of selection.py (splits train and valid, by patient), and every model learns from whole encounters. What
a fold holds out is asked four times: whole, with the photos of a drawn half of the encounters hidden, with all photos
hidden, and with all texts hidden. The first row is preset `small`; figures are accuracies over all parent questions,
with 95 % intervals over encounters, and differences to the first row.
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from selection import Row, Selection

from magic_cli import tasks
from magic_cli.commands.predict import VIEWS, predict_views
from magic_cli.config import resolve
from magic_cli.metrics import bootstrap
from magic_cli.records import EncounterSums, Sample
from magic_cli.training import runtime
from magic_cli.training.inference import average_predictions
from magic_cli.training.parts import Data, Part
from magic_cli.training.trainer import Trainer

SCORE = "accuracy_all"


def without_photos(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples that lost their photos."""
    return [replace(sample, images=()) for sample in samples]


def half_without_photos(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples of which a half, drawn by their ids, lost their photos."""
    return [replace(s, images=()) if random.Random(s.id).random() < 1 / 2 else s for s in samples]  # noqa: S311


def without_texts(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples that lost their texts."""
    return [replace(s, case=replace(s.case, question="", answer="", texts={})) for s in samples]


HIDDEN: dict[str, Callable[[Sequence[Sample]], list[Sample]]] = {
    "whole": list,
    "half of the photos hidden": half_without_photos,
    "photos hidden": without_photos,
    "texts hidden": without_texts,
}


def trained(selection: Selection, row: Row, fold: int, seed: int) -> dict[str, EncounterSums]:
    """Train a row without a fold; return its sums on the fold, for each way of hiding."""
    task, place = selection.task, runtime.RuntimeOptions("cpu").runtime()
    config = resolve(task.config_class, "small", [*row.settings, f"seed={seed}"])
    held = selection.held(fold)
    golds, learned = selection.gold(held), [s for s in selection.samples if selection.fold_of[s.case.case_id] != fold]
    data = Data(task, [Part(learned, (), golds[0].only(()))], selection.prepared.questions, "folds")
    found = {}
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(task.name, data, config, Path(out), "cpu", place.features(config))
        trainer.run(resume=False)
        for name, change in HIDDEN.items():
            views = predict_views(trainer.core, config, change(held), place, VIEWS["none"])
            found[name] = selection.scored(list(average_predictions(views)), golds, held)
    return found


def together(parts: Sequence[EncounterSums]) -> EncounterSums:
    """Return the sums of all folds, of which none has an encounter of another."""
    ids = tuple(name for part in parts for name in part.ids)
    return replace(parts[0], ids=ids, sums=np.concatenate([part.sums for part in parts]))


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--row", nargs=2, action="append", default=[], metavar=("NAME", "SETTINGS"))
    given = parser.parse_args()
    rows = [Row("small"), *(Row.of(*row) for row in given.row)]
    task = tasks.get("cvqa")
    selection = Selection.opened(task, given.data, given.folds, resolve(task.config_class, "small"))
    found: dict[str, list[dict[str, EncounterSums]]] = {row.name: [] for row in rows}
    for fold in range(given.folds):
        for row in rows:
            found[row.name].append(trained(selection, row, fold, given.seed))
    for hidden in HIDDEN:
        systems = {name: together([part[hidden] for part in parts]) for name, parts in found.items()}
        first = systems[rows[0].name]
        print(f"{hidden}: {len(first.ids)} encounters")
        for name, sums in systems.items():
            value, bounds = sums.over(range(len(sums.ids)))[sums.names.index(SCORE)], bootstrap.intervals(sums, 2000)
            line = f"  {name:20}{value:.4f} [{bounds[SCORE].low:.3f}, {bounds[SCORE].high:.3f}]"
            if sums is not first:
                paired = bootstrap.paired(sums, first, 2000)[SCORE]
                line += f"   {paired.difference:+.4f} [{paired.low:+.4f}, {paired.high:+.4f}] p {paired.p:.3f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
