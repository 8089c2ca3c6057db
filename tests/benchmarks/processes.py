"""Trainings of all tasks by several CPU processes against those of one: `batch_size` is that of all together.

Run: python tests/benchmarks/processes.py [--processes 2 4]   (a table of the largest differences; two minutes)

Each training has two epochs on drawn data, in float32, with dropout 0 and an epsilon of Adam of 1e-4, with which a
gradient of all but zero is not enlarged. Batches are uneven, and smaller than four at the end of an epoch. A loss is
that of an epoch, a tensor one of best.pt, statistics of BatchNorm included; its difference is the norm of the
difference by its own norm (1 at least).
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "builders"))

from launchers import run_together
from process_runs import RUNS, difference, losses

from magic_cli.commands.prepare import prepare
from magic_cli.data.sources.synthetic.dataset import draw_dataset

MOST = 1e-3
"""The tolerance: sums of float32 are rounded in another order."""


def rows(folder: Path, counts: Sequence[int]) -> list[tuple[str, int, float, float, float]]:
    """Train; return name, processes, the last epoch's loss, and the largest differences of a loss and of a tensor."""
    draw_dataset(folder / "drawn", {"train": 8, "valid": 3})
    prepare(folder / "drawn", folder / "prepared")
    script = Path(__file__).parents[1] / "builders" / "process_runs.py"
    for count in (1, *counts):
        for code, told in run_together([script, folder / "prepared", folder / str(count)], count):
            if code:
                raise SystemExit(f"{count} processes: exit code {code}\n{told}")
    found = []
    for name in RUNS:
        for count in counts:
            out = folder / str(count) / name
            found.append((name, count, losses(out)[-1], *difference(out, folder / "1" / name)))
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Parse, train, print; exit 1 where a difference is above the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    with tempfile.TemporaryDirectory() as folder:
        found = rows(Path(folder), parser.parse_args(words).processes)
    print("| training | processes | loss | difference of a loss | of a tensor |\n|---|---|---|---|---|")
    for name, count, loss, of_loss, of_tensor in found:
        print(f"| {name}: {RUNS[name][0]} | {count} | {loss:.4f} | {of_loss:.1e} | {of_tensor:.1e} |")
    if max(max(row[3:]) for row in found) > MOST:
        raise SystemExit(f"above the tolerance of {MOST}")


if __name__ == "__main__":
    main()
