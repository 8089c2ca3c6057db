"""Random command lines among files of others, at length: `python tests/benchmarks/foreign_files.py --lines 500`.

The trials are those of tests/faults/test_foreign_files.py, which types the first 150 of them. Prints every line that
changed a file of others, and how the lines ended.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("faults", "builders")]

from foreign import Folder  # noqa: E402
from trials import World  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="number of the first line")
    options = parser.parse_args()
    codes, faults = Counter[str](), 0
    with tempfile.TemporaryDirectory() as place:
        world = World(Path(place))
        folder = Folder(world)
        for seed in range(options.seed, options.seed + options.lines):
            trial = folder.trial(seed)
            verb = "vote" if "--vote" in trial.line.words else trial.line.words[0]
            codes[f"{verb}: exit {trial.ended.code}"] += 1
            if trial.faults:
                faults += 1
                print(f"{seed}: magic {' '.join(trial.line.words)}: {trial.faults}", flush=True)
        world.forks.close()
    print(", ".join(f"{name} {number}" for name, number in sorted(codes.items())))
    print(f"{options.lines} lines, {faults} with a fault")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
