"""Choices of segmentation compared on split valid: merge rule, loss, threshold, views, regions, ensemble, tuning.

    python tests/benchmarks/choices.py --data DermaVQA/ [--out choices] [--preset small] [--set epochs=10]
        [--only default tta ...] [--figure dice_meanofmax] [--list]

Each row differs from `default` (the preset with --merge or, threshold 0.5) in one thing. Rows that share a training
run share it here. Everything goes through the command line: magic prepare, train --resume, predict, and in the end one
`magic score` of all rows, whose table with 95 % intervals is printed; OUT/report holds its report.html. Stopped, the
same line goes on. What each run cost is told on stderr. With --data naming a prepared folder, rows of other merge
rules than its own are left out.

Early stopping and the chosen threshold saw these very photos: their rows are optimistic, and so is the best row of
any such table.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from magic_cli.config import settings_of
from magic_cli.tasks.seg.config import SegConfig

Magic = Callable[[Sequence[str], Path], str]
"""Run the words of a `magic` command in a folder; return its stdout, raise if it fails."""


@dataclass(frozen=True)
class Choice:
    """A row of the table: what differs from the default."""

    name: str
    merge: str = "or"
    train: tuple[str, ...] = ()
    predict: tuple[str, ...] = ("--threshold", "0.5", "--no-tta", "--zoom", "0")
    seeds: tuple[int, ...] = (0,)

    def runs(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return (name of the run's folder, options) of each training run that the row needs."""
        words = [word.removeprefix("--").replace("=", "-") for word in self.train if word != "--set"]
        label = "-".join(["run", self.merge, *words])
        return [(f"{label}-seed-{seed}", (*self.train, "--seed", str(seed))) for seed in self.seeds]


CHOICES = (
    Choice("default"),
    *(Choice(f"merge-{rule}", merge=rule) for rule in ("majority", "intersection", "each")),
    *(Choice(f"loss-{loss}", train=("--set", f"loss={loss}")) for loss in settings_of(SegConfig)["loss"].choices),
    Choice("threshold-chosen", predict=("--no-tta", "--zoom", "0")),
    Choice("tta", predict=("--threshold", "0.5", "--tta", "--zoom", "0")),
    Choice("zoom", predict=("--threshold", "0.5", "--no-tta", "--zoom", "2")),
    Choice("largest", predict=("--threshold", "0.5", "--no-tta", "--zoom", "0", "--largest")),
    Choice("fill-holes", predict=("--threshold", "0.5", "--no-tta", "--zoom", "0", "--fill-holes")),
    Choice("ensemble-of-3", seeds=(0, 1, 2)),
    Choice("ensemble-of-3-tta", predict=("--threshold", "0.5", "--tta", "--zoom", "0"), seeds=(0, 1, 2)),
    Choice("all-of-it", predict=("--tta", "--largest", "--fill-holes"), seeds=(0, 1, 2)),
    *(Choice(f"finetune-{mode}", train=("--finetune", mode)) for mode in ("head", "last", "all", "lora")),
)


def command(words: Sequence[str], folder: Path) -> str:
    """Run `magic WORDS` as a process of its own."""
    line = [sys.executable, "-m", "magic_cli", *words]
    return subprocess.run(line, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def merge_of(data: Path) -> str:
    """Return the merge rule of a prepared folder, "" of any other."""
    manifest = data / "prepare.json"
    if not manifest.is_file():
        return ""
    found: str = json.loads(manifest.read_text(encoding="utf-8"))["settings"]["merge"]
    return found


def prepared(data: Path, merge: str, out: Path, magic: Magic) -> Path:
    """Return the prepared folder of a merge rule, made if it is not there."""
    if merge_of(data):
        return data
    there = out / f"prepared-{merge}"
    if not there.is_dir():
        magic(["prepare", "--data", str(data), "--out", str(there), "--merge", merge, "--json"], out)
    return there


def train(choice: Choice, folder: Path, common: Sequence[str], out: Path, magic: Magic) -> list[Path]:
    """Train what a row needs and has not yet; return its checkpoints."""
    found = []
    for name, options in choice.runs():
        if not (out / name / "done.json").is_file():
            start = time.monotonic()
            words = ["train", "seg", "--data", str(folder), "--out", name, "--resume", "--json", *common, *options]
            made = json.loads(magic(words, out))
            cost = {
                "common": list(common),
                "parameters": made["parameters"],
                "epochs": made["epochs"],
                "seconds": time.monotonic() - start,
            }
            (out / name / "done.json").write_text(json.dumps(cost | {"chosen": made["chosen"]}))
        cost = json.loads((out / name / "done.json").read_text())
        if cost["common"] != list(common):
            raise SystemExit(f"{out / name}: was trained with {' '.join(cost['common'])}; choose another --out")
        cut = cost["chosen"]["settings"]["threshold"] if cost["chosen"] else "none"
        told = f"{cost['parameters']:,} parameters, {cost['epochs']} epochs, {cost['seconds']:.0f} s, best cut {cut}"
        print(f"{choice.name}: {name}: {told}", file=sys.stderr)
        found.append(out / name / "best.pt")
    return found


def compare(data: Path, out: Path, common: Sequence[str], rows: Sequence[Choice], magic: Magic = command) -> str:
    """Train, predict and score the rows; return the table of `magic score`."""
    own = merge_of(data)
    rows = [row for row in rows if own in ("", row.merge) or (row.merge == "or" and not row.name.startswith("merge"))]
    (out / "valid").mkdir(parents=True, exist_ok=True)
    for row in rows:
        folder = prepared(data, row.merge, out, magic)
        ckpts = [word for path in train(row, folder, common, out, magic) for word in ("--ckpt", str(path))]
        target = ["--data", str(folder), "--split", "valid", "--out", str(out / "valid" / row.name)]
        magic(["predict", "seg", *ckpts, *target, *row.predict, "--overwrite", "--json"], out)
    gold = str(prepared(data, rows[0].merge, out, magic))
    names = [row.name for row in rows]
    return magic(["score", *names, gold, "--strict", "--out", str(out / "report"), "--overwrite"], out / "valid")


def main(words: Sequence[str] | None = None, magic: Magic = command) -> None:
    """Parse, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="the challenge's folder, or a prepared one")
    parser.add_argument("--out", type=Path, default=Path("choices"))
    parser.add_argument("--preset", default="small")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="key=value for every run")
    parser.add_argument("--figure", default="dice_meanofmax", help="what the threshold is chosen for")
    parser.add_argument("--only", nargs="+", default=[], choices=[row.name for row in CHOICES], metavar="ROW")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    given = parser.parse_args(words)
    if given.list or given.data is None:
        print("\n".join(f"{row.name:20} {' '.join((*row.train, *row.predict))}" for row in CHOICES))
        return
    common = ["--preset", given.preset, "--set", f"threshold_for={given.figure}"]
    common += [word for pair in given.settings for word in ("--set", pair)]
    rows = [row for row in CHOICES if not given.only or row.name in given.only]
    print(compare(given.data.resolve(), given.out.resolve(), common, rows, magic))


if __name__ == "__main__":
    main()
