"""What each part of the closed-question model is worth: one table, each row against the default.

    python tests/benchmarks/ablation.py [--folds PREPARED ...] [--valid PREPARED ...] [--out ablation]
        [--seeds 0 1] [--only default rules-off ...] [--set epochs=5] [--list]

Each row differs from `default` (preset small) in one thing. On a folder of --folds the rows are cross-validated on
split train (magic train --folds 5), once a seed; on one of --valid they are trained on split train and judged on split
valid. Where there are no photos, the text is all there is. Everything goes through the command line: magic train
--resume, then magic predict for what is decided anew; stopped, the same line goes on. Figures are accuracy_all and its
difference to `default` on the same encounters, with the 95 % interval over encounters (metrics/bootstrap.py);
--parents adds those of each parent question. With several seeds, an encounter's figures are means over them.

Early stopping saw the very encounters of --valid, for each row alike: those figures are a little optimistic.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from magic_cli.data.gold import answer_gold
from magic_cli.data.prepared import open_prepared
from magic_cli.metrics.bootstrap import paired
from magic_cli.records import EncounterSums
from magic_cli.report.table import Table
from magic_cli.submission.reader import open_predictions
from magic_cli.tasks import get

cvqa = get("cvqa")

Magic = Callable[[Sequence[str], Path], str]
"""Run the words of a `magic` command in a folder; return its stdout, raise if it fails."""
FIGURE = "accuracy_all"


@dataclass(frozen=True)
class Part:
    """A row of the table: what differs from the default. `photos`: it needs some; `decode` is decided anew."""

    name: str
    settings: tuple[str, ...] = ()
    modality: str = "both"
    photos: bool = False
    decode: str = ""

    @property
    def run(self) -> str:
        """The folder of the training run that the row needs."""
        return "default" if self.decode else self.name


PARTS = (
    Part("default"),
    Part("text-only", modality="text", photos=True),
    Part("image-only", modality="image", photos=True),
    Part("rules-off", ("rules=false",)),
    Part("words-off", ("hashed_words=0",)),
    Part("rules-and-words-off", ("rules=false", "hashed_words=0")),
    Part("text-encoder-random", ("text_encoder=tiny",)),
    Part("lang-en-zh", ("lang=en,zh",)),
    Part("lang-en-es-zh", ("lang=en,es,zh",)),
    Part("lang-zh", ("lang=zh",)),
    Part("lang-es", ("lang=es",)),
    Part("option-term", ("option_term=true",)),
    Part("decode-slot", decode="slot"),
    Part("hierarchy", ("hierarchy=1",)),
    Part("joint-sets", ("joint_slots=true",)),
    Part("shrink-off", ("group_lasso=0",)),
    Part("shrink-off-decay", ("group_lasso=0", "weight_decay=0.5", "lr=1e-2")),
)


def command(words: Sequence[str], folder: Path) -> str:
    """Run `magic WORDS` as a process of its own."""
    line = [sys.executable, "-m", "magic_cli", *words]
    return subprocess.run(line, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


@dataclass(frozen=True)
class Bench:
    """A prepared folder, how it is used, and where its runs go."""

    data: Path
    folds: bool
    out: Path
    common: tuple[str, ...]
    magic: Magic

    @cached_property
    def photos(self) -> bool:
        """Whether there is any photo."""
        return any(image.path for image in open_prepared(self.data).images.values())

    def answers(self, part: Part, seed: int) -> list[Path]:
        """Return the folders with the answers of a row, trained and predicted if they are not there."""
        run = self.out / f"{part.run}-seed-{seed}"
        modality = part.modality if self.photos else "text"
        words = ["train", "cvqa", "--data", str(self.data), "--out", run.name, "--seed", str(seed), "--json"]
        words += ["--modality", modality, *self.common, *(w for pair in part.settings for w in ("--set", pair))]
        done = run / "ablation.json"
        if not done.is_file():
            self.magic([*words, "--resume", *(["--folds", "5"] if self.folds else [])], self.out)
            done.write_text(json.dumps(words))
        elif json.loads(done.read_text()) != words and not part.decode:
            raise SystemExit(f"{run}: was trained otherwise; choose another --out")
        if self.folds and not part.decode:
            return [run / "folds"]
        ckpts = sorted(run.glob("fold-*/best.pt")) if self.folds else [run / "best.pt"]
        found = []
        for ckpt in ckpts:
            target = ckpt.with_name(f"valid{part.decode}")
            if not target.is_dir():
                words = ["predict", "cvqa", "--ckpt", str(ckpt), "--data", str(self.data), "--out", str(target)]
                words += ["--split", "train" if self.folds else "valid"]
                self.magic([*words, *(["--decode", part.decode] if part.decode else [])], self.out)
            found.append(target)
        return found

    def judged(self, part: Part, seed: int) -> EncounterSums:
        """Return the sums over encounters of a row, each encounter from the fold that had not seen it."""
        gold = answer_gold(open_prepared(self.data), "train" if self.folds else "valid")
        folders = self.answers(part, seed)
        record = self.out / f"{part.run}-seed-{seed}" / "folds.json"
        held = json.loads(record.read_text())["parts"] if len(folders) > 1 else []
        found = []
        for number, folder in enumerate(folders):
            with open_predictions(folder) as files:
                ours = set(held[number]["encounters"]) if held else set(gold.answers)
                found += [p for p in files.submitted_rows(gold.questions.by_qid) if p.id in ours]
        clusters: EncounterSums | None = cvqa.score(gold, found).encounter_sums
        if clusters is None:
            raise ValueError(f"{part.name}: no sums over encounters")
        return clusters


def mean(seeds: Sequence[EncounterSums]) -> EncounterSums:
    """Return the sums of several runs over the same encounters, averaged."""
    order = [np.argsort(np.array(one.ids)) for one in seeds]
    sums = np.mean([one.sums[at] for one, at in zip(seeds, order, strict=True)], axis=0)
    return dataclasses.replace(seeds[0], ids=tuple(np.array(seeds[0].ids)[order[0]].tolist()), sums=sums)


def compare(bench: Bench, parts: Sequence[Part], seeds: Sequence[int], every: bool) -> list[str]:
    """Return the lines of the table of a prepared folder."""
    rows, base = [], mean([bench.judged(PARTS[0], seed) for seed in seeds])
    figures = [name for name in base.names if name == FIGURE or (every and name.startswith("accuracy_"))]
    at = [base.names.index(name) for name in figures]
    for part in parts:
        if part.photos and not bench.photos:
            continue
        ours = mean([bench.judged(part, seed) for seed in seeds])
        values, gaps = ours.scores(ours.sums.sum(0)), paired(ours, base)
        for name, column in zip(figures, at, strict=True):
            gap = gaps[name]
            row = f"{gap.difference:+.4f}", f"{gap.low:+.4f} to {gap.high:+.4f}", f"{gap.p:.3f}"
            label = part.name if name == FIGURE else f"  {name.removeprefix('accuracy_')}"
            rows.append((label, f"{values[column]:.4f}", *(("",) * 3 if part == PARTS[0] else row)))
        print(f"{bench.data.name}: {part.name} done", file=sys.stderr)
    how = "five folds over split train" if bench.folds else "split valid"
    seen = "text and photos" if bench.photos else "text"
    title = f"{bench.data.name}: {len(base.ids)} encounters, {how}, {seen}, seeds {', '.join(map(str, seeds))}"
    return Table(title, ("", "accuracy", "minus default", "95 % interval", "p"), tuple(rows)).lines()


def main(words: Sequence[str] | None = None, magic: Magic = command) -> None:
    """Parse, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folds", type=Path, nargs="+", default=[], help="prepared folders to cross-validate on")
    parser.add_argument("--valid", type=Path, nargs="+", default=[], help="prepared folders with gold of split valid")
    parser.add_argument("--out", type=Path, default=Path("ablation"))
    parser.add_argument("--preset", default="small")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="key=value for every run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--parents", action="store_true", help="every parent question too")
    parser.add_argument("--only", nargs="+", default=[], choices=[part.name for part in PARTS], metavar="ROW")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    given = parser.parse_args(words)
    if given.list or not (given.folds or given.valid):
        print("\n".join(f"{part.name:20} {' '.join(part.settings)}" for part in PARTS))
        return
    common = ("--preset", given.preset, *(word for pair in given.settings for word in ("--set", pair)))
    parts = [part for part in PARTS if not given.only or part.name in given.only]
    for data in (*given.folds, *given.valid):
        out = (given.out / data.resolve().name).resolve()
        out.mkdir(parents=True, exist_ok=True)
        bench = Bench(data.resolve(), data in given.folds, out, common, magic)
        print("\n".join(compare(bench, parts, given.seeds, given.parents)))


if __name__ == "__main__":
    main()
