"""Answers to encounters whose photo or text is hidden, by what stands in for it: rows of settings by folds, paired.

    python tests/benchmarks/missing_modality.py PREPARED [--folds 5] [--only 0 1] [--seed 0]
        [--row NAME key=value,key=value]

Folds are those of selection.py (splits train and valid, by patient), and every model learns from whole encounters. What
a fold holds out is asked four times: whole, with the photos of a drawn half of the encounters hidden, with all photos
hidden, and with all texts hidden. The first row is preset `small`. Encoders are frozen, so the inputs of all encounters
are computed once, and only what comes after them is trained: by the model's own loss, optimizer and learning rates, in
batches drawn by the seed, without the clinicians' responses. Figures are accuracies over all parent questions, with
95 % intervals over encounters, and differences to the first row.
"""

import argparse
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from selection import Row, Selection
from torch import Tensor

from magic_cli import tasks
from magic_cli.config import resolve
from magic_cli.metrics import bootstrap
from magic_cli.models.answers.stand_in import hide
from magic_cli.records import EncounterSums, Sample
from magic_cli.tasks.cvqa.batch import CvqaBatch
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.cvqa.model import CvqaModel, build
from magic_cli.training import runtime
from magic_cli.training.updates import optimizer_for, rate

SCORE = "accuracy_all"

HIDDEN = ("whole", "half of the photos hidden", "photos hidden", "texts hidden")


class Given(CvqaModel):
    """The model, with inputs that were computed before: `table` has a row per encounter, NaN where hidden."""

    table: dict[str, Tensor]

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> CvqaBatch:  # noqa: ARG002
        """Return ids and gold alone."""
        batch = CvqaBatch([sample.id for sample in samples], [list(sample.qids) for sample in samples])
        return replace(batch, gold=torch.tensor([self._gold(sample) for sample in samples]))

    def _inputs(self, batch: CvqaBatch) -> Tensor:
        rows = torch.stack([self.table[name] for name in batch.ids])
        if not (self.training and self.config.modality_dropout):
            return rows
        return hide(rows, ((0, self._photo_end), (self._photo_end, rows.shape[1])), self.config.modality_dropout)


def inputs_of(config: CvqaConfig, selection: Selection) -> dict[str, Tensor]:
    """Return the inputs of all encounters by their ids; rarity of words is that of all of them."""
    model = build(config, selection.prepared.questions)
    model.cache = runtime.RuntimeOptions("cpu").runtime().features(config)
    model.begin(selection.samples)
    found = {}
    with torch.inference_mode():
        for first in range(0, len(selection.samples), 32):
            part = selection.samples[first : first + 32]
            batch = model.collate(part, [0] * len(part))
            found |= dict(zip(batch.ids, model._inputs(batch).clone(), strict=True))
    return found


def hidden(table: dict[str, Tensor], how: str, end: int) -> dict[str, Tensor]:
    """Return inputs of which some are NaN; columns up to `end` are of photos."""
    made = {}
    for name, row in table.items():
        row = row.clone()
        drawn = random.Random(name).random() < 1 / 2  # noqa: S311
        if how == "photos hidden" or (how == HIDDEN[1] and drawn):
            row[:end] = math.nan
        if how == "texts hidden":
            row[end:] = math.nan
        made[name] = row
    return made


def trained(selection: Selection, table: dict[str, Tensor], config: CvqaConfig, fold: int) -> dict[str, EncounterSums]:
    """Train without a fold; return its sums on the fold, for each way of hiding."""
    torch.manual_seed(config.seed)
    model = Given(config, selection.prepared.questions)
    model.table = table
    held = selection.held(fold)
    golds, learned = selection.gold(held), [s for s in selection.samples if selection.fold_of[s.case.case_id] != fold]
    model.begin(learned)
    optimizer, order = optimizer_for(model, config), random.Random(config.seed)  # noqa: S311
    per_epoch = math.ceil(len(learned) / config.batch_size)
    total = per_epoch * config.epochs
    model.train()
    for update in range(total):
        if update % per_epoch == 0:
            shuffled = order.sample(learned, len(learned))
        first = update % per_epoch * config.batch_size
        part = shuffled[first : first + config.batch_size]
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * rate(config, update, total)
        optimizer.zero_grad()
        model.loss(model.collate(part, ())).backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], config.grad_clip_norm)
        optimizer.step()
    model.eval()
    found = {}
    for how in HIDDEN:
        model.table = hidden(table, how, model._photo_end)
        with torch.inference_mode():
            found[how] = selection.scored(model.predict(model.collate(held, ()), 0), golds, held)
    return found


def together(parts: Sequence[EncounterSums]) -> EncounterSums:
    """Return the sums of all folds, of which none has an encounter of another."""
    ids = tuple(name for part in parts for name in part.ids)
    return replace(parts[0], ids=ids, sums=np.concatenate([part.sums for part in parts]))


def show(found: dict[str, list[dict[str, EncounterSums]]]) -> None:
    """Print accuracies of all rows, and differences to the first one, for each way of hiding."""
    for how in HIDDEN:
        systems = {name: together([part[how] for part in parts]) for name, parts in found.items()}
        first = next(iter(systems.values()))
        print(f"{how}: {len(first.ids)} encounters")
        for name, sums in systems.items():
            value, bounds = sums.over(range(len(sums.ids)))[sums.names.index(SCORE)], bootstrap.intervals(sums, 2000)
            line = f"  {name:20}{value:.4f} [{bounds[SCORE].low:.3f}, {bounds[SCORE].high:.3f}]"
            if sums is not first:
                paired = bootstrap.paired(sums, first, 2000)[SCORE]
                line += f"   {paired.difference:+.4f} [{paired.low:+.4f}, {paired.high:+.4f}] p {paired.p:.3f}"
            print(line, flush=True)


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", help="these folds only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--row", nargs=2, action="append", default=[], metavar=("NAME", "SETTINGS"))
    given = parser.parse_args()
    rows = [Row(given.preset), *(Row.of(*row) for row in given.row)]
    common = ("responses=joined", f"seed={given.seed}")
    configs = {row.name: resolve(CvqaConfig, given.preset, [*common, *row.settings]) for row in rows}
    first = next(iter(configs.values()))
    selection = Selection.opened(tasks.get("cvqa"), given.data, given.folds, first)
    silent = [replace(sample, case=replace(sample.case, answer="")) for sample in selection.samples]
    selection = replace(selection, samples=silent)
    table = inputs_of(first, selection)
    found: dict[str, list[dict[str, EncounterSums]]] = {name: [] for name in configs}
    for fold in given.only or range(given.folds):
        for name, config in configs.items():
            found[name].append(trained(selection, table, config, fold))
        print(f"fold {fold} is done", flush=True)
        show(found)


if __name__ == "__main__":
    main()
